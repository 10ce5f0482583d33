//! Syncs between stores whose versions are of different kinds, or which list none, as S3 does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Validator, verbatim, with_version};
use tiered_core::sync::{FullSync, Refresh, SyncOptions, SyncReport, SyncStrategy, sync};
use tiered_core::{
    Batch, Entry, Feature, Key, ListOptions, ListStream, Listed, MemoryStore, Put, Read, ReadOptions, Result,
    Store, StoreExt as _, Version, Written,
};

use crate::scripted::key;

/// Lists as S3 does: keys, sizes and validators. It counts the looks at a version, and the values that are read.
#[derive(Debug, Default)]
struct Bucket {
    heads: AtomicU64,
    values: AtomicU64,
}

#[async_trait]
impl Interceptor for Bucket {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let counted = if options.range == Some(0..0) { &self.heads } else { &self.values };
        counted.fetch_add(1, Ordering::Relaxed);
        inner.load(key, options).await
    }

    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        Box::pin(inner.list(options).map(|listed| {
            let listed = listed?;
            let tag = listed.version.as_ref().map(|version| Validator::new(&version.to_string()));
            Ok(Listed::new(listed.key, listed.size).with_validator(tag.transpose()?))
        }))
    }
}

fn bucket() -> Intercept<Bucket, MemoryStore> {
    let inner = MemoryStore::new().declaring(|all| {
        all.named("bucket")
            .without(Feature::AtomicBatch)
            .without(Feature::ListsMetadata)
            .without(Feature::Peeks)
    });
    Intercept::new(inner, Bucket::default())
}

/// Counts the batches and single writes of a database.
#[derive(Debug, Default)]
struct Counted {
    batches: Mutex<Vec<usize>>,
    singles: AtomicU64,
}

#[async_trait]
impl Interceptor for Counted {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.batches.lock().push(batch.len());
        inner.apply(batch).await
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.singles.fetch_add(1, Ordering::Relaxed);
        inner.put(key, put).await
    }
}

fn name(index: usize) -> Key {
    key(&format!("object-{index:04}"))
}

fn tag(text: &str) -> Version {
    Version::from_token(&format!("\"{text}\"")).expect("a token")
}

/// Objects that another program wrote: their versions are tags of the server.
async fn objects(store: &MemoryStore, count: usize, value: &str) {
    for index in 0..count {
        let put = with_version(Put::new(format!("{value} {index:04}")), tag(&format!("{value}-{index}")));
        store.put(&name(index), put).await.expect("written");
    }
}

async fn run(source: &dyn Store, target: &dyn Store, strategy: &dyn SyncStrategy) -> SyncReport {
    sync(source, target, strategy, &SyncOptions::new()).await.expect("syncs")
}

fn versions(store: &MemoryStore) -> BTreeMap<Key, Version> {
    store.snapshot().into_iter().map(|(key, entry)| (key, entry.version().clone())).collect()
}

#[tokio::test]
async fn a_refresh_from_a_bucket_copies_what_differs_in_batches_and_reads_no_other_value() {
    let (source, target) = (bucket(), Intercept::new(MemoryStore::new(), Counted::default()));
    objects(source.inner(), 500, "new").await;
    for index in 0..450 {
        let theirs: Entry = source.inner().get(&name(index)).await.expect("reads").expect("there");
        let put = match index % 10 {
            // The object as it was before, of the same size or another one.
            0 => with_version(Put::new(format!("old {index:04}")), tag(&format!("old-{index}"))),
            1 => with_version(Put::new("old"), tag("old")),
            // Written by this library: the same bytes, under a version of another kind.
            2 => Put::new(theirs.value().clone()),
            _ => verbatim(&theirs),
        };
        target.inner().put(&name(index), put).await.expect("written");
    }
    target.inner().put(&key("of-the-target"), Put::new("extra")).await.expect("written");
    let report = run(&source, &target, &Refresh).await;
    // 50 are missing; of 450, three of ten are others.
    assert_eq!((report.copied, report.skipped, report.failed), (50 + 135, 315 + 1, 0));
    let mut there = versions(target.inner());
    there.remove(&key("of-the-target")).expect("kept");
    assert_eq!(there, versions(source.inner()));
    // A look where the sizes are the same, and a read of what is copied.
    let (heads, values) = (source.heads.load(Ordering::Relaxed), source.values.load(Ordering::Relaxed));
    assert_eq!((heads, values), (405, 185));
    let (batches, singles) = (target.batches.lock().clone(), target.singles.load(Ordering::Relaxed));
    assert_eq!((batches.iter().sum::<usize>(), singles), (185, 0));
    assert!(batches.len() <= 4, "{batches:?}");
    // Nothing is left to do.
    let again = run(&source, &target, &Refresh).await;
    assert_eq!((again.copied, again.skipped), (0, 501));
    assert_eq!(source.values.load(Ordering::Relaxed), 185);
    let full = run(&source, &target, &FullSync).await;
    assert_eq!((full.copied, full.removed), (0, 1));
}

