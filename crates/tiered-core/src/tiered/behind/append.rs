//! The task that appends to the journal: concurrent acknowledgements share one append.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::parking::Parking;
use super::queue::{Queued, Unit};
use super::{Append, AppendQueue, Behind, Engine};
use crate::batch::Action;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::planted::Plant;
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
                if self.planted.has(Plant::AppendAfterFailedAppend) {
                    let journaled = behind.flushed.borrow().journaled;
                    self.admit(behind, group, journaled);
                } else {
                    refuse(group, error);
                }
                continue;
            }
            let records: Vec<JournalRecord> = group
                .iter()
                .flat_map(|append| append.records.iter().map(|(record, _)| record.clone()))
                .collect();
            match behind.journal.append(&records).await {
                Ok(first) => {
                    if self.planted.has(Plant::JournalTrimmedEarly) {
                        behind.journal.trim(first + records.len() as u64 - 1).await.ok();
                    }
                    self.admit(behind, group, first);
                }
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
        let (mut sequence, since) = (first, self.uptime_millis());
        let (mut units, mut replies) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for append in group {
            let mut records = Vec::with_capacity(append.records.len());
            for (record, progress) in append.records {
                self.overlay(&record, sequence);
                records.push(Queued { sequence, record, progress });
                sequence += 1;
            }
            behind.backlog.fetch_add(records.len() as u64, Ordering::Relaxed);
            units.push(Unit { records, since, room: Some(append.room) });
            replies.push(append.reply);
        }
        behind.enqueue(units, sequence);
        // After that, so that a flush that follows the acknowledgement waits for the write.
        for reply in replies {
            // A writer that is gone needs no answer.
            reply.send(Ok(())).ok();
        }
        behind.queued.notify_one();
    }

    fn overlay(&self, record: &JournalRecord, sequence: Sequence) {
        if let Some(state) = self.state_after(record) {
            self.slots.set_pending(&record.key, Pending { sequence, state });
        }
    }

    /// What a reader sees after the record; `None` for a deliberately forgotten delete.
    pub(super) fn state_after(&self, record: &JournalRecord) -> Option<PendingState> {
        match &record.action {
            Action::Put(put) => Some(PendingState::Written(self.entry_of(put))),
            Action::Delete(_) if self.planted.has(Plant::DeleteWithoutTombstone) => None,
            Action::Delete(_) => Some(PendingState::Deleted),
        }
    }

    pub(super) fn entry_of(&self, put: &crate::write::Put) -> Entry {
        self.stamp.entry(put)
    }

    /// Takes over what an earlier owner journaled and did not flush, and what it parked.
    pub(in crate::tiered) async fn recover(&self, backend: &[u8]) -> Result<()> {
        let Some(behind) = &self.behind else { return Ok(()) };
        let recovered = behind.journal.recover(backend).await?;
        let aside = recovered.aside;
        let (mut parked, mut again) = (Vec::new(), Vec::new());
        for unit in aside.parked {
            let set_aside: Vec<Sequence> = unit.records.iter().map(|(sequence, _)| *sequence).collect();
            // Where the flush halts, opening again is a reason to try again.
            if behind.halts {
                again.push((set_aside, unit));
            } else {
                parked.push((set_aside, unit));
            }
        }
        let is_aside = |sequence: &Sequence| {
            aside.dropped.contains(sequence)
                || again.iter().any(|(set_aside, _)| set_aside.contains(sequence))
                || parked.iter().any(|(set_aside, _)| set_aside.contains(sequence))
        };
        let records = recovered.records.into_iter().filter(|(sequence, _)| !is_aside(sequence));
        let mut units = in_units(records.collect());
        units.extend(again.iter().map(|(_, refused)| refused.records.clone()));
        units.sort_by_key(|records| records.first().map(|(sequence, _)| *sequence));
        // A later record of a key lies over an earlier one, parked or not.
        let mut all: Vec<&(Sequence, JournalRecord)> = units.iter().flatten().collect();
        all.extend(parked.iter().flat_map(|(_, unit)| &unit.records));
        all.sort_by_key(|(sequence, _)| *sequence);
        for (sequence, record) in &all {
            self.overlay(record, *sequence);
        }
        behind.backlog.fetch_add(all.len() as u64, Ordering::Relaxed);
        let next = all.last().map_or(0, |(sequence, _)| sequence + 1);
        let before = units.iter().flatten().next().map(|(sequence, _)| *sequence);
        let since = self.uptime_millis();
        let unit = |records: Vec<(Sequence, JournalRecord)>| {
            let queued = |(sequence, record)| Queued {
                sequence,
                record,
                progress: watch::Sender::new(Progress::Journaled),
            };
            Unit { records: records.into_iter().map(queued).collect(), since, room: None }
        };
        let parked = parked.into_iter().map(|(_, refused)| {
            let error = Error::new(ErrorKind::Other, refused.reason);
            (unit(refused.records), error)
        });
        let again = again.into_iter().map(|(_, refused)| refused).collect();
        *behind.parking.lock() = Parking::recovered(parked.collect(), again, aside.dropped);
        behind.queue.lock().recover(units.into_iter().map(unit).collect());
        behind.flushed.send_modify(|flushed| {
            flushed.journaled = next;
            flushed.before = before.unwrap_or(next);
        });
        behind.queued.notify_one();
        Ok(())
    }
}

/// The records of each write or batch together.
fn in_units(records: Vec<(Sequence, JournalRecord)>) -> Vec<Vec<(Sequence, JournalRecord)>> {
    let mut units: Vec<Vec<(Sequence, JournalRecord)>> = Vec::new();
    for (sequence, record) in records {
        // What was between two records may have been set aside.
        let goes_on = |unit: &&mut Vec<(Sequence, JournalRecord)>| {
            unit.last().is_some_and(|(last, record)| record.continues && last + 1 == sequence)
        };
        match units.last_mut().filter(goes_on) {
            Some(unit) => unit.push((sequence, record)),
            None => units.push(vec![(sequence, record)]),
        }
    }
    units
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
