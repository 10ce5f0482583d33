//! Flushing, closing, opening again; operations that are dropped half-way.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::{
    Batch, Delete, Durability, Error, ErrorKind, Feature, ListOptions, Put, ReadOptions, Result, Sharing,
    Store,
};

use super::marks::marks_refused;
use crate::bench::{Bench, describe};
use crate::case::{Need, Stop, Verdict, check, check_equal, declare, fail};
use crate::dice::bytes;
use crate::watch::pause;

declare! {
    life_flush ["flush"];
    life_close ["close"] needs [Need::Place];
    life_close_busy ["close"] needs [Need::Place];
    life_reopen ["close", "write.outcome"] needs [Need::Place, Need::Lasting] else reopen_volatile;
    life_reopen_marks ["marks"] needs [Need::Place, Need::Lasting, Need::Has(Feature::KeepsMarks)] else marks_volatile;
    life_locked ["close"] needs [Need::Place, Need::Exclusive] else life_opened_twice;
    cancel_reads ["cancel"];
    cancel_writes ["cancel", "write.outcome"];
    capabilities_stable ["write.outcome"];
}

async fn life_flush(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    bench.store.flush().await?;
    let written = bench.put(&key, "value").await?;
    bench.store.flush().await?;
    bench.expect("flush", &key, b"value").await?;
    // What was flushed is where it should be: the receipt has nothing left to wait for.
    let durable = written.receipt.durable(tiered_core::CommitLevel::Committed);
    Bench::in_time("flush", "the receipt of a flushed put", durable).await??;
    let fresh = bench.store.load(&key, &ReadOptions::new().authoritative()).await?;
    let right = bench.is(fresh.entry(), b"value");
    check("flush", right, || format!("expected the authority to have the flushed value, saw {fresh:?}"))
}

fn closed<T>(what: &str, result: Result<T>) -> Verdict {
    match result {
        Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
        Err(error) => {
            fail("close", format!("{what} after close: expected the error closed, saw \"{error}\""))
        }
        Ok(_) => fail("close", format!("{what} after close: expected the error closed, saw success")),
    }
}

async fn life_close(bench: Bench) -> Verdict {
    let store = bench.place()?.open().await?;
    let (key, options) = (bench.key("k")?, ReadOptions::new());
    store.put(&key, bench.of("value")).await?;
    let mut begun = store.list(ListOptions::new());
    begun.next().await.transpose()?;
    store.close().await?;
    closed("load", store.load(&key, &options).await)?;
    closed("put", store.put(&key, bench.of("late")).await)?;
    closed("delete", store.delete(&key, Delete::new()).await)?;
    closed("head", store.head(&key, &options).await)?;
    let reads = store.get_many(std::slice::from_ref(&key), &options).await;
    closed("get_many", reads.into_iter().collect::<Result<Vec<_>>>())?;
    closed(
        "a best-effort batch",
        match store.apply(Batch::new().best_effort().put(key.clone(), bench.of("late"))).await {
            Ok(outcomes) => {
                outcomes.into_iter().next().unwrap_or_else(|| Err(Error::new(ErrorKind::Other, "no outcome")))
            }
            Err(error) => Err(error),
        },
    )?;
    if bench.has(Feature::AtomicBatch) {
        closed("an atomic batch", store.apply(Batch::new().put(key.clone(), bench.of("late"))).await)?;
    }
    closed("read_stream", store.read_stream(&key, &options).await)?;
    let body = futures_util::stream::iter([Ok(bench.fit(b"late"))]);
    closed("put_stream", store.put_stream(&key, Put::new(""), Box::pin(body)).await)?;
    match store.list(ListOptions::new()).next().await {
        Some(listed) => closed("list", listed)?,
        None => return fail("close", "list after close: expected the error closed, saw an empty listing"),
    }
    if bench.has(Feature::KeepsMarks) {
        closed("mark", store.mark("conformance").await)?;
        closed("set_mark", store.set_mark("conformance", None).await)?;
    }
    closed("flush", store.flush().await)?;
    let peek = store.peek(&key);
    check("close", peek.is_none(), || format!("peek after close: expected nothing, saw {peek:?}"))?;
    store
        .close()
        .await
        .or_else(|error| fail("close", format!("closing twice: expected success, saw \"{error}\"")))
}

