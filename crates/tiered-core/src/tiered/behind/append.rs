//! The task that appends to the journal: concurrent acknowledgements share one append.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Append, AppendQueue, Behind, Engine, Queued};
use crate::batch::Action;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::slot::{Pending, PendingState};
use crate::write::Progress;

/// At most so many records in one append: what is waiting behind a sync of a few milliseconds.
const MAX_GROUP: usize = 1024;

impl Engine {
    /// Appends until the store is left.
    pub(in crate::tiered) async fn append_loop(self: Arc<Self>, mut requests: AppendQueue) {
        let Some(behind) = &self.behind else { return };
        let mut leaving = self.leaving.subscribe();
        let mut poisoned: Option<Arc<Error>> = None;
        loop {
            let first = tokio::select! {
                biased;
                request = requests.0.recv() => request,
                _ = leaving.wait_for(|left| *left) => None,
            };
            let Some(first) = first else { return };
            let mut group = vec![first];
            let mut count = group.first().map_or(0, |append| append.records.len());
            while count < MAX_GROUP {
                let Ok(next) = requests.0.try_recv() else { break };
                count += next.records.len();
                group.push(next);
            }
            if let Some(error) = &poisoned {
                refuse(group, error);
                continue;
            }
            let records: Vec<JournalRecord> = group
                .iter()
                .flat_map(|append| append.records.iter().map(|(record, _)| record.clone()))
                .collect();
            match behind.journal.append(&records).await {
                Ok(first) => self.admit(behind, group, first),
                Err(error) if error.outcome() == Some(Outcome::NotApplied) => {
                    for append in group {
                        // A writer that is gone needs no answer.
                        append.reply.send(Err(error.duplicate())).ok();
                    }
                }
                Err(error) => {
                    tracing::error!(error = %error.chain(), "the journal failed; no write is accepted until it is reopened");
                    for append in group {
                        append.reply.send(Err(error.duplicate().outcome_is(Outcome::Unknown))).ok();
                    }
                    poisoned = Some(Arc::new(error));
                }
            }
        }
    }

    /// Makes journaled records visible and queues them, then acknowledges them.
    fn admit(&self, behind: &Behind, group: Vec<Append>, first: Sequence) {
        let mut sequence = first;
        for append in group {
            let mut queued = Vec::with_capacity(append.records.len());
            for (record, progress) in append.records {
                self.overlay(&record, sequence);
                queued.push(Queued { sequence, record, progress, _room: Some(Arc::clone(&append.room)) });
                sequence += 1;
            }
            behind.backlog.fetch_add(queued.len() as u64, Ordering::Relaxed);
            behind.queue.lock().push_back(queued);
            append.reply.send(Ok(())).ok();
        }
        behind.flushed.send_modify(|flushed| flushed.journaled = sequence);
        behind.queued.notify_one();
    }

    fn overlay(&self, record: &JournalRecord, sequence: Sequence) {
        if let Some(state) = self.state_after(record) {
            self.slots.set_pending(&record.key, Pending { sequence, state });
        }
    }

    /// What a reader sees after the record; `None` for a deliberately forgotten delete.
    fn state_after(&self, record: &JournalRecord) -> Option<PendingState> {
        match &record.action {
            Action::Put(put) => Some(PendingState::Written(self.entry_of(put))),
            Action::Delete(_) if self.planted.has(crate::planted::Plant::DeleteWithoutTombstone) => None,
            Action::Delete(_) => Some(PendingState::Deleted),
        }
    }

    pub(super) fn entry_of(&self, put: &crate::write::Put) -> Entry {
        self.stamp.entry(put)
    }

    /// Takes over what an earlier owner journaled and did not flush.
    pub(in crate::tiered) async fn recover(&self) -> Result<()> {
        let Some(behind) = &self.behind else { return Ok(()) };
        let records = behind.journal.recover().await?;
        let Some(first) = records.first().map(|(sequence, _)| *sequence) else { return Ok(()) };
        let mut next = first;
        let mut queue = behind.queue.lock();
        for (sequence, record) in records {
            self.overlay(&record, sequence);
            let progress = watch::Sender::new(Progress::Journaled);
            queue.push_back(vec![Queued { sequence, record, progress, _room: None }]);
            behind.backlog.fetch_add(1, Ordering::Relaxed);
            next = sequence + 1;
        }
        drop(queue);
        behind.flushed.send_modify(|flushed| {
            flushed.before = first;
            flushed.journaled = next;
        });
        behind.queued.notify_one();
        Ok(())
    }
}

fn refuse(group: Vec<Append>, error: &Error) {
    for append in group {
        let refusal = Error::new(
            ErrorKind::Unavailable,
            "the journal failed earlier; close the store and open it again",
        )
        .with_source(error.duplicate())
        .outcome_is(Outcome::NotApplied);
        append.reply.send(Err(refusal)).ok();
    }
}
