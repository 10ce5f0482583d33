//! What was done to the keys of a store, and whether each key was one register all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Outcome};

/// The name of a write.
pub(super) type Id = u64;

/// What a key holds: the entry of a write, or nothing.
pub(super) type Value = Option<Id>;

/// The write before all others.
pub(super) const FIRST: Id = 0;

/// A moment: shuttle runs one task at a time, so that all moments have an order.
pub(super) type Tick = u64;

/// When an operation that never answered has ended.
const NEVER: Tick = Tick::MAX;

/// What is known of the value that a key had at some moment of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Is(Value),
    IsNot(Value),
}

impl Seen {
    fn fits(self, value: Value) -> bool {
        match self {
            Self::Is(seen) => seen == value,
            Self::IsNot(other) => other != value,
        }
    }
}

/// Whether other processes write to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    None,
    Write,
}

/// How a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Not, or with an unknown outcome.
    Unknown,
    Applied,
    NotApplied,
}

/// A write of a key.
#[derive(Clone, Copy, Debug)]
struct Write {
    value: Value,
    /// What the key must have before the write.
    requires: Option<Value>,
    begun: Tick,
    ended: Tick,
    answer: Answer,
}

/// A read of a key, or what else tells its value.
#[derive(Clone, Copy, Debug)]
struct Read {
    seen: Seen,
    begun: Tick,
    ended: Tick,
}

/// What changed a key.
#[derive(Clone, Copy, Debug)]
struct Change {
    id: Id,
    value: Value,
    /// When it can have begun to show, and when it certainly did.
    begun: Tick,
    ended: Tick,
    /// Whether a parked write was given up, which shows what is beneath it.
    uncovers: bool,
}

/// The history of one key.
#[derive(Debug, Default)]
struct OfKey {
    /// Changes in the order in which they took effect.
    order: Vec<Change>,
    writes: BTreeMap<Id, Write>,
    reads: Vec<Read>,
    /// Parked writes that were given up.
    dropped: BTreeSet<Id>,
}

/// A write in the journal.
#[derive(Clone, Copy, Debug)]
struct Journaled {
    key: usize,
    id: Id,
    value: Value,
    /// Whether the backend needs the next one as well.
    continues: bool,
}

/// The journal, and how far the backend has followed it.
#[derive(Debug, Default)]
struct Order {
    journaled: Vec<Journaled>,
    /// Writes that the backend has refused.
    refused: BTreeSet<Id>,
    /// The latest write of each key that the backend had.
    flushed: BTreeMap<usize, usize>,
}

/// The history of all keys. Its locks are no choices of the scheduler.
#[derive(Debug)]
pub(super) struct History {
    clock: AtomicU64,
    others: Others,
    keys: Vec<Mutex<OfKey>>,
    order: Mutex<Order>,
    faults: Mutex<Vec<String>>,
}

impl History {
    /// Of so many keys, which have this in the beginning.
    pub(super) fn new(keys: usize, first: Value, others: Others) -> Arc<Self> {
        let of_key = || {
            let change = Change { id: FIRST, value: first, begun: 0, ended: 0, uncovers: false };
            let write = Write { value: first, requires: None, begun: 0, ended: 0, answer: Answer::Applied };
            Mutex::new(OfKey {
                order: vec![change],
                writes: BTreeMap::from([(FIRST, write)]),
                ..OfKey::default()
            })
        };
        Arc::new(Self {
            clock: AtomicU64::new(1),
            keys: (0..keys).map(|_| of_key()).collect(),
            others,
            order: Mutex::default(),
            faults: Mutex::default(),
        })
    }

