//! The table of slots.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use super::latch::Latch;
use super::load::Load;
use super::occupancy::Occupancy;
use crate::effect::Effect;
use crate::journal::Sequence;
use crate::key::Key;
use crate::observe::Stats;
use crate::sync_primitives::Mutex;
use crate::sync_primitives::atomic::{AtomicUsize, Ordering};

/// A write that is acknowledged and not yet in the backend.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    sequence: Sequence,
    effect: Effect,
}

impl Pending {
    /// The write that the journal has under `sequence`.
    pub(crate) const fn new(sequence: Sequence, effect: Effect) -> Self {
        Self { sequence, effect }
    }
}

/// The exceptional state of one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Writers take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Writers that wait for the turn or hold it.
    writers: usize,
    /// A write is past its gate: no hits, no fills.
    gated: bool,
    /// Changes of others that were told and wait for the gate: no hits, no fills.
    doubts: usize,
    /// The load that holds the fill token. Taking it out revokes the token.
    load: Option<Load>,
    /// A call to the frontend that changes the key, begun and not returned.
    call: Option<Arc<Latch>>,
    /// The frontend may hold a wrong entry: no hits until a removal has succeeded.
    quarantined: bool,
    /// What write-behind has not flushed.
    pending: Option<Pending>,
}

impl Slot {
    fn is_idle(&self) -> bool {
        self.writers == 0
            && !self.is_gated()
            && !self.quarantined
            && self.load.is_none()
            && self.call.is_none()
            && self.pending.is_none()
    }

    pub(super) fn is_being_written(&self) -> bool {
        self.is_gated() || self.pending.is_some()
    }

    const fn is_gated(&self) -> bool {
        self.gated || self.doubts > 0
    }

    pub(super) fn admits_fill(&self) -> bool {
        !self.is_being_written() && !self.quarantined && self.call.is_none()
    }

    pub(super) const fn load(&self) -> Option<&Load> {
        self.load.as_ref()
    }

    pub(super) fn give_fill_token(&mut self, load: Load) {
        self.load = Some(load);
    }

    pub(super) fn revoke_fill_token(&mut self) {
        self.load = None;
    }

    pub(super) const fn call(&self) -> Option<&Arc<Latch>> {
        self.call.as_ref()
    }

    /// Begins a call; none is under way.
    pub(super) fn begin_call(&mut self) -> Arc<Latch> {
        let latch = Arc::new(Latch::new());
        self.call = Some(Arc::clone(&latch));
        latch
    }

    pub(super) fn end_call(&mut self) {
        self.call = None;
    }

    /// Queues a writer; the turn to wait for.
    pub(super) fn queue_writer(&mut self) -> Arc<tokio::sync::Mutex<()>> {
        self.writers += 1;
        Arc::clone(&self.turn)
    }

    pub(super) fn dismiss_writer(&mut self) {
        self.writers -= 1;
    }

    /// Closes the gate, which revokes the fill token.
    pub(super) fn close_gate(&mut self) {
        self.gated = true;
        self.revoke_fill_token();
    }

    /// Serves no hits from now on, also between two writes; revokes the fill token.
    pub(super) fn begin_doubt(&mut self) {
        self.doubts += 1;
        self.revoke_fill_token();
    }

    pub(super) fn end_doubt(&mut self) {
        self.doubts -= 1;
    }

    pub(super) fn open_gate(&mut self) {
        self.gated = false;
    }

    fn is_pending(&self, sequence: Sequence) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.sequence == sequence)
    }
}

/// What a read needs to know of a key before it looks at the frontend.
#[derive(Clone, Debug)]
pub(crate) enum Glance {
    /// The frontend may answer.
    Clear,
    /// A write is under way, or its outcome is not known yet.
    Gated,
    /// The frontend may hold a wrong entry.
    Quarantined,
    /// A pending write left this.
    Pending(Effect),
}

type Shard = Mutex<HashMap<Key, Slot, foldhash::fast::FixedState>>;

/// The slot table.
#[derive(Debug)]
pub(crate) struct Slots {
    shards: Box<[Shard]>,
    hasher: foldhash::fast::FixedState,
    occupancy: Occupancy,
    quarantined: AtomicUsize,
}

/// Shards of the table: enough that writers of different keys rarely meet, few enough to scan for a listing. Two where
/// interleavings are explored: each lock of a scan is a choice of the scheduler.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 64 };

