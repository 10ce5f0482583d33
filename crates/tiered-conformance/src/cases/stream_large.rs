//! Streams that are too large to be kept until they end, and several of one key at the same time.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tiered_core::{Error, ErrorKind, Operation, Outcome, Put, ReadOptions};

use super::streaming::parts;
use crate::bench::Bench;
use crate::case::{Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;

declare! {
    stream_put_large ["put.stream", "read.stream"];
    stream_put_large_broken ["put.stream", "write.outcome", "list.complete"];
    stream_puts_together ["put.stream", "put.replace"];
}

/// Bytes of a value that a store sends on before it has all of it.
const LARGE: usize = 3 << 20;

async fn stream_put_large(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    // The second replaces the first.
    for seed in [1, 2] {
        let value = bytes(bench.largest(LARGE + seed), bench.seed ^ seed as u64);
        bench.store.put_stream(&key, Put::new(""), parts(&value, 100_000)).await?;
        bench.expect("put.stream", &key, &value).await?;
        let Some((metadata, mut body)) = bench.store.read_stream(&key, &ReadOptions::new()).await? else {
            return if bench.evicts { Ok(()) } else { fail("read.stream", "expected a stream, saw none") };
        };
        let mut seen = 0;
        while let Some(part) = body.next().await {
            let part = part?;
            let wanted = value.get(seen..seen + part.len());
            check("read.stream", wanted == Some(&part[..]), || format!("other bytes from {seen} on"))?;
            seen += part.len();
        }
        check_equal("read.stream", "bytes of the stream", &metadata.size, &(seen as u64))?;
        check_equal("read.stream", "bytes of the value", &value.len(), &seen)?;
    }
    Ok(())
}

/// A put that breaks when the store has parts of it, and one that is dropped then, leave what was there.
async fn stream_put_large_broken(bench: Bench) -> Verdict {
    let (old, new) = (bench.key("old")?, bench.key("new")?);
    let kept = bytes(bench.largest(LARGE), bench.seed);
    bench.store.put_stream(&old, Put::new(""), parts(&kept, 100_000)).await?;
    for key in [&old, &new] {
        let value = bytes(bench.largest(LARGE), bench.seed ^ 1);
        let error =
            Error::new(ErrorKind::Unavailable, "the source of the value broke").during(Operation::Load);
        let body = parts(&value, 100_000).chain(stream::iter([Err(error)]));
        let Err(error) = bench.store.put_stream(key, Put::new(""), Box::pin(body)).await else {
            return fail("put.stream", "expected the error of the stream, saw success");
        };
        let outcome = error.write_outcome();
        check_equal("put.stream", "the outcome of a broken stream", &Outcome::NotApplied, &outcome)?;
        let body = parts(&value, 100_000).chain(stream::pending());
        let mut put = pin!(bench.store.put_stream(key, Put::new(""), Box::pin(body)));
        for _ in 0..100 {
            let done = poll_fn(|context| Poll::Ready(put.as_mut().poll(context).is_ready())).await;
            check("put.stream", !done, || "expected the put to wait for its body, saw it end".to_owned())?;
            tokio::task::yield_now().await;
        }
    }
    bench.expect("put.stream", &old, &kept).await?;
    bench.expect_absent("put.stream", &new).await?;
    bench.expect_names("list.complete", bench.everything(), &["old"]).await
}

/// Streams of one key at the same time: each takes effect as a whole, and one of them last.
async fn stream_puts_together(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    for size in [10, LARGE / 2] {
        let values: Vec<Bytes> =
            (0..3).map(|seed| bytes(bench.largest(size), bench.seed ^ (seed + 1))).collect();
        // The first has the most parts and ends last: what the others send meanwhile is none of its own.
        let puts = values.iter().zip([7, 5, 3]).map(|(value, count)| {
            let (store, key, body) = (&bench.store, &key, parts(value, 1 + size / count));
            async move { store.put_stream(key, Put::new(""), body).await }
        });
        let mut versions = Vec::new();
        for written in join_all(puts).await {
            versions.push(written?.version);
        }
        let Some(entry) = bench.present("put.stream", &key).await? else { continue };
        let of_version = versions.iter().position(|version| version == entry.version());
        let expected = of_version.and_then(|index| values.get(index));
        check("put.stream", expected.is_some_and(|value| value == entry.value()), || {
            format!(
                "expected the value of one of the puts under its version, saw version {}",
                entry.version()
            )
        })?;
    }
    Ok(())
}
