//! What was done to the keys of a model, and whether that can have been one thing after the other.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The name of a write.
pub(super) type Id = u64;

/// What every key holds in the beginning.
pub(super) const FIRST: Id = 0;

/// A moment: shuttle runs one task at a time, so that all moments have an order.
pub(super) type Tick = u64;

/// When an operation that never answered has ended.
const NEVER: Tick = Tick::MAX;

/// An operation on a key.
#[derive(Clone, Copy, Debug)]
struct Operation {
    id: Id,
    begun: Tick,
    ended: Tick,
}

/// The history of one key.
#[derive(Debug, Default)]
struct OfKey {
    /// Writes in the order in which they took effect.
    order: Vec<Id>,
    writes: Vec<Operation>,
    reads: Vec<Operation>,
    /// What takes fill tokens away: new loads and closed gates, each from before it began to after it was done.
    revocations: Vec<(Tick, Tick)>,
}

/// The history of all keys. Its locks are no choices of the scheduler.
#[derive(Debug)]
pub(super) struct History {
    clock: AtomicU64,
    keys: Vec<Mutex<OfKey>>,
    faults: Mutex<Vec<String>>,
}

impl History {
    pub(super) fn new(keys: usize) -> Self {
        let first = || {
            let write = Operation { id: FIRST, begun: 0, ended: 0 };
            Mutex::new(OfKey { order: vec![FIRST], writes: vec![write], ..OfKey::default() })
        };
        Self {
            clock: AtomicU64::new(1),
            keys: (0..keys).map(|_| first()).collect(),
            faults: Mutex::default(),
        }
    }

    pub(super) fn tick(&self) -> Tick {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// A write begins. Its id is the moment.
    pub(super) fn begin_write(&self, key: usize) -> Id {
        let begun = self.tick();
        self.keys[key].lock().writes.push(Operation { id: begun, begun, ended: NEVER });
        begun
    }

    /// A write takes effect.
    pub(super) fn effect(&self, key: usize, id: Id) {
        self.keys[key].lock().order.push(id);
    }

    /// A write is acknowledged.
    pub(super) fn end_write(&self, key: usize, id: Id) {
        let ended = self.tick();
        let mut of_key = self.keys[key].lock();
        let write = of_key.writes.iter_mut().find(|write| write.id == id);
        write.expect("it has begun").ended = ended;
    }

    pub(super) fn read(&self, key: usize, id: Id, begun: Tick) {
        let ended = self.tick();
        self.keys[key].lock().reads.push(Operation { id, begun, ended });
    }

    /// Something that takes the fill token of `key` away began at `begun` and is done.
    pub(super) fn revoked(&self, key: usize, begun: Tick) {
        let done = self.tick();
        self.keys[key].lock().revocations.push((begun, done));
    }

    /// A load that had its fill token at `given` fills; it was asked whether it may at `asked`.
    pub(super) fn fill(&self, key: usize, given: Tick, asked: Tick) {
        let revoked =
            |revocation: &(Tick, Tick)| revocation.0 > given && revocation.1 < asked && given < asked;
        if self.keys[key].lock().revocations.iter().any(revoked) {
            self.fault("a fill under a token that was taken away");
        }
    }

    pub(super) fn fault(&self, what: &str) {
        self.faults.lock().push(what.to_owned());
    }

    /// The latest effect on `key`.
    pub(super) fn latest(&self, key: usize) -> Id {
        self.keys[key].lock().order.last().copied().unwrap_or(FIRST)
    }

    /// The first promise that was broken.
    pub(super) fn verdict(&self) -> Result<(), String> {
        if let Some(fault) = self.faults.lock().first() {
            return Err(fault.clone());
        }
        self.keys.iter().try_for_each(|of_key| of_key.lock().verdict())
    }
}

impl OfKey {
    /// Whether the key was an atomic register. The order of the writes is known, so three comparisons decide.
    fn verdict(&self) -> Result<(), String> {
        let place = |id: Id| self.order.iter().position(|effect| *effect == id);
        let write = |id: Id| self.writes.iter().find(|write| write.id == id);
        for pair in self.order.windows(2) {
            let (Some(before), Some(after)) = (write(pair[0]), write(pair[1])) else { continue };
            if after.ended < before.begun {
                return Err(format!("write {} took effect before it began", before.id));
            }
        }
        for read in &self.reads {
            let Some(at) = place(read.id) else { return Err(format!("{read:?} of what nobody wrote")) };
            if write(read.id).is_none_or(|write| write.begun > read.ended) {
                return Err(format!("{read:?} of what was not written yet"));
            }
            let later = self.order.iter().skip(at + 1);
            if later.filter_map(|id| write(*id)).any(|later| later.ended < read.begun) {
                return Err(format!("{read:?} of what an acknowledged write had replaced"));
            }
            let newer = |other: &&Operation| other.ended < read.begun && place(other.id) > Some(at);
            if let Some(newer) = self.reads.iter().find(newer) {
                return Err(format!("{read:?}: old after new, which was {newer:?}"));
            }
        }
        Ok(())
    }
}
