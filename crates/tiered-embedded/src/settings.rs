//! The settings of a store over an embedded engine.

use std::path::PathBuf;

use tiered_core::adapter::Stamp;
use tiered_core::{Capabilities, Durability};

use crate::access::Access;
use crate::inline::ReadMode;

/// Where an engine's blocking calls run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// Writes on a thread of the store's own, reads as [`ReadMode`] says.
    #[default]
    Threads,
    /// Everything in the caller's poll, in one piece and whatever [`ReadMode`] says: for engines that never wait. A store on a
    /// simulated disk becomes replayable. No runtime is needed.
    Inline,
}

/// The settings of an [`EmbeddedStore`](crate::EmbeddedStore).
///
/// # Examples
/// ```
/// use tiered_core::Durability;
/// use tiered_embedded::{Access, Settings};
///
/// let settings = Settings::new("lmdb", "data.lmdb", Durability::PowerLoss)
///     .path("data.lmdb")
///     .access(Access::ReadWrite)
///     .max_value(1 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) name: &'static str,
    pub(crate) place: String,
    pub(crate) path: Option<PathBuf>,
    pub(crate) access: Access,
    pub(crate) durability: Durability,
    pub(crate) max_value: u64,
    pub(crate) stamp: Stamp,
    pub(crate) executor: Executor,
    pub(crate) reads: ReadMode,
    pub(crate) capacity: Option<u64>,
}

impl Settings {
    /// Settings of the adapter `name`, such as `redb`, for the database at `place`, as messages show it. `durability` is
    /// what a write survives once it returned; with [`Durability::PowerLoss`] every commit goes to disk.
    pub fn new(name: &'static str, place: impl Into<String>, durability: Durability) -> Self {
        Self {
            name,
            place: place.into(),
            path: None,
            access: Access::default(),
            durability,
            max_value: Capabilities::DEFAULT_MAX_VALUE,
            stamp: Stamp::system(),
            executor: Executor::default(),
            reads: ReadMode::default(),
            capacity: None,
        }
    }

    /// The file or folder that the engine locks: an opening waits for a lock on it that this process is releasing.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Whether it may write.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The largest value, in bytes.
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

    /// Where blocking calls run.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }
    /// Where reads run, under [`Executor::Threads`].
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Durability;
    /// use tiered_embedded::{ReadMode, Settings};
    ///
    /// let settings = Settings::new("lmdb", "data.lmdb", Durability::PowerLoss).reads(ReadMode::Inline);
    /// ```
    #[must_use]
    pub fn reads(mut self, reads: ReadMode) -> Self {
        self.reads = reads;
        self
    }

    /// At most so many bytes of entries: beyond it those leave that are used least. Without it nothing leaves.
    ///
    /// What an entry takes is the bytes of its key, its record and its chunks, and 64 more for each pair in a table. What is
    /// counted is at most the capacity after each commit. A value has at most a quarter of it.
    ///
    /// The store declares [`Feature::Evicts`](tiered_core::Feature::Evicts), and so does each later opening of the database,
    /// with a capacity or without. A database takes a capacity when it is made, or while it was never used: what it holds
    /// may be the only copy otherwise, and the opening is refused.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Durability;
    /// use tiered_embedded::Settings;
    ///
    /// let settings = Settings::new("lmdb", "cache.lmdb", Durability::PowerLoss).capacity(10 << 30);
    /// ```
    #[must_use]
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }
}
