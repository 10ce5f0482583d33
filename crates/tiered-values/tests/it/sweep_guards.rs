//! What keeps a sweep from condemning too much, and from ending too early.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, Entry, Error as StoreError, ErrorKind, Key, MemoryStore, Put, Read, ReadOptions, ReadPolicy,
    Result, Store, StoreExt as _, TieredStore, Timestamp,
};
use tiered_values::sweep::{Roots, Sweep};
use tiered_values::{Error, Log};

use crate::sweep::{keys, lines, roots, set};

const HOUR: Duration = Duration::from_hours(1);

async fn filled(keys: &[(&str, &str)]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for (key, value) in keys {
        set(&*store, key, value).await;
    }
    store
}

#[tokio::test]
async fn records_outlive_the_time_to_live_of_a_store() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::seeded(7)));
    let tier = || MemoryStore::with_stamp(stamp.clone());
    let builder = TieredStore::builder(tier(), tier()).stamp(stamp.clone()).default_ttl(HOUR);
    let store = builder.build().await.expect("builds");
    let kept = |value: &str| Put::new(value.to_owned()).never_expires();
    store.set("roots/1", kept("")).await.expect("written");
    store.set("leaves/old", kept("")).await.expect("written");
    let sweep = Sweep::new(store.clone()).expect("builds");
    sweep.run(&roots()).await.expect("runs");

    let write = sweep.begin_write("takes long").await.expect("begins");
    store.set("leaves/new", kept("")).await.expect("written");
    store.set("expires", "").await.expect("written");
    let log = Log::builder(store.clone(), "log").build().expect("valid");
    log.append("an element").await.expect("appended");
    // Of a log nothing is walked.
    let references = |key: &Key, entry: &Entry| -> Result<Vec<Key>> {
        if key.as_str().starts_with("log") { Ok(Vec::new()) } else { lines(key, entry) }
    };
    let roots = Roots::new(references).under("roots/").under("log").leaves_under("leaves/");
    sweep.run(&roots).await.expect("runs");
    clock.advance(HOUR * 48);
    assert!(!store.contains("expires").await.expect("read"), "the time to live is at work");
    for _ in 0..2 {
        let report = sweep.run(&roots).await.expect("runs");
        assert_eq!((report.held_back, report.writers.len()), (1, 1));
        assert!(report.generation > 0, "the head is there");
    }
    store.set("roots/1", kept("leaves/new")).await.expect("published");
    write.end().await.expect("ends");
    sweep.run(&roots).await.expect("runs");
    assert!(store.contains("leaves/new").await.expect("read"));
    assert!(!store.contains("leaves/old").await.expect("read"));
    let elements = log.read(log.range().await.expect("a range").start, usize::MAX).await.expect("read");
    assert_eq!(elements.len(), 1);
}

/// Listed keys that are absent when they are read.
#[derive(Debug)]
struct Gone(&'static str);

#[async_trait]
impl Interceptor for Gone {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        if key.as_str().starts_with(self.0) {
            return inner.load(&Key::new("absent")?, options).await;
        }
        inner.load(key, options).await
    }
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
}

#[tokio::test]
async fn roots_that_are_listed_and_absent_are_no_roots() {
    let store = filled(&[("roots/1", "leaves/1"), ("roots/2", "node"), ("leaves/1", "")]).await;
    Sweep::new(store.clone()).expect("builds").run(&roots()).await.expect("runs");
    let before = store.snapshot();
    let sweep = Sweep::new(Intercept::new(store.clone(), Gone("roots/"))).expect("builds");
    assert!(matches!(sweep.run(&roots()).await, Err(Error::Invalid { .. })));
    assert_eq!(store.snapshot(), before);
    // With one root left the run goes on. The absent one is not missing: nothing refers to it.
    let sweep = Sweep::new(Intercept::new(store.clone(), Gone("roots/1"))).expect("builds");
    let report = sweep.dry_run(&roots()).await.expect("looks");
    assert_eq!(report.missing, 1, "the node");
}