impl Slots {
    /// An empty table. `seed` orders it: random, so that a client cannot choose keys that collide, or known to a
    /// simulation.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect(),
            hasher,
            occupancy: Occupancy::new(),
            quarantined: AtomicUsize::new(0),
        })
    }

    /// Changes the slot of `key`: makes one if there is none, and removes it if nothing is left in it.
    pub(super) fn with<R>(&self, key: &Key, change: impl FnOnce(&mut Slot) -> R) -> R {
        let hash = self.hash(key);
        let mut shard = self.shard(hash).lock();
        match shard.entry(key.clone()) {
            MapEntry::Vacant(vacant) => {
                let mut slot = Slot::default();
                let result = change(&mut slot);
                if !slot.is_idle() {
                    vacant.insert(slot);
                    self.occupancy.enter(hash);
                }
                result
            }
            MapEntry::Occupied(mut occupied) => {
                let result = change(occupied.get_mut());
                if occupied.get().is_idle() {
                    occupied.remove();
                    self.occupancy.leave(hash);
                }
                result
            }
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_str().as_bytes());
        hasher.finish()
    }

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "the index is taken modulo the length"
    )]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[hash as usize % SHARDS]
    }

    fn shard_of(&self, key: &Key) -> &Shard {
        self.shard(self.hash(key))
    }

    /// Whether the frontend may answer, as far as that is known without a lock: no slot stands in the way.
    #[inline]
    pub(crate) fn is_clear(&self, key: &Key) -> bool {
        self.occupancy.is_empty() || !self.occupancy.may_have(self.hash(key))
    }

    /// What a read needs to know. One atomic load where no key has a slot; a hash and another one where others have.
    #[inline]
    pub(crate) fn glance(&self, key: &Key) -> Glance {
        if self.is_clear(key) { Glance::Clear } else { self.glance_at_slot(key) }
    }

    #[cold]
    fn glance_at_slot(&self, key: &Key) -> Glance {
        let shard = self.shard_of(key).lock();
        match shard.get(key) {
            None => Glance::Clear,
            Some(slot) => match &slot.pending {
                Some(pending) => Glance::Pending(pending.effect.clone()),
                None if slot.is_gated() => Glance::Gated,
                None if slot.quarantined => Glance::Quarantined,
                None => Glance::Clear,
            },
        }
    }

    /// As [`glance`](Self::glance), for the write that holds the gate of `key`: the gate itself does not count.
    pub(crate) fn glance_past_gate(&self, key: &Key) -> Glance {
        let shard = self.shard_of(key).lock();
        match shard.get(key) {
            None => Glance::Clear,
            Some(slot) => match &slot.pending {
                Some(pending) => Glance::Pending(pending.effect.clone()),
                None if slot.doubts > 0 => Glance::Gated,
                None if slot.quarantined => Glance::Quarantined,
                None => Glance::Clear,
            },
        }
    }

    /// Shows readers a write that is acknowledged and not yet in the backend.
    pub(crate) fn set_pending(&self, key: &Key, pending: Pending) {
        self.with(key, |slot| slot.pending = Some(pending));
    }

    /// Whether the pending write of `sequence` is the latest one of `key`.
    pub(crate) fn is_latest(&self, key: &Key, sequence: Sequence) -> bool {
        self.shard_of(key).lock().get(key).is_some_and(|slot| slot.is_pending(sequence))
    }

    /// Clears the pending write of `key` if it is still that of `sequence`.
    pub(crate) fn clear_pending(&self, key: &Key, sequence: Sequence) {
        self.replace_pending(key, sequence, None);
    }

    /// Replaces the pending write of `key` if it is still that of `sequence`.
    pub(crate) fn replace_pending(&self, key: &Key, sequence: Sequence, by: Option<Pending>) {
        self.with(key, |slot| {
            if slot.is_pending(sequence) {
                slot.pending = by;
            }
        });
    }

    /// The pending writes that `wanted` picks, up to the `most`-th of them that is `visible`: what comes after that is not
    /// copied. Each shard is consistent in itself; a write that is cleared while this runs is in the backend already.
    pub(crate) fn first_pending(
        &self,
        most: usize,
        wanted: impl Fn(&Key) -> bool,
        visible: impl Fn(&Effect) -> bool,
    ) -> BTreeMap<Key, Effect> {
        let (mut first, mut shown) = (BTreeMap::<Key, Effect>::new(), 0);
        if self.occupancy.is_empty() {
            return first;
        }
        for shard in &self.shards {
            for (key, slot) in shard.lock().iter() {
                let Some(pending) = slot.pending.as_ref().filter(|_| wanted(key)) else { continue };
                if shown == most && first.last_key_value().is_some_and(|(last, _)| key > last) {
                    continue;
                }
                shown += usize::from(visible(&pending.effect));
                first.insert(key.clone(), pending.effect.clone());
                while let Some(last) = first.last_entry() {
                    let is_shown = visible(last.get());
                    if shown < most || (shown == most && is_shown) {
                        break;
                    }
                    shown -= usize::from(is_shown);
                    last.remove();
                }
            }
        }
        first
    }

    /// Quarantines `key`. How many keys are in quarantine now; `None` if this one was already.
    pub(crate) fn quarantine(&self, key: &Key) -> Option<usize> {
        self.with(key, |slot| {
            let begins = !std::mem::replace(&mut slot.quarantined, true);
            // Under the lock: the end of the quarantine takes off what is counted already.
            begins.then(|| self.quarantined.fetch_add(1, Ordering::Relaxed) + 1)
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
        // A key is counted before its quarantine begins.
        if self.occupancy.is_empty() {
            return false;
        }
        let hash = self.hash(key);
        self.occupancy.may_have(hash) && self.shard(hash).lock().get(key).is_some_and(|slot| slot.quarantined)
    }

    /// Keys in quarantine.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantined.load(Ordering::Relaxed)
    }

    /// Ends every quarantine; the caller has made sure that no earlier entry is served unchecked.
    pub(crate) fn release_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            for slot in shard.values_mut() {
                if std::mem::replace(&mut slot.quarantined, false) {
                    self.quarantined.fetch_sub(1, Ordering::Relaxed);
                }
            }
            shard.retain(|key, slot| {
                let idle = slot.is_idle();
                if idle {
                    self.occupancy.leave(self.hash(key));
                }
                !idle
            });
        }
    }

    /// Revokes the fill token of every load of a key that begins with `prefix`, then waits for the calls to the frontend that are
    /// under way for such keys.
    pub(crate) async fn revoke_fills(&self, prefix: &str) {
        let mut calls = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            for (_, slot) in shard.iter_mut().filter(|(key, _)| key.as_str().starts_with(prefix)) {
                slot.revoke_fill_token();
                calls.extend(slot.call.clone());
            }
        }
        for call in calls {
            call.ended().await;
        }
    }

    /// Waits until every load and every call to the frontend that is under way now has ended.
    pub(crate) async fn settled(&self) {
        let (mut loads, mut calls) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let shard = shard.lock();
            for slot in shard.values() {
                loads.extend(slot.load.clone());
                calls.extend(slot.call.clone());
            }
        }
        for load in loads {
            load.ended().await;
        }
        for call in calls {
            call.ended().await;
        }
    }

    /// Fills in the gauges of the table.
    pub(crate) fn measure(&self, stats: &mut Stats) {
        stats.quarantined = self.quarantined() as u64;
        for shard in &self.shards {
            for slot in shard.lock().values() {
                stats.slots += 1;
                stats.gated += u64::from(slot.is_gated());
                stats.loads += u64::from(slot.load.is_some());
                stats.pending += u64::from(slot.pending.is_some());
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::Put;
    use crate::clock::Stamp;
    use crate::version::Version;

    #[test]
    fn the_first_pending_writes_are_copied_and_no_more_than_a_listing_shows() {
        let slots = Slots::new(7);
        let put = Effect::Put(Stamp::system().entry(&Put::new("v")));
        let key = |number: u64| Key::new(format!("k{number:03}")).expect("valid");
        // Every other one is a delete.
        for number in 0..200 {
            let effect =
                if number % 2 == 0 { put.clone() } else { Effect::Delete(Version::from_u128(number.into())) };
            slots.set_pending(&key(number), Pending::new(number, effect));
        }
        let shows = |effect: &Effect| matches!(effect, Effect::Put(_));
        let first = |most| {
            let wanted = |found: &Key| *found >= key(10);
            slots.first_pending(most, wanted, shows).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(first(3), (10..=14).map(key).collect::<Vec<_>>(), "three puts, and the deletes between");
        assert_eq!(first(usize::MAX), (10..200).map(key).collect::<Vec<_>>());
        assert!(first(0).is_empty(), "nothing is shown");
    }
}
