//! What a walk did.

use crate::sync::report::SyncReport;

/// What a walk did.
///
/// # Examples
/// ```
/// use tiered_core::sync::WalkReport;
///
/// /// Whether everything that was reached is in the target.
/// fn is_complete(report: &WalkReport) -> bool {
///     report.held_back == 0 && report.sync.failed == 0
/// }
///
/// assert!(is_complete(&WalkReport::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalkReport {
    /// Roots given, each once.
    pub roots: u64,
    /// Keys reached, the roots among them.
    pub reached: u64,
    /// Of these, keys whose references are known from an earlier walk, from which this one goes on
    /// ([`WalkOptions::resumable`](super::WalkOptions::resumable)). What that one copied is counted as skipped.
    pub resumed: u64,
    /// Keys that the target had already and that were taken for complete ([`Present::Trust`](super::Present::Trust)).
    pub trusted: u64,
    /// Keys that were referred to and do not exist. An entry that refers to one is not copied.
    pub missing: u64,
    /// Entries that others changed after they were walked, and that then referred to keys which were not. They are not copied:
    /// walk again.
    pub changed: u64,
    /// References within cycles.
    pub cycles: u64,
    /// Keys that are not in the target with all that they refer to: those that are missing, changed or failed, and those
    /// that refer to one of them, directly or not.
    pub held_back: u64,
    /// What was copied.
    pub sync: SyncReport,
}
