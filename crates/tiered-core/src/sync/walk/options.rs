//! How a walk runs.

use std::fmt;
use std::sync::Arc;

use super::report::WalkReport;
use super::workspace::Workspace;
use crate::store::AsStore;
use crate::sync::options::{DryRun, Races, SyncOptions};

/// What a walk makes of keys that the target has already.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{Present, WalkOptions, walk_sync};
/// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("first", "").await?;
/// source.set("second", "first").await?;
/// let follow = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
///     String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
/// };
/// walk_sync(&source, &target, &[Key::new("first")?], &follow, &WalkOptions::new()).await?;
/// // The second release: what the first one brought is neither read nor followed.
/// let options = WalkOptions::new().present(Present::Trust);
/// let report = walk_sync(&source, &target, &[Key::new("second")?], &follow, &options).await?;
/// assert_eq!((report.reached, report.trusted, report.sync.copied), (2, 1, 1));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Present {
    /// They are walked as all others: what they refer to may be missing.
    #[default]
    Follow,
    /// A key that the target has with the source's version is complete: neither it nor what it refers to is read. So it is if
    /// nothing but walks writes to the target, and removes only what nothing refers to. This is how an interrupted walk goes on.
    Trust,
}

type OnProgress = Arc<dyn Fn(&WalkReport) + Send + Sync>;

/// How a walk runs.
///
/// # Examples
/// ```
/// use tiered_core::MemoryStore;
/// use tiered_core::sync::{DryRun, Present, Races, WalkOptions};
///
/// let options = WalkOptions::new()
///     .present(Present::Trust)
///     .workspace(MemoryStore::new())
///     .dry_run(DryRun::No)
///     .races(Races::Refuse)
///     .concurrency(4)
///     .batch(100)
///     .byte_budget(16 << 20)
///     .bytes_per_second(10 << 20)
///     .max_failures(0);
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct WalkOptions {
    sync: SyncOptions,
    present: Present,
    workspace: Option<Workspace>,
    progress: Option<OnProgress>,
}

impl WalkOptions {
    /// Everything is followed, for real, with 16 batches of 1,000 keys and 64 MiB of values at a time, until 100 entries have
    /// failed. What is known of the keys is in memory.
    pub fn new() -> Self {
        Self { sync: SyncOptions::new(), present: Present::Follow, workspace: None, progress: None }
    }

    /// What is made of keys that the target has already.
    #[must_use]
    pub fn present(mut self, present: Present) -> Self {
        self.present = present;
        self
    }

    /// Keeps what is known of the keys that were reached in `store`: an empty one on local disk, such as a redb file in a
    /// temporary folder, which nothing else uses and which does not evict. It takes about 600 bytes a key and 4 a
    /// reference there, and 6 bytes a key in memory, beside a few megabytes that are to be written; without it, about 200 and 4 in
    /// memory. Remove it after the walk: a later one cannot use it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{WalkOptions, walk_sync};
    /// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// source.set("root", "leaf").await?;
    /// source.set("leaf", "").await?;
    /// let follow = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
    ///     String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
    /// };
    /// // For many keys: a file.
    /// let options = WalkOptions::new().workspace(MemoryStore::new());
    /// let report = walk_sync(&source, &target, &[Key::new("root")?], &follow, &options).await?;
    /// assert_eq!(report.sync.copied, 2);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn workspace(mut self, store: impl AsStore) -> Self {
        self.workspace = Some(Workspace::new(store.into_store(), None));
        self
    }

    /// As [`workspace`](Self::workspace), and a later walk with the same store and `label` goes on from what this one has there, if it
    /// is stopped or fails. It looks at no key twice for its references, and skips what the target has as it was found. Keys that were
    /// missing or failed are tried again. Where a walk came to its end, the next one begins anew.
    ///
    /// `label` says all that must be the same: the stores, the roots, how references are read. Another one is refused. The store
    /// needs atomic batches ([`Feature::AtomicBatch`](crate::Feature::AtomicBatch)).
    ///
    /// What was found is not looked for again: a value that others changed since is copied if all that it then refers to was walked,
    /// and counted as changed otherwise.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{WalkOptions, walk_sync};
    /// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// source.set("root", "leaf").await?;
    /// source.set("leaf", "gone").await?;
    /// let follow = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
    ///     String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
    /// };
    /// // A file, which outlives the process.
    /// let kept = MemoryStore::new();
    /// let options = WalkOptions::new().resumable(kept, "root of a, to b");
    /// let first = walk_sync(&source, &target, &[Key::new("root")?], &follow, &options).await?;
    /// assert_eq!((first.missing, first.resumed), (1, 0));
    /// // It came to its end: this one begins anew.
    /// source.set("leaf", "").await?;
    /// let second = walk_sync(&source, &target, &[Key::new("root")?], &follow, &options).await?;
    /// assert_eq!((second.sync.copied, second.resumed), (2, 0));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn resumable(mut self, store: impl AsStore, label: impl Into<String>) -> Self {
        self.workspace = Some(Workspace::new(store.into_store(), Some(label.into())));
        self
    }

    /// Whether it writes to the target.
    #[must_use]
    pub fn dry_run(mut self, dry_run: DryRun) -> Self {
        self.sync = self.sync.dry_run(dry_run);
        self
    }

    /// Whether unconditional overwrites are acceptable.
    #[must_use]
    pub fn races(mut self, races: Races) -> Self {
        self.sync = self.sync.races(races);
        self
    }

    /// At most so many reads and batches at a time; at least 1.
    #[must_use]
    pub fn concurrency(mut self, at_a_time: usize) -> Self {
        self.sync = self.sync.concurrency(at_a_time);
        self
    }

    /// At most so many copies in a batch; at least 1. The keys of a cycle stay together.
    #[must_use]
    pub fn batch(mut self, keys: usize) -> Self {
        self.sync = self.sync.batch(keys);
        self
    }

    /// At most so many bytes of values at a time, of which each batch has an equal share. A single larger value moves alone. Half of
    /// them may be values that were read for their references and wait to be copied.
    #[must_use]
    pub fn byte_budget(mut self, bytes: u64) -> Self {
        self.sync = self.sync.byte_budget(bytes);
        self
    }

    /// Copies at most so many bytes of values in a second, on average, in at least four batches. Reads for references count
    /// nothing.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.sync = self.sync.bytes_per_second(bytes);
        self
    }

    /// Ends with an error when more entries than this have failed.
    #[must_use]
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.sync = self.sync.max_failures(failures);
        self
    }

    /// Called after each group of keys that was read or copied, with the counts so far. It must not block.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::WalkOptions;
    ///
    /// let options = WalkOptions::new()
    ///     .on_progress(|report| println!("{} of {} keys copied", report.sync.copied, report.reached));
    /// # drop(options);
    /// ```
    #[must_use]
    pub fn on_progress(mut self, call: impl Fn(&WalkReport) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(call));
        self
    }

    pub(super) const fn sync(&self) -> &SyncOptions {
        &self.sync
    }

    pub(super) const fn trusts(&self) -> bool {
        matches!(self.present, Present::Trust)
    }

    pub(super) const fn working_place(&self) -> Option<&Workspace> {
        self.workspace.as_ref()
    }

    pub(super) fn report_progress(&self, report: &WalkReport) {
        if let Some(call) = &self.progress {
            call(report);
        }
    }
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WalkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalkOptions")
            .field("present", &self.present)
            .field("workspace", &self.workspace)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}
