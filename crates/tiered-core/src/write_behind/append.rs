//! The task that appends to the journal: concurrent acknowledgements share one append.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::WriteBehind;
use super::company::Company;
use super::request::Append;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::settings::OnOverdue;
use crate::slot::Pending;
use crate::store::closed;
use crate::sync_primitives::atomic::Ordering;
use crate::sync_primitives::time::Instant;

impl WriteBehind {
    /// Appends until the store is left.
    pub(super) async fn append_loop(self: Arc<Self>, mut requests: UnboundedReceiver<Append>) {
        let _ended = self.appends_ended.clone().drop_guard();
        let mut poison: Option<Error> = None;
        let mut company = Company::new();
        loop {
            let first = tokio::select! {
                biased;
                request = requests.recv() => request,
                () = self.tasks.left() => None,
            };
            let Some(first) = first else { return };
            let group = company.group_of(first, &mut requests).await;
            if let Some(error) = &poison {
                refuse(group, error);
                continue;
            }
            if self.lost.get().is_some()
                && let Err(error) = self.door.check(Operation::Put)
            {
                refuse(group, &error);
                continue;
            }
            // What has waited here meanwhile may be behind one that is overdue now.
            if let Err(error) = self.until_none_is_overdue().await {
                refuse(group, &error);
                continue;
            }
            let (begun, count) = (Instant::now(), group.len());
            let appended = self.append(&group).await;
            company.appended(count, requests.len(), begun);
            match appended {
                Ok(first) => self.admit(group, first),
                Err(error) => poison = self.appended_not(group, &error),
            }
        }
    }

    /// Appends a group; the sequence of its first record.
    async fn append(&self, group: &[Append]) -> Result<Sequence> {
        let records: Vec<JournalRecord> = group.iter().flat_map(Append::records).collect();
        self.journal.append(&records).await
    }

    /// Answers a group that could not be appended. The error of all later appends, where the journal failed.
    fn appended_not(&self, group: Vec<Append>, error: &Error) -> Option<Error> {
        if error.outcome() == Some(Outcome::NotApplied) {
            refuse(group, error);
            return None;
        }
        tracing::error!(error = %error.chain(), "the journal failed; no write is accepted until it is reopened");
        for append in group {
            append.fail(error, Outcome::Unknown);
        }
        self.poisoned.store(true, Ordering::Relaxed);
        let message = "the journal failed earlier; close the store and open it again";
        Some(Error::new(ErrorKind::Unavailable, message).with_source(error.clone()))
    }

    /// Makes journaled writes visible and queues them, then acknowledges them.
    fn admit(&self, group: Vec<Append>, first: Sequence) {
        let (mut next, since) = (first, self.stamp.uptime_millis());
        let (mut units, mut replies) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for append in group {
            let count = append.len() as u64;
            let (unit, reply) = append.journaled(next, since);
            for queued in unit.writes() {
                let pending = Pending::new(queued.sequence(), queued.write().effect().clone());
                self.slots.set_pending(queued.key(), pending);
            }
            self.backlog.fetch_add(count, Ordering::Relaxed);
            next += count;
            units.push(unit);
            replies.push(reply);
        }
        {
            // Both at once: were a unit flushed before it counts as journaled, the barrier would stay behind it.
            let mut queue = self.queue.lock();
            for unit in units {
                queue.push(unit);
            }
            self.flushed.send_modify(|flushed| flushed.journaled = next);
        }
        // After that, so that a flush that follows the acknowledgement waits for the write.
        for reply in replies {
            reply.acknowledge();
        }
        self.queued.notify_one();
    }

    /// Keeps a new write from being acknowledged while the oldest pending one is older than it may be, where that is
    /// wanted.
    pub(super) async fn until_none_is_overdue(&self) -> Result<()> {
        let on_overdue = self.plan.settings().on_overdue;
        if on_overdue == OnOverdue::Alarm {
            return Ok(());
        }
        let mut flushed = self.flushed.subscribe();
        while self.overdue().is_some() {
            self.sound_alarm();
            if on_overdue == OnOverdue::Fail {
                let message = "writes have waited for the backend for longer than max-pending-age; try again when it has them";
                return Err(Error::new(ErrorKind::Full, message).outcome_is(Outcome::NotApplied));
            }
            tokio::select! {
                biased;
                () = self.tasks.left() => return Err(closed(Operation::Put)),
                // The sender is held here.
                _ = flushed.changed() => {}
            }
        }
        Ok(())
    }
}

fn refuse(group: Vec<Append>, error: &Error) {
    for append in group {
        append.refuse(error);
    }
}
