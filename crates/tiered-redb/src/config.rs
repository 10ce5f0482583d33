//! The configuration of a redb tier.

use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use tiered_core::adapter::opening::Before;
use tiered_core::adapter::{Stamp, opening};
use tiered_core::{Capabilities, Durability, Error, ErrorKind, Operation, Result};
use tiered_core::{Create, WriteDurability};
use tiered_embedded::{Access, Executor, ReadMode, Settings, io_error};

use crate::{RedbStore, destroy, open};

/// Whether the whole file is checked on opening. The check reads all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Up to 256 MiB.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never. A damaged file may make redb panic, which becomes an error, or miss a key, which goes unnoticed.
    Never,
}

/// Configures a [`RedbStore`].
///
/// # Examples
/// ```no_run
/// # async fn open() -> tiered_core::Result<()> {
/// use tiered_redb::RedbConfig;
///
/// let store = RedbConfig::new("data.redb").cache(256 << 20).open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RedbConfig {
    pub(crate) path: PathBuf,
    pub(crate) cache: usize,
    pub(crate) durability: WriteDurability,
    pub(crate) verify: Verify,
    pub(crate) create: Create,
    pub(crate) access: Access,
    pub(crate) max_value: u64,
    pub(crate) stamp: Stamp,
    executor: Executor,
    reads: ReadMode,
    pub(crate) capacity: Option<u64>,
}

impl RedbConfig {
    /// The default cache of pages, in bytes. redb's own default of 1 GiB is too much for a tier.
    pub const DEFAULT_CACHE: usize = 64 << 20;

