//! The task that appends to the journal: concurrent acknowledgements share one append.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::lease::{PAST, Standing};
use super::mark::NotLookedUp;
use super::parking::Parking;
use super::queue::{Queued, Unit};
use super::{Append, AppendQueue, Behind, Engine};
use crate::batch::Action;
use crate::capability::Feature;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::{JournalRecord, Parked, Recovered, Sequence};
use crate::key::Key;
use crate::planted::Plant;
use crate::slot::{Pending, PendingState};
use crate::tiered::ownership::{self, Tolerates};
use crate::write::Progress;

/// Attempts to take a lease whose owner goes on flushing.
const TAKE_ATTEMPTS: usize = 32;

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
                    refuse(group, &after_failure(error));
                }
                continue;
            }
            if let Some(error) = behind.ousted.get() {
                refuse(group, error);
                continue;
            }
            // What has waited here meanwhile may be behind one that is overdue now.
            if let Err(error) = self.until_none_is_overdue(behind).await {
                for append in group {
                    append.reply.send(Err(error.duplicate())).ok();
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
                    behind.poisoned.store(true, Ordering::Relaxed);
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
                if sequence % 8 == 7 && self.planted.has(Plant::PendingEvicted) {
                    self.slots.force_clear_pending(&record.key);
                }
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
    pub(in crate::tiered) async fn recover(&self, backend: &[u8], tolerates: Tolerates) -> Result<()> {
        let Some(behind) = &self.behind else { return Ok(()) };
        let mut recovered = behind.journal.recover(backend).await?;
        let journal = (recovered.journal != 0).then_some(recovered.journal);
        let mut flushed = 0;
        match ownership::check(self.backend.as_ref(), journal, tolerates).await {
            Ok(_) => {
                flushed = self.take_lease(behind, &mut recovered).await?;
                if behind.wanted.is_none() {
                    self.enter_journal(behind, &mut recovered).await?;
                }
            }
            Err(error) if behind.wanted.is_none() => {
                let late = NotLookedUp::of(&recovered, tolerates, &error).ok_or(error)?;
                // Recovery runs once.
                behind.not_looked_up.set(late).ok();
            }
            Err(error) => return Err(error),
        }
        let superseded = leave_out(&mut recovered, flushed);
        let aside = recovered.aside;
        let (mut parked, mut again) = (Vec::new(), Vec::new());
        for unit in aside.parked {
            let set_aside: Vec<Sequence> = unit.records.iter().map(|(sequence, _)| *sequence).collect();
            // Where the flush halts, opening again is a reason to try again; but not over another owner's writes.
            if behind.halts && !unit.reason.contains(PAST) && !unit.reason.contains(GIVEN_UP) {
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
        *behind.parking.lock() = Parking::recovered(parked.collect(), again, aside.dropped, superseded);
        behind.queue.lock().recover(units.into_iter().map(unit).collect());
        behind.flushed.send_modify(|flushed| {
            flushed.journaled = next;
            flushed.before = before.unwrap_or(next);
        });
        behind.queued.notify_one();
        Ok(())
    }
}

impl Engine {
    /// Takes the lease, where there is to be one; how far the journal has been flushed under it. Where another owner came in
    /// between, everything that the journal holds is set aside first.
    async fn take_lease(&self, behind: &Behind, recovered: &mut Recovered) -> Result<Sequence> {
        let Some(lease) = behind.wanted else { return Ok(0) };
        let journal = match recovered.journal {
            // A journal that does not outlive its process is a new one each time.
            0 => self.stamp.versions().mint().as_u128().unwrap_or_default(),
            journal => journal,
        };
        let backend = self.backend.as_ref();
        // The owner that is taken over may be flushing.
        for _ in 0..TAKE_ATTEMPTS {
            let mut standing = Standing::of(backend, journal, lease).await?;
            standing.believe_until(recovered.records.last().map_or(0, |(last, _)| last + 1));
            if standing.is_of_the_past() && set_all_aside(recovered, PAST) {
                behind.journal.set_aside(&recovered.aside).await?;
            }
            let flushed = standing.flushed();
            if let Some(held) = standing.take(backend, &self.stamp).await? {
                // Recovery runs once.
                behind.lease.set(held).ok();
                return Ok(flushed);
            }
        }
        let message = "other stores took the lease at the same time, again and again; open it when they have";
        Err(Error::new(ErrorKind::Locked, message).during(Operation::Open))
    }
}

/// Why everything in a journal is parked that its backend does not name any more.
pub(super) const GIVEN_UP: &str = "the journal was given up by name since this was acknowledged, and the backend may have newer writes; retry or drop it";

impl Engine {
    /// Enters the journal in the backend's mark. Where it was given up, everything that it holds is set aside first.
    async fn enter_journal(&self, behind: &Behind, recovered: &mut Recovered) -> Result<()> {
        let backend = self.backend.as_ref();
        // Without an identity it does not outlive its process; a backend without marks was vouched for.
        if recovered.journal == 0 || !backend.capabilities().has(Feature::KeepsMarks) {
            return Ok(());
        }
        let entry = ownership::Entry::of(backend, recovered.journal, recovered.marked).await?;
        if entry.standing == ownership::Standing::GivenUp && set_all_aside(recovered, GIVEN_UP) {
            tracing::error!("the journal was given up by name; everything that it holds is parked");
            behind.journal.set_aside(&recovered.aside).await?;
        }
        entry.write(backend).await?;
        if entry.standing == ownership::Standing::OlderThanMarks {
            behind.journal.note_marked().await?;
        }
        behind.id.set(recovered.journal).ok();
        Ok(())
    }
}

/// Leaves out what is in the backend: what was flushed under the lease, and of what is set aside the records that a flushed
/// one of their key has superseded. Whether there was any of the latter, which the journal's list still has.
fn leave_out(recovered: &mut Recovered, flushed: Sequence) -> bool {
    let Recovered { records, aside, .. } = recovered;
    let set_aside: Vec<Sequence> =
        aside.parked.iter().flat_map(|unit| &unit.records).map(|(sequence, _)| *sequence).collect();
    let mut in_backend: HashMap<Key, Sequence> = HashMap::new();
    for (sequence, record) in records.iter() {
        if *sequence < flushed && !set_aside.contains(sequence) && !aside.dropped.contains(sequence) {
            in_backend.insert(record.key.clone(), *sequence);
        }
    }
    records.retain(|(sequence, _)| *sequence >= flushed);
    let before: usize = aside.parked.iter().map(|unit| unit.records.len()).sum();
    for unit in &mut aside.parked {
        unit.records
            .retain(|(sequence, record)| in_backend.get(&record.key).is_none_or(|later| later < sequence));
    }
    aside.parked.retain(|unit| !unit.records.is_empty());
    before != aside.parked.iter().map(|unit| unit.records.len()).sum::<usize>()
}

/// Sets everything aside that a journal holds; whether there was anything.
fn set_all_aside(recovered: &mut Recovered, reason: &str) -> bool {
    let Recovered { records, aside, .. } = recovered;
    let is_aside = |sequence: &Sequence| {
        aside.dropped.contains(sequence)
            || aside.parked.iter().any(|unit| unit.records.iter().any(|(parked, _)| parked == sequence))
    };
    let rest: Vec<_> =
        std::mem::take(records).into_iter().filter(|(sequence, _)| !is_aside(sequence)).collect();
    let past = in_units(rest).into_iter().map(|records| Parked { records, reason: reason.to_owned() });
    aside.parked.extend(past);
    aside.parked.sort_by_key(Parked::sequence);
    aside.parked.iter_mut().for_each(|unit| reason.clone_into(&mut unit.reason));
    !aside.parked.is_empty()
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

fn after_failure(error: &Error) -> Error {
    let message = "the journal failed earlier; close the store and open it again";
    Error::new(ErrorKind::Unavailable, message).with_source(error.duplicate())
}

fn refuse(group: Vec<Append>, error: &Error) {
    for append in group {
        append.reply.send(Err(error.duplicate().outcome_is(Outcome::NotApplied))).ok();
    }
}
