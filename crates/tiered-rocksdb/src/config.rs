//! The configuration of a RocksDB tier.

use std::path::{Path, PathBuf};

use tiered_core::adapter::opening::Before;
use tiered_core::adapter::{Stamp, opening};
use tiered_core::{Capabilities, Durability, Error, ErrorKind, Operation, Result};
use tiered_core::{Create, WriteDurability};
use tiered_embedded::{Access, ReadMode, Settings};

use crate::{RocksdbStore, destroy, open};

/// Configures a [`RocksdbStore`].
///
/// # Examples
/// ```no_run
/// # async fn open() -> tiered_core::Result<()> {
/// use tiered_rocksdb::RocksdbConfig;
///
/// let store = RocksdbConfig::new("data.rocksdb").cache(256 << 20).open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RocksdbConfig {
    pub(crate) path: PathBuf,
    pub(crate) cache: usize,
    pub(crate) write_buffer: usize,
    pub(crate) durability: WriteDurability,
    pub(crate) create: Create,
    pub(crate) access: Access,
    reads: ReadMode,
    capacity: Option<u64>,
    max_value: u64,
    stamp: Stamp,
}

impl RocksdbConfig {
    /// The default block cache, in bytes.
    pub const DEFAULT_CACHE: usize = 64 << 20;

    /// The default size of the memtables, in bytes.
    pub const DEFAULT_WRITE_BUFFER: usize = 64 << 20;

    /// The smallest block cache. Without a cache, a read from memory alone would miss every entry.
    pub const MIN_CACHE: usize = 1 << 20;

