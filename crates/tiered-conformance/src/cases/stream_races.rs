//! Streams of unusual parts, and what happens beside them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::{ByteStream, ErrorKind, Feature, Put, ReadOptions, Result, Written};
use tokio::sync::oneshot;

use super::streaming::stream_put_refused;
use crate::bench::{Bench, describe};
use crate::case::{Need, Stop, Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;
use crate::watch::within;

declare! {
    stream_put_parts ["put.stream"];
    stream_put_hidden_until_complete ["put.stream", "read.whole"];
    stream_put_condition_at_end ["put.stream", "put.absent"] needs [Need::Has(Feature::ConditionalPut)] else stream_put_refused;
    stream_read_replaced ["read.stream", "put.replace"];
    stream_put_expiry ["put.stream", "read.expired"] pace Alone;
    stream_put_expired ["put.stream", "put.absent", "read.expired"] needs [Need::Has(Feature::ConditionalPut)] pace Alone else stream_put_refused;
}

/// Parts of these sizes, as far as `value` goes.
fn cut(value: &Bytes, sizes: impl IntoIterator<Item = usize>) -> ByteStream {
    let mut rest = value.clone();
    let parts: Vec<Result<Bytes>> =
        sizes.into_iter().map(|size| Ok(rest.split_to(size.min(rest.len())))).collect();
    Box::pin(stream::iter(parts))
}

async fn stream_put_parts(bench: Bench) -> Verdict {
    let large = 1 << 20;
    let cuts: [&[usize]; 5] =
        [&[1; 70], &[large; 3], &[1, large, 1], &[large, 1, large], &[65_280, 1, 65_281]];
    for (index, sizes) in cuts.into_iter().enumerate() {
        let value = bytes(bench.largest(sizes.iter().sum()), bench.seed ^ index as u64);
        let key = bench.key(&format!("{index}"))?;
        bench.store.put_stream(&key, Put::new(""), cut(&value, sizes.iter().copied())).await?;
        bench.expect("put.stream", &key, &value).await?;
    }
    Ok(())
}

/// A body of two halves, of which the second waits to be released.
fn halves(value: &Bytes) -> (ByteStream, oneshot::Sender<()>) {
    let (release, released) = oneshot::channel();
    let (first, second) = (value.slice(..value.len() / 2), value.slice(value.len() / 2..));
    let rest = stream::once(async move {
        // A case that ends early drops the sender, and the put with it.
        released.await.ok();
        Ok(second)
    });
    (Box::pin(stream::iter([Ok(first)]).chain(rest)), release)
}

/// Polls the put until it has had time to take what there is of its body.
async fn begin(mut put: Pin<&mut (impl Future<Output = Result<Written>> + Send)>) -> Verdict {
    for _ in 0..40 {
        let done = poll_fn(|context| Poll::Ready(put.as_mut().poll(context).is_ready())).await;
        check("put.stream", !done, || "expected the put to wait for its body, saw it end".to_owned())?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn stream_put_hidden_until_complete(bench: Bench) -> Verdict {
    let (old, new) = (bench.key("old")?, bench.key("new")?);
    let value = bytes(bench.largest(150_000), bench.seed);
    bench.put(&old, "old").await?;
    for key in [&old, &new] {
        let (body, release) = halves(&value);
        let mut put = pin!(bench.store.put_stream(key, Put::new(""), body));
        begin(put.as_mut()).await?;
        let options = ReadOptions::new();
        let seen = bench.store.load(key, &options);
        let seen = Bench::in_time("put.stream", "a read beside a streamed put", seen).await??;
        let expected = if *key == old { bench.is(seen.entry(), b"old") } else { seen.entry().is_none() };
        check("put.stream", expected, || {
            format!("before the end of the body: expected what was there before, saw {seen:?}")
        })?;
        let listed = bench.names(bench.everything()).await?;
        check("put.stream", *key == old || !listed.iter().any(|name| name == "new"), || {
            format!("before the end of the body: expected no new key, the listing has {listed:?}")
        })?;
        release.send(()).ok();
        put.await?;
        bench.expect("put.stream", key, &value).await?;
    }
    Ok(())
}

/// A precondition is judged when the value is written, not when the first part of it arrives.
async fn stream_put_condition_at_end(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let (body, release) = halves(&bench.fit(b"streamed"));
    let mut put = pin!(bench.store.put_stream(&key, Put::new("").if_absent(), body));
    begin(put.as_mut()).await?;
    // A store may keep others off the key meanwhile; then nothing comes in between.
    let other = within(Duration::from_millis(300), bench.store.put(&key, bench.of("other"))).await;
    release.send(()).ok();
    let ended = Bench::in_time("put.stream", "a put whose body has ended", put).await?;
    match other {
        Some(written) => {
            written?;
            if bench.refused("put.stream", ErrorKind::PreconditionFailed, ended)? {
                bench.expect("put.stream", &key, b"other").await?;
            }
            Ok(())
        }
        // The put was dropped while it waited, and may have come first all the same.
        None => match ended {
            Err(error) => crate::bench::refusal("put.stream", ErrorKind::PreconditionFailed, &error),
            Ok(_) => Ok(()),
        },
    }
}

/// A value that is replaced while it is read comes whole and as it was, or ends in an error.
async fn stream_read_replaced(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let size = bench.largest(400_000);
    let (old, new) = (bytes(size, bench.seed), bytes(size, bench.seed ^ 1));
    bench.put(&key, old.clone()).await?;
    let Some((_, mut body)) = bench.store.read_stream(&key, &ReadOptions::new()).await? else {
        return if bench.evicts { Ok(()) } else { fail("read.stream", "expected a stream, saw none") };
    };
    let mut seen = Vec::new();
    if let Some(part) = body.next().await {
        seen.extend_from_slice(&part?);
    }
    bench.put(&key, new.clone()).await?;
    while let Some(part) = body.next().await {
        match part {
            Ok(part) => seen.extend_from_slice(&part),
            Err(_) => return bench.expect("put.replace", &key, &new).await,
        }
    }
    check("read.stream", old == seen, || {
        format!("replaced while it was read: expected {}, saw {}", describe(&old), describe(&seen))
    })?;
    bench.expect("put.replace", &key, &new).await
}

/// A streamed put that expires. A store that does not keep metadata may refuse it.
async fn expiring(bench: &Bench, key: &tiered_core::Key, put: Put) -> Verdict<Written> {
    let body = cut(&bench.fit(b"streamed"), [3, 100]);
    match bench.store.put_stream(key, put, body).await {
        Err(error) if error.kind() == ErrorKind::Unsupported && !bench.has(Feature::KeepsMetadata) => {
            Err(Stop::Refused("expiry is refused, as metadata are not kept".to_owned()))
        }
        written => Ok(written?),
    }
}

async fn stream_put_expiry(bench: Bench) -> Verdict {
    let (key, past) = (bench.key("k")?, bench.key("past")?);
    expiring(&bench, &past, Put::new("").expires_at(bench.now())).await?;
    bench.expect_absent("read.expired", &past).await?;
    let at = bench.now().saturating_add(Duration::from_millis(60_007));
    expiring(&bench, &key, Put::new("").expires_at(at)).await?;
    bench.expect("put.stream", &key, b"streamed").await?;
    if let Some(entry) = bench.present("put.stream", &key).await? {
        check_equal("read.expired", "the expiry of a streamed put", &Some(at), &entry.metadata().expires_at)?;
    }
    let Some(clock) = &bench.clock else { return Ok(()) };
    clock.advance(Duration::from_millis(60_007));
    bench.expect_absent("read.expired", &key).await
}

/// An expired entry is absent to the precondition of a streamed put as well.
async fn stream_put_expired(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let version = expiring(&bench, &key, Put::new("").expires_at(bench.now())).await?.version;
    let body = || cut(&bench.fit(b"new"), [1, 100]);
    let result = bench.store.put_stream(&key, Put::new("").if_version(version), body()).await;
    bench.refused("put.stream", ErrorKind::PreconditionFailed, result)?;
    bench.expect_absent("put.stream", &key).await?;
    bench.store.put_stream(&key, Put::new("").if_absent(), body()).await?;
    bench.expect("put.stream", &key, b"new").await
}
