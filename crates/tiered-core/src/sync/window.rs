//! The groups that are under way, in the order of their keys: what was counted, and how far everything is settled.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::checkpoint::Checkpoint;
use super::group::{Ended, Place};
use super::options::{SyncOptions, SyncProgress};
use super::pace::Pace;
use super::report::SyncReport;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// Groups under way.
pub(super) struct Window<'a> {
    options: &'a SyncOptions,
    running: FuturesOrdered<BoxFuture<'a, Ended>>,
    bytes: u64,
    pace: Pace,
    /// What was counted of the groups that ended.
    report: SyncReport,
    /// The keys of those that failed, in this run or an earlier one.
    failed: Vec<Key>,
    /// Stays where it is once more have failed than it can name.
    checkpoint: Checkpoint,
}

impl<'a> Window<'a> {
    /// Nothing is under way; the counts are those of the checkpoint that is resumed from.
    pub(super) fn new(options: &'a SyncOptions) -> Self {
        let checkpoint = options.resume.clone().unwrap_or_default();
        Self {
            options,
            running: FuturesOrdered::new(),
            bytes: 0,
            pace: Pace::new(options.bytes_per_second),
            report: checkpoint.report.without_failures(),
            failed: checkpoint.failed.clone(),
            checkpoint,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins a group that moves so many bytes, once there is room for it and its time has come.
    pub(super) async fn begin(&mut self, weight: u64, group: BoxFuture<'a, Ended>) -> Result<()> {
        while self.running.len() >= self.options.at_a_time()
            || (!self.is_idle() && self.bytes.saturating_add(weight) > self.options.byte_budget)
        {
            self.settle_one().await?;
        }
        while let Some(waits) = self.pace.waits() {
            let mut waits = std::pin::pin!(waits);
            loop {
                tokio::select! {
                    () = &mut waits => break,
                    settled = self.settle_one(), if !self.is_idle() => settled?,
                }
            }
        }
        self.pace.spend(weight);
        self.bytes += weight;
        self.running.push_back(group);
        // Its first request is sent now, whatever the listings do next.
        while let Some(settled) = self.settle_one().now_or_never() {
            settled?;
            if self.is_idle() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for all groups, and ends the sync: what was counted, and the keys that failed. Of more than
    /// [`Checkpoint::MAX_FAILED`] these are the first ones, one more than that.
    pub(super) async fn finish(mut self) -> Result<(SyncReport, Vec<Key>)> {
        while !self.is_idle() {
            self.settle_one().await?;
        }
        Ok((self.report, self.failed))
    }

    /// Waits for the first group under way. Dropped, it has changed nothing.
    pub(super) async fn settle_one(&mut self) -> Result<()> {
        let Some(group) = self.running.next().await else { return Ok(()) };
        self.bytes -= group.weight();
        let settled = self.settle(group);
        if self.options.reports_progress() {
            let (report, checkpoint) = (self.report.clone(), self.checkpoint.clone());
            self.options.report_progress(&SyncProgress { report, checkpoint });
        }
        settled
    }

    /// Counts a group. Fails with the first key by which more have failed than may.
    fn settle(&mut self, group: Ended) -> Result<()> {
        let (is_whole, place) = (group.is_whole(), group.place().clone());
        if let Place::Again(key) = &place {
            self.failed.retain(|failed| failed != key);
        }
        let before = self.report.failed;
        let failed = group.count(&mut self.report);
        for (key, _) in &failed {
            // One more than can be named says that there are too many.
            if self.failed.len() <= Checkpoint::MAX_FAILED {
                self.failed.push(key.clone());
            }
        }
        if is_whole && self.failed.len() <= Checkpoint::MAX_FAILED {
            self.move_checkpoint(place);
        }
        let most = self.options.max_failures;
        let spare = usize::try_from(most.saturating_sub(before)).unwrap_or(usize::MAX);
        let Some((key, error)) = failed.into_iter().nth(spare) else { return Ok(()) };
        let message = format!("more than {most} entries failed; the last is the cause");
        Err(Error::new(ErrorKind::Other, message).for_key(&key).with_source(error))
    }

    fn move_checkpoint(&mut self, place: Place) {
        if let Place::Up(key) = place {
            self.checkpoint.after = Some(key);
        }
        self.checkpoint.failed.clone_from(&self.failed);
        self.checkpoint.report = self.report.without_failures();
    }
}
