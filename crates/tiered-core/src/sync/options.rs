//! How a sync runs.

use std::fmt;
use std::sync::Arc;

use super::report::SyncReport;
use crate::key::Key;

/// Whether a sync writes.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{DryRun, FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// let report = sync(&source, &target, &FullSync, &SyncOptions::new().dry_run(DryRun::Yes)).await?;
/// assert_eq!(report.copied, 1);
/// assert!(!target.contains("a").await?);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// It writes.
    #[default]
    No,
    /// It only counts what it would do.
    Yes,
}

/// Whether a sync may overwrite and remove in a target that cannot do so conditionally.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, Races, SyncOptions, sync};
/// use tiered_core::{ErrorKind, Feature, MemoryStore};
///
/// let target = MemoryStore::new().declaring(|all| all.without(Feature::ConditionalPut));
/// let refused = sync(&MemoryStore::new(), &target, &FullSync, &SyncOptions::new()).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
/// // Nothing else writes to it.
/// sync(&MemoryStore::new(), &target, &FullSync, &SyncOptions::new().races(Races::Allow)).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Races {
    /// No: such a target is refused, since a write that happens meanwhile would be lost.
    #[default]
    Refuse,
    /// Yes: no other process writes to the target meanwhile.
    Allow,
}

/// How far a sync is.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// let options = SyncOptions::new().on_progress(|progress| {
///     println!("{} copied, up to {:?}", progress.report.copied, progress.checkpoint);
/// });
/// sync(&source, &target, &FullSync, &options).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SyncProgress {
    /// The counts so far.
    pub report: SyncReport,
    /// Every key up to and including this one is done: a sync with
    /// [`resume_after`](SyncOptions::resume_after) this key continues from here. It passes no key of a batch that is
    /// under way, and stays before the first key that failed, so that a resumed sync tries that one again.
    pub checkpoint: Option<Key>,
}

type OnProgress = Arc<dyn Fn(&SyncProgress) + Send + Sync>;
type Filter = Arc<dyn Fn(&Key) -> bool + Send + Sync>;

/// How a sync runs.
///
/// # Examples
/// ```
/// use tiered_core::Key;
/// use tiered_core::sync::SyncOptions;
///
/// let options = SyncOptions::new()
///     .prefix("users/")
///     .resume_after(Key::new("users/41")?)
///     .concurrency(4)
///     .byte_budget(16 << 20)
///     .max_failures(0);
/// assert_eq!((options.prefix.as_str(), options.concurrency), ("users/", 4));
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Only keys after this one, which a checkpoint gave.
    pub resume_after: Option<Key>,
    /// Whether it writes.
    pub dry_run: DryRun,
    /// Whether it changes a target without conditional writes.
    pub races: Races,
    /// So many batches at a time, or copies where there are none.
    pub concurrency: usize,
    /// So many copies and removals in a batch.
    pub batch: usize,
    /// So many bytes of values at a time.
    pub byte_budget: u64,
    /// It ends when more entries than this have failed.
    pub max_failures: u64,
    filter: Option<Filter>,
    progress: Option<OnProgress>,
}

impl SyncOptions {
    /// All keys, for real, 16 batches of 1,000 keys and 64 MiB of values at a time, until 100 entries have failed.
    pub fn new() -> Self {
        Self {
            prefix: String::new(),
            resume_after: None,
            dry_run: DryRun::No,
            races: Races::Refuse,
            concurrency: 16,
            batch: 1_000,
            byte_budget: 64 << 20,
            max_failures: 100,
            filter: None,
            progress: None,
        }
    }

    /// Only keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only keys for which `keep` is true. The others are as if neither side had them: they are not copied, not removed,
    /// and not counted. Named keys and walks are not filtered.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{FullSync, SyncOptions, sync};
    /// use tiered_core::{Key, MemoryStore, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// source.set("users/1", "Ada").await?;
    /// source.set("users/1.tmp", "Ad").await?;
    /// let options = SyncOptions::new().filter(|key: &Key| !key.as_str().ends_with(".tmp"));
    /// assert_eq!(sync(&source, &target, &FullSync, &options).await?.copied, 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn filter(mut self, keep: impl Fn(&Key) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Arc::new(keep));
        self
    }

    pub(super) fn admits(&self, key: &Key) -> bool {
        self.filter.as_ref().is_none_or(|keep| keep(key))
    }

    /// Continues behind the checkpoint of an earlier run.
    #[must_use]
    pub fn resume_after(mut self, checkpoint: Key) -> Self {
        self.resume_after = Some(checkpoint);
        self
    }

    /// Whether it writes.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::{DryRun, SyncOptions};
    ///
    /// assert_eq!(SyncOptions::new().dry_run(DryRun::Yes).dry_run, DryRun::Yes);
    /// ```
    #[must_use]
    pub fn dry_run(mut self, dry_run: DryRun) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether unconditional overwrites are acceptable.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::{Races, SyncOptions};
    ///
    /// assert_eq!(SyncOptions::new().races(Races::Allow).races, Races::Allow);
    /// ```
    #[must_use]
    pub fn races(mut self, races: Races) -> Self {
        self.races = races;
        self
    }

    /// At most so many batches at a time, or copies where the target takes no batches; at least 1.
    #[must_use]
    pub fn concurrency(mut self, at_a_time: usize) -> Self {
        self.concurrency = at_a_time.max(1);
        self
    }

    /// At most so many copies and removals in a batch; at least 1. Progress is reported after each batch.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{FullSync, SyncOptions, sync};
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// for key in ["a", "b", "c"] {
    ///     source.set(key, "1").await?;
    /// }
    /// // At most 4 batches of 100 keys are under way.
    /// let options = SyncOptions::new().batch(100).concurrency(4);
    /// assert_eq!(sync(&source, &target, &FullSync, &options).await?.copied, 3);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn batch(mut self, keys: usize) -> Self {
        self.batch = keys.max(1);
        self
    }

    /// At most so many bytes of values at a time, of which each batch has an equal share. A single larger value moves
    /// alone.
    #[must_use]
    pub fn byte_budget(mut self, bytes: u64) -> Self {
        self.byte_budget = bytes.max(1);
        self
    }

    /// Ends with an error when more entries than this have failed.
    #[must_use]
    pub fn max_failures(mut self, failures: u64) -> Self {
        self.max_failures = failures;
        self
    }

    pub(super) const fn reports_progress(&self) -> bool {
        self.progress.is_some()
    }

    pub(super) fn report_progress(&self, progress: &SyncProgress) {
        if let Some(call) = &self.progress {
            call(progress);
        }
    }

    /// Called after each batch, and after each thousand keys that need nothing. It must not block.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::SyncOptions;
    ///
    /// let options = SyncOptions::new().on_progress(|progress| println!("{} copied", progress.report.copied));
    /// ```
    #[must_use]
    pub fn on_progress(mut self, call: impl Fn(&SyncProgress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(call));
        self
    }
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SyncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("prefix", &self.prefix)
            .field("resume_after", &self.resume_after)
            .field("dry_run", &self.dry_run)
            .field("races", &self.races)
            .field("concurrency", &self.concurrency)
            .field("batch", &self.batch)
            .field("byte_budget", &self.byte_budget)
            .field("max_failures", &self.max_failures)
            .finish_non_exhaustive()
    }
}
