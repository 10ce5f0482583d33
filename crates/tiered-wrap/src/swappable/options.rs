//! How data moves to another store, and what that did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tiered_core::Store;
use tiered_core::sync::{Races, SyncOptions, SyncProgress};

/// How [`Swappable::move_to`](crate::Swappable::move_to) runs.
///
/// # Examples
/// ```
/// use tiered_wrap::MoveOptions;
///
/// // Slowly, so that the service hardly notices.
/// let options = MoveOptions::new()
///     .concurrency(2)
///     .batch(100)
///     .byte_budget(4 << 20)
///     .bytes_per_second(8 << 20)
///     .max_failures(10)
///     .declare_sole_writer();
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct MoveOptions {
    pub(super) sync: SyncOptions,
    pub(super) is_sole_writer: bool,
}

impl Default for MoveOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl MoveOptions {
    /// As fast as the stores are, in batches as [`SyncOptions::new`] has them, until 100 entries could not be copied.
    pub fn new() -> Self {
        // Nobody else has the store that is moved to.
        Self { sync: SyncOptions::new().races(Races::Allow), is_sole_writer: false }
    }

    /// So many batches at a time.
    #[must_use]
    pub fn concurrency(mut self, at_a_time: usize) -> Self {
        self.sync = self.sync.concurrency(at_a_time);
        self
    }

    /// So many keys in a batch.
    #[must_use]
    pub fn batch(mut self, keys: usize) -> Self {
        self.sync = self.sync.batch(keys);
        self
    }

    /// So many bytes of values in memory at a time.
    #[must_use]
    pub fn byte_budget(mut self, bytes: u64) -> Self {
        self.sync = self.sync.byte_budget(bytes);
        self
    }

    /// So many bytes of values in a second at most, so that the callers' share of the stores stays large. The last round, for which they
    /// wait, is not slowed down.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.sync = self.sync.bytes_per_second(bytes);
        self
    }

    /// Stops when more entries than this could not be copied. One alone keeps the store from being exchanged: the bound says how much
    /// is copied for a later call all the same.
    ///
    /// # Examples
    /// ```
    /// use tiered_wrap::MoveOptions;
    ///
    /// // At the first damaged entry.
    /// let options = MoveOptions::new().max_failures(0);
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.sync = self.sync.max_failures(failures);
        self
    }

    /// Calls this with how far the copying is. What is written meanwhile is copied again, and begins a count of its own.
    ///
    /// # Examples
    /// ```
    /// use tiered_wrap::MoveOptions;
    ///
    /// let options = MoveOptions::new().on_progress(|progress| println!("{} copied", progress.report.copied));
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn on_progress(mut self, call: impl Fn(&SyncProgress) + Send + Sync + 'static) -> Self {
        self.sync = self.sync.on_progress(call);
        self
    }

    /// Declares that the store inside is written through this one alone. A shared store needs it: what other processes write while
    /// data moves would be left behind.
    #[must_use]
    pub fn declare_sole_writer(mut self) -> Self {
        self.is_sole_writer = true;
        self
    }
}

/// What [`Swappable::move_to`](crate::Swappable::move_to) did.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Store, StoreExt};
/// use tiered_wrap::{MoveOptions, Swappable};
///
/// let store = Swappable::new(MemoryStore::new());
/// store.set("users/42", "Ada").await?;
/// let moved = store.move_to(MemoryStore::new(), &MoveOptions::new()).await?;
/// assert_eq!((moved.copied, moved.copied_again), (1, 0));
/// moved.before.close().await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Moved {
    /// Entries that were copied.
    pub copied: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Of those, entries that were copied again because they were written meanwhile.
    pub copied_again: u64,
    /// How long calls waited at the end.
    pub paused: Duration,
    /// The store that was inside before. It is open, and has everything that was written until then.
    pub before: Arc<dyn Store>,
}

impl fmt::Debug for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moved")
            .field("copied", &self.copied)
            .field("bytes", &self.bytes)
            .field("copied_again", &self.copied_again)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}
