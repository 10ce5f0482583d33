//! The memory tier.

use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use tiered_core::adapter::own_buffer;
use tiered_core::adapter::{Claim, Claims, Scope, Stamp};
use tiered_core::adapter::{answer, check_mark, closed, precondition_failed};
use tiered_core::{
    Capabilities, Delete, Deleted, Durability, Entry, Feature, Key, ListOptions, ListStream, Listed,
    Operation, Put, Read, ReadOptions, Result, Sharing, Slices, Store, Version, Written,
};

use crate::MokaConfig;

type Hasher = foldhash::fast::RandomState;

/// What an entry costs beyond its key and value: metadata, two reference counts, and moka's own node. Measured at
/// about 300 bytes with short attributes; rounded up, since too small a figure overruns the capacity.
const OVERHEAD: usize = 384;

/// What the largest key weighs with the bookkeeping.
const HEAVIEST_REST: u64 = (Key::MAX_LEN + OVERHEAD) as u64;

/// What an attribute costs beyond its name and value: two strings and its share of a node.
const OVERHEAD_OF_ATTRIBUTE: usize = 64;

/// Bytes that an entry takes, whatever its parts were cut from: the tier holds copies.
fn weight(key: &Key, entry: &Entry) -> usize {
    let metadata = entry.metadata();
    let attributes = metadata.attributes.iter();
    key.len()
        + entry.value().len()
        + attributes.map(|(name, value)| name.len() + value.len() + OVERHEAD_OF_ATTRIBUTE).sum::<usize>()
        + metadata.version.as_token().map_or(0, str::len)
        + metadata.note.validator.as_ref().map_or(0, |validator| validator.as_str().len())
        + OVERHEAD
}

/// Keys of a page of a listing. moka has no order, so a page is the smallest keys of a walk through all of them: large
/// pages for few walks, 2 MiB of pointers for bounded memory.
const PAGE: usize = 65_536;

/// Locks for writers, by hash of the key, so that judging a precondition and writing are one step.
const STRIPES: usize = 64;

/// A bounded cache in memory. Cloning shares the data.
#[derive(Clone)]
pub struct MokaStore(Arc<Inner>);

struct Inner {
    capabilities: Capabilities,
    cache: Cache<Key, Entry, Hasher>,
    hasher: Hasher,
    stripes: Box<[Mutex<()>]>,
    marks: Mutex<BTreeMap<String, Bytes>>,
    stamp: Stamp,
    claims: Claims,
    closed: AtomicBool,
}

impl fmt::Debug for MokaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaStore")
            .field("capabilities", &self.0.capabilities)
            .field("entries", &self.0.cache.entry_count())
            .finish_non_exhaustive()
    }
}

impl MokaStore {
    pub(crate) fn new(config: MokaConfig) -> Self {
        let hasher = Hasher::default();
        let mut builder = Cache::builder()
            .max_capacity(config.capacity)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|key: &Key, entry: &Entry| u32::try_from(weight(key, entry)).unwrap_or(u32::MAX));
        if let Some(ttl) = config.ttl {
            builder = builder.time_to_live(ttl);
        }
        let features = [
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
        ];
        let capabilities = features
            .into_iter()
            .fold(Capabilities::new("moka", Durability::Volatile, Sharing::Exclusive), Capabilities::with)
            // An entry that weighs more than the cache would push everything out and then not stay.
            .with_max_value(config.max_value.min(config.capacity.saturating_sub(HEAVIEST_REST)));
        Self(Arc::new(Inner {
            capabilities,
            cache: builder.build_with_hasher(hasher.clone()),
            hasher,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            marks: Mutex::default(),
            stamp: config.stamp,
            claims: Claims::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Runs moka's housekeeping now, so that counts and evictions are exact. For tests and statistics.
    pub fn settle(&self) {
        self.0.cache.run_pending_tasks();
    }

    /// Bytes held, by the tier's own count; exact after [`settle`](MokaStore::settle).
    pub fn used(&self) -> u64 {
        self.0.cache.weighted_size()
    }
}

impl Inner {
    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier("moka"));
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
        if !put.precondition.holds(self.current(key).as_ref()) {
            return Err(precondition_failed(key));
        }
        let entry = self.stamp.entry(&put.value(value));
        let version = entry.version().clone();
        self.cache.insert(key.clone(), entry);
        // A store that was closed meanwhile has emptied the cache, perhaps before the insert.
        if let Err(error) = self.check_open(Operation::Put) {
            self.cache.invalidate(key);
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
        self.cache.invalidate(key);
        Ok(Deleted::committed(current.is_some()))
    }

    /// The next page of a listing, in order, and where the page after it begins. Walking through moka's entries is no
    /// use of them, as looking each up would be.
    fn page(&self, options: &ListOptions) -> (Vec<Listed>, Option<Key>) {
        let now = self.stamp.now();
        let mut page: BinaryHeap<ByKey> = BinaryHeap::new();
        let mut full = false;
        for (key, entry) in &self.cache {
            let visible = entry.metadata().is_visible(now, options.tombstones);
            if visible && options.contains(&key) {
                page.push(ByKey(Listed::of_entry(Key::clone(&key), &entry, options)));
                if page.len() > PAGE {
                    page.pop();
                    full = true;
                }
            }
        }
        let page: Vec<Listed> = page.into_sorted_vec().into_iter().map(|ByKey(listed)| listed).collect();
        let next = page.last().filter(|_| full).map(|listed| listed.key.clone());
        (page, next)
    }
}

/// Ordered by key.
struct ByKey(Listed);

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[async_trait]
impl Store for MokaStore {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.check_open(Operation::Load)?;
        answer(self.0.cache.get(key), self.0.stamp.now(), options)
            .map_err(|error| error.in_tier("moka").for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.0.put(key, put).map_err(|error| error.during(Operation::Put).in_tier("moka").for_key(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.0
            .delete(key, &delete)
            .map_err(|error| error.during(Operation::Delete).in_tier("moka").for_key(key))
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
                if let Some(listed) = page.find(|listed: &Listed| store.0.cache.contains_key(&listed.key)) {
                    return Some((Ok(listed), Some((store, options, page, more, left - 1))));
                }
                if !more {
                    return None;
                }
                let (keys, next) = store.0.page(&options);
                page = keys.into_iter();
                more = next.is_some();
                options.start_after = next.or(options.start_after);
            }
        }))
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        let entry = self.0.cache.get(key)?;
        let metadata = entry.metadata();
        let plain = metadata.expires_at.is_none() && !metadata.note.origin.is_hidden();
        if plain || metadata.is_live(self.0.stamp.now()) { Some(entry) } else { None }
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
        read.map_err(|error| error.during(Operation::Load).in_tier("moka").for_key(key))
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.0.claims.claim("moka", scope).await
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
            self.0.cache.invalidate_all();
        }
        Ok(())
    }
}
