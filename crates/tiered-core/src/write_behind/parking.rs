//! The list of parked writes: refused by the backend, kept until an operator decides.
//!
//! What is parked is in the journal's own list before the journal forgets its records, and leaves the list before
//! the journal forgets what superseded it. In between a restart finds both, and the later one wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::queue::{Queued, Unit};
use crate::error::{Error, ErrorKind};
use crate::journal::{Aside, ParkReason, Parked, Sequence};
use crate::key::Key;

/// Why a unit is parked: for the journal's list, and as an error.
#[derive(Clone, Debug)]
pub(super) struct Why {
    reason: ParkReason,
    error: Arc<Error>,
}

impl Why {
    /// The backend refused it.
    pub(super) fn refused(error: Error) -> Self {
        Self { reason: ParkReason::Refused(error.chain()), error: Arc::new(error) }
    }

    /// The store does not own its backend any more.
    pub(super) fn lost(reason: ParkReason) -> Self {
        let error = Error::new(ErrorKind::Locked, reason.to_string());
        Self { reason, error: Arc::new(error) }
    }

    /// As an earlier session left it.
    pub(super) fn recovered(reason: ParkReason) -> Self {
        let error = Error::new(ErrorKind::Other, reason.to_string());
        Self { reason, error: Arc::new(error) }
    }

    pub(super) const fn error(&self) -> &Arc<Error> {
        &self.error
    }
}

#[derive(Debug)]
struct ParkedUnit {
    unit: Unit,
    why: Why,
}

impl ParkedUnit {
    fn listed(&self) -> Parked {
        Parked { records: self.unit.records(), reason: self.why.reason.clone() }
    }
}

/// Whether the journal's list is the one here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum JournalList {
    #[default]
    Same,
    /// It is an older one.
    Behind,
    /// It is being written: which one the journal has is not known.
    BeingWritten,
    /// It is being written, and the list has changed since.
    BehindAgain,
}

/// What is set aside.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// By the sequence of their first write.
    parked: BTreeMap<Sequence, ParkedUnit>,
    /// Those that are in line again. The journal may have forgotten their records, so they stay in its list until the
    /// backend has them.
    retried: BTreeMap<Sequence, Parked>,
    dropped: Vec<Sequence>,
    list: JournalList,
}

impl Parking {
    /// What an earlier session left: parked still, and in line again.
    pub(super) fn recovered(parked: Vec<(Unit, Why)>, retried: Vec<Parked>, dropped: Vec<Sequence>) -> Self {
        let parked = parked.into_iter().map(|(unit, why)| (unit.first(), ParkedUnit { unit, why }));
        Self {
            parked: parked.collect(),
            retried: retried.into_iter().map(|parked| (parked.sequence(), parked)).collect(),
            dropped,
            list: JournalList::Same,
        }
    }

    /// The list has changed, so the journal's is behind.
    pub(super) fn changed(&mut self) {
        self.list = match self.list {
            JournalList::Same | JournalList::Behind => JournalList::Behind,
            JournalList::BeingWritten | JournalList::BehindAgain => JournalList::BehindAgain,
        };
    }

    fn changed_if(&mut self, changed: bool) {
        if changed {
            self.changed();
        }
    }

    /// Whether the journal is known to have this list.
    pub(super) fn is_durable(&self) -> bool {
        self.list == JournalList::Same
    }

    /// The list to write to the journal; `None` where it has it.
    pub(super) fn begin_writing(&mut self) -> Option<Aside> {
        if self.list == JournalList::Same {
            return None;
        }
        self.list = JournalList::BeingWritten;
        let parked = self.retried.values().cloned().chain(self.list()).collect();
        Some(Aside { parked, dropped: self.dropped.clone() })
    }

    /// The journal has the list that was to be written.
    pub(super) fn written(&mut self) {
        self.list = match self.list {
            JournalList::BehindAgain => JournalList::Behind,
            JournalList::Same | JournalList::Behind | JournalList::BeingWritten => JournalList::Same,
        };
    }

    /// The journal may have the list that was to be written, or the one before.
    pub(super) fn not_written(&mut self) {
        self.list = JournalList::Behind;
    }

    pub(super) fn park(&mut self, unit: Unit, why: Why) {
        self.retried.remove(&unit.first());
        self.parked.insert(unit.first(), ParkedUnit { unit, why });
        self.changed();
    }

