//! Listings: ordered, streamed.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;

use crate::entry::{Entry, Metadata, Tombstones};
use crate::error::Result;
use crate::key::Key;
use crate::version::{Validator, Version};

/// Which keys to list. [`ListOptions::default`] lists all.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use futures_util::StreamExt;
/// use tiered_core::{Key, ListOptions, MemoryStore, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// for key in ["orders/1", "users/1", "users/2", "users/3"] {
///     store.set(key, "…").await?;
/// }
/// let options = ListOptions::new().prefix("users/").start_after(Key::new("users/1")?).limit(10);
/// let mut listing = store.list(options);
/// while let Some(listed) = listing.next().await {
///     let listed = listed?;
///     println!("{} has {} bytes", listed.key, listed.size);
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListOptions {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys after this one, by bytes. It need not exist, nor begin with the prefix.
    pub start_after: Option<Key>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Values of at most so many bytes are listed with their keys, where the store has them at hand.
    pub values: Option<u64>,
    /// Whether tombstones are seen. For the tiering engine.
    pub tombstones: Tombstones,
}

impl ListOptions {
    /// All keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only keys after `key`.
    #[must_use]
    pub fn start_after(mut self, key: Key) -> Self {
        self.start_after = Some(key);
        self
    }

    /// At most `limit` keys.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// With values of at most `up_to` bytes, where listing them costs the store no more than listing the keys: any value
    /// can be absent, and is then read by [`load`](crate::Store::load) or [`get_many`](crate::Store::get_many).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::StreamExt;
    /// use tiered_core::{Key, ListOptions, MemoryStore, Put, Store};
    ///
    /// let store = MemoryStore::new();
    /// store.put(&Key::new("k")?, Put::new("small")).await?;
    /// let mut listing = store.list(ListOptions::new().values(1024));
    /// let listed = listing.next().await.expect("one key")?;
    /// assert_eq!(listed.value.as_deref(), Some(&b"small"[..]));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn values(mut self, up_to: u64) -> Self {
        self.values = Some(up_to);
        self
    }

    /// Whether a value of this size is to be listed where it is at hand.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::ListOptions;
    ///
    /// let options = ListOptions::new().values(100);
    /// assert!(options.wants_value(100) && !options.wants_value(101));
    /// assert!(!ListOptions::new().wants_value(0));
    /// ```
    pub fn wants_value(&self, size: u64) -> bool {
        self.values.is_some_and(|up_to| size <= up_to)
    }

    /// With tombstones seen or hidden.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::ListOptions;
    /// use tiered_core::adapter::Tombstones;
    ///
    /// let options = ListOptions::new().tombstones(Tombstones::Show);
    /// assert_eq!(options.tombstones, Tombstones::Show);
    /// ```
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }

    /// Whether a listing with these options, but for the limit, contains `key`.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Key, ListOptions};
    ///
    /// let options = ListOptions::new().prefix("users/").start_after(Key::new("users/1")?);
    /// assert!(options.contains(&Key::new("users/2")?));
    /// assert!(!options.contains(&Key::new("users/1")?));
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn contains(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.prefix) && self.start_after.as_ref().is_none_or(|after| key > after)
    }
}

/// The least byte string that is greater than every one that begins with `prefix`; `None` where there is none. For
/// adapters, which list a prefix as a range.
///
/// # Examples
/// ```
/// assert_eq!(tiered_core::adapter::prefix_end(b"ab"), Some(b"ac".to_vec()));
/// assert_eq!(tiered_core::adapter::prefix_end(b""), None);
/// ```
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// A key of a listing, with what the backend lists for free.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use futures_util::StreamExt;
/// use tiered_core::{ListOptions, MemoryStore, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("users/42", "Ada").await?;
/// let listed = store.list(ListOptions::new()).next().await.expect("one key")?;
/// assert_eq!((listed.key.as_str(), listed.size), ("users/42", 3));
/// assert!(listed.metadata.is_some(), "MemoryStore declares ListsMetadata");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// Size of the value, in bytes.
    pub size: u64,
    /// The version, where listings carry it.
    pub version: Option<Version>,
    /// The validator, where that is not the version itself.
    pub validator: Option<Validator>,
    /// All metadata, where listings carry them ([`Feature::ListsMetadata`](crate::Feature::ListsMetadata)).
    pub metadata: Option<Arc<Metadata>>,
    /// The whole value of the listed version, where it was [asked for](ListOptions::values), is small enough, and the
    /// store had it at hand.
    pub value: Option<Bytes>,
}

/// # Examples
/// ```
/// use std::sync::Arc;
/// use tiered_core::adapter::{Stamp, Validator};
/// use tiered_core::{Key, ListOptions, Listed, Put};
///
/// let key = Key::new("users/42")?;
/// let entry = Stamp::system().entry(&Put::new("Ada"));
/// // What an adapter lists: keys alone, with metadata, or with the entry at hand.
/// let bare = Listed::new(key.clone(), 3).with_validator(Some(Validator::new("etag")?));
/// let full = Listed::with_metadata(key.clone(), Arc::clone(entry.metadata()));
/// let whole = Listed::of_entry(key, &entry, &ListOptions::new().values(100));
/// assert_eq!(full.with_value(Some(entry.value().clone())), whole);
/// assert_eq!((bare.size, bare.version), (3, None));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Listed {
    /// A listed key of which the size alone is known.
    pub const fn new(key: Key, size: u64) -> Self {
        Self { key, size, version: None, validator: None, metadata: None, value: None }
    }

    /// With a validator that is not the version itself.
    #[must_use]
    pub fn with_validator(mut self, validator: Option<Validator>) -> Self {
        self.validator = validator;
        self
    }

    /// With the whole value, where it is at hand.
    #[must_use]
    pub fn with_value(mut self, value: Option<Bytes>) -> Self {
        self.value = value;
        self
    }

    /// A listed key with all its metadata.
    pub fn with_metadata(key: Key, metadata: Arc<Metadata>) -> Self {
        Self {
            key,
            size: metadata.size,
            version: Some(metadata.version.clone()),
            validator: metadata.note.validator.clone(),
            metadata: Some(metadata),
            value: None,
        }
    }

    /// A listed key of which the whole entry is at hand.
    pub fn of_entry(key: Key, entry: &Entry, options: &ListOptions) -> Self {
        let value = options.wants_value(entry.size()).then(|| entry.value().clone());
        Self { value, ..Self::with_metadata(key, Arc::clone(entry.metadata())) }
    }
}

/// A listing: keys in the order of their bytes, each once. An error with a
/// [`damaged_key`](crate::Error::damaged_key) is about that key alone, and the listing goes on. Any other error ends it.
pub type ListStream = Pin<Box<dyn Stream<Item = Result<Listed>> + Send>>;
