//! The bound of a store with a capacity: what it counts, and how entries leave.
//!
//! The count is in memory. An opening makes it by one scan of the records; then each commit keeps it, and takes out as much
//! as it has to in the same transaction. So what is on disk is within the capacity whenever the process is killed, and an
//! eviction removes what the key has at that moment, which the writer alone can change.

use std::ops::{Bound as End, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tiered_core::adapter::Stamp;
use tiered_core::{Error, ErrorKind, Key, Outcome, Result, Timestamp};

use crate::access::Access;
use crate::engine::{Engine, Table, Transaction};
use crate::layout::{footprint, remove_entry};
use crate::list::key_of;
use crate::policy::{Policy, Victim};
use crate::record::{self, Content, Outline};
use crate::unused::is_unused;
use crate::value::{END_OF_LOOSE, Loose};
use crate::values::Values;

/// Says that the entries of a database may vanish. No mark of a user has such a name.
const EVICTS: &[u8] = b"!evicts";

/// Once it is full, entries leave until so large a part of the capacity is free. Then nothing leaves until it is full again.
const FREE: u64 = 32;

/// At most so many entries, and not many more bytes than these, leave with one commit beyond what it has to make room for.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 1 << 20;

/// A value takes at most this part of the capacity, so that one does not push out all others.
const LARGEST: u64 = 4;

/// All uploads under way take at most this part of the capacity together: the largest value and what came of another one.
const UPLOADS: u64 = 2;

/// Entries that leave in one transaction where a store is opened with a smaller capacity than before.
const TRIMMED: usize = 1_024;

/// What is written or removed by a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Written {
        key: Key,
        bytes: u64,
        expires: Option<Timestamp>,
    },
    Removed(Key),
    /// Parts of values that are not entries yet.
    Staged(u64),
    /// They are entries now, or gone.
    Unstaged(u64),
}

/// What a store with a capacity holds, and what has left it since it was opened.
///
/// # Examples
/// ```
/// use tiered_embedded::Usage;
///
/// // Of a store that has just been opened.
/// let usage = Usage::default();
/// assert_eq!((usage.bytes, usage.evictions), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes that it may hold.
    pub capacity: u64,
    /// Bytes that it holds, as they are counted: keys, records, chunks, and 64 for each pair in a table. What was uploaded of
    /// values that are no entries yet is among them.
    pub bytes: u64,
    /// Entries that it holds.
    pub entries: u64,
    /// Entries that left to make room.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Entries that had expired and left before any other had to. Those that the sweep found are not among them.
    pub expired: u64,
}

/// What the bound is made of.
pub(crate) struct Bound {
    capacity: u64,
    seed: u64,
    state: RwLock<State>,
    /// The count may differ from what is on disk.
    doubtful: AtomicBool,
}

struct State {
    policy: Policy,
    /// Bytes of values that are no entries: of uploads, and of what is left of some.
    staged: u64,
    /// Entries leave until a part of the capacity is free.
    draining: bool,
    usage: Usage,
    /// What the transaction under way adds to it.
    leaving: Usage,
}

/// What an opening learns of a database.
pub(crate) struct Bounded {
    /// Whether entries may vanish, or may have vanished.
    pub(crate) evicts: bool,
    pub(crate) bound: Option<Bound>,
}

/// The largest value under a capacity.
pub(crate) fn largest(capacity: u64) -> u64 {
    capacity / LARGEST
}

/// Refuses what no database can do.
pub(crate) fn check(capacity: Option<u64>, access: Access) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::Config, message.to_owned()));
    match (capacity, access) {
        (Some(0), _) => refuse("capacity must be more than nothing"),
        (Some(_), Access::ReadOnly) => {
            refuse("a database that is only read needs no capacity; leave out capacity, or read-only access")
        }
        _ => Ok(()),
    }
}

/// Finds out whether the database evicts, and counts it where it has a capacity. Blocks.
pub(crate) fn open(
    engine: &dyn Engine,
    capacity: Option<u64>,
    stamp: &Stamp,
    values: &Values,
) -> Result<Bounded> {
    let mut evicts = false;
    engine.read(&mut |view| {
        evicts = view.get(Table::Marks, EVICTS, &mut |_| Ok(()))?;
        Ok(())
    })?;
    let Some(capacity) = capacity else { return Ok(Bounded { evicts, bound: None }) };
    if !evicts {
        if !is_unused(engine)? {
            let message = "the database was made without a capacity, and what it holds may be the only copy; leave out capacity, destroy it first if it was a cache, or sync it to a new store that has a capacity";
            return Err(Error::new(ErrorKind::Config, message));
        }
        engine.write(true, &mut |transaction| transaction.put(Table::Marks, EVICTS, b"1"))?;
    }
    // Random, and in a simulation the same for the same seed.
    let id = stamp.versions().mint().as_u128().unwrap_or_default();
    let seed = u64::try_from((id ^ (id >> 64)) & u128::from(u64::MAX)).unwrap_or_default();
    let bound = Bound::new(capacity, seed);
    bound.ensure_counted(engine)?;
    bound.trim(engine, stamp.now(), values)?;
    Ok(Bounded { evicts: true, bound: Some(bound) })
}

