//! How far a sync has come, in a form that can be kept.

use serde::{Deserialize, Serialize};

use super::report::SyncReport;
use crate::key::Key;

/// How far a sync has come, and what it had counted by then: what a later run needs to go on from here.
///
/// It can be kept between two runs, in a file or a store: it is serialised by serde, in any self-describing format. A
/// field that a newer version adds has a default for what an older one kept.
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
/// // A program keeps the text where it outlives the process.
/// let kept = Arc::new(Mutex::new(String::new()));
/// let keep = Arc::clone(&kept);
/// let options = SyncOptions::new().on_progress(move |progress| {
///     *keep.lock().unwrap() = serde_json::to_string(&progress.checkpoint).unwrap();
/// });
/// sync(&source, &target, &FullSync, &options).await?;
///
/// let checkpoint: Checkpoint = serde_json::from_str(&kept.lock().unwrap()).unwrap();
/// assert_eq!((checkpoint.after.as_ref().map(|key| key.as_str()), checkpoint.report.copied), (Some("a"), 1));
/// source.set("b", "2").await?;
/// let report = sync(&source, &target, &FullSync, &SyncOptions::new().resume(checkpoint)).await?;
/// assert_eq!((report.listed_from, report.copied), (2, 2));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Every key up to and including this one is settled: it is in step, or it is in [`failed`](Self::failed). `None`: no
    /// key is.
    #[serde(default)]
    pub after: Option<Key>,
    /// The keys up to there that could not be brought in step, at most [`Checkpoint::MAX_FAILED`]. A run that resumes from
    /// here begins with them. Where there are more, the checkpoint stays before the first of the others.
    #[serde(default)]
    pub failed: Vec<Key>,
    /// What all runs so far counted of the other keys up to there.
    #[serde(default)]
    pub report: SyncReport,
}

impl Checkpoint {
    /// How many failed keys a checkpoint can go past.
    pub const MAX_FAILED: usize = 1_000;
}
