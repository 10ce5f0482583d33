//! Slots: all exceptional state of keys, in one sharded table. An idle key has no slot.

mod call;
mod flight;
mod gate;
#[cfg(all(test, shuttle))]
mod interleavings;
mod latch;

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use crate::entry::Entry;
use crate::journal::Sequence;
use crate::key::Key;
use crate::planted::Planted;
use crate::sync_primitives::Mutex;
use crate::sync_primitives::atomic::{AtomicUsize, Ordering};

pub(crate) use call::Call;
pub(crate) use flight::{Boarding, Flight, Pilot};
pub(crate) use gate::Gate;
use latch::Latch;

/// What the latest acknowledged, not yet flushed write did to a key.
#[derive(Clone, Debug)]
pub(crate) enum PendingState {
    /// It was written.
    Written(Entry),
    /// It was deleted.
    Deleted,
}

/// A write that is acknowledged and not yet in the backend.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) sequence: Sequence,
    pub(crate) state: PendingState,
}

/// The exceptional state of one key.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Writers take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Writers that wait or hold the turn.
    interest: usize,
    /// A write is past its gate: no hits, no leases.
    gated: bool,
    /// The flight that holds the key's lease. Taking it out revokes the lease.
    flight: Option<Flight>,
    /// A call to the frontend that changes the key, begun and not returned.
    call: Option<Arc<Latch>>,
    /// The frontend may hold a wrong entry: no hits until a removal has succeeded.
    quarantined: bool,
    /// The overlay of write-behind.
    pending: Option<Pending>,
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.interest == 0
            && !self.gated
            && !self.quarantined
            && self.flight.is_none()
            && self.call.is_none()
            && self.pending.is_none()
    }
}

/// What a read needs to know of a key before it looks at the frontend.
#[derive(Clone, Debug)]
pub(crate) enum Glance {
    /// The frontend may answer.
    Clear,
    /// A write is under way, or its outcome is not settled.
    Gated,
    /// The frontend may hold a wrong entry.
    Quarantined,
    /// This is the key's state.
    Pending(PendingState),
}

type Shard = Mutex<HashMap<Key, Slot, foldhash::fast::FixedState>>;

/// The slot table.
#[derive(Debug)]
pub(crate) struct Slots {
    shards: Box<[Shard]>,
    hasher: foldhash::fast::FixedState,
    occupied: AtomicUsize,
    quarantined: AtomicUsize,
    planted: Planted,
}

/// Shards of the table: enough that writers of different keys rarely meet, few enough to scan for a listing. Two where
/// interleavings are explored: each lock of a scan is a choice of the scheduler.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 64 };