/// Whether the name is one that a user's mark can have.
pub(crate) fn is_mark(name: &[u8]) -> bool {
    name != EVICTS
}

impl Bound {
    fn new(capacity: u64, seed: u64) -> Self {
        let usage = Usage { capacity, ..Usage::default() };
        let state =
            State { policy: Policy::new(seed), staged: 0, draining: false, usage, leaving: Usage::default() };
        Self { capacity, seed, state: RwLock::new(state), doubtful: AtomicBool::new(true) }
    }

    /// An entry was used. Not counted where that would have to wait.
    pub(crate) fn touch(&self, key: &Key) {
        if let Some(state) = self.state.try_read() {
            state.policy.touch(key);
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let state = self.state.read();
        let (bytes, entries) = (state.held(), state.policy.len() as u64);
        Usage { bytes, entries, ..state.usage }
    }

    /// The engine was closed after a failure, and may have lost what it had not written to disk.
    pub(crate) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    /// Counts all records, where the count may be wrong. Blocks.
    pub(crate) fn ensure_counted(&self, engine: &dyn Engine) -> Result<()> {
        if !self.doubtful.load(Ordering::Acquire) {
            return Ok(());
        }
        let (mut policy, mut staged) = (Policy::new(self.seed), 0);
        engine
            .read(&mut |view| {
                (policy, staged) = (Policy::new(self.seed), 0);
                view.scan(Table::Chunks, End::Unbounded, Some(END_OF_LOOSE), &mut |name, mark| {
                    staged += Loose::decode(name, mark).unwrap_or_default().bytes;
                    Ok(ControlFlow::Continue(()))
                })?;
                view.scan(Table::Meta, End::Unbounded, None, &mut |name, bytes| {
                    // What has no key cannot be named, and so it cannot leave.
                    if let Ok(key) = key_of(name) {
                        // The chunks of a damaged record are not known. They leave with it.
                        let unknown = Outline { content: Content::Inline(()), size: 0, expires: None };
                        let Outline { content, size, expires } =
                            record::outline(&key, bytes).unwrap_or(unknown);
                        policy.restore(&key, footprint(&key, bytes.len(), &content, size), expires);
                    }
                    Ok(ControlFlow::Continue(()))
                })
            })
            .map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        let mut state = self.state.write();
        (state.policy, state.staged) = (policy, staged);
        drop(state);
        self.doubtful.store(false, Ordering::Release);
        Ok(())
    }

    /// Removes what is beyond the capacity, in transactions of a bounded size. Blocks.
    fn trim(&self, engine: &dyn Engine, now: Timestamp, values: &Values) -> Result<()> {
        while self.state.read().held() > self.capacity {
            let written = engine.write(true, &mut |transaction| {
                let mut state = self.state.write();
                for _ in 0..TRIMMED {
                    if state.held() <= self.capacity {
                        break;
                    }
                    let Some(victim) = state.evict(now) else { break };
                    remove_entry(transaction, &victim.key, values)?;
                }
                Ok(())
            });
            self.ended(written.is_ok());
            written?;
        }
        Ok(())
    }

    /// Counts what a transaction has changed, and removes what it makes room for.
    pub(crate) fn keep(
        &self,
        transaction: &mut dyn Transaction,
        changes: &[Change],
        now: Timestamp,
        values: &Values,
    ) -> Result<()> {
        // Readers do not wait for the engine.
        let leaving = self.state.write().leave(self.capacity, changes, now);
        leaving.iter().try_for_each(|victim| remove_entry(transaction, &victim.key, values))
    }

    /// Refuses so many more bytes of uploads where they would leave too little for entries. `staged` are those of the
    /// transaction under way.
    pub(crate) fn check_staged(&self, staged: u64, bytes: u64) -> Result<()> {
        let held = self.state.read().staged;
        if held.saturating_add(staged).saturating_add(bytes) <= self.capacity / UPLOADS {
            return Ok(());
        }
        let message = "values that are being uploaded take half of the capacity; try again when some of them have ended, or open the store with a larger capacity";
        Err(Error::new(ErrorKind::Full, message).outcome_is(Outcome::NotApplied))
    }

    /// So many bytes of uploads were removed.
    pub(crate) fn unstaged(&self, bytes: u64) {
        let mut state = self.state.write();
        state.staged = state.staged.saturating_sub(bytes);
    }

    /// A transaction has ended. Where it failed, what is on disk is not known.
    pub(crate) fn ended(&self, committed: bool) {
        let mut state = self.state.write();
        let leaving = std::mem::take(&mut state.leaving);
        if committed {
            state.usage.evictions += leaving.evictions;
            state.usage.evicted_bytes += leaving.evicted_bytes;
            state.usage.expired += leaving.expired;
        } else {
            self.doubt();
        }
    }
}

impl State {
    /// Everything that is counted.
    fn held(&self) -> u64 {
        self.policy.bytes().saturating_add(self.staged)
    }

