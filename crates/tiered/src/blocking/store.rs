//! The operations of a store without async.

use std::fmt;
use std::io::Read as Reader;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered_core::adapter::{BatchOutcomes, Reads};
use tiered_core::{
    AsKey, Batch, Capabilities, CommitLevel, Delete, Deleted, Entry, Key, ListOptions, Metadata, Put, Read,
    ReadOptions, Receipt, Result, Slices, Store, StoreExt as _, Written,
};

use super::Runtime;
use super::streams::{Body, Entries, chunks};

/// A store whose operations return when they are done. Clones share the store where clones of `S` do, as those of
/// [`TieredStore`](crate::TieredStore), of the adapters and of `Arc<dyn Store>`.
///
/// The operations, their options, results and errors are those of [`Store`] and [`StoreExt`](crate::StoreExt), which
/// describe them. Each adds one error: [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) from inside an async
/// task. See [`blocking`](super) for where calls are allowed.
///
/// # Examples
/// ```
/// use tiered::blocking::{BlockingStore, Runtime};
/// use tiered::{MemoryStore, Put};
///
/// let runtime = Runtime::new()?;
/// let store = BlockingStore::new(MemoryStore::new(), runtime);
/// let written = store.put("users/42", Put::new("Ada"))?;
/// assert_eq!(store.get("users/42")?.expect("just written").version(), &written.version);
/// let (old, _) = store.update("users/42", |old| old.map(|_| Put::new("Grace")))?;
/// assert_eq!(old.expect("there was one").value(), "Ada");
/// for listed in store.list(tiered::ListOptions::new().prefix("users/")) {
///     assert_eq!(listed?.key.as_str(), "users/42");
/// }
/// store.close()?;
/// # Ok::<(), tiered::Error>(())
/// ```
pub struct BlockingStore<S = Arc<dyn Store>> {
    /// Taken by `into_inner` and `drop` alone.
    store: Option<S>,
    runtime: Runtime,
}

/// # Examples
/// ```
/// use tiered::blocking::{BlockingStore, Runtime};
/// use tiered::{Batch, CommitLevel, Delete, Existed, Feature, ListOptions, MemoryStore, Put, ReadOptions};
///
/// let store = BlockingStore::new(MemoryStore::new(), Runtime::new()?);
/// let (reads, key) = (ReadOptions::new(), "users/42".parse()?);
///
/// // Writes.
/// let written = store.set("users/42", "Ada Lovelace")?;
/// store.durable(&written.receipt, CommitLevel::Committed)?;
/// store.apply(Batch::new().put("users/43".parse()?, Put::new("Grace")))?;
/// store.write_from("users/44", Put::new(""), std::io::Cursor::new("Alan"))?;
/// store.flush()?;
///
/// // Reads.
/// assert!(store.contains("users/42")?);
/// assert_eq!(store.get_range("users/42", 0..3)?.expect("there").value(), "Ada");
/// assert_eq!(store.load("users/42", &reads)?.entry().expect("there").version(), &written.version);
/// assert_eq!(store.head("users/42", &reads)?.expect("there").size, 12);
/// assert_eq!(store.get_many(&[key], &reads).len(), 1);
/// let parts = store.get_ranges("users/42", &[0..3, 4..12], &reads)?;
/// # drop(parts);
/// assert!(store.peek(&"users/42".parse()?).is_some(), "memory answers without waiting");
/// assert_eq!(store.keys("users/")?.len(), 3);
/// assert_eq!(store.list(ListOptions::new().limit(2)).count(), 2);
///
/// // Deletes, and marks, which no listing shows.
/// assert_eq!(store.delete("users/42", Delete::new().report_existed())?.existed, Existed::Yes);
/// if store.capabilities().has(Feature::KeepsMarks) {
///     store.set_mark("imported", Some("2026".into()))?;
///     assert_eq!(store.mark("imported")?.expect("set"), "2026");
///     assert_eq!(store.mark_names("")?, ["imported"]);
/// }
///
/// // The same store on the same threads, for the async API.
/// let runtime = store.runtime().clone();
/// let tiers = tiered::TieredStore::builder(MemoryStore::new(), store.into_inner());
/// let tiers = BlockingStore::new(runtime.wait(tiers.build())?, runtime);
/// assert_eq!(tiers.get("users/43")?.expect("there").value(), "Grace");
/// assert_eq!(tiers.inner().stats().misses, 1);
/// tiers.close()?;
/// # Ok::<(), tiered::Error>(())
/// ```
impl<S: Store> BlockingStore<S> {
    /// The operations of `store`, waiting on `runtime`.
    ///
    /// A store that was opened under another runtime needs that one as well, as long as it lives.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use tiered::blocking::{BlockingStore, Runtime};
    /// use tiered::{MemoryStore, Store};
    ///
    /// let runtime = Runtime::new()?;
    /// let shared: Arc<dyn Store> = Arc::new(MemoryStore::new());
    /// BlockingStore::new(MemoryStore::new(), runtime.clone()).set("k", "v")?;
    /// BlockingStore::new(shared, runtime).set("k", "v")?;
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub const fn new(store: S, runtime: Runtime) -> Self {
        Self { store: Some(store), runtime }
    }

