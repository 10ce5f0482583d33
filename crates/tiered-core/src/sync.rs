//! Synchronising stores: two ordered listings, merge-joined, in constant memory.
//!
//! [`sync`] brings a target in step with a source under a [`SyncStrategy`]; [`sync_keys`] copies named keys;
//! [`walk_sync`] copies what is reachable from roots. Any two stores can be synchronised. Inside a live tiered
//! store use [`TieredStore::sync`](crate::TieredStore::sync), which is fenced against its reads and writes.

mod checkpoint;
mod decide;
mod follow;
mod group;
mod merge;
mod options;
mod pace;
mod past_blocks;
mod plain;
mod report;
mod run;
mod split;
mod strategy;
mod target;
mod walk;
mod window;

use crate::claim::Scope;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::store::{AsStore, Store};

pub use checkpoint::Checkpoint;
pub use options::{DryRun, ProgressStream, Races, SyncOptions, SyncProgress};
pub use report::{Failure, SyncReport};
pub use split::split;
pub use strategy::{Decision, FullSync, PopulateMissing, Refresh, StrategyName, SyncStrategy};
pub use walk::{Present, Walk, WalkOptions, WalkReport, walk_sync};

pub(crate) use past_blocks::{list_past_blocks, without_parts};
pub(crate) use plain::PlainTarget;
pub(crate) use run::{run, run_keys};
pub(crate) use target::{Attempt, Batched, Copied, Done, Over, Removed, Target, Task, Theirs};
pub(crate) use walk::run_walk;

/// Brings `target` in step with `source`, under the prefix of the options.
///
/// Both listings are read as streams and joined. What is to be copied and removed is gathered in batches within the
/// options' bounds on keys and bytes, of which several are under way. Every overwrite and removal is conditional on the
/// version that was listed, and a removal looks at the source once more, so a write that happens meanwhile is never
/// undone. Each write of a batch is judged alone: one key that others changed fails none beside it. Entries that belong
/// to the target alone (local ones of a frontend) are left as they are.
///
/// A target with atomic batches and conditional writes gets one batch where the others get one write for each key. A batch
/// that fails as a whole is written again key by key. Small values that the source lists with their keys are not read
/// again: such a copy is as old as the listing. Large values move alone.
///
/// A damaged entry stops nothing. At the source it counts as present: it is a failure in the report, and the target keeps
/// what it has. At the target it is replaced, on condition that it is still damaged, or removed where it is extra.
///
/// # Errors
/// [`ErrorKind::Locked`] where the target belongs to a live tiered store or to another sync of this process;
/// [`ErrorKind::Config`] for a store onto itself, or for a strategy that overwrites or removes in a target without
/// conditional writes (unless [`Races::Allow`]); [`ErrorKind::Corrupt`] when a listing is out of order; the
/// listings' own errors. Single entries that fail are counted, up to the options' bound.
///
/// # Cancel safety
/// Dropping it stops it; what was copied stays. Batches under way may still take effect, and are not counted. The
/// checkpoint of the last progress resumes it ([`SyncOptions::resume`]), as it does after an error.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// target.set("extra", "2").await?;
/// let report = sync(&source, &target, &FullSync, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.removed), (1, 1));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn sync(
    source: &(impl AsStore + ?Sized),
    target: &(impl AsStore + ?Sized),
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<SyncReport> {
    let (source, target) = (source.as_store(), target.as_store());
    let _claim = target.claim(&Scope::prefix(&options.prefix)).await?;
    let target = plain(source, target, options, strategy.changes())?;
    run(source, &target, strategy, options).await.map_err(|error| error.during(Operation::Sync))
}

/// Keeps `target` in step with `source`: a sync, and then what the source's feed tells ([`Store::changes`]), until the feed
/// ends because the source is closed.
///
/// The feed begins before the sync, so nothing that is written meanwhile is missed. What changes while others are compared waits and goes
/// together, in batches as in a sync; of more than 100,000 keys that wait, all are compared instead, and so they are when the feed says
/// that it may have missed some. A key that failed is tried again after a second, then ever more rarely, down to once a minute. So
/// are all that were due when a store could not be reached. Each pass reports its own progress.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where the source has no feed ([`Feature::Changes`](crate::Feature::Changes)): sync again now and then
/// instead. As [`sync`], except for errors that are retryable.
///
/// # Cancel safety
/// As [`sync`].
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, SyncOptions, follow};
/// use tiered_core::{ErrorKind, MemoryStore};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// // Memory tells of nothing; Postgres does.
/// let refused = follow(&source, &target, &FullSync, &SyncOptions::new()).await.unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Unsupported);
/// # });
/// ```
pub async fn follow(
    source: &(impl AsStore + ?Sized),
    target: &(impl AsStore + ?Sized),
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<()> {
    let (source, target) = (source.as_store(), target.as_store());
    let _claim = target.claim(&Scope::prefix(&options.prefix)).await?;
    let target = plain(source, target, options, strategy.changes())?;
    let changes = source.changes().ok_or_else(|| {
        let message = format!(
            "{} has no feed of changes; sync again now and then instead",
            source.capabilities().name()
        );
        Error::new(ErrorKind::Unsupported, message).during(Operation::Sync)
    })?;
    follow::run_follow(source, changes, &target, strategy, options)
        .await
        .map_err(|error| error.during(Operation::Sync))
}

/// Copies the named keys from `source` to `target`, replacing what is there.
///
/// # Errors
/// As [`sync`]. A key that the source does not have is counted as vanished.
///
/// # Cancel safety
/// As [`sync`].
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{SyncOptions, sync_keys};
/// use tiered_core::{Key, MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// let keys = [Key::new("a")?, Key::new("not-there")?];
/// let report = sync_keys(&source, &target, &keys, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.vanished), (1, 1));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn sync_keys(
    source: &(impl AsStore + ?Sized),
    target: &(impl AsStore + ?Sized),
    keys: &[Key],
    options: &SyncOptions,
) -> Result<SyncReport> {
    let (source, target) = (source.as_store(), target.as_store());
    let _claim = target.claim(&Scope::Whole).await?;
    let target = plain(source, target, options, strategy::Changes::Overwrites)?;
    run_keys(source, &target, keys, options).await.map_err(|error| error.during(Operation::Sync))
}

fn plain<'s>(
    source: &'s dyn Store,
    target: &'s dyn Store,
    options: &SyncOptions,
    changes: strategy::Changes,
) -> Result<PlainTarget<'s>> {
    if std::ptr::addr_eq(source, target) {
        return Err(Error::new(
            ErrorKind::Config,
            "source and target are the same store; name two different ones",
        )
        .during(Operation::Sync));
    }
    PlainTarget::new(source, target, options, changes).map_err(|error| error.during(Operation::Sync))
}

pub use strategy::Changes;
