//! The task that appends to the journal: concurrent acknowledgements share one append.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::WriteBehind;
use super::request::Append;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::settings::OnOverdue;
use crate::slot::Pending;
use crate::store::closed;
use crate::sync_primitives::atomic::Ordering;

/// At most so many records in one append: what is waiting behind a sync of a few milliseconds.
const MAX_GROUP: usize = 1024;

impl WriteBehind {
    /// Appends until the store is left.
    pub(super) async fn append_loop(self: Arc<Self>, mut requests: UnboundedReceiver<Append>) {
        let _ended = self.appends_ended.clone().drop_guard();
        let mut poison: Option<Error> = None;
        loop {
            let first = tokio::select! {
                biased;
                request = requests.recv() => request,
                () = self.tasks.left() => None,
            };
            let Some(first) = first else { return };
            let group = group_of(first, &mut requests);
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
            if let Err(error) = self.append(group).await {
                poison = Some(error);
            }
        }
    }

    /// Appends a group and acknowledges it.
    ///
    /// # Errors
    /// The error of all later appends, where the journal failed.
    async fn append(&self, group: Vec<Append>) -> Result<()> {
        let records: Vec<JournalRecord> = group.iter().flat_map(Append::records).collect();
        let error = match self.journal.append(&records).await {
            Ok(first) => {
                self.admit(group, first);
                return Ok(());
            }
            Err(error) => error,
        };
        if error.outcome() == Some(Outcome::NotApplied) {
            refuse(group, &error);
            return Ok(());
        }
        tracing::error!(error = %error.chain(), "the journal failed; no write is accepted until it is reopened");
        for append in group {
            append.fail(&error, Outcome::Unknown);
        }
        self.poisoned.store(true, Ordering::Relaxed);
        let message = "the journal failed earlier; close the store and open it again";
        Err(Error::new(ErrorKind::Unavailable, message).with_source(error))
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

/// The first request, and those that wait behind it.
fn group_of(first: Append, requests: &mut UnboundedReceiver<Append>) -> Vec<Append> {
    let mut count = first.len();
    let mut group = vec![first];
    while count < MAX_GROUP {
        let Ok(next) = requests.try_recv() else { break };
        count += next.len();
        group.push(next);
    }
    group
}

fn refuse(group: Vec<Append>, error: &Error) {
    for append in group {
        append.refuse(error);
    }
}