#[tokio::test]
async fn what_vanishes_or_is_replaced_between_the_look_and_the_copy_is_neither_lost_nor_mixed() {
    /// The first look at `gone` finds it, and it is gone then; `newer` is replaced.
    #[derive(Debug, Default)]
    struct Moving(Bucket);

    #[async_trait]
    impl Interceptor for Moving {
        fn derived_reads(&self) -> DerivedReads {
            DerivedReads::Load
        }

        async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
            let read = self.0.load(inner, key, options).await;
            if options.range.is_some() && key.as_str() == "gone" {
                inner.delete(key, tiered_core::Delete::new()).await?;
            }
            if options.range.is_some() && key.as_str() == "newer" {
                inner.put(key, Put::new("3")).await?;
            }
            read
        }

        fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
            self.0.list(inner, options)
        }
    }
    let source = Intercept::new(bucket().inner().clone(), Moving::default());
    let target = MemoryStore::new();
    for name in ["gone", "newer", "same"] {
        source.inner().put(&key(name), Put::new("2")).await.expect("written");
        target.put(&key(name), Put::new("1")).await.expect("written");
    }
    let report = run(&source, &target, &Refresh).await;
    assert_eq!((report.copied, report.vanished, report.failed), (2, 1, 0));
    let there = target.snapshot();
    let value = |name: &str| there.get(&key(name)).map(|entry| entry.value().clone());
    assert_eq!(
        (value("gone"), value("newer"), value("same")),
        (Some("1".into()), Some("3".into()), Some("2".into()))
    );
    assert_eq!(versions(&target).get(&key("newer")), versions(source.inner()).get(&key("newer")));
}

#[tokio::test]
async fn a_bucket_as_the_target_gets_what_differs_and_buckets_are_compared_by_version() {
    for source in [MemoryStore::new(), bucket().inner().clone()] {
        let target = bucket();
        objects(&source, 40, "new").await;
        objects(target.inner(), 20, "old").await;
        for index in 10..15 {
            let theirs = source.get(&name(index)).await.expect("reads").expect("there");
            target.inner().put(&name(index), verbatim(&theirs)).await.expect("written");
        }
        let source = Intercept::new(source, Bucket::default());
        let report = run(&source, &target, &Refresh).await;
        assert_eq!((report.copied, report.skipped), (35, 5));
        assert_eq!(versions(source.inner()), versions(target.inner()));
        assert_eq!(run(&source, &target, &Refresh).await.copied, 0);
    }
}

/// A store that gives every entry a version of its own.
#[derive(Debug)]
struct OwnVersions;

#[async_trait]
impl Interceptor for OwnVersions {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let mut own = Batch::of(batch.atomicity());
        for (key, action) in batch.into_operations() {
            let action = match action {
                tiered_core::Action::Put(put) => stripped(&put).into(),
                tiered_core::Action::Delete(delete) => delete.into(),
            };
            own.push(key, action);
        }
        inner.apply(own).await
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        inner.put(key, stripped(&put)).await
    }
}

fn stripped(put: &Put) -> Put {
    Put::new(put.value.clone()).precondition(put.precondition.clone())
}

#[tokio::test]
async fn a_target_that_keeps_no_versions_is_compared_by_size_and_checksum() {
    let source = MemoryStore::new();
    objects(&source, 100, "new").await;
    let inner = MemoryStore::new().declaring(|all| all.without(Feature::KeepsMetadata));
    let target = Intercept::new(inner, OwnVersions);
    for strategy in [&Refresh as &dyn SyncStrategy, &FullSync] {
        objects(&source, 100, strategy.name()).await;
        assert_eq!(run(&source, &target, strategy).await.copied, 100);
        // Their versions differ, and that says nothing.
        let again = run(&source, &target, strategy).await;
        assert_eq!((again.copied, again.skipped), (0, 100));
        let value = |store: &MemoryStore| {
            store.snapshot().into_values().map(|entry| entry.value().clone()).collect::<Vec<_>>()
        };
        assert_eq!(value(&source), value(target.inner()));
    }
}
