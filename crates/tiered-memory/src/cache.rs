//! What an adapter says about its cache.

use tiered_core::{Entry, Key, Metadata};

/// A bounded cache in memory, shared by threads. No call blocks for longer than a lock is held.
///
/// # Examples
/// A cache that never evicts. [`CacheStore`](crate::CacheStore) makes a store of it.
/// ```
/// use std::collections::HashMap;
/// use std::sync::RwLock;
///
/// use tiered_core::{Entry, Key, StoreExt};
/// use tiered_memory::{Cache, CacheStore, Settings, weight};
///
/// #[derive(Default)]
/// struct Map(RwLock<HashMap<Key, Entry>>);
///
/// impl Cache for Map {
///     fn get(&self, key: &Key) -> Option<Entry> {
///         self.0.read().unwrap().get(key).cloned()
///     }
///     fn contains(&self, key: &Key) -> bool {
///         self.0.read().unwrap().contains_key(key)
///     }
///     fn insert(&self, key: &Key, entry: Entry) {
///         self.0.write().unwrap().insert(key.clone(), entry);
///     }
///     fn remove(&self, key: &Key) {
///         self.0.write().unwrap().remove(key);
///     }
///     fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry)) {
///         self.0.read().unwrap().iter().for_each(|(key, entry)| visit(key, entry));
///     }
///     fn clear(&self) {
///         self.0.write().unwrap().clear();
///     }
///     fn used(&self) -> u64 {
///         self.0.read().unwrap().iter().map(|(key, entry)| weight(key, entry)).sum()
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = CacheStore::new(Map::default(), Settings::new("map", 64 << 20));
/// store.set("greeting", "hello").await?;
/// assert_eq!(store.get("greeting").await?.expect("just written").value(), "hello");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub trait Cache: Send + Sync + 'static {
    /// The entry of `key`. Counts as a use of it.
    fn get(&self, key: &Key) -> Option<Entry>;

    /// Whether there is an entry of `key`. No use of it.
    fn contains(&self, key: &Key) -> bool;

    /// Stores an entry in place of what is there. The cache may evict it at once; what was there before is gone in any
    /// case.
    fn insert(&self, key: &Key, entry: Entry);

    /// Removes the entry of `key`. Once this has returned, no read finds an entry that was inserted before.
    fn remove(&self, key: &Key);

    /// Calls `visit` for every entry, in any order. No use of them. An entry that is inserted or removed meanwhile may be
    /// missed or seen, also twice.
    fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry));

    /// Removes every entry.
    fn clear(&self);

    /// Bytes held, by the cache's own count.
    fn used(&self) -> u64;

    /// Makes [`used`](Self::used) exact, where the cache does its housekeeping later.
    fn settle(&self) {}
}

/// What an attribute costs beyond its name and value: two strings and its share of a node.
const OVERHEAD_OF_ATTRIBUTE: usize = 64;

/// What shared buffers cost beside their bytes: the reference counts of a value and of the metadata.
const OVERHEAD_OF_BUFFERS: usize = 24 + 16;

/// What a key and an entry take at least, in the cache and beside it.
const LEAST: usize = size_of::<Key>() + size_of::<Entry>() + size_of::<Metadata>() + OVERHEAD_OF_BUFFERS;

/// What the largest key adds to a value of the largest size, without attributes.
pub(crate) const HEAVIEST_REST: u64 = (LEAST + Key::MAX_LEN + OVERHEAD_OF_BUFFERS) as u64;

/// Bytes of an entry, its key, its metadata and its buffers. An adapter adds what its cache needs beside them.
///
/// # Examples
/// ```
/// use tiered_core::adapter::Stamp;
/// use tiered_core::{Key, Put};
///
/// let entry = Stamp::system().entry(&Put::new(vec![0; 1_000]));
/// let bytes = tiered_memory::weight(&Key::new("users/42")?, &entry);
/// assert!((1_100..1_300).contains(&bytes));
/// # Ok::<(), tiered_core::Error>(())
/// ```
pub fn weight(key: &Key, entry: &Entry) -> u64 {
    let metadata = entry.metadata();
    let attributes = metadata.attributes.iter();
    let long_key = if key.len() > Key::INLINE { key.len() + OVERHEAD_OF_BUFFERS } else { 0 };
    let bytes = LEAST
        + long_key
        + entry.value().len()
        + attributes.map(|(name, value)| name.len() + value.len() + OVERHEAD_OF_ATTRIBUTE).sum::<usize>()
        + metadata.version.as_token().map_or(0, str::len)
        + metadata.note.validator.as_ref().map_or(0, |validator| validator.as_str().len());
    bytes as u64
}