    /// Takes out what makes room for `changes`.
    fn leave(&mut self, capacity: u64, changes: &[Change], now: Timestamp) -> Vec<Victim> {
        for change in changes {
            match change {
                Change::Written { key, bytes, expires } => self.policy.insert(key, *bytes, *expires),
                Change::Removed(key) => self.policy.remove(key),
                Change::Staged(bytes) => self.staged = self.staged.saturating_add(*bytes),
                Change::Unstaged(bytes) => self.staged = self.staged.saturating_sub(*bytes),
            }
        }
        let free_from = capacity - capacity / FREE;
        let (mut leaving, mut beyond, mut beyond_bytes) = (Vec::new(), 0, 0);
        loop {
            let held = self.held();
            self.draining = held > capacity || (self.draining && held > free_from);
            if !self.draining || changes.is_empty() {
                break;
            }
            let must = held > capacity;
            if !must && (beyond == BATCH || beyond_bytes >= BATCH_BYTES) {
                break;
            }
            let Some(victim) = self.evict(now) else { break };
            if !must {
                beyond += 1;
                beyond_bytes += victim.bytes;
            }
            leaving.push(victim);
        }
        leaving
    }

    fn evict(&mut self, now: Timestamp) -> Option<Victim> {
        let victim = self.policy.evict(now)?;
        if victim.expired {
            self.leaving.expired += 1;
        } else {
            self.leaving.evictions += 1;
            self.leaving.evicted_bytes += victim.bytes;
        }
        Some(victim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u64, bytes: u64) -> Change {
        Change::Written { key: Key::new(format!("k{number}")).expect("valid"), bytes, expires: None }
    }

    fn state() -> State {
        Bound::new(1, 1).state.into_inner()
    }

    const NOW: Timestamp = Timestamp::from_millis(0);

    #[test]
    fn what_is_held_is_never_more_than_the_capacity() {
        let mut state = state();
        for number in 0..2_000 {
            let leaving = state.leave(100_000, &[written(number, 1 + number * 37 % 2_000)], NOW);
            assert!(state.policy.bytes() <= 100_000);
            assert!(leaving.len() <= BATCH + 100);
        }
        assert!(state.policy.bytes() > 90_000);
    }

    #[test]
    fn entries_leave_in_batches_until_a_part_is_free_and_then_not_until_it_is_full() {
        let mut state = state();
        let mut left = Vec::new();
        for number in 0..20_000 {
            left.push(state.leave(1_000_000, &[written(number, 100)], NOW).len());
        }
        assert!(left.iter().take(10_000).all(|leaving| *leaving == 0));
        assert_eq!(left.iter().max(), Some(&(BATCH + 1)), "one makes room");
        let rests = left.iter().skip(10_000).filter(|leaving| **leaving == 0).count();
        assert!(rests > 9_000, "{rests} of 10,000 writes removed nothing");
    }

    #[test]
    fn what_is_larger_than_everything_leaves_at_once() {
        let mut state = state();
        assert_eq!(state.leave(100, &[written(1, 50), written(2, 101)], NOW).len(), 2);
        assert_eq!(state.policy.bytes(), 0);
    }

    #[test]
    fn what_a_failed_transaction_has_changed_is_counted_again() {
        let bound = Bound::new(1_000, 1);
        for (committed, doubtful) in [(true, false), (false, true)] {
            bound.doubtful.store(false, Ordering::Release);
            bound.state.write().leave(1_000, &[written(1, 600), written(2, 600)], NOW);
            bound.ended(committed);
            assert_eq!(bound.doubtful.load(Ordering::Acquire), doubtful);
            assert_eq!(bound.usage().evictions, 1, "those of the failed transaction are none");
        }
    }

    #[test]
    fn a_change_of_nothing_removes_nothing() {
        let mut state = state();
        state.leave(1_000, &[written(1, 500), written(2, 501)], NOW);
        state.draining = true;
        assert!(state.leave(1, &[], NOW).is_empty());
    }
}
