//! The store over a cache.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use tiered_core::adapter::{Claim, Claims, Scope, Stamp};
use tiered_core::adapter::{Tombstones, own_buffer};
use tiered_core::adapter::{answer, check_mark, closed, precondition_failed};
use tiered_core::{
    Capabilities, Delete, Deleted, Durability, Entry, Feature, Key, ListOptions, ListStream, Listed,
    Metadata, Operation, Precondition, Put, Read, ReadOptions, Result, Sharing, Slices, Store, Version,
    Written,
};

use crate::Cache;
use crate::cache::HEAVIEST_REST;
use crate::page::Page;

/// Locks for writers, by hash of the key.
const STRIPES: usize = 64;

/// What a store over a cache needs to know beside it.
///
/// # Examples
/// ```
/// use tiered_memory::Settings;
///
/// let settings = Settings::new("map", 64 << 20).max_value(1 << 20).overhead(80);
/// println!("{settings:?}");
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    name: &'static str,
    largest_entry: u64,
    overhead: u64,
    max_value: u64,
    stamp: Stamp,
}

impl Settings {
    /// For a cache that takes entries of at most `largest_entry` bytes, bookkeeping included. `name` is the adapter's, for
    /// errors and reports.
    pub fn new(name: &'static str, largest_entry: u64) -> Self {
        let max_value = Capabilities::DEFAULT_MAX_VALUE;
        Self { name, largest_entry, overhead: 0, max_value, stamp: Stamp::system() }
    }

    /// What the cache adds to the [`weight`](crate::weight) of an entry, in bytes; none by default.
    #[must_use]
    pub fn overhead(mut self, bytes: u64) -> Self {
        self.overhead = bytes;
        self
    }

    /// The largest value, in bytes; never more than the largest entry leaves beside a key and the bookkeeping.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock and the source of versions; the system's by default.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    fn capabilities(&self) -> Capabilities {
        let rest = self.overhead + HEAVIEST_REST;
        [
            Feature::ConditionalPut,
            Feature::ConditionalDelete,
            Feature::KeepsMetadata,
            Feature::KeepsNotes,
            Feature::KeepsMarks,
            Feature::Evicts,
            Feature::Peeks,
            Feature::ListsMetadata,
            Feature::ListsExpiry,
            Feature::UniqueValidators,
        ]
        .into_iter()
        .fold(Capabilities::new(self.name, Durability::Volatile, Sharing::Exclusive), Capabilities::with)
        // A larger one would push everything out and then not stay.
        .with_max_value(self.max_value.min(self.largest_entry.saturating_sub(rest)))
    }
}

/// A store over a cache in memory. Cloning shares the data.
pub struct CacheStore<C>(Arc<Inner<C>>);

struct Inner<C> {
    capabilities: Capabilities,
    cache: C,
    hasher: foldhash::fast::RandomState,
    stripes: [Mutex<()>; STRIPES],
    marks: Mutex<BTreeMap<String, Bytes>>,
    stamp: Stamp,
    claims: Claims,
    closed: AtomicBool,
}

impl<C> Clone for CacheStore<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Cache> fmt::Debug for CacheStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStore")
            .field("capabilities", &self.0.capabilities)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl<C: Cache> CacheStore<C> {
    /// A store over an empty cache.
    pub fn new(cache: C, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            capabilities: settings.capabilities(),
            cache,
            hasher: foldhash::fast::RandomState::default(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            marks: Mutex::default(),
            stamp: settings.stamp,
            claims: Claims::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Runs the cache's housekeeping now, so that counts and evictions are exact. For tests and statistics.
    pub fn settle(&self) {
        self.0.cache.settle();
    }

    /// Bytes held, by the cache's own count; exact after [`settle`](Self::settle).
    pub fn used(&self) -> u64 {
        self.0.cache.used()
    }
}

impl<C: Cache> Inner<C> {
    fn name(&self) -> &str {
        self.capabilities.name()
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier(self.name()));
        }
        Ok(())
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the index is taken modulo the length"
    )]
    fn stripe(&self, key: &Key) -> &Mutex<()> {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// Whether a read returns the entry. Reads the clock only where that matters.
    #[inline]
    fn is_served(&self, metadata: &Metadata) -> bool {
        let plain = metadata.expires_at.is_none() && !metadata.note.origin.is_hidden();
        plain || metadata.is_live(self.stamp.now())
    }

    /// The version of the live entry. Reads the cache, which counts as a use.
    fn current(&self, key: &Key) -> Option<Version> {
        let now = self.stamp.now();
        self.cache.get(key).filter(|entry| entry.metadata().is_live(now)).map(|entry| entry.version().clone())
    }

    fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.capabilities.check_key(key)?;
        self.capabilities.check_value(put.value.len() as u64)?;
        self.capabilities.check_precondition(&put.precondition, Feature::ConditionalPut)?;
        // What it holds is what it counts: the caller's buffer may be a small part of a large one.
        let value = own_buffer(&put.value);
        let _turn = self.stripe(key).lock();
        // Without a precondition the cache is not read: a read counts as a use of the entry.
        let unconditional = matches!(put.precondition, Precondition::None);
        if !unconditional && !put.precondition.holds(self.current(key).as_ref()) {
            return Err(precondition_failed(key));
        }
        let entry = self.stamp.entry(&put.value(value));
        let version = entry.version().clone();
        self.cache.insert(key, entry);
        // A store that was closed meanwhile has emptied the cache, perhaps before the insert.
        if let Err(error) = self.check_open(Operation::Put) {
            self.cache.remove(key);
            return Err(error);
        }
        Ok(Written::committed(version))
    }

    fn delete(&self, key: &Key, delete: &Delete) -> Result<Deleted> {
        self.check_open(Operation::Delete)?;
        self.capabilities.check_key(key)?;
        self.capabilities.check_precondition(&delete.precondition, Feature::ConditionalDelete)?;
        let _turn = self.stripe(key).lock();
        let current = self.current(key);
        if !delete.precondition.holds(current.as_ref()) {
            return Err(precondition_failed(key));
        }
        self.cache.remove(key);
        Ok(Deleted::committed(current.is_some()))
    }
}

