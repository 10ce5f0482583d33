//! Values that are read and written in parts.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::{
    ByteStream, Entry, Error, ErrorKind, Feature, Key, Operation, Outcome, Put, ReadOptions, adapter,
};

use super::writing::{put_metadata_refused, tried_limit};
use crate::bench::{Bench, describe, same_metadata};
use crate::case::{Need, Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;

declare! {
    read_stream ["read.stream"];
    read_stream_range ["read.stream", "read.range"];
    stream_put ["put.stream"];
    stream_put_empty ["put.stream"];
    stream_put_metadata ["put.stream", "put.replace"] needs [Need::Has(Feature::KeepsMetadata)] else put_metadata_refused;
    stream_put_failing ["put.stream", "write.outcome"];
    stream_put_dropped ["put.stream", "cancel"];
    stream_put_limit ["put.stream", "put.limits"];
    stream_put_conditional ["put.stream", "put.absent"] needs [Need::Has(Feature::ConditionalPut)] else stream_put_refused;
}

async fn streamed(bench: &Bench, key: &Key, options: &ReadOptions) -> Verdict<Option<(Entry, Vec<u8>)>> {
    let Some((metadata, mut body)) = bench.store.read_stream(key, options).await? else { return Ok(None) };
    let mut value = Vec::new();
    while let Some(part) = body.next().await {
        value.extend_from_slice(&part?);
    }
    Ok(Some((Entry::from_parts(value.clone().into(), metadata), value)))
}

async fn read_stream(bench: Bench) -> Verdict {
    let limit = bench.capabilities.max_value();
    for size in [0, 5, 65_280, 65_537, 300_000].into_iter().filter(|size| *size as u64 <= limit) {
        let key = bench.key(&format!("size-{size}"))?;
        let value = bytes(size, bench.seed);
        bench.put(&key, value.clone()).await?;
        let head = bench.store.head(&key, &ReadOptions::new()).await?;
        match streamed(&bench, &key, &ReadOptions::new()).await? {
            Some((entry, _)) => {
                bench.same_value("read.stream", &key, &value, &entry)?;
                match head {
                    Some(head) => same_metadata("read.stream", "metadata", &head, entry.metadata())?,
                    None => {
                        check("read.stream", bench.evicts, || {
                            "head: expected metadata, saw none".to_owned()
                        })?;
                    }
                }
            }
            None if bench.evicts => {}
            None => return fail("read.stream", format!("expected a stream of {size} bytes, saw none")),
        }
    }
    Ok(())
}

async fn read_stream_range(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let size = usize::try_from(bench.capabilities.max_value()).map_or(200_000, |limit| limit.min(200_000));
    let value = bytes(size, bench.seed);
    bench.put(&key, value.clone()).await?;
    for range in [0..size, size / 3..size / 2, size..size] {
        let part = value.slice(range.clone());
        let options = ReadOptions::new().range(range.start as u64..range.end as u64);
        match streamed(&bench, &key, &options).await? {
            Some((entry, seen)) => {
                check("read.stream", seen == part, || {
                    format!("range {range:?}: expected {}, saw {}", describe(&part), describe(&seen))
                })?;
                check_equal("read.range", "the size of the whole", &(size as u64), &entry.size())?;
            }
            None if bench.evicts => {}
            None => return fail("read.stream", format!("expected the range {range:?}, saw no entry")),
        }
    }
    Ok(())
}

pub(super) fn parts(value: &Bytes, size: usize) -> ByteStream {
    let cut = |start: usize| value.slice(start..value.len().min(start + size));
    let parts: Vec<_> = (0..value.len()).step_by(size.max(1)).map(cut).map(Ok).collect();
    Box::pin(stream::iter(parts))
}

async fn stream_put(bench: Bench) -> Verdict {
    for (size, part) in [(10, 3), (1, 1), (65_537, 65_536), (200_000, 7_777), (1 << 20, 65_280)] {
        let value = bytes(bench.largest(size), bench.seed);
        let key = bench.key(&format!("size-{size}"))?;
        let written = bench.store.put_stream(&key, Put::new(""), parts(&value, part)).await?;
        bench.expect("put.stream", &key, &value).await?;
        let Some(entry) = bench.present("put.stream", &key).await? else { continue };
        check_equal("put.version", "the version that load shows", &written.version, entry.version())?;
    }
    Ok(())
}

async fn stream_put_empty(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.put(&key, "old").await?;
    bench.store.put_stream(&key, Put::new("ignored"), Box::pin(stream::empty())).await?;
    bench.expect("put.stream", &key, b"").await?;
    let [start, end] = ["a", "b"].map(|part| if bench.largest(2) == 2 { part } else { "" });
    let empty_parts: ByteStream =
        Box::pin(stream::iter(["", start, "", end, ""].map(|part| Ok(Bytes::from(part)))));
    bench.store.put_stream(&key, Put::new("ignored"), empty_parts).await?;
    bench.expect("put.stream", &key, format!("{start}{end}").as_bytes()).await
}

async fn stream_put_metadata(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let (attributes, version) = (Bench::attributes(&[("a", "b")])?, Bench::version());
    let put = adapter::with_version(Put::new("").attributes(attributes.clone()), version.clone());
    let written = bench.store.put_stream(&key, put, parts(&bench.fit(b"streamed"), 3)).await?;
    check_equal("put.version", "the version returned", &version, &written.version)?;
    bench.expect("put.stream", &key, b"streamed").await?;
    let Some(entry) = bench.present("put.stream", &key).await? else { return Ok(()) };
    check_equal("put.stream", "the attributes", &attributes, &entry.metadata().attributes)
}

async fn stream_put_failing(bench: Bench) -> Verdict {
    let (old, new) = (bench.key("old")?, bench.key("new")?);
    bench.put(&old, "old").await?;
    for key in [&old, &new] {
        for size in [10, 70_000] {
            let error =
                Error::new(ErrorKind::Unavailable, "the source of the value broke").during(Operation::Load);
            let body = parts(&bytes(bench.largest(size), bench.seed), 4096).chain(stream::iter([Err(error)]));
            let Err(error) = bench.store.put_stream(key, Put::new(""), Box::pin(body)).await else {
                return fail("put.stream", "expected the error of the stream, saw success");
            };
            check_equal(
                "put.stream",
                "the outcome of a broken stream",
                &Outcome::NotApplied,
                &error.write_outcome(),
            )?;
        }
    }
    bench.expect("put.stream", &old, b"old").await?;
    bench.expect_absent("put.stream", &new).await?;
    bench.expect_names("put.stream", bench.everything(), &["old"]).await
}

async fn stream_put_dropped(bench: Bench) -> Verdict {
    let (old, new) = (bench.key("old")?, bench.key("new")?);
    bench.put(&old, "old").await?;
    for key in [&old, &new] {
        // The body never ends: the put is dropped while it waits for more.
        let body = parts(&bytes(bench.largest(70_000), bench.seed), 4096).chain(stream::pending());
        let mut put = pin!(bench.store.put_stream(key, Put::new(""), Box::pin(body)));
        for _ in 0..40 {
            let done = poll_fn(|context| Poll::Ready(put.as_mut().poll(context).is_ready())).await;
            check("put.stream", !done, || "expected the put to wait for its body, saw it end".to_owned())?;
            tokio::task::yield_now().await;
        }
    }
    let options = ReadOptions::new();
    let still = bench.store.load(&old, &options);
    Bench::in_time("cancel", "a read after a dropped put_stream", still).await??;
    bench.expect("put.stream", &old, b"old").await?;
    bench.expect_absent("put.stream", &new).await?;
    let put = bench.store.put(&new, bench.of("after"));
    Bench::in_time("cancel", "a put after a dropped put_stream", put).await??;
    bench.expect("cancel", &new, b"after").await
}

async fn stream_put_limit(bench: Bench) -> Verdict {
    let limit = tried_limit(&bench)?;
    let key = bench.key("k")?;
    let body = parts(&bytes(limit + 1, bench.seed), 65_536);
    let result = bench.store.put_stream(&key, Put::new(""), body).await;
    bench.refused("put.stream", ErrorKind::TooLarge, result)?;
    bench.expect_absent("put.stream", &key).await?;
    // An endless body must be cut off at the limit, not collected.
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[7; 4096])));
    let result = bench.store.put_stream(&key, Put::new(""), Box::pin(endless)).await;
    bench.refused("put.stream", ErrorKind::TooLarge, result)?;
    bench.expect_absent("put.stream", &key).await
}

async fn stream_put_conditional(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let first = bench.fit(b"first");
    let put = Put::new("").if_absent();
    let version = bench.store.put_stream(&key, put.clone(), parts(&first, 2)).await?.version;
    bench.expect("put.stream", &key, b"first").await?;
    let result = bench.store.put_stream(&key, put, parts(&first, 2)).await;
    if !bench.refused("put.stream", ErrorKind::PreconditionFailed, result)? {
        return Ok(());
    }
    bench.expect("put.stream", &key, b"first").await?;
    if bench.load(&key).await?.is_some() {
        let put = Put::new("").if_version(version);
        bench.store.put_stream(&key, put, parts(&bench.fit(b"second"), 2)).await?;
        bench.expect("put.stream", &key, b"second").await?;
    }
    Ok(())
}

pub(super) async fn stream_put_refused(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let body = parts(&bench.fit(b"value"), 2);
    let result = bench.store.put_stream(&key, Put::new("").if_absent(), body).await;
    bench.refused("put.stream", ErrorKind::Unsupported, result)?;
    bench.expect_absent("put.stream", &key).await
}