impl Slots {
    /// An empty table. `seed` orders it: random, so that nobody chooses keys that collide, or known to a simulation.
    pub(crate) fn new(seed: u64, planted: Planted) -> Arc<Self> {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect(),
            hasher,
            occupied: AtomicUsize::new(0),
            quarantined: AtomicUsize::new(0),
            planted,
        })
    }

    /// Changes the slot of `key`, making one if there is none and removing it if nothing is left in it.
    fn with<R>(&self, key: &Key, change: impl FnOnce(&mut Slot) -> R) -> R {
        let mut shard = self.shard(key).lock();
        match shard.entry(key.clone()) {
            MapEntry::Vacant(vacant) => {
                let mut slot = Slot::default();
                let result = change(&mut slot);
                if !slot.is_idle() {
                    vacant.insert(slot);
                    self.occupied.fetch_add(1, Ordering::Release);
                }
                result
            }
            MapEntry::Occupied(mut occupied) => {
                let result = change(occupied.get_mut());
                if occupied.get().is_idle() {
                    occupied.remove();
                    self.occupied.fetch_sub(1, Ordering::Release);
                }
                result
            }
        }
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the index is taken modulo the length"
    )]
    fn shard(&self, key: &Key) -> &Shard {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// What a read needs to know. One atomic load where no key has a slot.
    pub(crate) fn glance(&self, key: &Key) -> Glance {
        // A write's slot is counted before the write begins and until the frontend agrees with the backend again,
        // so a reader that sees none may take what the frontend has.
        if self.occupied.load(Ordering::Acquire) == 0 {
            return Glance::Clear;
        }
        let shard = self.shard(key).lock();
        match shard.get(key) {
            None => Glance::Clear,
            Some(slot) => match &slot.pending {
                Some(pending) => Glance::Pending(pending.state.clone()),
                None if slot.gated => Glance::Gated,
                None if slot.quarantined => Glance::Quarantined,
                None => Glance::Clear,
            },
        }
    }

    /// Sets the overlay of `key`.
    pub(crate) fn set_pending(&self, key: &Key, pending: Pending) {
        self.with(key, |slot| slot.pending = Some(pending));
    }

    /// Whether the write of `sequence` is still the latest of `key`.
    pub(crate) fn is_latest(&self, key: &Key, sequence: Sequence) -> bool {
        self.with(key, |slot| slot.pending.as_ref().is_some_and(|pending| pending.sequence == sequence))
    }

    /// Clears the overlay of `key` if it is still that of `sequence`.
    pub(crate) fn clear_pending(&self, key: &Key, sequence: Sequence) {
        self.replace_pending(key, sequence, None);
    }

    /// Replaces the overlay of `key` if it is still that of `sequence`.
    pub(crate) fn replace_pending(&self, key: &Key, sequence: Sequence, by: Option<Pending>) {
        self.with(key, |slot| {
            if slot.pending.as_ref().is_some_and(|pending| pending.sequence == sequence) {
                slot.pending = by;
            }
        });
    }

    /// Clears the overlay of `key`, whichever write it is of: a deliberate bug.
    pub(crate) fn force_clear_pending(&self, key: &Key) {
        self.with(key, |slot| slot.pending = None);
    }

    /// Every pending write, by key. Each shard is consistent in itself; a write that is cleared while this runs
    /// is in the backend already.
    pub(crate) fn all_pending(&self) -> Vec<(Key, PendingState)> {
        let mut all = Vec::new();
        if self.occupied.load(Ordering::Acquire) > 0 {
            for shard in &self.shards {
                let shard = shard.lock();
                let pending = shard.iter().filter_map(|(key, slot)| {
                    slot.pending.as_ref().map(|pending| (key.clone(), pending.state.clone()))
                });
                all.extend(pending);
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Quarantines `key`. Returns whether it was not, and how many keys are now.
    pub(crate) fn quarantine(&self, key: &Key) -> (bool, usize) {
        self.with(key, |slot| {
            let begun = !std::mem::replace(&mut slot.quarantined, true);
            // Under the lock: whoever ends the quarantine takes off what is counted already.
            let before = self.quarantined.fetch_add(usize::from(begun), Ordering::Relaxed);
            (begun, before + usize::from(begun))
        })
    }

    /// Ends the quarantine of `key`.
    pub(crate) fn release(&self, key: &Key) {
        self.with(key, |slot| {
            if std::mem::replace(&mut slot.quarantined, false) {
                self.quarantined.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }

    /// Whether `key` is in quarantine.
    pub(crate) fn is_quarantined(&self, key: &Key) -> bool {
        self.with(key, |slot| slot.quarantined)
    }

    /// Keys in quarantine.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Ends every quarantine; the caller has made sure that no entry of before is served unchecked.
    pub(crate) fn release_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for slot in shard.values_mut() {
                if std::mem::replace(&mut slot.quarantined, false) {
                    self.quarantined.fetch_sub(1, Ordering::Relaxed);
                }
            }
            let before = shard.len();
            shard.retain(|_, slot| !slot.is_idle());
            self.occupied.fetch_sub(before - shard.len(), Ordering::Release);
        }
    }

    /// What ends when every flight and every call to the frontend that is under way now has ended.
    pub(crate) fn under_way(&self) -> Vec<UnderWay> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            for slot in shard.values() {
                all.extend(slot.flight.as_ref().map(|flight| UnderWay::Flight(flight.clone())));
                all.extend(slot.call.clone().map(UnderWay::Call));
            }
        }
        all
    }

    /// Counts of (slots, gated keys, flights, pending keys).
    pub(crate) fn census(&self) -> Census {
        let mut census = Census::default();
        for shard in &self.shards {
            for slot in shard.lock().values() {
                census.slots += 1;
                census.gated += u64::from(slot.gated);
                census.flights += u64::from(slot.flight.is_some());
                census.pending += u64::from(slot.pending.is_some());
            }
        }
        census
    }
}

/// Something under way that may still change the frontend.
#[derive(Debug)]
pub(crate) enum UnderWay {
    Flight(Flight),
    Call(Arc<Latch>),
}

impl UnderWay {
    pub(crate) async fn ended(self) {
        match self {
            Self::Flight(flight) => flight.ended().await,
            Self::Call(call) => call.ended().await,
        }
    }
}

/// How many keys are in which state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    pub(crate) slots: u64,
    pub(crate) gated: u64,
    pub(crate) flights: u64,
    pub(crate) pending: u64,
}