    /// The store inside, with its async API and with what waits for nothing: capabilities, statistics.
    pub fn inner(&self) -> &S {
        let Some(store) = &self.store else { unreachable!("only what ends the handle takes it") };
        store
    }

    /// The store inside, to build a stack of it.
    pub fn into_inner(mut self) -> S {
        let Some(store) = self.store.take() else { unreachable!("only what ends the handle takes it") };
        store
    }

    /// The runtime that calls wait on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// What the store declares.
    pub fn capabilities(&self) -> &Capabilities {
        self.inner().capabilities()
    }

    /// The entry, as [`StoreExt::get`](crate::StoreExt::get). A hit in memory touches no runtime.
    pub fn get(&self, key: impl AsKey) -> Result<Option<Entry>> {
        let key = key.as_key()?;
        match self.inner().peek(&key) {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.load(&*key, &ReadOptions::default())?.into_entry()),
        }
    }

    /// A part of the value, as [`StoreExt::get_range`](crate::StoreExt::get_range).
    pub fn get_range(&self, key: impl AsKey, range: Range<u64>) -> Result<Option<Entry>> {
        self.runtime.wait(self.inner().get_range(key, range))
    }

    /// Whether there is an entry, as [`StoreExt::contains`](crate::StoreExt::contains).
    pub fn contains(&self, key: impl AsKey) -> Result<bool> {
        self.runtime.wait(self.inner().contains(key))
    }

    /// Writes a value, as [`StoreExt::set`](crate::StoreExt::set).
    pub fn set(&self, key: impl AsKey, put: impl Into<Put>) -> Result<Written> {
        self.put(key, put.into())
    }

    /// Changes a value by a function, as [`StoreExt::update`](crate::StoreExt::update).
    pub fn update(
        &self,
        key: impl AsKey,
        change: impl FnMut(Option<&Entry>) -> Option<Put> + Send,
    ) -> Result<(Option<Entry>, Option<Written>)> {
        self.runtime.wait(self.inner().update(key, change))
    }

    /// The keys that begin with `prefix`, as [`StoreExt::keys`](crate::StoreExt::keys).
    pub fn keys(&self, prefix: &str) -> Result<Vec<Key>> {
        self.runtime.wait(self.inner().keys(prefix))
    }

    /// [`Store::peek`]: the entry, where memory has it.
    pub fn peek(&self, key: &Key) -> Option<Entry> {
        self.inner().peek(key)
    }

    /// [`Store::load`].
    pub fn load(&self, key: impl AsKey, options: &ReadOptions) -> Result<Read> {
        let key = key.as_key()?;
        self.runtime.wait(self.inner().load(&key, options))
    }

    /// [`Store::head`].
    pub fn head(&self, key: impl AsKey, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let key = key.as_key()?;
        self.runtime.wait(self.inner().head(&key, options))
    }

    /// [`Store::get_many`]. Where the call itself is refused, every key's answer says so.
    pub fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let read = async { Ok(self.inner().get_many(keys, options).await) };
        match self.runtime.wait(read) {
            Ok(reads) => reads,
            Err(refused) => {
                let refused: tiered_core::Error = refused;
                keys.iter().map(|key| Err(refused.clone().for_key(key))).collect()
            }
        }
    }

    /// [`Store::get_ranges`].
    pub fn get_ranges(
        &self,
        key: impl AsKey,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let key = key.as_key()?;
        self.runtime.wait(self.inner().get_ranges(&key, ranges, options))
    }

    /// [`Store::put`].
    pub fn put(&self, key: impl AsKey, put: Put) -> Result<Written> {
        let key = key.as_key()?;
        self.runtime.wait(self.inner().put(&key, put))
    }

    /// [`Store::delete`].
    pub fn delete(&self, key: impl AsKey, delete: Delete) -> Result<Deleted> {
        let key = key.as_key()?;
        self.runtime.wait(self.inner().delete(&key, delete))
    }

    /// [`Store::apply`].
    pub fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.runtime.wait(self.inner().apply(batch))
    }

    /// [`Store::list`], as an iterator that reads ahead of nothing: each step waits for its entry.
    pub fn list(&self, options: ListOptions) -> Entries {
        let listing = {
            let _here = self.runtime.enter();
            self.inner().list(options)
        };
        Entries::new(listing, self.runtime.clone())
    }

    /// [`Store::read_stream`]: the value as a [`std::io::Read`], in constant memory where the store streams.
    ///
    /// # Examples
    /// ```
    /// use std::io::Read;
    /// use tiered::blocking::{BlockingStore, Runtime};
    /// use tiered::{MemoryStore, Put, ReadOptions};
    ///
    /// let store = BlockingStore::new(MemoryStore::new(), Runtime::new()?);
    /// store.write_from("log", Put::new(""), std::io::Cursor::new("a long text"))?;
    /// let mut text = String::new();
    /// let mut body = store.read("log", &ReadOptions::new())?.expect("just written");
    /// body.read_to_string(&mut text).expect("reads");
    /// assert_eq!(text, "a long text");
    /// # Ok::<(), tiered::Error>(())
    /// ```
    pub fn read(&self, key: impl AsKey, options: &ReadOptions) -> Result<Option<Body>> {
        let key = key.as_key()?;
        let found = self.runtime.wait(self.inner().read_stream(&key, options))?;
        Ok(found.map(|(metadata, stream)| Body::new(metadata, stream, self.runtime.clone())))
    }

    /// [`Store::put_stream`]: writes what `reader` gives until its end. `put` says how; its value is not looked at.
    ///
    /// The reader is read on a thread of the runtime. Its error is the operation's source, and nothing is written.
    pub fn write_from(
        &self,
        key: impl AsKey,
        put: Put,
        reader: impl Reader + Send + 'static,
    ) -> Result<Written> {
        let key = key.as_key()?;
        let body = chunks(reader, self.runtime.handle().clone()).boxed();
        self.runtime.wait(self.inner().put_stream(&key, put, body))
    }

    /// [`Receipt::durable`]: waits until a write is durable in every tier down to `level`.
    pub fn durable(&self, receipt: &Receipt, level: CommitLevel) -> Result<()> {
        self.runtime.wait(receipt.durable(level))
    }

    /// [`Store::mark`].
    pub fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.runtime.wait(self.inner().mark(name))
    }

    /// [`Store::set_mark`].
    pub fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.runtime.wait(self.inner().set_mark(name, value))
    }

    /// [`Store::mark_names`].
    pub fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.runtime.wait(self.inner().mark_names(prefix))
    }

    /// [`Store::flush`].
    pub fn flush(&self) -> Result<()> {
        self.runtime.wait(self.inner().flush())
    }

    /// [`Store::close`]. Call it before the last handle is dropped: dropping waits for nothing.
    pub fn close(&self) -> Result<()> {
        self.runtime.wait(self.inner().close())
    }
}

impl<S: Clone> Clone for BlockingStore<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), runtime: self.runtime.clone() }
    }
}

impl<S> Drop for BlockingStore<S> {
    fn drop(&mut self) {
        // Connections of some drivers spawn where they are dropped.
        let _here = self.runtime.enter();
        self.store = None;
    }
}

impl<S: fmt::Debug> fmt::Debug for BlockingStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingStore").field("store", &self.store).field("runtime", &self.runtime).finish()
    }
}