pub(super) async fn life_close_busy(bench: Bench) -> Verdict {
    let store = bench.place()?.open().await?;
    let mut tasks = Vec::new();
    let written = Arc::new(AtomicU32::new(0));
    for task in 0..4 {
        let (store, key) = (Arc::clone(&store), bench.key(&format!("k{task}"))?);
        let (bench, written) = (bench.clone(), Arc::clone(&written));
        tasks.push(Bench::part(async move {
            for round in 0..1_000_000u32 {
                match store.put(&key, bench.of(round.to_string())).await {
                    Ok(_) => {
                        written.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
                    Err(error) => {
                        return fail("close", format!("expected success or closed, saw \"{error}\""));
                    }
                }
            }
            Ok(())
        }));
    }
    let writers = bench.begin(tasks);
    while written.load(Ordering::Relaxed) < 8 {
        pause(Duration::from_millis(1)).await;
    }
    Bench::in_time("close", "close beside running writes", store.close()).await??;
    Bench::in_time("close", "a write beside close", writers.join()).await??;
    closed("load", store.load(&bench.key("k0")?, &ReadOptions::new()).await)
}

async fn life_reopen(bench: Bench) -> Verdict {
    let place = bench.place()?;
    let (key, gone, empty) = (bench.key("k")?, bench.key("gone")?, bench.key("empty")?);
    let (large, batched) = (bench.key("large")?, bench.key("batched")?);
    let value = bytes(bench.largest(200_000), bench.seed);
    let store = place.open().await?;
    store.put(&key, bench.of("old")).await?;
    let mut put = bench.of("value");
    if bench.has(Feature::KeepsMetadata) {
        put = put.attributes(Bench::attributes(&[("a", "b")])?);
    }
    store.put(&key, put).await?;
    store.put(&gone, bench.of("gone")).await?;
    store.delete(&gone, Delete::new()).await?;
    store.put(&empty, bench.of("")).await?;
    store.put(&large, bench.of(value.clone())).await?;
    for outcome in store.apply(Batch::new().best_effort().put(batched.clone(), bench.of("batched"))).await? {
        outcome?;
    }
    let before = store.load(&key, &ReadOptions::new()).await?.into_entry();
    store.close().await?;
    drop(store);
    // Twice: what the first reopening writes must not harm either.
    for _ in 0..2 {
        let bench = Bench { store: place.open().await?, ..bench.clone() };
        check_equal("write.outcome", "the entry after reopening", &before, &bench.load(&key).await?)?;
        bench.expect("write.outcome", &empty, b"").await?;
        bench.expect("write.outcome", &large, &value).await?;
        bench.expect("write.outcome", &batched, b"batched").await?;
        bench.expect_absent("delete.existed", &gone).await?;
        bench.expect_names("list.complete", bench.everything(), &["batched", "empty", "k", "large"]).await?;
        bench.store.close().await?;
    }
    Ok(())
}

async fn life_reopen_marks(bench: Bench) -> Verdict {
    let place = bench.place()?;
    let store = place.open().await?;
    store.set_mark("conformance.kept", Some("value".into())).await?;
    store.set_mark("conformance.gone", Some("value".into())).await?;
    store.set_mark("conformance.gone", None).await?;
    store.close().await?;
    drop(store);
    let store = place.open().await?;
    check_equal(
        "marks",
        "a mark after reopening",
        &Some("value".into()),
        &store.mark("conformance.kept").await?,
    )?;
    check_equal("marks", "a removed mark after reopening", &None, &store.mark("conformance.gone").await?)?;
    Ok(store.close().await?)
}

async fn life_locked(bench: Bench) -> Verdict {
    let place = bench.place()?;
    let key = bench.key("k")?;
    let store = place.open().await?;
    store.put(&key, bench.of("value")).await?;
    match place.open().await {
        Err(error) if error.kind() == ErrorKind::Locked => {}
        Err(error) => {
            return fail("close", format!("a second open: expected the error locked, saw \"{error}\""));
        }
        Ok(_) => {
            return fail(
                "close",
                "a second open of an exclusive place: expected the error locked, saw success",
            );
        }
    }
    // The failed attempt leaves the first handle as it was.
    let read = store.load(&key, &ReadOptions::new()).await?;
    check("close", read.entry().is_some(), || "expected the first handle to go on, saw no entry".to_owned())?;
    store.close().await?;
    // Closing releases the place, although the handle is still there.
    let again = place.open().await?;
    if let Some(entry) = again.load(&key, &ReadOptions::new()).await?.into_entry() {
        bench.same_value("close", &key, b"value", &entry)?;
    }
    Ok(again.close().await?)
}

/// A store that is not shared has one handle at a time, or handles that have nothing to do with each other.
pub(super) async fn one_handle(bench: Bench) -> Verdict {
    let lasting = bench.capabilities.durability() > Durability::Volatile;
    if lasting { life_locked(bench).await } else { life_opened_twice(bench).await }
}

/// A volatile store may have forgotten what it held when it is opened again; what it still has is as it was.
pub(super) async fn reopen_volatile(bench: Bench) -> Verdict {
    let place = bench.place()?;
    let (key, gone) = (bench.key("k")?, bench.key("gone")?);
    let store = place.open().await?;
    store.put(&key, bench.of("value")).await?;
    store.put(&gone, bench.of("gone")).await?;
    store.delete(&gone, Delete::new()).await?;
    let before = store.load(&key, &ReadOptions::new()).await?.into_entry();
    store.close().await?;
    drop(store);
    let bench = Bench { store: place.open().await?, ..bench.clone() };
    bench.expect_absent("delete.existed", &gone).await?;
    let after = bench.load(&key).await?;
    check("write.outcome", after.is_none() || after == before, || {
        format!("expected nothing or the entry of before, saw {after:?}")
    })?;
    bench.put(&key, "new").await?;
    bench.expect("put.replace", &key, b"new").await?;
    Ok(bench.store.close().await?)
}

async fn marks_volatile(bench: Bench) -> Verdict {
    if bench.has(Feature::KeepsMarks) { reopen_volatile(bench).await } else { marks_refused(bench).await }
}

/// Where nothing is locked, a second handle does the first one no harm, and closing it neither. One that shares the place
/// sees what the first one wrote.
async fn life_opened_twice(bench: Bench) -> Verdict {
    let place = bench.place()?;
    let (key, other) = (bench.key("k")?, bench.key("other")?);
    let first = Bench { store: place.open().await?, ..bench.clone() };
    first.put(&key, "value").await?;
    first.store.flush().await?;
    let second = match place.open().await {
        Ok(store) => store,
        // A tier of a shared stack may belong to one process all the same.
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(first.store.close().await?),
        Err(error) => return Err(error.into()),
    };
    if bench.capabilities.sharing() == Sharing::Shared {
        let seen = second.load(&key, &ReadOptions::new().authoritative()).await?;
        let right = bench.is(seen.entry(), b"value");
        check("close", right, || format!("expected the entry of the first handle, saw {seen:?}"))?;
    }
    second.put(&other, bench.of("other")).await?;
    second.close().await?;
    first.expect("close", &key, b"value").await?;
    first.put(&key, "after").await?;
    first.expect("close", &key, b"after").await?;
    Ok(first.store.close().await?)
}

/// Polls `future` `polls` times at most, then drops it.
async fn impatient<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // Nothing more may wake this task once the last poll is spent.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

const POLLS: usize = 6;

async fn cancel_reads(bench: Bench) -> Verdict {
    let (key, absent) = (bench.key("k")?, bench.key("absent")?);
    bench.put(&key, "value").await?;
    let (store, options) = (&bench.store, ReadOptions::new());
    let keys = [key.clone(), absent.clone()];
    for _ in 0..bench.rounds(20) {
        for polls in 0..POLLS {
            for key in &keys {
                drop(impatient(store.load(key, &options), polls).await);
                drop(impatient(store.head(key, &options), polls).await);
                drop(impatient(store.read_stream(key, &options), polls).await);
                let fresh = options.clone().authoritative();
                drop(impatient(store.load(key, &fresh), polls).await);
            }
            drop(impatient(store.get_many(&keys, &options), polls).await);
            drop(impatient(store.list(bench.everything()).next(), polls).await);
            let read = bench.expect("cancel", &key, b"value");
            Bench::in_time("cancel", "a read after dropped reads", read).await??;
        }
    }
    Bench::in_time("cancel", "a read after dropped reads", bench.expect_absent("cancel", &absent)).await??;
    let put = bench.store.put(&key, bench.of("after"));
    Bench::in_time("cancel", "a put after dropped reads", put).await??;
    bench.expect("cancel", &key, b"after").await
}

async fn cancel_writes(bench: Bench) -> Verdict {
    let key = bench.key("k")?;
    let store = &bench.store;
    // Where a request can outlive its call, a dropped write may land after a later one: only the use goes on.
    let settles = bench.capabilities.request_lifetime().is_zero();
    let mut before = HashSet::new();
    for round in 0..bench.rounds(6) {
        for polls in 0..POLLS {
            let value = format!("value {round} {polls}");
            drop(impatient(store.put(&key, bench.of("dropped put")), polls).await);
            drop(impatient(store.delete(&key, Delete::new()), polls).await);
            let batch = Batch::new().best_effort().put(key.clone(), bench.of("dropped batch"));
            drop(impatient(store.apply(batch), polls).await);
            let read = Bench::in_time("cancel", "a read after dropped writes", bench.load(&key)).await??;
            if let Some(entry) = read {
                let known = bench.is(Some(&entry), b"dropped put")
                    || bench.is(Some(&entry), b"dropped batch")
                    || before.contains(entry.value());
                check("cancel", known, || {
                    format!("expected a value that was written, saw {}", describe(entry.value()))
                })?;
                entry.verify()?;
            }
            before.insert(bench.fit(value.as_bytes()));
            let put = store.put(&key, bench.of(value.clone()));
            Bench::in_time("cancel", "a put after dropped writes", put).await??;
            if settles {
                for _ in 0..3 {
                    bench.expect("cancel", &key, value.as_bytes()).await?;
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    Bench::in_time("cancel", "a flush after dropped writes", store.flush()).await??;
    Ok(())
}

async fn capabilities_stable(bench: Bench) -> Verdict {
    let expected = &bench.capabilities;
    check("write.outcome", !expected.name().is_empty(), || "expected a name in the capabilities".to_owned())?;
    bench.put(&bench.key("k")?, "value").await?;
    check_equal("write.outcome", "the capabilities", expected, bench.store.capabilities())?;
    let store: Arc<dyn Store> = Arc::clone(&bench.store);
    let changes = store.changes().is_some();
    if changes == bench.has(Feature::Changes) {
        return Ok(());
    }
    Err(Stop::Failed {
        clause: "write.outcome",
        text: format!("the declared Changes: expected {}, saw {changes}", bench.has(Feature::Changes)),
    })
}