    pub(super) fn tick(&self) -> Tick {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn fault(&self, what: impl Into<String>) {
        self.faults.lock().push(what.into());
    }

    /// A put begins. Its id is the moment.
    pub(super) fn begin_put(&self, key: usize, requires: Option<Value>) -> Id {
        self.begin(key, requires, Some)
    }

    /// A delete begins.
    pub(super) fn begin_delete(&self, key: usize, requires: Option<Value>) -> Id {
        self.begin(key, requires, |_| None)
    }

    fn begin(&self, key: usize, requires: Option<Value>, value: fn(Id) -> Value) -> Id {
        let id = self.tick();
        let write = Write { value: value(id), requires, begun: id, ended: NEVER, answer: Answer::Unknown };
        self.keys[key].lock().writes.insert(id, write);
        id
    }

    /// A write is answered.
    pub(super) fn end_write<T>(&self, key: usize, id: Id, answered: Result<&T, &Error>) {
        let ended = self.tick();
        let outcome = answered.err().map_or(Outcome::Applied, Error::write_outcome);
        let mut of_key = self.keys[key].lock();
        let write = of_key.writes.get_mut(&id).expect("it has begun");
        (write.answer, write.ended) = match outcome {
            Outcome::Applied => (Answer::Applied, ended),
            Outcome::NotApplied => (Answer::NotApplied, ended),
            Outcome::Unknown => (Answer::Unknown, NEVER),
        };
        let (begun, requires) = (write.begun, write.requires);
        let violated = answered.is_err_and(|error| error.kind() == ErrorKind::PreconditionFailed);
        if let Some(required) = requires.filter(|_| violated && outcome == Outcome::NotApplied) {
            of_key.reads.push(Read { seen: Seen::IsNot(required), begun, ended });
        }
    }

    /// A write takes effect.
    pub(super) fn effect(&self, key: usize, id: Id) {
        let mut of_key = self.keys[key].lock();
        let Some(write) = of_key.writes.get(&id).copied() else {
            return self.fault(format!("write {id} of key {key} takes effect, which was not begun"));
        };
        let before = of_key.order.last().and_then(|change| change.value);
        if write.requires.is_some_and(|required| required != before) {
            self.fault(format!("write {id} takes effect over {before:?}, and requires {:?}", write.requires));
        }
        let change =
            Change { id, value: write.value, begun: write.begun, ended: write.ended, uncovers: false };
        of_key.order.push(change);
    }

    /// A key is looked at, from `begun` until now.
    pub(super) fn saw(&self, key: usize, seen: Seen, begun: Tick) {
        let ended = self.tick();
        self.keys[key].lock().reads.push(Read { seen, begun, ended });
    }

    /// The latest change of `key`.
    pub(super) fn latest(&self, key: usize) -> Value {
        self.keys[key].lock().order.last().and_then(|change| change.value)
    }

    /// The first promise that was broken.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(fault) = self.faults.lock().first() {
            return Err(fault.clone());
        }
        self.keys.iter().enumerate().try_for_each(|(key, of_key)| {
            of_key.lock().verdict(self.others).map_err(|why| format!("key {key}: {why}"))
        })
    }
}

/// The journal and the backend that follows it.
impl History {
    /// A write is in the journal, and takes effect thereby.
    pub(super) fn journaled(&self, key: usize, id: Id, continues: bool) {
        self.effect(key, id);
        let value = self.keys[key].lock().order.last().and_then(|change| change.value);
        self.order.lock().journaled.push(Journaled { key, id, value, continues });
    }

    /// The backend refuses a journaled write.
    pub(super) fn refused(&self, id: Id) {
        self.order.lock().refused.insert(id);
    }

    /// The backend has a journaled write.
    pub(super) fn flushed(&self, key: usize, id: Id) {
        let mut order = self.order.lock();
        let Some(place) = order.journaled.iter().position(|journaled| journaled.id == id) else {
            return self.fault(format!("write {id} is in the backend and not in the journal"));
        };
        let before = order.flushed.insert(key, place);
        if before.is_some_and(|before| before > place) {
            self.fault(format!("key {key} goes back in history, to write {id}"));
        }
    }

    /// Whether what the backend has is a prefix of the journal, in whole units. Once a write was refused that is so for
    /// each key alone.
    pub(super) fn is_prefix(&self, backend: &[Value]) -> bool {
        let order = self.order.lock();
        if !order.refused.is_empty() {
            return true;
        }
        let first = |key: &Mutex<OfKey>| key.lock().order.first().and_then(|first| first.value);
        let mut prefix: Vec<Value> = self.keys.iter().map(first).collect();
        if prefix == backend {
            return true;
        }
        order.journaled.iter().any(|journaled| {
            prefix[journaled.key] = journaled.value;
            !journaled.continues && prefix == backend
        })
    }

