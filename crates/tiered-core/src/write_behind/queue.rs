//! What is journaled and waits for the backend.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::room::Taken;
use crate::effect::Write;
use crate::journal::{JournalRecord, Sequence};
use crate::key::Key;
use crate::write::Progress;

/// At most so many writes in one flush: enough to amortise a round trip.
const MAX_WRITES: usize = 512;
/// At most so many bytes of values in one flush: what is in memory twice while it runs.
const MAX_BYTES: u64 = 8 << 20;

/// A journaled write.
#[derive(Debug)]
pub(super) struct Queued {
    sequence: Sequence,
    write: Write,
    progress: watch::Sender<Progress>,
}

impl Queued {
    /// A write that the journal has under `sequence`. Its receipt watches `progress`.
    pub(super) const fn new(sequence: Sequence, write: Write, progress: watch::Sender<Progress>) -> Self {
        Self { sequence, write, progress }
    }

    pub(super) const fn sequence(&self) -> Sequence {
        self.sequence
    }

    pub(super) const fn write(&self) -> &Write {
        &self.write
    }

    pub(super) const fn key(&self) -> &Key {
        self.write.key()
    }

    /// Tells the receipts.
    pub(super) fn tell(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }
}

/// A write, or all of a batch: where batches are atomic the backend gets all of it or nothing.
#[derive(Debug)]
pub(super) struct Unit {
    /// In order.
    writes: Vec<Queued>,
    /// When it was journaled, by uptime in milliseconds.
    since: u64,
    room: Option<Arc<Taken>>,
}

impl Unit {
    /// A unit that was journaled at `since`, by uptime in milliseconds. It gives `room` back when it is dropped.
    pub(super) const fn new(writes: Vec<Queued>, since: u64, room: Option<Arc<Taken>>) -> Self {
        Self { writes, since, room }
    }

    pub(super) fn writes(&self) -> &[Queued] {
        &self.writes
    }

    /// Gives up the room.
    pub(super) fn into_writes(self) -> Vec<Queued> {
        self.writes
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// What it is known by: the sequence of its first write.
    pub(super) fn first(&self) -> Sequence {
        self.writes.first().map_or(0, Queued::sequence)
    }

    pub(super) const fn since(&self) -> u64 {
        self.since
    }

    pub(super) fn tell(&self, progress: &Progress) {
        for queued in &self.writes {
            queued.tell(progress.clone());
        }
    }

    /// Takes out the writes that `which` picks.
    pub(super) fn extract(&mut self, which: impl Fn(&Queued) -> bool) -> Self {
        let writes = self.writes.extract_if(.., |queued| which(queued)).collect();
        Self { writes, since: self.since, room: self.room.clone() }
    }

    /// As the journal lists it.
    pub(super) fn records(&self) -> Vec<(Sequence, JournalRecord)> {
        let last = self.writes.len().saturating_sub(1);
        let record = |(index, queued): (usize, &Queued)| (queued.sequence, queued.write.record(index < last));
        self.writes.iter().enumerate().map(record).collect()
    }

    fn size(&self) -> u64 {
        self.writes.iter().map(|queued| queued.write.size()).sum()
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

    /// What an earlier session left, as one piece.
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
        let (mut prefix, mut writes, mut bytes) = (Vec::new(), 0, 0);
        let limit = limit.unwrap_or(usize::MAX);
        while prefix.len() < limit {
            let Some(unit) = self.units.front() else { break };
            let size = unit.size();
            let full = writes + unit.len() > MAX_WRITES || bytes + size > MAX_BYTES;
            if full && !prefix.is_empty() && unit.first() >= self.recovered {
                break;
            }
            writes += unit.len();
            bytes += size;
            prefix.extend(self.units.pop_front());
        }
        if self.recovered_of(&prefix) == 0 {
            // What was left is flushed or parked; what comes back in line after that is like any other.
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

    /// The sequence of the first write.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.units.front().map(Unit::first)
    }

    /// The latest write of a key.
    pub(super) fn latest(&self, key: &Key) -> Option<&Queued> {
        let writes = self.units.iter().flat_map(Unit::writes);
        writes.filter(|queued| queued.key() == key).max_by_key(|queued| queued.sequence)
    }

    /// When the oldest unit was journaled.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.units.front().map(Unit::since)
    }
}
