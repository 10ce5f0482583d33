//! What waits for the backend costs little: it reaches it as few operations, and a listing beside it copies little.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::{FutureExt as _, TryStreamExt as _};
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, CommitLevel, Delete, Error, ErrorKind, Feature, Key, ListOptions, MemoryStore, Outcome, Put,
    Result, Store, StoreExt as _, TieredStore, VolatileJournal, WritePolicy,
};
use tokio::sync::watch;

/// A backend that can be away, and that counts the operations it is sent while it is there.
#[derive(Debug)]
struct Counting {
    is_there: watch::Sender<bool>,
    operations: AtomicU64,
}

#[async_trait]
impl Interceptor for Counting {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.is_there.subscribe().wait_for(|there| *there).await.map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the test is over").outcome_is(Outcome::NotApplied)
        })?;
        self.operations.fetch_add(batch.len() as u64, Ordering::Relaxed);
        inner.apply(batch).await
    }
}

type Backend = Intercept<Counting, MemoryStore>;

/// Backends whose batches are atomic, and not.
fn backends() -> [Backend; 2] {
    [MemoryStore::new(), MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch))].map(|inner| {
        Intercept::new(inner, Counting { is_there: watch::Sender::new(true), operations: AtomicU64::new(0) })
    })
}

async fn behind(backend: &Backend, room: usize) -> TieredStore {
    let builder =
        TieredStore::builder(MemoryStore::new(), backend.clone()).write_policy(WritePolicy::WriteBehind);
    let builder =
        builder.journal(VolatileJournal::new()).max_pending_operations(room).max_pending_bytes(1 << 30);
    builder.build().await.expect("builds")
}

fn key(number: usize) -> Key {
    Key::new(format!("k{number:06}")).expect("valid")
}

#[tokio::test]
async fn a_writer_alone_waits_for_no_other_task_until_the_journal_has_its_write() {
    for backend in backends() {
        backend.is_there.send_replace(false);
        let store = behind(&backend, 100).await;
        for number in 0..10 {
            let put = key(number);
            let written = store.put(&put, Put::new("v")).now_or_never().expect("nothing to wait for");
            assert_eq!(written.expect("there is room").level, CommitLevel::Journaled);
            assert!(store.get(&put).await.expect("reads").is_some());
        }
        backend.is_there.send_replace(true);
        store.flush().await.expect("the backend is there");
        assert_eq!(backend.operations.load(Ordering::Relaxed), 10);
        store.close().await.expect("closes");
        let refused = store.put(&key(0), Put::new("v")).await.expect_err("it is closed");
        assert_eq!((refused.kind(), refused.write_outcome()), (ErrorKind::Closed, Outcome::NotApplied));
    }
}

#[tokio::test]
async fn many_updates_of_few_keys_reach_a_backend_that_was_away_as_few_operations() {
    const ROUNDS: usize = 10;
    const UPDATES: usize = 100_000;
    const KEYS: usize = 1_000;
    for backend in backends() {
        let store = behind(&backend, UPDATES).await;
        for round in 0..ROUNDS {
            backend.is_there.send_replace(false);
            for update in 0..UPDATES {
                let value = format!("{}", round * UPDATES + update);
                store.put(&key(update % KEYS), Put::new(value)).await.expect("there is room");
            }
            backend.is_there.send_replace(true);
            store.flush().await.expect("the backend is there");
        }
        for number in [0, KEYS - 1] {
            let last = format!("{}", ROUNDS * UPDATES - KEYS + number);
            assert_eq!(backend.inner().peek(&key(number)).expect("written").value(), last.as_str());
        }
        let sent = backend.operations.load(Ordering::Relaxed);
        let most = (ROUNDS * UPDATES / 50) as u64;
        assert!(sent <= most, "{sent} operations for {} updates, at most {most}", ROUNDS * UPDATES);
    }
}

#[tokio::test]
async fn a_listing_shows_what_waits_from_any_place_and_up_to_any_limit() {
    for backend in backends() {
        // Every third is in the backend only, every third waits, every third waits to be deleted.
        for number in 0..300 {
            backend.inner().put(&key(number), Put::new("old")).await.expect("writes");
        }
        let store = behind(&backend, 1_000).await;
        backend.is_there.send_replace(false);
        for number in 0..400 {
            match number % 3 {
                1 => drop(store.put(&key(number), Put::new("new")).await.expect("there is room")),
                2 => drop(store.delete(&key(number), Delete::new()).await.expect("there is room")),
                _ => {}
            }
        }
        let there = |number: &usize| number % 3 == 1 || (number.is_multiple_of(3) && *number < 300);
        for after in [None, Some(0), Some(1), Some(2), Some(150), Some(298), Some(399)] {
            for limit in [None, Some(0), Some(1), Some(2), Some(7), Some(100), Some(1_000)] {
                let mut options = ListOptions::new().prefix("k");
                options.start_after = after.map(key);
                options.limit = limit;
                let listed: Vec<_> = store.list(options).try_collect().await.expect("lists");
                let listed: Vec<Key> = listed.into_iter().map(|listed| listed.key).collect();
                let first = after.map_or(0, |after| after + 1);
                let expected = (first..400).filter(there).map(key).take(limit.unwrap_or(usize::MAX));
                assert_eq!(listed, expected.collect::<Vec<_>>(), "after {after:?}, limit {limit:?}");
            }
        }
        backend.is_there.send_replace(true);
        store.flush().await.expect("the backend is there");
    }
}
