//! What is journaled and waits for the backend.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use super::room::Taken;
use crate::effect::Write;
use crate::journal::{JournalRecord, Sequence};
use crate::key::Key;
use crate::write::Progress;

/// So many operations go in one flush at least, if they are there: enough to amortise a round trip.
const OPERATIONS: usize = 512;
/// And this part of the units that wait. Of many writes of few keys only the last of each is sent: the longer the backend was
/// away, the more of them a flush leaves out.
const PART: usize = 64;
/// At most so many writes in one flush, sent or left out.
const MAX_WRITES: usize = 1 << 17;
/// At most so many bytes of values that are sent in one flush.
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
}

/// What a flush carries: of each key the last write.
#[derive(Default)]
struct Load<'u> {
    sizes: HashMap<&'u Key, u64>,
    bytes: u64,
    writes: usize,
}

impl<'u> Load<'u> {
    fn add(&mut self, unit: &'u Unit) {
        self.writes += unit.len();
        for queued in &unit.writes {
            let size = queued.write.size();
            self.bytes += size;
            self.bytes -= self.sizes.insert(queued.key(), size).unwrap_or(0);
        }
    }

    fn is_over(&self, operations: usize) -> bool {
        self.sizes.len() > operations || self.bytes > MAX_BYTES || self.writes > MAX_WRITES
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
        let limit = limit.unwrap_or(usize::MAX);
        let operations = OPERATIONS.max(self.units.len() / PART);
        let mut load = Load::default();
        let mut taken = 0;
        for unit in self.units.iter().take(limit) {
            load.add(unit);
            let is_full = load.is_over(operations) && unit.first() >= self.recovered;
            // One unit goes, however large.
            if is_full && taken > 0 {
                break;
            }
            taken += 1;
        }
        let prefix: Vec<Unit> = self.units.drain(..taken).collect();
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
        // Two units never have the same sequence.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Stamp;
    use crate::version::Precondition;
    use crate::{Delete, Put};

    fn write(sequence: Sequence, key: &str, size: usize) -> Queued {
        let entry = Stamp::system().entry(&Put::new(vec![0; size]));
        let write = Write::put(Key::new(key).expect("valid"), entry, Precondition::None);
        Queued::new(sequence, write, watch::Sender::new(Progress::Journaled))
    }

    /// A unit of so many writes from `first` on, each of another key.
    fn unit(first: Sequence, writes: u64, size: usize) -> Unit {
        let writes = (first..first + writes).map(|sequence| write(sequence, &format!("k{sequence}"), size));
        Unit::new(writes.collect(), first * 10, None)
    }

    fn queue(units: impl IntoIterator<Item = Unit>) -> Queue {
        let mut queue = Queue::default();
        units.into_iter().for_each(|unit| queue.push(unit));
        queue
    }

    fn firsts(units: &[Unit]) -> Vec<Sequence> {
        units.iter().map(Unit::first).collect()
    }

    fn left(queue: &mut Queue) -> Vec<Sequence> {
        firsts(&queue.take_all())
    }

    #[test]
    fn a_prefix_is_the_oldest_units_in_their_order_up_to_the_limit() {
        let mut queue = queue((1..=5).map(|first| unit(first, 1, 0)));
        assert_eq!((queue.first(), queue.oldest()), (Some(1), Some(10)));
        assert_eq!(firsts(&queue.take_prefix(Some(2))), [1, 2]);
        assert_eq!((queue.first(), queue.oldest()), (Some(3), Some(30)));
        assert!(queue.take_prefix(Some(0)).is_empty());
        assert_eq!(firsts(&queue.take_prefix(None)), [3, 4, 5]);
        assert!(queue.take_prefix(None).is_empty());
        assert_eq!((queue.first(), queue.oldest()), (None, None));
    }

    #[test]
    fn a_prefix_has_as_many_writes_as_one_flush_takes_and_never_a_part_of_a_unit() {
        let whole = OPERATIONS as u64;
        let mut exact = queue([unit(1, whole - 1, 0), unit(1_000, 1, 0), unit(1_001, 1, 0)]);
        assert_eq!(firsts(&exact.take_prefix(None)), [1, 1_000], "exactly as many");
        assert_eq!(left(&mut exact), [1_001]);
        let mut over = queue([unit(1, whole - 1, 0), unit(1_000, 2, 0)]);
        assert_eq!(firsts(&over.take_prefix(None)), [1], "one more would be too many");
        let mut large = queue([unit(1, whole + 1, 0), unit(2_000, 1, 0)]);
        assert_eq!(firsts(&large.take_prefix(None)), [1], "one unit goes, however large");
    }

    #[test]
    fn a_prefix_has_as_many_bytes_as_one_flush_takes() {
        let half = usize::try_from(MAX_BYTES / 2).expect("small");
        let mut exact = queue([unit(1, 1, half), unit(2, 1, half), unit(3, 1, 1)]);
        assert_eq!(firsts(&exact.take_prefix(None)), [1, 2], "exactly as many");
        let mut over = queue([unit(1, 1, half), unit(2, 1, half + 1)]);
        assert_eq!(firsts(&over.take_prefix(None)), [1]);
        let mut large = queue([unit(1, 2, half + 1), unit(3, 1, 1)]);
        assert_eq!(firsts(&large.take_prefix(None)), [1], "one unit goes, however large");
    }

    #[test]
    fn of_a_key_only_the_last_write_counts_and_a_long_queue_makes_a_large_flush() {
        let of =
            |sequence, key: u64, size| Unit::new(vec![write(sequence, &format!("k{key}"), size)], 0, None);
        let half = usize::try_from(MAX_BYTES / 2).expect("small");
        let mut same = queue((0..10).map(|sequence| of(sequence, 0, half)));
        assert_eq!(same.take_prefix(None).len(), 10, "9 of them are not sent");
        let mut grown = queue([of(0, 0, half), of(1, 1, half), of(2, 0, 1), of(3, 2, half - 1), of(4, 3, 1)]);
        assert_eq!(firsts(&grown.take_prefix(None)), [0, 1, 2, 3], "the last write of a key may be smaller");
        let (keys, writes) = (2 * OPERATIONS as u64, (2 * OPERATIONS * PART) as u64);
        let mut long = queue((0..writes).map(|sequence| of(sequence, sequence % keys, 0)));
        assert_eq!(long.take_prefix(None).len() as u64, writes, "all keys, each once");
        let mut short = queue((0..writes / 2).map(|sequence| of(sequence, sequence % keys, 0)));
        assert_eq!(short.take_prefix(None).len(), OPERATIONS, "as many keys as a flush of this queue has");
    }

    #[test]
    fn a_prefix_has_so_many_writes_at_most_however_few_keys_they_have() {
        let of = |first: Sequence, writes: Sequence| {
            Unit::new((first..first + writes).map(|sequence| write(sequence, "k", 0)).collect(), 0, None)
        };
        let most = MAX_WRITES as u64;
        let mut exact = queue([of(0, most - 1), of(most, 1), of(most + 1, 1)]);
        assert_eq!(firsts(&exact.take_prefix(None)), [0, most], "exactly as many");
        let mut over = queue([of(0, most - 1), of(most, 2)]);
        assert_eq!(firsts(&over.take_prefix(None)), [0], "one more would be too many");
    }

    #[test]
    fn what_was_recovered_is_taken_in_one_piece_and_told_apart_until_it_is_flushed() {
        let whole = OPERATIONS as u64;
        let mut queue = Queue::default();
        queue.recover(vec![unit(1, whole, 0), unit(1_000, 1, 0), unit(1_001, 3, 0)]);
        queue.push(unit(2_000, 1, 0));
        let prefix = queue.take_prefix(None);
        assert_eq!(firsts(&prefix), [1, 1_000, 1_001], "the bounds are for new writes");
        assert_eq!(queue.recovered_of(&prefix), 3);
        queue.put_back(prefix);
        let prefix = queue.take_prefix(Some(2));
        assert_eq!((firsts(&prefix), queue.recovered_of(&prefix)), (vec![1, 1_000], 2));
        let mixed = queue.take_prefix(None);
        assert_eq!((firsts(&mixed), queue.recovered_of(&mixed)), (vec![1_001, 2_000], 1));
        queue.push(unit(2_001, 1, 0));
        let fresh = queue.take_prefix(None);
        assert_eq!(queue.recovered_of(&fresh), 0);
        // Retried after parking: like any other from now on.
        queue.insert(unit(1_000, 1, 0));
        let retried = queue.take_prefix(None);
        assert_eq!(queue.recovered_of(&retried), 0);
    }

    #[test]
    fn nothing_recovered_changes_nothing() {
        let mut queue = Queue::default();
        queue.recover(Vec::new());
        queue.push(unit(0, 1, 0));
        let prefix = queue.take_prefix(None);
        assert_eq!((firsts(&prefix), queue.recovered_of(&prefix)), (vec![0], 0));
    }

    #[test]
    fn units_that_come_back_take_their_old_places() {
        let mut queue = queue((1..=4).map(|first| unit(first, 1, 0)));
        let prefix = queue.take_prefix(Some(3));
        queue.put_back(prefix);
        assert_eq!(firsts(&queue.extract(|unit| unit.first() % 2 == 0)), [2, 4]);
        queue.insert(unit(4, 1, 0));
        queue.insert(unit(2, 1, 0));
        queue.insert(unit(9, 1, 0));
        queue.insert(unit(0, 1, 0));
        assert_eq!(left(&mut queue), [0, 1, 2, 3, 4, 9]);
    }

    #[test]
    fn the_latest_write_of_a_key_is_the_one_with_the_highest_sequence() {
        let of =
            |sequence| Unit::new(vec![write(sequence, "k", 0), write(sequence + 1, "other", 0)], 0, None);
        let queue = queue([of(1), of(5), of(3)]);
        let latest = |key: &str| queue.latest(&Key::new(key).expect("valid")).map(Queued::sequence);
        assert_eq!((latest("k"), latest("other"), latest("absent")), (Some(5), Some(6), None));
    }

    #[test]
    fn records_of_a_unit_say_which_belong_together() {
        let mut three = unit(7, 3, 100);
        let stamp = Stamp::system();
        let delete = Write::delete(Key::new("gone").expect("valid"), Delete::new(), &stamp);
        three.writes.push(Queued::new(10, delete, watch::Sender::new(Progress::Journaled)));
        assert_eq!((three.len(), three.is_empty(), three.since()), (4, false, 70));
        let records = three.records();
        let said: Vec<_> = records.iter().map(|(sequence, record)| (*sequence, record.continues)).collect();
        assert_eq!(said, [(7, true), (8, true), (9, true), (10, false)]);
        assert_eq!(records[3].1.key.as_str(), "gone");
        let extracted = three.extract(|queued| queued.sequence() == 8);
        assert_eq!((extracted.first(), extracted.len(), extracted.since()), (8, 1, 70));
        assert_eq!((three.first(), three.into_writes().len()), (7, 3));
        let empty = Unit::new(Vec::new(), 0, None);
        assert!(empty.is_empty() && empty.first() == 0 && empty.records().is_empty());
    }

    #[test]
    fn everybody_who_waits_for_a_unit_is_told() {
        let unit = unit(1, 2, 0);
        let mut told: Vec<_> = unit.writes().iter().map(|queued| queued.progress.subscribe()).collect();
        unit.tell(&Progress::Committed);
        for progress in &mut told {
            assert!(matches!(*progress.borrow_and_update(), Progress::Committed));
        }
    }
}
