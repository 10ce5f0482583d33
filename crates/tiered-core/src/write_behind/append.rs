//! Appending to the journal: concurrent acknowledgements share one append.
//!
//! If nobody appends, a writer appends its own write, and what waits beside it. So it waits for no other task. While it appends, other
//! writers hand their writes over to a task, which appends them together.

use std::sync::Arc;

use super::WriteBehind;
use super::appender::Appender;
use super::request::Append;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::settings::OnOverdue;
use crate::slot::Pending;
use crate::store::closed;
use crate::sync_primitives::atomic::Ordering;
use crate::sync_primitives::time::Instant;

impl WriteBehind {
    /// Appends what was handed over, until the store is left.
    pub(super) async fn append_loop(self: Arc<Self>) {
        let _ended = self.appends_ended.clone().drop_guard();
        let mut is_left = false;
        while !is_left {
            tokio::select! {
                biased;
                () = self.handed_over.notified() => {}
                () = self.tasks.left() => is_left = true,
            }
            let mut appender = self.appender.lock().await;
            if is_left {
                // Before what was handed over is taken: what came in between would never be answered.
                appender.end();
            }
            while let Some(first) = appender.next().await {
                self.append_group(&mut appender, first).await;
            }
        }
    }

    /// Appends a request, or hands it over to the task if somebody appends already.
    pub(super) async fn take_turn_or_hand_over(&self, append: Append) -> Result<()> {
        let gone = || closed(Operation::Put);
        match self.appender.try_lock() {
            Ok(appender) if appender.has_ended() => Err(gone()),
            Ok(mut appender) => {
                self.append_group(&mut appender, append).await;
                Ok(())
            }
            Err(_) => {
                self.appends.send(append).map_err(|_| gone())?;
                self.handed_over.notify_one();
                Ok(())
            }
        }
    }

    /// Appends `first`, and what waits beside it.
    async fn append_group(&self, appender: &mut Appender, first: Append) {
        let group = appender.group_of(first).await;
        if let Some(error) = appender.poison() {
            return refuse(group, error);
        }
        if self.lost.get().is_some()
            && let Err(error) = self.door.check(Operation::Put)
        {
            return refuse(group, &error);
        }
        // What has waited here meanwhile may be behind one that is overdue now.
        if let Err(error) = self.until_none_is_overdue().await {
            return refuse(group, &error);
        }
        let (begun, count) = (Instant::now(), group.len());
        appender.begin();
        self.poisoned.store(true, Ordering::Relaxed);
        let ended = self.append(&group).await;
        let poison = ended.as_ref().err().filter(|error| error.outcome() != Some(Outcome::NotApplied));
        appender.appended(count, begun, poison);
        self.poisoned.store(poison.is_some(), Ordering::Relaxed);
        match ended {
            Ok(first) => self.admit(group, first),
            Err(error) => fail(group, &error),
        }
    }

    /// Appends a group; the sequence of its first record.
    async fn append(&self, group: &[Append]) -> Result<Sequence> {
        let records: Vec<JournalRecord> = group.iter().flat_map(Append::records).collect();
        self.journal.append(&records).await
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

/// Answers a group that could not be appended.
fn fail(group: Vec<Append>, error: &Error) {
    if error.outcome() == Some(Outcome::NotApplied) {
        return refuse(group, error);
    }
    tracing::error!(error = %error.chain(), "the journal failed; no write is accepted until it is reopened");
    for append in group {
        append.fail(error, Outcome::Unknown);
    }
}

fn refuse(group: Vec<Append>, error: &Error) {
    for append in group {
        append.refuse(error);
    }
}