#[async_trait]
impl<C: Cache> Store for CacheStore<C> {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.check_open(Operation::Load)?;
        answer(self.0.cache.get(key), self.0.stamp.now(), options)
            .map_err(|error| error.in_tier(self.0.name()).for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let written = self.0.put(key, put);
        written.map_err(|error| error.during(Operation::Put).in_tier(self.0.name()).for_key(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let deleted = self.0.delete(key, &delete);
        deleted.map_err(|error| error.during(Operation::Delete).in_tier(self.0.name()).for_key(key))
    }

    /// In pages of 65,536 keys, each of which takes a walk through the whole cache.
    fn list(&self, options: ListOptions) -> ListStream {
        let left = options.limit.unwrap_or(usize::MAX);
        // Nothing is collected before the first key is asked for.
        let state = Some((self.clone(), options, Vec::new().into_iter(), true, left));
        Box::pin(stream::unfold(state, |state| async move {
            let (store, mut options, mut page, mut more, left) = state?;
            loop {
                if left == 0 {
                    return None;
                }
                if let Err(error) = store.0.check_open(Operation::List) {
                    return Some((Err(error), None));
                }
                // An entry that was removed since the page was taken is not listed.
                if let Some(listed) = page.find(|listed: &Listed| store.0.cache.contains(&listed.key)) {
                    return Some((Ok(listed), Some((store, options, page, more, left - 1))));
                }
                if !more {
                    return None;
                }
                let Page { listed, next } = Page::of(&store.0.cache, &options, store.0.stamp.now());
                page = listed.into_iter();
                more = next.is_some();
                options.start_after = next.or(options.start_after);
            }
        }))
    }

    #[inline]
    fn peek(&self, key: &Key) -> Option<Entry> {
        let entry = self.0.cache.get(key);
        match &entry {
            Some(found) if !self.0.is_served(found.metadata()) => None,
            _ => entry,
        }
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        let entry = self.0.cache.get(key)?;
        let expires = entry.metadata().expires_at.is_some();
        let visible = !expires || entry.metadata().is_visible(self.0.stamp.now(), Tombstones::Show);
        visible.then_some(entry)
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let mut options = options.clone();
        options.range = None;
        let read = self.load(key, &options).await?.try_map(|entry| Slices::of(&entry, ranges));
        read.map_err(|error| error.during(Operation::Load).in_tier(self.0.name()).for_key(key))
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.0.claims.claim(self.0.name(), scope).await
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.check_open(Operation::Mark)?;
        check_mark(name, None)?;
        Ok(self.0.marks.lock().get(name).cloned())
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.0.check_open(Operation::Mark)?;
        check_mark(name, value.as_ref())?;
        let mut marks = self.0.marks.lock();
        match value {
            Some(value) => marks.insert(name.to_owned(), value),
            None => marks.remove(name),
        };
        Ok(())
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.check_open(Operation::Mark)?;
        Ok(self.0.marks.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn flush(&self) -> Result<()> {
        self.0.check_open(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        // Closing empties the cache and refuses further calls; dropping the last handle frees its memory.
        if !self.0.closed.swap(true, Ordering::AcqRel) {
            self.0.cache.clear();
        }
        Ok(())
    }
}
