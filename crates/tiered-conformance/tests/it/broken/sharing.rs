//! Stores that can be shared, whose handles do not know of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Interceptor, Place};
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{Change, ChangeStream, Stamp};
use tiered_core::{
    Capabilities, Feature, Key, ListOptions, ListStream, Lookup, MemoryStore, Precondition, Put, Read,
    ReadOptions, Result, Sharing, Store, Written,
};
use tokio::sync::broadcast;

use super::bend::{bent, reference};

/// What a handle keeps to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// Nothing: the control.
    Nothing,
    Absences,
    Atomicity,
    Claims,
    Conditions,
    FeedEnds,
    FeedOfOthers,
    FeedOnce,
    FeedSilent,
    FeedWithoutDeletes,
    Listings,
    Reads,
}

/// Each with the case that must name it.
pub(super) const TABLE: [(Alone, &str); 11] = [
    (Alone::Absences, "handles_read"),
    (Alone::Atomicity, "handles_race"),
    (Alone::Claims, "claim_overlap"),
    (Alone::Conditions, "handles_conditions"),
    (Alone::FeedEnds, "changes_announced"),
    (Alone::FeedOfOthers, "changes_announced"),
    (Alone::FeedOnce, "changes_announced"),
    (Alone::FeedSilent, "changes_announced"),
    (Alone::FeedWithoutDeletes, "changes_announced"),
    (Alone::Listings, "handles_list"),
    (Alone::Reads, "handles_read"),
];

/// A server: each handle is a clone of one store.
#[derive(Debug)]
pub(crate) struct Server {
    inner: MemoryStore,
    alone: Alone,
    told: broadcast::Sender<Change>,
}

impl Server {
    pub(crate) fn new(alone: Alone, stamp: &Stamp) -> Self {
        let inner = reference(stamp).declaring(|all| all.without(Feature::Peeks));
        Self { inner, alone, told: broadcast::channel(1_000).0 }
    }
}

#[async_trait]
impl Place for Server {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let sharing = match self.alone {
            Alone::Claims => Sharing::Exclusive,
            _ => Sharing::Shared,
        };
        let capabilities = self.inner.capabilities().clone().with_sharing(sharing).with(Feature::Changes);
        let handle = Handle {
            inner: self.inner.clone(),
            capabilities,
            alone: self.alone,
            told: self.told.clone(),
            reads: Mutex::default(),
            own: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        };
        Ok(bent(&handle.inner.clone(), handle))
    }
}

#[derive(Debug)]
struct Handle {
    inner: MemoryStore,
    capabilities: Capabilities,
    alone: Alone,
    told: broadcast::Sender<Change>,
    reads: Mutex<BTreeMap<Key, Read>>,
    own: Mutex<BTreeSet<Key>>,
    gate: tokio::sync::Mutex<()>,
}

impl Handle {
    fn tell(&self, key: &Key) {
        let key = match self.alone {
            Alone::FeedOfOthers => Key::new("another").unwrap_or_else(|_| key.clone()),
            _ => key.clone(),
        };
        // Nothing listens where no feed is open.
        self.told.send(Change::Key { key, version: None }).ok();
    }
}

#[async_trait]
impl Interceptor for Handle {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    fn capabilities<'s>(&'s self, _inner: &'s dyn Store) -> &'s Capabilities {
        &self.capabilities
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let remembered = self.reads.lock().get(key).cloned();
        match (self.alone, remembered) {
            (Alone::Reads, Some(read)) => return Ok(read),
            (Alone::Absences, Some(read)) if read.lookup == Lookup::Absent => return Ok(read),
            _ => {}
        }
        let read = inner.load(key, options).await?;
        self.reads.lock().insert(key.clone(), read.clone());
        Ok(read)
    }

    async fn put(&self, inner: &dyn Store, key: &Key, mut put: Put) -> Result<Written> {
        let conditional = put.precondition != Precondition::None;
        if self.alone == Alone::Conditions && conditional {
            // Judged by what this handle has read.
            let known = self.reads.lock().get(key).cloned();
            if let Some(read) = known {
                let version = read.entry().map(|entry| entry.version().clone());
                if !put.precondition.holds(version.as_ref()) {
                    return Err(precondition_failed(key));
                }
                put.precondition = Precondition::None;
            }
        }
        let _gate = self.gate.lock().await;
        if self.alone == Alone::Atomicity && conditional {
            let current = inner.head(key, &ReadOptions::new()).await?;
            if !put.precondition.holds(current.as_ref().map(|metadata| &metadata.version)) {
                return Err(precondition_failed(key));
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            put.precondition = Precondition::None;
        }
        let written = inner.put(key, put).await?;
        if matches!(self.alone, Alone::Reads | Alone::Absences) {
            self.reads.lock().remove(key);
        }
        self.own.lock().insert(key.clone());
        self.tell(key);
        Ok(written)
    }

    async fn delete(
        &self,
        inner: &dyn Store,
        key: &Key,
        delete: tiered_core::Delete,
    ) -> Result<tiered_core::Deleted> {
        let deleted = inner.delete(key, delete).await?;
        self.reads.lock().remove(key);
        if self.alone != Alone::FeedWithoutDeletes {
            self.tell(key);
        }
        Ok(deleted)
    }

    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let own = self.own.lock().clone();
        let all = inner.list(options);
        if self.alone != Alone::Listings {
            return all;
        }
        Box::pin(all.filter(move |listed| {
            std::future::ready(listed.as_ref().is_ok_and(|listed| own.contains(&listed.key)))
        }))
    }

    async fn claim(
        &self,
        _inner: &dyn Store,
        _scope: &tiered_core::adapter::Scope,
    ) -> Result<tiered_core::adapter::Claim> {
        // A claim of this handle's own, whatever others hold.
        Ok(tiered_core::adapter::Claim::shared())
    }

    fn changes(&self, _inner: &dyn Store) -> Option<ChangeStream> {
        let feed = stream::unfold(self.told.subscribe(), |mut told| async move {
            told.recv().await.ok().map(|change| (change, told))
        });
        Some(match self.alone {
            Alone::FeedSilent => Box::pin(stream::pending()),
            Alone::FeedEnds => Box::pin(stream::empty()),
            // It says once that anything may have changed, and nothing after that.
            Alone::FeedOnce => Box::pin(stream::iter([Change::Resync]).chain(stream::pending())),
            _ => Box::pin(feed),
        })
    }

    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        Ok(())
    }
}
