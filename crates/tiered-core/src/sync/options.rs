//! How a sync runs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{Semaphore, watch};

use super::checkpoint::Checkpoint;
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
///     println!("{} copied, up to {:?}", progress.report.copied, progress.checkpoint.after);
/// });
/// sync(&source, &target, &FullSync, &options).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SyncProgress {
    /// The counts so far, earlier runs of a resumed sync included.
    pub report: SyncReport,
    /// From where a later run can go on, by [`SyncOptions::resume`]. It passes no key of a batch that is under way.
    pub checkpoint: Checkpoint,
}

/// The progress of a sync, as a stream. It gives the latest state each time: a slow reader misses those in between. After
/// the last state it ends, when the options that it belongs to are dropped.
///
/// # Cancel safety
/// Dropping it, or one wait for the next item, changes nothing for the sync.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use futures_util::StreamExt;
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// let (options, mut progress) = SyncOptions::new().progress();
/// let syncing = async move { sync(&source, &target, &FullSync, &options).await };
/// let watching = async {
///     let mut last = None;
///     while let Some(seen) = progress.next().await {
///         last = Some(seen.report.copied);
///     }
///     last
/// };
/// let (report, last) = futures_util::future::join(syncing, watching).await;
/// assert_eq!((report?.copied, last), (1, Some(1)));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub struct ProgressStream(Pin<Box<dyn Stream<Item = SyncProgress> + Send>>);

