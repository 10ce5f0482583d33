//! What is journaled and waits for the backend.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::room::Taken;
use crate::batch::Action;
use crate::journal::{JournalRecord, Sequence};
use crate::key::Key;
use crate::write::Progress;

/// At most so many records in one flush: enough to amortise a round trip.
const MAX_RECORDS: usize = 512;
/// At most so many bytes of values in one flush: what is in memory twice while it runs.
const MAX_BYTES: u64 = 8 << 20;

/// A journaled record.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) sequence: Sequence,
    pub(super) record: JournalRecord,
    pub(super) progress: watch::Sender<Progress>,
}

/// A write, or all of a batch: where batches are atomic the backend gets all of it or nothing.
#[derive(Debug)]
pub(super) struct Unit {
    /// In order; never empty.
    pub(super) records: Vec<Queued>,
    /// When it was journaled, by the engine's uptime in milliseconds.
    pub(super) since: u64,
    pub(super) room: Option<Arc<Taken>>,
}

impl Unit {
    pub(super) fn first(&self) -> Sequence {
        self.records.first().map_or(0, |queued| queued.sequence)
    }

    fn size(&self) -> u64 {
        let size = |queued: &Queued| match &queued.record.action {
            Action::Put(put) => put.value.len() as u64,
            Action::Delete(_) => 0,
        };
        self.records.iter().map(size).sum()
    }
}

/// Units in the order of the journal.
#[derive(Debug, Default)]
pub(super) struct Queue {
    units: VecDeque<Unit>,
    /// What stands before this was left by an earlier session: the journal's end, of which the backend may have the
    /// beginning. It goes there in one piece; piece by piece the backend would go back in history.
    recovered: Sequence,
}

impl Queue {
    pub(super) fn push(&mut self, unit: Unit) {
        self.units.push_back(unit);
    }

    /// What an earlier owner left, as one piece.
    pub(super) fn recover(&mut self, units: Vec<Unit>) {
        self.recovered = units.last().map_or(0, |last| last.first() + 1);
        self.units.extend(units);
    }

    /// How many units of a prefix that was taken the backend may have.
    pub(super) fn recovered_of(&self, prefix: &[Unit]) -> usize {
        prefix.partition_point(|unit| unit.first() < self.recovered)
    }

    /// The next units, at most `limit`.
    pub(super) fn take_prefix(&mut self, limit: Option<usize>) -> Vec<Unit> {
        let (mut prefix, mut records, mut bytes) = (Vec::new(), 0, 0);
        let limit = limit.unwrap_or(usize::MAX);
        while prefix.len() < limit {
            let Some(unit) = self.units.front() else { break };
            let size = unit.size();
            let full = records + unit.records.len() > MAX_RECORDS || bytes + size > MAX_BYTES;
            if full && !prefix.is_empty() && unit.first() >= self.recovered {
                break;
            }
            records += unit.records.len();
            bytes += size;
            prefix.extend(self.units.pop_front());
        }
        if self.recovered_of(&prefix) == 0 {
            // What was left is flushed or set aside; what comes back in line after that is like any other.
            self.recovered = 0;
        }
        prefix
    }

    /// All units.
    pub(super) fn take_all(&mut self) -> Vec<Unit> {
        self.units.drain(..).collect()
    }

    /// The units that `which` picks; the others stay, in order.
    pub(super) fn extract(&mut self, which: impl FnMut(&Unit) -> bool) -> Vec<Unit> {
        let (picked, stay): (Vec<Unit>, Vec<Unit>) = self.units.drain(..).partition(which);
        self.units = stay.into();
        picked
    }

    /// Puts units back that were taken last.
    pub(super) fn put_back(&mut self, prefix: Vec<Unit>) {
        for unit in prefix.into_iter().rev() {
            self.units.push_front(unit);
        }
    }

    /// Puts a unit where its sequence belongs.
    pub(super) fn insert(&mut self, unit: Unit) {
        let at = self.units.partition_point(|before| before.first() < unit.first());
        self.units.insert(at, unit);
    }

    /// The sequence of the first record.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.units.front().map(Unit::first)
    }

    /// The latest record of a key.
    pub(super) fn latest(&self, key: &Key) -> Option<&Queued> {
        let records = self.units.iter().flat_map(|unit| &unit.records);
        records.filter(|queued| queued.record.key == *key).max_by_key(|queued| queued.sequence)
    }

    /// When the oldest unit was journaled.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.units.front().map(|unit| unit.since)
    }
}