    /// A database in the folder at exactly `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            cache: Self::DEFAULT_CACHE,
            write_buffer: Self::DEFAULT_WRITE_BUFFER,
            durability: WriteDurability::default(),
            create: Create::default(),
            access: Access::default(),
            reads: ReadMode::default(),
            capacity: None,
            max_value: Capabilities::DEFAULT_MAX_VALUE,
            stamp: Stamp::system(),
        }
    }

    /// Bytes of memory for blocks, indexes, filters and blobs; at least [`MIN_CACHE`](Self::MIN_CACHE).
    #[must_use]
    pub fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes.max(Self::MIN_CACHE);
        self
    }

    /// Bytes of memory for what is written and not yet in tables, over all column families.
    #[must_use]
    pub fn write_buffer(mut self, bytes: usize) -> Self {
        self.write_buffer = bytes;
        self
    }

    /// When a write counts as done. With [`WriteDurability::Buffer`] a loss of power loses what was not flushed; a killed
    /// process loses nothing.
    #[must_use]
    pub fn durability(mut self, durability: WriteDurability) -> Self {
        self.durability = durability;
        self
    }

    /// What to do where there is no database yet.
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Whether the database may be written to. With [`Access::ReadOnly`] the folder may be write-protected; it is never
    /// created. RocksDB takes no lock then: nothing else must write to the folder meanwhile.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn open() -> tiered_core::Result<()> {
    /// use tiered_rocksdb::{Access, RocksdbConfig};
    ///
    /// let store = RocksdbConfig::new("data.rocksdb").access(Access::ReadOnly).open().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Where reads run that may need a block that is not in the block cache: on the caller's thread, on threads for blocking
    /// work, or by how long they take.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn open() -> tiered_core::Result<()> {
    /// use tiered_rocksdb::{ReadMode, RocksdbConfig};
    ///
    /// // The disk is slow, and the runtime must never wait for it.
    /// let store = RocksdbConfig::new("data.rocksdb").reads(ReadMode::Threads).open().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reads(mut self, reads: ReadMode) -> Self {
        self.reads = reads;
        self
    }

    /// The largest value, in bytes, [`Capabilities::DEFAULT_MAX_VALUE`] unless it is set. A value lies in pieces, so the engine sets no
    /// limit; what is not put as a stream is in memory as a whole.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock and the source of versions.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// At most so many bytes of entries: a cache that cannot fill the disk. Beyond it those leave that are used least. Without
    /// it nothing leaves.
    ///
    /// The count is of keys, records and values as they are stored, before compression, and at most `bytes` after each
    /// commit. The folder has more or less: see [the crate](crate#capacity). A value has at most a quarter of the capacity.
    ///
    /// The store declares [`Feature::Evicts`](tiered_core::Feature::Evicts), and so does each later opening of the folder,
    /// with a capacity or without: it can be a frontend, and a durable backend it cannot be. A folder takes a capacity when
    /// the database is made, or while it was never used.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn open() -> tiered_core::Result<()> {
    /// use tiered_rocksdb::RocksdbConfig;
    ///
    /// let cache = RocksdbConfig::new("cache.rocksdb").capacity(100 << 30).open().await?; // 100 GiB
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Opens the database, and creates it first if the configuration says so.
    ///
    /// # Errors
    /// `NotFound` if there is none (or no folder for it), `Foreign` if the folder holds something else, `Locked` if it
    /// is open elsewhere, `Corrupt` if it is damaged, `PermissionDenied`, `Full`, `Unavailable`, `Config` outside a
    /// tokio runtime, for a capacity of zero or with read-only access, and for a capacity over a database that was used
    /// without one; `AlreadyExists` if there is one and it was to be [new](Create::New).
    ///
    /// # Cancel safety
    /// If dropped, it may leave an empty database, which the next opening uses.
    pub async fn open(self) -> Result<RocksdbStore> {
        let durability = match self.durability {
            WriteDurability::Sync => Durability::PowerLoss,
            WriteDurability::Buffer => Durability::ProcessKill,
        };
        let settings = Settings::new("rocksdb", self.path.display().to_string(), durability);
        let settings = self
            .capacity
            .into_iter()
            .fold(settings, Settings::capacity)
            .path(&self.path)
            .access(self.access)
            .reads(self.reads)
            .max_value(self.max_value)
            .stamp(self.stamp.clone());
        RocksdbStore::open(settings, move |opening| open::open(&self, opening)).await
    }

    /// Whether there is a database of this adapter in the folder. Changes nothing. One that is open elsewhere or damaged,
    /// or whose removal was interrupted, counts as there.
    ///
    /// # Errors
    /// `Foreign` if the folder holds something else, `PermissionDenied`, `Unavailable`, `Config` outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_rocksdb::RocksdbConfig;
    ///
    /// if RocksdbConfig::new("data.rocksdb").exists().await? {
    ///     println!("there is a database");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let exists = self.blocking(destroy::exists).await;
        exists.map_err(|error| error.during(Operation::Open).in_tier("rocksdb"))
    }

    /// Removes the database: the files of RocksDB and of this adapter, and the folder where nothing else is in it. When it
    /// returns, they are gone, also after a power loss. Interrupted, it leaves a folder that is not opened as a database,
    /// and that the next call removes.
    ///
    /// # Errors
    /// `NotFound` if there is none, `Foreign` if the folder holds something else, `Locked` if it is open elsewhere,
    /// `Corrupt` if it is so damaged that whose it is cannot be told, `PermissionDenied`, `Unavailable`, `Config` outside a tokio runtime.
    ///
    /// # Cancel safety
    /// If dropped, it goes on by itself.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_rocksdb::RocksdbConfig;
    ///
    /// RocksdbConfig::new("data.rocksdb").destroy().await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy(self) -> Result<()> {
        let remove = |config: &Self| opening::open_patiently(&config.path, || destroy::destroy(config));
        let destroyed = self.blocking(remove).await;
        destroyed.map_err(|error| error.during(Operation::Destroy).in_tier("rocksdb"))
    }

    /// Removes a database that this process has just made and closed, where it was not used since: it has no key, and no
    /// mark but those that an opening sets. Whether it was removed. Else it is left as it is, as where it is open. An
    /// opening of several stores takes back by this what it has made where a later one fails.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy), but for `NotFound` and `Locked`.
    ///
    /// # Cancel safety
    /// If dropped, it goes on by itself.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> tiered_core::Result<()> {
    /// use tiered_core::adapter::opening::Before;
    /// use tiered_rocksdb::RocksdbConfig;
    ///
    /// if !RocksdbConfig::new("data.rocksdb").take_back(Before::Absent).await? {
    ///     println!("it is used");
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn take_back(self, before: Before) -> Result<bool> {
        let take =
            move |config: &Self| opening::open_patiently(&config.path, || destroy::take_back(config, before));
        match self.blocking(take).await {
            Err(error) if error.kind() == ErrorKind::Locked => Ok(false),
            taken => taken.map_err(|error| error.during(Operation::Destroy).in_tier("rocksdb")),
        }
    }

    /// Runs calls that block.
    async fn blocking<T: Send + 'static>(
        self,
        run: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let ended = opening::runtime()?.spawn_blocking(move || run(&self)).await;
        ended.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Unavailable, "the runtime shut down").with_source(error))
        })
    }
}
