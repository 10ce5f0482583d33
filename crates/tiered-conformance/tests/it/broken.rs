//! Deliberately broken stores: each must fail a named case, or the case proves nothing.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tiered_conformance::{RunOptions, run};
use tiered_core::{
    Batch, BatchOutcomes, Capabilities, Delete, Deleted, Entry, Feature, Key, ListOptions, ListStream,
    MemoryStore, Put, Read, ReadOptions, Result, Store, Tombstones, Version, Written,
};

/// How a store breaks its specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ListsBackwards,
    PrefixLeaks,
    LimitIgnored,
    StartAfterIncluded,
    DeleteLost,
    ExistedWrong,
    CheckThenAct,
    BatchNotAtomic,
    MetadataDropped,
    VersionReused,
    VersionMisreported,
    RangeOffByOne,
    ManyReordered,
    TombstoneShown,
    UnlessIgnored,
    ValueTruncated,
    AbsentIsEmpty,
}

/// Each fault with a case that must notice it.
const TABLE: [(Fault, &str); 17] = [
    (Fault::ListsBackwards, "list_order"),
    (Fault::PrefixLeaks, "list_prefix"),
    (Fault::LimitIgnored, "list_limit"),
    (Fault::StartAfterIncluded, "list_after"),
    (Fault::DeleteLost, "delete_existing"),
    (Fault::ExistedWrong, "delete_absent"),
    (Fault::CheckThenAct, "race_create"),
    (Fault::BatchNotAtomic, "batch_atomic_failure"),
    (Fault::MetadataDropped, "put_attributes"),
    (Fault::VersionReused, "put_versions_differ"),
    (Fault::VersionMisreported, "put_version"),
    (Fault::RangeOffByOne, "range_half_open"),
    (Fault::ManyReordered, "read_many"),
    (Fault::TombstoneShown, "tombstone_hidden"),
    (Fault::UnlessIgnored, "read_unless_unchanged"),
    (Fault::ValueTruncated, "put_replace"),
    (Fault::AbsentIsEmpty, "read_absent"),
];

#[derive(Clone, Debug)]
struct Broken {
    inner: MemoryStore,
    fault: Fault,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

#[async_trait]
impl Store for Broken {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let mut options = options.clone();
        if self.has(Fault::TombstoneShown) {
            options.tombstones = Tombstones::Show;
        }
        if self.has(Fault::UnlessIgnored) {
            options.unless = None;
        }
        if self.has(Fault::RangeOffByOne) {
            options.range = options.range.map(|range| range.start..range.end + 1);
        }
        let read = self.inner.load(key, &options).await?;
        if self.has(Fault::AbsentIsEmpty) && read.entry().is_none() && options.unless.is_none() {
            let entry = tiered_core::Stamp::system().entry(&Put::new(""));
            return Ok(Read::from_store(tiered_core::Lookup::Found(entry)));
        }
        Ok(read)
    }

    async fn put(&self, key: &Key, mut put: Put) -> Result<Written> {
        if self.has(Fault::MetadataDropped) {
            put.attributes = tiered_core::Attributes::new();
        }
        if self.has(Fault::VersionReused) {
            put.version = Some(Version::from_u128(7));
        }
        if self.has(Fault::ValueTruncated) && !put.value.is_empty() {
            put.value = put.value.slice(..put.value.len() - 1);
            put.checksum = None;
        }
        if self.has(Fault::CheckThenAct) {
            let current = self.inner.head(key, &ReadOptions::new()).await?;
            if !put.precondition.holds(current.as_ref().map(|metadata| &metadata.version)) {
                return Err(tiered_core::store::precondition_failed(key));
            }
            tokio::task::yield_now().await;
            put.precondition = tiered_core::Precondition::None;
        }
        let written = self.inner.put(key, put).await?;
        if self.has(Fault::VersionMisreported) {
            return Ok(Written::committed(Version::from_u128(9)));
        }
        Ok(written)
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        if self.has(Fault::DeleteLost) {
            return Ok(Deleted::committed(self.inner.peek(key).is_some()));
        }
        let deleted = self.inner.delete(key, delete).await?;
        Ok(if self.has(Fault::ExistedWrong) { Deleted::committed(true) } else { deleted })
    }

    fn list(&self, mut options: ListOptions) -> ListStream {
        match self.fault {
            Fault::LimitIgnored => options.limit = None,
            Fault::PrefixLeaks => {
                // Matches a part of the last character as well.
                options.prefix.pop();
            }
            Fault::TombstoneShown => options.tombstones = Tombstones::Show,
            Fault::StartAfterIncluded => {
                let after = options.start_after.take();
                let all = self.inner.list(options);
                return Box::pin(all.filter(move |listed| {
                    let keep = match (&after, listed) {
                        (Some(after), Ok(listed)) => listed.key >= *after,
                        _ => true,
                    };
                    async move { keep }
                }));
            }
            Fault::ListsBackwards => {
                let all = self.inner.list(options);
                return Box::pin(
                    stream::once(async move {
                        let mut all: Vec<_> = all.collect().await;
                        all.reverse();
                        stream::iter(all)
                    })
                    .flatten(),
                );
            }
            _ => {}
        }
        self.inner.list(options)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.inner.peek(key)
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Read>> {
        let mut reads = Vec::new();
        for key in keys {
            reads.push(self.load(key, options).await?);
        }
        if self.has(Fault::ManyReordered) {
            reads.rotate_left(1);
        }
        Ok(reads)
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        if !self.has(Fault::BatchNotAtomic) {
            return self.inner.apply(batch).await;
        }
        let mut outcomes = Vec::new();
        for (key, action) in batch.into_operations() {
            outcomes.push(match action {
                tiered_core::Action::Put(put) => {
                    self.inner.put(&key, put).await.map(tiered_core::Applied::Put)
                }
                tiered_core::Action::Delete(delete) => {
                    self.inner.delete(&key, delete).await.map(tiered_core::Applied::Delete)
                }
            });
            if matches!(outcomes.last(), Some(Err(_))) {
                return outcomes.pop().map_or(Ok(Vec::new()), |last| last.map(|_| Vec::new()));
            }
        }
        Ok(outcomes)
    }

    async fn mark(&self, name: &str) -> Result<Option<bytes::Bytes>> {
        self.inner.mark(name).await
    }

    async fn set_mark(&self, name: &str, value: Option<bytes::Bytes>) -> Result<()> {
        self.inner.set_mark(name, value).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_store_fails_the_case_that_is_there_for_it() {
    for (fault, case) in TABLE {
        let store = Broken { inner: MemoryStore::new().declaring(|all| all.without(Feature::Peeks)), fault };
        let report = run(
            move || {
                let store: Arc<dyn Store> = Arc::new(store.clone());
                async move { store }
            },
            RunOptions::new().only([case]),
        )
        .await;
        assert!(!report.is_ok(), "{fault:?} was not noticed by {case}\n{report}");
    }
}
