//! The groups that are under way, in the order of their keys: what was counted, and how far everything is settled.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::group::{Ended, TaskEnded};
use super::options::{SyncOptions, SyncProgress};
use super::report::SyncReport;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;

/// Groups under way.
pub(super) struct Window<'a> {
    options: &'a SyncOptions,
    running: FuturesOrdered<BoxFuture<'a, Ended>>,
    bytes: u64,
    report: SyncReport,
    checkpoint: Option<Key>,
}

impl<'a> Window<'a> {
    pub(super) fn new(options: &'a SyncOptions) -> Self {
        Self {
            options,
            running: FuturesOrdered::new(),
            bytes: 0,
            report: SyncReport::default(),
            checkpoint: None,
        }
    }

    pub(super) const fn report_mut(&mut self) -> &mut SyncReport {
        &mut self.report
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins a group that moves so many bytes, once there is room for it.
    pub(super) async fn begin(&mut self, weight: u64, group: BoxFuture<'a, Ended>) -> Result<()> {
        while self.running.len() >= self.options.concurrency
            || (!self.is_idle() && self.bytes.saturating_add(weight) > self.options.byte_budget)
        {
            self.settle_one().await?;
        }
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

    /// Waits for all groups, and ends the sync.
    pub(super) async fn finish(mut self) -> Result<SyncReport> {
        while !self.is_idle() {
            self.settle_one().await?;
        }
        Ok(self.report)
    }

    /// Waits for the first group under way. Dropped, it has changed nothing.
    pub(super) async fn settle_one(&mut self) -> Result<()> {
        let Some(group) = self.running.next().await else { return Ok(()) };
        self.bytes -= group.weight();
        self.report.skipped += group.skipped();
        let (tasks, last) = group.into_tasks();
        for task in tasks {
            self.settle(task)?;
        }
        if self.report.failed == 0 && last.is_some() {
            self.checkpoint = last;
        }
        if self.options.reports_progress() {
            let progress = SyncProgress { report: self.report.clone(), checkpoint: self.checkpoint.clone() };
            self.options.report_progress(&progress);
        }
        Ok(())
    }

    fn settle(&mut self, task: TaskEnded) -> Result<()> {
        let (key, failed) = task.count(&mut self.report);
        let most = self.options.max_failures;
        if let Some(error) = failed.filter(|_| self.report.failed > most) {
            let message = format!("more than {most} entries failed; the last is the cause");
            return Err(Error::new(ErrorKind::Other, message).for_key(&key).with_source(error));
        }
        if self.report.failed == 0 {
            self.checkpoint = Some(key);
        }
        Ok(())
    }
}