impl Stream for ProgressStream {
    type Item = SyncProgress;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SyncProgress>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for ProgressStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressStream").finish_non_exhaustive()
    }
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
///     .after(Key::new("users/41")?)
///     .through(Key::new("users/82")?)
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
    /// Only keys after this one.
    pub after: Option<Key>,
    /// Only keys up to and including this one.
    pub through: Option<Key>,
    /// What an earlier run of the same sync had reached.
    pub resume: Option<Checkpoint>,
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
    /// So many bytes of values in a second.
    pub bytes_per_second: Option<u64>,
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
            after: None,
            through: None,
            resume: None,
            dry_run: DryRun::No,
            races: Races::Refuse,
            concurrency: 16,
            batch: 1_000,
            byte_budget: 64 << 20,
            bytes_per_second: None,
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
    /// and not counted. Named keys are not filtered.
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

    /// Whether a sync with these options looks at the key.
    pub(super) fn covers(&self, key: &Key) -> bool {
        let is_behind = self.after.as_ref().is_none_or(|after| key > after);
        key.as_str().starts_with(&self.prefix) && is_behind && !self.is_beyond(key) && self.admits(key)
    }

    pub(super) fn admits(&self, key: &Key) -> bool {
        self.filter.as_ref().is_none_or(|keep| keep(key))
    }

    /// Only keys after `key`, in the order of their bytes. It need not exist, nor begin with the prefix.
    #[must_use]
    pub fn after(mut self, key: Key) -> Self {
        self.after = Some(key);
        self
    }

    /// Only keys up to and including `key`, which need not exist. With [`after`](Self::after), a range: a sync of many keys
    /// can be split into several, of one process each. [`split`](super::split) finds where.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{FullSync, SyncOptions, sync};
    /// use tiered_core::{Key, MemoryStore, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// for key in ["a", "b", "c"] {
    ///     source.set(key, "1").await?;
    /// }
    /// let middle = Key::new("b")?;
    /// let first = sync(&source, &target, &FullSync, &SyncOptions::new().through(middle.clone())).await?;
    /// let rest = sync(&source, &target, &FullSync, &SyncOptions::new().after(middle)).await?;
    /// assert_eq!((first.copied, rest.copied), (2, 1));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn through(mut self, key: Key) -> Self {
        self.through = Some(key);
        self
    }

    /// Goes on from the checkpoint of an earlier run: tries again what failed, then continues behind what is settled. The
    /// report counts what both runs did. The other options must be those of the earlier run, and the stores the same ones:
    /// a checkpoint does not know them.
    ///
    /// For named keys it is the same order of the same keys.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::sync::{Arc, Mutex};
    ///
    /// use tiered_core::sync::{Checkpoint, FullSync, SyncOptions, sync};
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let (source, target) = (MemoryStore::new(), MemoryStore::new());
    /// source.set("a", "1").await?;
    /// let last = Arc::new(Mutex::new(Checkpoint::default()));
    /// let keep = Arc::clone(&last);
    /// let options = SyncOptions::new()
    ///     .on_progress(move |progress| *keep.lock().unwrap() = progress.checkpoint.clone());
    /// sync(&source, &target, &FullSync, &options).await?;
    /// // Behind "a", which is not listed again.
    /// let checkpoint = last.lock().unwrap().clone();
    /// let report = sync(&source, &target, &FullSync, &SyncOptions::new().resume(checkpoint)).await?;
    /// assert_eq!((report.listed_from, report.listed_to, report.copied), (1, 0, 1));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn resume(mut self, checkpoint: Checkpoint) -> Self {
        self.resume = Some(checkpoint);
        self
    }

    /// Batches at a time. The field may have been set to anything.
    pub(super) fn at_a_time(&self) -> usize {
        self.concurrency.clamp(1, Semaphore::MAX_PERMITS)
    }

    /// Keys of a batch.
    pub(super) fn in_a_batch(&self) -> usize {
        self.batch.max(1)
    }

    /// The bytes of a batch: all of them keep within the budget.
    pub(super) fn share(&self) -> u64 {
        (self.byte_budget / self.at_a_time() as u64).max(1)
    }

    /// The bytes of a batch that is copied: where bytes are slowed down, one goes at least four times a second.
    pub(super) fn paced_share(&self) -> u64 {
        let paced = self.bytes_per_second.map_or(u64::MAX, |rate| (rate / 4).max(1));
        self.share().min(paced)
    }

    /// The key behind which the listings begin.
    pub(super) fn starts_after(&self) -> Option<&Key> {
        let settled = self.resume.as_ref().and_then(|checkpoint| checkpoint.after.as_ref());
        settled.max(self.after.as_ref())
    }

    /// The keys that failed in an earlier run.
    pub(super) fn failed_before(&self) -> &[Key] {
        self.resume.as_ref().map_or(&[], |checkpoint| &checkpoint.failed)
    }

    /// Whether the key is behind the last one.
    pub(super) fn is_beyond(&self, key: &Key) -> bool {
        self.through.as_ref().is_some_and(|through| key > through)
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

    /// At most so many bytes of values in a second, on average. A single larger value still moves, and the others wait.
    /// Keys, listings and removals count nothing. Named keys are not slowed down.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::sync::SyncOptions;
    ///
    /// assert_eq!(SyncOptions::new().bytes_per_second(10 << 20).bytes_per_second, Some(10 << 20));
    /// ```
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes.max(1));
        self
    }

    /// Ends with an error when more entries than this have failed in this run.
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

    /// The same as a stream, instead of [`on_progress`](Self::on_progress).
    ///
    /// # Examples
    /// ```
    /// use futures_util::FutureExt;
    /// use futures_util::StreamExt;
    /// use tiered_core::sync::SyncOptions;
    ///
    /// let (options, mut progress) = SyncOptions::new().progress();
    /// // Without a sync nothing is told, and the stream ends with the options.
    /// assert!(progress.next().now_or_never().is_none());
    /// drop(options);
    /// assert!(progress.next().now_or_never().expect("ended").is_none());
    /// ```
    pub fn progress(self) -> (Self, ProgressStream) {
        let (sender, receiver) = watch::channel(None);
        let options = self.on_progress(move |progress| {
            sender.send_replace(Some(progress.clone()));
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.changed().await.ok()?;
            let latest = receiver.borrow_and_update().clone();
            latest.map(|latest| (latest, receiver))
        });
        (options, ProgressStream(Box::pin(stream)))
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
            .field("after", &self.after)
            .field("through", &self.through)
            .field("resume", &self.resume)
            .field("dry_run", &self.dry_run)
            .field("races", &self.races)
            .field("concurrency", &self.concurrency)
            .field("batch", &self.batch)
            .field("byte_budget", &self.byte_budget)
            .field("bytes_per_second", &self.bytes_per_second)
            .field("max_failures", &self.max_failures)
            .finish_non_exhaustive()
    }
}