    /// The receipt of a write says that the backend has it, or a later one of its key.
    pub(super) fn committed(&self, key: usize, id: Id) {
        let order = self.order.lock();
        let place = order.journaled.iter().position(|journaled| journaled.id == id);
        if place.is_none_or(|place| order.flushed.get(&key).is_none_or(|flushed| *flushed < place)) {
            self.fault(format!("a receipt says that the backend has write {id}, which it has not"));
        }
    }

    /// Whether the backend has had the writes that were acknowledged before `moment`, or later ones of their keys. What was
    /// given up does not count.
    pub(super) fn is_flushed(&self, moment: Tick) -> bool {
        let order = self.order.lock();
        order.journaled.iter().enumerate().all(|(place, journaled)| {
            let of_key = self.keys[journaled.key].lock();
            let is_later = of_key.writes.get(&journaled.id).is_none_or(|write| write.ended > moment);
            is_later
                || of_key.dropped.contains(&journaled.id)
                || order.flushed.get(&journaled.key).is_some_and(|flushed| *flushed >= place)
        })
    }

    /// A parked write was given up, between `begun` and now: its key is again what it was before.
    pub(super) fn dropped(&self, key: usize, id: Id, begun: Tick) {
        let ended = self.tick();
        let mut of_key = self.keys[key].lock();
        of_key.dropped.insert(id);
        let Some(place) = of_key.order.iter().position(|change| change.id == id && !change.uncovers) else {
            return self.fault(format!("write {id} is given up, which never took effect"));
        };
        let is_hidden = |change: &&Change| change.uncovers || of_key.dropped.contains(&change.id);
        let run = of_key.order[place..].iter().take_while(is_hidden).count();
        let beneath = of_key.order[..place].iter().rev().find(|change| !is_hidden(change));
        let value = beneath.and_then(|change| change.value);
        let change = Change { id, value, begun, ended, uncovers: true };
        of_key.order.insert(place + run, change);
    }
}

impl OfKey {
    /// Whether the key was a register. The order of the changes is known, so comparisons decide.
    fn verdict(&self, others: Others) -> Result<(), String> {
        let changes = self.changes();
        let real = || changes.iter().filter(|change| !change.uncovers);
        for (before, after) in real().zip(real().skip(1)) {
            if after.ended < before.begun {
                return Err(format!("{before:?} took effect before it began"));
            }
        }
        let mut reads = self.reads.clone();
        for (id, write) in &self.writes {
            let times = real().filter(|change| change.id == *id).count();
            match (write.answer, times) {
                (Answer::NotApplied, 1..) => {
                    return Err(format!("{write:?} took effect, and was answered that it never would"));
                }
                (_, 2..) => return Err(format!("{write:?} took effect {times} times")),
                // A delete that finds nothing has nothing to do.
                (Answer::Applied, 0) if write.value.is_none() => {
                    reads.push(Read { seen: Seen::Is(None), begun: write.begun, ended: write.ended });
                }
                (Answer::Applied, 0) => return Err(format!("{write:?} is acknowledged and lost")),
                _ => {}
            }
        }
        reads.sort_by_key(|read| read.begun);
        let mut placed: Vec<(Read, usize)> = Vec::new();
        for read in reads {
            // A hit may be older than what another reader has seen, where only the feed tells of others' writes.
            let binds = |earlier: &Read| earlier.ended < read.begun && others == Others::None;
            let earlier = placed.iter().filter(|(earlier, _)| binds(earlier));
            let least = earlier.map(|(_, place)| *place).max().unwrap_or(0);
            let overwritten =
                |place: usize| changes.iter().skip(place + 1).any(|later| later.ended < read.begun);
            let candidate = changes.iter().enumerate().skip(least).find(|(place, change)| {
                read.seen.fits(change.value) && change.begun <= read.ended && !overwritten(*place)
            });
            let Some((place, _)) = candidate else {
                return Err(format!("{read:?} does not fit {changes:?}, with earlier reads {placed:?}"));
            };
            placed.push((read, place));
        }
        Ok(())
    }

    /// The changes, each with the end of its write.
    fn changes(&self) -> Vec<Change> {
        let ended = |change: &Change| {
            let write = self.writes.get(&change.id).filter(|_| !change.uncovers);
            Change { ended: write.map_or(change.ended, |write| write.ended), ..*change }
        };
        self.order.iter().map(ended).collect()
    }
}