#[tokio::test]
async fn a_prefix_without_roots_is_reported_or_refused() {
    let store = filled(&[("roots/1", ""), ("tags/1", ""), ("leaves/1", "")]).await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    let report = sweep.dry_run(&roots().under("tag/").under("tags/")).await.expect("looks");
    assert_eq!(report.prefixes_without_roots, ["tag/"]);
    let before = store.snapshot();
    match sweep.run(&roots().under_existing("tags/").under_existing("tag/")).await {
        Err(Error::Store(error)) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("\"tag/\""), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.snapshot(), before);
    let report = sweep.run(&roots().under_existing("tags/")).await.expect("runs");
    assert!(report.prefixes_without_roots.is_empty());
}

#[tokio::test]
async fn a_stack_that_reads_its_frontend_alone_is_refused() {
    let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    let store = builder.read_policy(ReadPolicy::FrontendOnly).build().await.expect("builds");
    // Also below another stack, whose listing it is.
    let over = TieredStore::builder(MemoryStore::new(), store.clone()).build().await;
    for store in [Some(store), over.ok()].into_iter().flatten() {
        match Sweep::new(store) {
            Err(Error::Store(error)) => assert!(error.to_string().contains("lists its frontend"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Batches that fail as a whole, the first few.
#[derive(Debug)]
struct Failing(AtomicU32);

#[async_trait]
impl Interceptor for Failing {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(StoreError::new(ErrorKind::Unavailable, "it fails as a whole"));
        }
        inner.apply(batch).await
    }
}

#[tokio::test]
async fn batches_that_fail_are_counted_and_the_third_in_a_row_ends_the_run() {
    for (failing, expected) in [(2, Some((2, 3))), (3, None)] {
        let mut all = vec![("roots/1", "")];
        all.extend(["leaves/1", "leaves/2", "leaves/3", "leaves/4", "leaves/5"].map(|key| (key, "")));
        let store = filled(&all).await;
        Sweep::new(store.clone()).expect("builds").run(&roots()).await.expect("runs");
        let broken = Intercept::new(store.clone(), Failing(AtomicU32::new(failing)));
        let sweep = Sweep::builder(broken).batch(NonZeroUsize::MIN).build().expect("builds");
        let answer = sweep.run(&roots()).await;
        match (answer, expected) {
            (Ok(report), Some(expected)) => assert_eq!((report.failed, report.deleted), expected),
            (Err(Error::Store(error)), None) => assert_eq!(error.kind(), ErrorKind::Unavailable),
            (answer, _) => panic!("{failing}: {answer:?}"),
        }
        // What failed was observed, and goes now.
        let rest = sweep.run(&roots()).await.expect("runs");
        assert_eq!(keys(&*store).await, ["roots/1"], "{rest:?}");
    }
}

#[tokio::test]
async fn chunks_of_a_lost_series_are_removed() {
    let store = filled(&[("roots/1", ""), ("leaves/1", "")]).await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    let write = sweep.begin_write("holds it back").await.expect("begins");
    for _ in 0..5 {
        sweep.run(&roots()).await.expect("runs");
    }
    assert_eq!(sweep.horizon().await.expect("read").generation(), 0);
    store
        .delete(&Key::new("tiered.gc/head").expect("valid"), tiered_core::Delete::new())
        .await
        .expect("deleted");
    sweep.run(&roots()).await.expect("runs");
    let chunks = store.keys("tiered.gc/snapshots/").await.expect("listed");
    let of_first = |key: &Key| key.as_str().starts_with("tiered.gc/snapshots/0000000000000001/");
    assert!(chunks.len() == 1 && chunks.iter().all(of_first), "{chunks:?}");
    write.end().await.expect("ends");
    assert_eq!(sweep.run(&roots()).await.expect("runs").deleted, 1);
}

#[tokio::test]
async fn records_under_a_prefix_are_no_garbage() {
    let nested = ["tenant/.tiered/owner", "tenant/tiered.gc/head", "tenant/tiered.gc/writers/1"];
    let store = filled(&[("roots/1", ""), ("tenant/data", "")]).await;
    for key in nested {
        set(&*store, key, "").await;
    }
    let sweep = Sweep::new(store.clone()).expect("builds");
    let roots = Roots::new(lines).under("roots/");
    for _ in 0..2 {
        assert_eq!(sweep.run(&roots).await.expect("runs").listed, 2);
    }
    assert_eq!(keys(&*store).await, [&["roots/1"], &nested[..]].concat());
}