    /// A database in the file at exactly `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            cache: Self::DEFAULT_CACHE,
            durability: WriteDurability::default(),
            verify: Verify::default(),
            create: Create::default(),
            access: Access::default(),
            max_value: Capabilities::DEFAULT_MAX_VALUE,
            stamp: Stamp::system(),
            executor: Executor::default(),
            reads: ReadMode::default(),
            capacity: None,
        }
    }

    /// Bytes of memory for pages.
    #[must_use]
    pub fn cache(mut self, bytes: usize) -> Self {
        self.cache = bytes;
        self
    }

    /// When a write counts as done. With [`WriteDurability::Buffer`] a killed process loses what was not flushed.
    #[must_use]
    pub fn durability(mut self, durability: WriteDurability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether the whole file is checked on opening.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// What to do where there is no database yet.
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Whether the database may be written to. With [`Access::ReadOnly`] the file may be write-protected; it is never
    /// created, several processes may read it at a time, and none that writes. A database that was not closed cleanly
    /// must be opened with read-write access once.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("data.redb");
    /// use tiered_core::{ErrorKind, Key, Put, Store};
    /// use tiered_redb::{Access, RedbConfig};
    ///
    /// RedbConfig::new(&path).open().await?.close().await?;
    /// let store = RedbConfig::new(&path).access(Access::ReadOnly).open().await?;
    /// let error = store.put(&Key::new("k")?, Put::new("v")).await.expect_err("only read");
    /// assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
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

    /// Where redb's blocking calls run: [`Executor::Inline`] makes a store on a simulated disk replayable.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }

    /// Where reads run: on the caller's thread, on threads for blocking work, or by how long they take.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("data.redb");
    /// use tiered_redb::{ReadMode, RedbConfig};
    ///
    /// // All of it is in memory: a read never waits.
    /// let store = RedbConfig::new(&path).cache(1 << 30).reads(ReadMode::Inline).open().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reads(mut self, reads: ReadMode) -> Self {
        self.reads = reads;
        self
    }

    /// At most so many bytes of entries: a cache that cannot fill the disk. Beyond it those leave that are used least. Without
    /// it nothing leaves.
    ///
    /// The count is of keys, records and values as they are stored, and at most `bytes` after each commit. The file has more:
    /// see [the crate](crate#capacity). A value has at most a quarter of the capacity.
    ///
    /// The store declares [`Feature::Evicts`](tiered_core::Feature::Evicts), and so does each later opening of the file, with a
    /// capacity or without: it can be a frontend, and a durable backend it cannot be. A file takes a capacity when it is
    /// made, or while it was never used.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("cache.redb");
    /// use tiered_core::{Feature, MemoryStore, Store, StoreExt, TieredStore};
    /// use tiered_redb::RedbConfig;
    ///
    /// let cache = RedbConfig::new(&path).capacity(10 << 30).open().await?; // 10 GiB
    /// assert!(cache.capabilities().has(Feature::Evicts));
    /// let store = TieredStore::builder(cache.clone(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// assert_eq!(cache.usage().expect("it has a capacity").entries, 1);
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
    /// `NotFound` if there is none (or no folder for it), `AlreadyExists` if there is one and it was to be
    /// [new](Create::New), `Foreign` if the file is not a database of this adapter,
    /// `Locked` if it is open elsewhere, `Corrupt` if it is damaged, `PermissionDenied`, `Full`, `Unavailable`,
    /// `Config` outside a tokio runtime, for a capacity of zero or with read-only access, and for a capacity over a database
    /// that was used without one. A creation that failed leaves no file behind.
    ///
    /// # Cancel safety
    /// If dropped, it may leave an empty database, which the next opening uses. [`Create::New`] fails then: destroy it before.
    pub async fn open(self) -> Result<RedbStore> {
        let settings = match self.executor {
            Executor::Threads => self.settings().path(&self.path),
            // Nothing waits in the caller's own poll.
            Executor::Inline => self.settings(),
        };
        RedbStore::open(settings, move |opening| open::open(&self, opening)).await
    }

    /// Whether there is a database of this adapter. Changes nothing. An empty or unfinished file is none yet; one that is
    /// open elsewhere, damaged or not closed cleanly is one.
    ///
    /// # Errors
    /// `Foreign` if the file is not a database of this adapter, `PermissionDenied`, `Unavailable`, `Config` outside a tokio
    /// runtime.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("data.redb");
    /// use tiered_core::Store;
    /// use tiered_redb::RedbConfig;
    ///
    /// assert!(!RedbConfig::new(&path).exists().await?);
    /// RedbConfig::new(&path).open().await?.close().await?;
    /// assert!(RedbConfig::new(&path).exists().await?);
    /// # Ok(()) }
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let exists = self.blocking(destroy::exists).await;
        exists.map_err(|error| error.during(Operation::Open).in_tier("redb"))
    }

    /// Removes the database: its one file, and nothing else. A link that names the file stays. When it returns, the file is
    /// gone, also after a power loss.
    ///
    /// # Errors
    /// `NotFound` if there is no database, `Foreign` if the file is not a database of this adapter, `Locked` if it is open
    /// elsewhere, `Corrupt` if it is so damaged that whose it is cannot be told, `PermissionDenied`, `Unsupported` on a
    /// file system without locks, `Unavailable`, `Config` outside a tokio runtime. After an error the database is whole,
    /// unless the error says that it is removed.
    ///
    /// # Cancel safety
    /// If dropped, the file is removed or not.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("data.redb");
    /// use tiered_core::{ErrorKind, Store};
    /// use tiered_redb::RedbConfig;
    ///
    /// let store = RedbConfig::new(&path).open().await?;
    /// assert_eq!(RedbConfig::new(&path).destroy().await.unwrap_err().kind(), ErrorKind::Locked);
    /// store.close().await?;
    /// RedbConfig::new(&path).destroy().await?;
    /// assert!(!path.exists());
    /// # Ok(()) }
    /// ```
    pub async fn destroy(self) -> Result<()> {
        let destroyed =
            self.blocking(|config| opening::open_patiently(&config.path, || destroy::destroy(config))).await;
        destroyed.map_err(|error| error.during(Operation::Destroy).in_tier("redb"))
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
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("data.redb");
    /// use tiered_core::adapter::opening::Before;
    /// use tiered_core::{Store, StoreExt};
    /// use tiered_redb::RedbConfig;
    ///
    /// let store = RedbConfig::new(&path).open().await?;
    /// store.set("users/42", "Ada").await?;
    /// store.close().await?;
    /// assert!(!RedbConfig::new(&path).take_back(Before::Absent).await?);
    /// assert!(path.exists());
    /// # Ok(()) }
    /// ```
    pub async fn take_back(self, before: Before) -> Result<bool> {
        let take =
            move |config: &Self| opening::open_patiently(&config.path, || destroy::take_back(config, before));
        match self.blocking(take).await {
            Err(error) if error.kind() == ErrorKind::Locked => Ok(false),
            taken => taken.map_err(|error| error.during(Operation::Destroy).in_tier("redb")),
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

    /// Opens the database on a storage backend instead of a file: a simulated disk, memory, a block device. `backend`
    /// is asked for one at first and after each failure; the path is a name only. An empty one is made a database.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// If dropped, it may leave an empty database.
    pub async fn open_on<B: StorageBackend>(
        self,
        backend: impl Fn() -> io::Result<B> + Send + Sync + 'static,
    ) -> Result<RedbStore> {
        let open_on = move |config: &Self| open::open_on(config, backend().map_err(io_error)?);
        RedbStore::open(self.settings(), move |_| open_on(&self)).await
    }

    fn settings(&self) -> Settings {
        let durability = match self.durability {
            WriteDurability::Sync => Durability::PowerLoss,
            WriteDurability::Buffer => Durability::CleanClose,
        };
        let settings = Settings::new("redb", self.path.display().to_string(), durability);
        let settings = self.capacity.into_iter().fold(settings, Settings::capacity);
        settings
            .access(self.access)
            .max_value(self.max_value)
            .stamp(self.stamp.clone())
            .executor(self.executor)
            .reads(self.reads)
    }
}
