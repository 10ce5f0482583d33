//! What a run did.

use super::under_way::WriterUnderWay;

/// What a run made of a key that is not live.
///
/// # Examples
/// ```
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::{Sweep, Verdict};
///
/// let sweep = Sweep::builder(MemoryStore::new())
///     .on_key(|key, verdict| {
///         if verdict == Verdict::Deleted {
///             println!("deleted {key}");
///         }
///     })
///     .build()?;
/// # drop(sweep);
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Recorded: no generation has observed this version before. A later run may delete it.
    Observed,
    /// Spared because of a writer that is under way, or because the keep-list is as old.
    HeldBack,
    /// Spared by the cut-off.
    TooNew,
    /// Deleted. In a dry run: it would be.
    Deleted,
    /// It was written or deleted between the listing and the delete, which was refused.
    Changed,
    /// The delete failed, or its answer was lost. The next run tries again.
    Failed,
}

/// How a run ended.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::{KeepList, Sweep, SweepOutcome};
///
/// let sweep = Sweep::new(MemoryStore::new())?;
/// let keep = KeepList::new(sweep.horizon().await?, ["a"])?;
/// assert_eq!(sweep.dry_run(&keep).await?.outcome, SweepOutcome::DryRun);
/// assert_eq!(sweep.run(&keep).await?.outcome, SweepOutcome::Completed);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SweepOutcome {
    /// Nothing was written.
    #[default]
    DryRun,
    /// The snapshot of the run is the latest generation.
    Completed,
    /// Another run completed a generation first. What this one deleted is deleted; what it observed does not count.
    Superseded,
}

/// What a run did, or in a dry run would do.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_values::sweep::{KeepList, Sweep};
///
/// let store = Arc::new(MemoryStore::new());
/// store.set("used", "…").await?;
/// store.set("unused", "…").await?;
/// let sweep = Sweep::new(store)?;
/// let crashed = sweep.begin_write("crashes").await?.id();
/// sweep.run(&KeepList::new(sweep.horizon().await?, ["used"])?).await?;
/// let report = sweep.run(&KeepList::new(sweep.horizon().await?, ["used"])?).await?;
/// assert_eq!((report.listed, report.live, report.deleted, report.held_back), (2, 1, 0, 1));
/// assert_eq!(report.holders().map(|writer| writer.id).collect::<Vec<_>>(), [crashed]);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepReport {
    /// How the run ended.
    pub outcome: SweepOutcome,
    /// The latest completed generation when the run began.
    pub generation: u64,
    /// The latest generation whose observations could be deleted.
    pub horizon: u64,
    /// Keys in scope that were listed. The records of sweeps are not counted.
    pub listed: u64,
    /// Of those, keys that are live.
    pub live: u64,
    /// Keys that were observed for the first time under their version. A later run may delete them.
    pub observed: u64,
    /// Of those, keys that were observed before, under another version: they were written meanwhile.
    pub rewritten: u64,
    /// Keys that were deleted.
    pub deleted: u64,
    /// Keys whose delete was refused, since they were written or deleted after they were listed.
    pub changed: u64,
    /// Keys whose delete failed, or whose answer was lost. The next run tries again.
    pub failed: u64,
    /// Keys that were spared because of [`writers`](Self::writers), or of an older horizon of the keep-list.
    pub held_back: u64,
    /// Keys that only the cut-off spared.
    pub too_new: u64,
    /// Keys that were gone, or expired, when their version was asked for.
    pub vanished: u64,
    /// Keys that are not live and whose entry is damaged. They are left as they are.
    pub damaged: u64,
    /// Keys that are referred to and do not exist. Neither roots are counted nor keys under
    /// [`leaves_under`](super::Roots::leaves_under), which are not read.
    pub missing: u64,
    /// The prefixes of [`Roots::under`](super::Roots::under) under which there is no root: one may be misspelled.
    pub prefixes_without_roots: Vec<String>,
    /// The writers that were under way, or crashed.
    pub writers: Vec<WriterUnderWay>,
}

impl SweepReport {
    /// Those of the writers that hold back what a completed generation observed.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::sweep::SweepReport;
    ///
    /// fn complain(report: &SweepReport) {
    ///     for writer in report.holders() {
    ///         eprintln!("{} ({}) holds back garbage", writer.id, writer.label);
    ///     }
    /// }
    /// # complain(&SweepReport::default());
    /// ```
    pub fn holders(&self) -> impl Iterator<Item = &WriterUnderWay> {
        self.writers.iter().filter(|writer| writer.generation < self.generation)
    }
}
