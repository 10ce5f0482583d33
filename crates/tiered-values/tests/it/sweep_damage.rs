//! Sweeps over records and entries that cannot be read: what is not certain is spared.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::{
    Error as StoreError, ErrorKind, Key, MemoryStore, Put, Read, ReadOptions, Result, Store, StoreExt as _,
};
use tiered_values::Error;
use tiered_values::sweep::{KeepList, Sweep};

use crate::sweep::{keys, roots, set};

async fn prepared() -> (Arc<MemoryStore>, Sweep) {
    let store = Arc::new(MemoryStore::new());
    for key in ["roots/1", "leaves/1", "leaves/2", "leaves/3"] {
        set(&*store, key, "").await;
    }
    set(&*store, "roots/1", "leaves/1").await;
    let sweep = Sweep::builder(store.clone()).chunk_bytes(1).build().expect("builds");
    sweep.run(&roots()).await.expect("runs");
    (store, sweep)
}

async fn damage(store: &MemoryStore, prefix: &str) {
    let key = store.keys(prefix).await.expect("listed").remove(0);
    let entry = store.get(&key).await.expect("read").expect("there");
    let mut bytes = entry.value().to_vec();
    *bytes.get_mut(10).expect("longer") ^= 1;
    store.set(&key, Put::new(Bytes::from(bytes))).await.expect("written");
}

#[tokio::test]
async fn a_damaged_or_missing_chunk_is_observed_anew() {
    for is_missing in [false, true] {
        let (store, sweep) = prepared().await;
        if is_missing {
            let key = store.keys("tiered.gc/snapshots/").await.expect("listed").remove(0);
            store.delete(&key, tiered_core::Delete::new()).await.expect("deleted");
        } else {
            damage(&store, "tiered.gc/snapshots/").await;
        }
        let report = sweep.run(&roots()).await.expect("runs");
        assert_eq!((report.observed, report.deleted), (1, 1));
        assert_eq!(sweep.run(&roots()).await.expect("runs").deleted, 1);
        assert_eq!(keys(&*store).await, ["leaves/1", "roots/1"]);
    }
}

#[tokio::test]
async fn a_damaged_head_is_an_error_and_a_lost_one_begins_anew() {
    let (store, sweep) = prepared().await;
    let old = sweep.horizon().await.expect("read");
    assert_eq!(old.generation(), 1);
    let write = sweep.begin_write("of the old series").await.expect("begins");
    damage(&store, "tiered.gc/head").await;
    let before = store.snapshot();
    assert!(matches!(sweep.run(&roots()).await, Err(Error::Damaged { .. })));
    assert!(matches!(sweep.begin_write("").await, Err(Error::Damaged { .. })));
    assert_eq!(store.snapshot(), before);
    store
        .delete(&Key::new("tiered.gc/head").expect("valid"), tiered_core::Delete::new())
        .await
        .expect("deleted");
    for _ in 0..4 {
        let report = sweep.run(&roots()).await.expect("runs");
        // Its generation says nothing about those of the new series.
        assert_eq!((report.deleted, report.writers[0].generation), (0, 0));
    }
    let keep = KeepList::new(old, ["leaves/1"]).expect("valid");
    assert!(matches!(sweep.run(&keep).await, Err(Error::Invalid { .. })), "a horizon of the old series");
    write.end().await.expect("ends");
    assert_eq!(sweep.run(&roots()).await.expect("runs").deleted, 2);
}

#[tokio::test]
async fn a_damaged_record_of_a_writer_holds_everything_back() {
    let (store, sweep) = prepared().await;
    let write = sweep.begin_write("").await.expect("begins");
    damage(&store, "tiered.gc/writers/").await;
    let report = sweep.run(&roots()).await.expect("runs");
    assert_eq!((report.deleted, report.held_back, report.horizon), (0, 2, 0));
    assert_eq!((report.writers[0].id, report.writers[0].began), (write.id(), None));
    sweep.forget_writer(write.id()).await.expect("forgotten");
    assert_eq!(sweep.run(&roots()).await.expect("runs").deleted, 2);
}

/// A store in which one key cannot be read.
struct Unreadable {
    key: Key,
    kind: ErrorKind,
}

impl fmt::Debug for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.key, self.kind)
    }
}

#[async_trait]
impl Interceptor for Unreadable {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        if *key == self.key {
            return Err(StoreError::new(self.kind, "it cannot be read").for_key(key));
        }
        inner.load(key, options).await
    }
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_ends_the_run_before_any_delete() {
    for kind in [ErrorKind::Corrupt, ErrorKind::Unavailable] {
        for key in ["roots/1", "node"] {
            let (store, sweep) = prepared().await;
            set(&*store, "roots/1", "node").await;
            set(&*store, "node", "leaves/1").await;
            drop(sweep);
            let before = store.snapshot();
            let broken = Unreadable { key: Key::new(key).expect("valid"), kind };
            let sweep = Sweep::new(Intercept::new(store.clone(), broken)).expect("builds");
            match sweep.run(&roots()).await {
                Err(Error::Store(error)) => assert_eq!(error.kind(), kind),
                other => panic!("{other:?}"),
            }
            assert_eq!(store.snapshot(), before);
        }
    }
}

#[tokio::test]
async fn a_value_whose_references_cannot_be_read_ends_the_run_before_any_delete() {
    let (store, sweep) = prepared().await;
    set(&*store, "roots/2", "a\u{1}b").await;
    let before = store.snapshot();
    match sweep.run(&roots()).await {
        Err(Error::Store(error)) => assert_eq!(error.key().map(Key::as_str), Some("roots/2")),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.snapshot(), before);
}