    /// Whether something is parked, so that a flush that halts does.
    pub(super) fn holds_up(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Writes that are parked and stay so.
    pub(super) fn count(&self) -> u64 {
        self.staying().map(|parked| parked.unit.len() as u64).sum()
    }

    /// What is parked, in the journal's order.
    pub(super) fn list(&self) -> Vec<Parked> {
        self.staying().map(ParkedUnit::listed).collect()
    }

    fn staying(&self) -> impl Iterator<Item = &ParkedUnit> {
        self.parked.values().filter(|parked| !self.is_being_dropped(parked))
    }

    fn is_being_dropped(&self, parked: &ParkedUnit) -> bool {
        self.dropped.contains(&parked.unit.first())
    }

    /// Why the first unit parked before `sequence` was refused.
    pub(super) fn refusal_before(&self, sequence: Sequence) -> Option<Error> {
        let (_, first) = self.parked.range(..sequence).next()?;
        let message = format!(
            "the backend refused journaled writes, {} of which are parked; list them, then retry or drop each",
            self.parked.range(..sequence).count()
        );
        let source = &first.why.error;
        let mut error = Error::new(source.kind(), message).with_source(Error::clone(source));
        if let Some(queued) = first.unit.writes().first() {
            error = error.for_key(queued.key());
        }
        Some(error)
    }

    /// Begins to give a unit up; its sequences. It is parked until the journal's list says so: what comes after it waits,
    /// and what supersedes it meanwhile takes it away.
    pub(super) fn begin_drop(&mut self, sequence: Sequence) -> Option<Vec<Sequence>> {
        let unit = &self.parked.get(&sequence).filter(|parked| !self.is_being_dropped(parked))?.unit;
        let sequences: Vec<Sequence> = unit.writes().iter().map(Queued::sequence).collect();
        self.dropped.extend(&sequences);
        self.changed();
        Some(sequences)
    }

    /// The unit stays parked, because the journal's list could not be written.
    pub(super) fn cancel_drop(&mut self, sequences: &[Sequence]) {
        self.dropped.retain(|dropped| !sequences.contains(dropped));
    }

    /// Takes out what is left of a unit that is given up.
    pub(super) fn end_drop(&mut self, sequences: &[Sequence]) -> Vec<Queued> {
        let first = self.parked.keys().copied().find(|first| sequences.contains(first));
        let dropped = first.and_then(|first| self.parked.remove(&first));
        dropped.map(|parked| parked.unit.into_writes()).unwrap_or_default()
    }

    /// Takes a unit out to be retried, without the writes that are superseded. Returns the unit, which may be empty then,
    /// and those writes. `None`: nothing is parked under that sequence.
    pub(super) fn retry(
        &mut self,
        sequence: Sequence,
        is_superseded: impl Fn(&Queued) -> bool,
    ) -> Option<(Unit, Unit)> {
        if self.parked.get(&sequence).is_none_or(|parked| self.is_being_dropped(parked)) {
            return None;
        }
        let mut parked = self.parked.remove(&sequence)?;
        let superseded = parked.unit.extract(is_superseded);
        self.changed_if(!superseded.is_empty());
        if !parked.unit.is_empty() {
            self.retried.insert(parked.unit.first(), parked.listed());
        }
        Some((parked.unit, superseded))
    }

    /// Whether the unit was parked because the journal was abandoned, and is in line again.
    pub(super) fn is_retried_though_abandoned(&self, first: Sequence) -> bool {
        self.retried.get(&first).is_some_and(|parked| parked.reason == ParkReason::Abandoned)
    }

    /// The latest write of a key that is parked and stays so.
    pub(super) fn latest(&self, key: &Key) -> Option<&Queued> {
        let writes = self.staying().flat_map(|parked| parked.unit.writes());
        writes.filter(|queued| queued.key() == key).max_by_key(|queued| queued.sequence())
    }

    /// The backend has these units: they are set aside no more, nor are the writes that they supersede, which are returned.
    pub(super) fn flushed(&mut self, flushed: &[Unit]) -> Vec<Queued> {
        if self.parked.is_empty() && self.retried.is_empty() {
            return Vec::new();
        }
        for unit in flushed.iter().filter(|unit| !unit.is_empty()) {
            let was_retried = self.retried.remove(&unit.first()).is_some();
            self.changed_if(was_retried);
        }
        let by: Vec<&Queued> = flushed.iter().flat_map(Unit::writes).collect();
        let is_superseded =
            |sequence: Sequence, key: &Key| by.iter().any(|by| by.key() == key && by.sequence() > sequence);
        let mut superseded = Vec::new();
        for parked in self.parked.values_mut() {
            let taken = parked.unit.extract(|queued| is_superseded(queued.sequence(), queued.key()));
            superseded.extend(taken.into_writes());
        }
        self.changed_if(!superseded.is_empty());
        // What is left of a unit is known by another sequence than before.
        let left = std::mem::take(&mut self.parked).into_values();
        let left = left.filter(|parked| !parked.unit.is_empty());
        self.parked = left.map(|parked| (parked.unit.first(), parked)).collect();
        let before: usize = self.retried.values().map(|retried| retried.records.len()).sum();
        for retried in self.retried.values_mut() {
            retried.records.retain(|(sequence, record)| !is_superseded(*sequence, &record.key));
        }
        self.retried.retain(|_, retried| !retried.records.is_empty());
        let after: usize = self.retried.values().map(|retried| retried.records.len()).sum();
        self.changed_if(after < before);
        superseded
    }
}
