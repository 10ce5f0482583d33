//! A complete adapter over a `BTreeMap`: the model for an adapter of your own.
//!
//! An adapter is a type that declares its [`Capabilities`] and implements the five required methods of [`Store`];
//! everything else has a provided body. What it declares must be true, and what it does not declare it must refuse;
//! `tests/conformance.rs` proves both, clause by clause. Replace the map by your engine, and keep the order of the
//! steps in `write`: check the limits, take the lock, judge the precondition, write.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _};
use tiered_core::store::{answer, closed, precondition_failed};
use tiered_core::{
    Capabilities, Delete, Deleted, Durability, Entry, Error, Feature, Key, ListOptions, ListStream, Listed,
    Operation, Precondition, Put, Read, ReadOptions, Result, Sharing, Stamp, Store, Written,
};

/// How many keys a listing takes from the map at a time: a listing takes memory for a page, not for the whole.
const PAGE: usize = 256;

/// Says where an error comes from.
fn explain(error: Error, operation: Operation, key: &Key) -> Error {
    error.during(operation).in_tier("map").for_key(key)
}

/// A store in a `BTreeMap`. Cloning shares the data.
#[derive(Clone, Debug)]
pub struct MapStore {
    capabilities: Capabilities,
    stamp: Stamp,
    /// `None` once the store is closed.
    entries: Arc<Mutex<Option<BTreeMap<Key, Entry>>>>,
}

impl MapStore {
    /// An empty store on the clock and the versions of `stamp`: tests inject a clock that they can move.
    pub fn new(stamp: Stamp) -> Self {
        let capabilities = Capabilities::new("map", Durability::Volatile, Sharing::Exclusive)
            .with(Feature::ConditionalPut)
            .with(Feature::ConditionalDelete)
            .with(Feature::KeepsMetadata)
            .with(Feature::KeepsNotes)
            .with(Feature::ListsMetadata)
            .with(Feature::ListsExpiry)
            .with(Feature::UniqueValidators);
        Self { capabilities, stamp, entries: Arc::new(Mutex::new(Some(BTreeMap::new()))) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<Key, Entry>>> {
        // No code that holds the lock can leave the map half-changed, so a panic elsewhere does not matter.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the live entry by `new`, if `expected` holds: one atomic step. Tells whether there was one.
    fn write(&self, key: &Key, expected: &Precondition, new: Option<Entry>, what: Operation) -> Result<bool> {
        let mut entries = self.lock();
        let entries = entries.as_mut().ok_or_else(|| closed(what))?;
        // An entry that has expired, or is a tombstone, is absent to preconditions and deletes.
        let live = entries.get(key).filter(|entry| entry.metadata().is_live(self.stamp.now()));
        if !expected.holds(live.map(Entry::version)) {
            return Err(precondition_failed(key));
        }
        let existed = live.is_some();
        match new {
            Some(entry) => entries.insert(key.clone(), entry),
            None => entries.remove(key),
        };
        Ok(existed)
    }

    /// The next keys of a listing.
    fn page(&self, options: &ListOptions, size: usize) -> Result<Vec<Listed>> {
        let entries = self.lock();
        let entries = entries.as_ref().ok_or_else(|| closed(Operation::List))?;
        let from = match &options.start_after {
            Some(after) if after.as_str() >= options.prefix.as_str() => Bound::Excluded(after.as_str()),
            _ => Bound::Included(options.prefix.as_str()),
        };
        Ok(entries
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(&options.prefix))
            .filter(|(_, entry)| entry.metadata().is_visible(self.stamp.now(), options.tombstones))
            .take(size)
            .map(|(key, entry)| Listed::with_metadata(key.clone(), Arc::clone(entry.metadata())))
            .collect())
    }
}

#[async_trait]
impl Store for MapStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let entry =
            self.lock().as_ref().ok_or_else(|| closed(Operation::Load)).map(|all| all.get(key).cloned());
        // `answer` hides what has expired and cuts out the range that was asked for.
        let read = entry.and_then(|entry| answer(entry, self.stamp.now(), options));
        read.map_err(|error| explain(error, Operation::Load, key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        // Before the entry is made: a value over the limit must not cost the memory that the limit guards.
        let checked = self.capabilities.check_key(key);
        let checked = checked.and_then(|()| self.capabilities.check_value(put.value.len() as u64));
        let entry = checked.map(|()| self.stamp.entry(&put));
        let written = entry.and_then(|entry| {
            let version = entry.version().clone();
            self.write(key, &put.precondition, Some(entry), Operation::Put)?;
            Ok(Written::committed(version))
        });
        written.map_err(|error| explain(error, Operation::Put, key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let existed = self.write(key, &delete.precondition, None, Operation::Delete);
        existed.map(Deleted::committed).map_err(|error| explain(error, Operation::Delete, key))
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let store = self.clone();
        let pages = stream::unfold(Some(options), move |options| {
            let next = options.map(|mut options| {
                let size = options.limit.map_or(PAGE, |limit| limit.min(PAGE));
                let page = match store.page(&options, size) {
                    Ok(page) => page,
                    Err(error) => return (vec![Err(error.in_tier("map"))], None),
                };
                options.limit = options.limit.map(|limit| limit - page.len());
                options.start_after = page.last().map(|last| last.key.clone());
                let full = page.len() == PAGE;
                (page.into_iter().map(Ok).collect(), full.then_some(options))
            });
            std::future::ready(next)
        });
        Box::pin(pages.map(stream::iter).flatten())
    }

    async fn flush(&self) -> Result<()> {
        self.lock().as_ref().map(drop).ok_or_else(|| closed(Operation::Flush).in_tier("map"))
    }

    async fn close(&self) -> Result<()> {
        *self.lock() = None;
        Ok(())
    }
}
