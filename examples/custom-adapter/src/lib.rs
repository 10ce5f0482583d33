//! A complete adapter: a store over a `BTreeMap`, as a model for authors.
//!
//! Five methods are required, and [`claim`](Store::claim) of a store that declares [`Sharing::Exclusive`]; everything
//! else has a correct body in the trait. What the adapter declares in its
//! [`Capabilities`] must be true: the conformance suite (`tests/conformance.rs`) checks it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream;
use tiered_core::adapter::{answer, closed, precondition_failed};
use tiered_core::{Capabilities, Delete, Deleted, Durability, Entry, Error, Feature, Key, ListOptions, ListStream, Listed, Operation, Put, Read, ReadOptions, Result, Sharing, Store, Written};
use tiered_core::adapter::{Claim, Claims, Scope, Stamp};

/// Largest value, in bytes.
const MAX_VALUE: u64 = 1 << 20;

/// A store over a `BTreeMap`.
#[derive(Debug)]
pub struct MapStore {
    capabilities: Capabilities,
    stamp: Stamp,
    // `None` when closed.
    entries: Arc<Mutex<Option<BTreeMap<Key, Entry>>>>,
    // Beside the data: one for all handles of one place.
    claims: Claims,
}

impl MapStore {
    /// An empty store on the system's clock.
    pub fn new() -> Self {
        Self::with_stamp(Stamp::system())
    }

    /// An empty store that takes the time and its versions from `stamp`: what tests need.
    pub fn with_stamp(stamp: Stamp) -> Self {
        let features = [
            Feature::ConditionalPut,
            Feature::ConditionalDelete,
            Feature::KeepsMetadata,
            Feature::KeepsNotes,
            Feature::ListsMetadata,
            Feature::ListsExpiry,
            Feature::UniqueValidators,
        ];
        // A limit that tests can reach; the conformance suite tries up to 64 MiB.
        let plain =
            Capabilities::new("map", Durability::Volatile, Sharing::Exclusive).with_max_value(MAX_VALUE);
        Self {
            capabilities: features.into_iter().fold(plain, Capabilities::with),
            stamp,
            entries: Arc::new(Mutex::new(Some(BTreeMap::new()))),
            claims: Claims::new(),
        }
    }

    /// Runs `change` on the map, under its lock: judging a precondition and writing are one step.
    fn with<T>(
        &self,
        operation: Operation,
        key: &Key,
        change: impl FnOnce(&mut BTreeMap<Key, Entry>) -> Result<T>,
    ) -> Result<T> {
        let mut entries = lock(&self.entries);
        let done = match entries.as_mut() {
            Some(entries) => self.capabilities.check_key(key).and_then(|()| change(entries)),
            None => Err(closed(operation)),
        };
        done.map_err(|error: Error| error.during(operation).in_tier("map").for_key(key))
    }
}

impl Default for MapStore {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The map is never left half-changed, so a panic elsewhere does it no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for MapStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.claims.claim("map", scope).await
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.with(Operation::Load, key, |entries| {
            answer(entries.get(key).cloned(), self.stamp.now(), options)
        })
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.with(Operation::Put, key, |entries| {
            self.capabilities.check_value(put.value.len() as u64)?;
            let now = self.stamp.now();
            let current = entries.get(key).filter(|entry| entry.metadata().is_live(now));
            if !put.precondition.holds(current.map(Entry::version)) {
                return Err(precondition_failed(key));
            }
            let entry = self.stamp.entry(&put);
            let version = entry.version().clone();
            entries.insert(key.clone(), entry);
            Ok(Written::committed(version))
        })
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.with(Operation::Delete, key, |entries| {
            let now = self.stamp.now();
            let current = entries.get(key).filter(|entry| entry.metadata().is_live(now));
            if !delete.precondition.holds(current.map(Entry::version)) {
                return Err(precondition_failed(key));
            }
            let existed = current.is_some();
            entries.remove(key);
            Ok(Deleted::committed(existed))
        })
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let (entries, stamp) = (Arc::clone(&self.entries), self.stamp.clone());
        // One key at a time, so that the lock is free in between.
        Box::pin(stream::unfold(Some(options), move |options| {
            let (entries, stamp) = (Arc::clone(&entries), stamp.clone());
            async move {
                let mut options = options.filter(|options| options.limit != Some(0))?;
                let entries = lock(&entries);
                let Some(map) = entries.as_ref() else { return Some((Err(closed(Operation::List)), None)) };
                let from = match &options.start_after {
                    Some(after) if after.as_str() >= options.prefix.as_str() => {
                        Bound::Excluded(after.as_str())
                    }
                    _ => Bound::Included(options.prefix.as_str()),
                };
                let (key, entry) = map
                    .range::<str, _>((from, Bound::Unbounded))
                    .take_while(|(key, _)| key.as_str().starts_with(&options.prefix))
                    .find(|(_, entry)| entry.metadata().is_visible(stamp.now(), options.tombstones))?;
                options.start_after = Some(key.clone());
                options.limit = options.limit.map(|limit| limit - 1);
                Some((Ok(Listed::with_metadata(key.clone(), Arc::clone(entry.metadata()))), Some(options)))
            }
        }))
    }

    async fn flush(&self) -> Result<()> {
        if lock(&self.entries).is_none() { Err(closed(Operation::Flush)) } else { Ok(()) }
    }

    async fn close(&self) -> Result<()> {
        *lock(&self.entries) = None;
        Ok(())
    }
}
