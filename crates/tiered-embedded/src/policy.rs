//! Which entry leaves next: S3-FIFO, with entries that have expired before all others.
//!
//! New entries queue in a *small* part of a tenth of the bytes. What is used there moves to the *main* part when its turn to
//! leave comes, and the rest leaves: a scan passes through the small part and pushes nothing out of the main one. What left the
//! small part is remembered for a while by its hash; if it comes back it goes to the main part at once. In the main part an
//! entry that was used since it last had its turn gets another one.
//!
//! A use sets a counter of two bits and moves nothing, so that readers need no lock that keeps others out.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU8, Ordering};

use tiered_core::{Key, Timestamp};

/// The small part is one in so many bytes of what is held: the published choice, which does well on most workloads.
const SMALL: u64 = 10;

/// Uses that are counted.
const MOST_USES: u8 = 3;

/// Entries that get another turn before one leaves all the same: a single eviction takes about 0.1 ms at most.
const TURNS: usize = 1_024;

/// No slot.
const NONE: u32 = u32::MAX;

/// The entry that is to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) key: Key,
    pub(crate) bytes: u64,
    /// Whether it would not have been served any more.
    pub(crate) expired: bool,
}

/// The queue that an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Small,
    Main,
}

/// An entry that is held: 56 bytes.
#[derive(Debug)]
struct Slot {
    key: Key,
    bytes: u64,
    expires: Option<Timestamp>,
    /// Neighbours in its queue: the one that came before it, and the one that came after.
    older: u32,
    newer: u32,
    /// The next slot of its bucket, or of the unused ones.
    next: u32,
    uses: AtomicU8,
    part: Part,
}

/// A queue of slots.
#[derive(Clone, Copy, Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
    bytes: u64,
}

impl Queue {
    const EMPTY: Self = Self { oldest: NONE, newest: NONE, bytes: 0 };
}

/// What left the small part, by its hash. Newer ones overwrite older ones.
#[derive(Debug, Default)]
struct Ghosts {
    /// A part of the hash, and the number of departures when it left.
    places: Vec<(u32, u32)>,
    departures: u32,
}

/// What is held, and the order in which it leaves.
#[derive(Debug)]
pub(crate) struct Policy {
    slots: Vec<Slot>,
    unused: u32,
    /// The first slot of each bucket. As many as slots at least, a power of two.
    buckets: Vec<u32>,
    len: usize,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
    /// When entries expire, those that do.
    expiring: BTreeSet<(Timestamp, u32)>,
    hasher: foldhash::fast::FixedState,
}

impl Policy {
    /// Nothing is held. `seed` keeps others from choosing keys that meet in one bucket.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            unused: NONE,
            buckets: vec![NONE; 64],
            len: 0,
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghosts: Ghosts::default(),
            expiring: BTreeSet::new(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
        }
    }

    /// Bytes of all entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.small.bytes + self.main.bytes
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// An entry was written. One that is there keeps its turn, and counts as used.
    pub(crate) fn insert(&mut self, key: &Key, bytes: u64, expires: Option<Timestamp>) {
        let hash = self.hash(key);
        if let Some(at) = self.find(hash, key) {
            self.forget_expiry(at);
            let slot = self.slot_mut(at);
            let (part, before) = (slot.part, slot.bytes);
            (slot.bytes, slot.expires) = (bytes, expires);
            use_slot(slot);
            let queue = self.queue_mut(part);
            queue.bytes = queue.bytes - before + bytes;
            self.note_expiry(at);
            return;
        }
        let came_back = self.ghosts.has(hash, self.len);
        self.add(hash, key, (bytes, expires), if came_back { Part::Main } else { Part::Small });
    }

    /// An entry was found when the store was opened.
    pub(crate) fn restore(&mut self, key: &Key, bytes: u64, expires: Option<Timestamp>) {
        let hash = self.hash(key);
        if self.find(hash, key).is_none() {
            self.add(hash, key, (bytes, expires), Part::Main);
        }
    }

    /// An entry was removed, if it was there.
    pub(crate) fn remove(&mut self, key: &Key) {
        if let Some(at) = self.find(self.hash(key), key) {
            self.take(at);
        }
    }

    /// An entry was used.
    pub(crate) fn touch(&self, key: &Key) {
        if let Some(at) = self.find(self.hash(key), key) {
            use_slot(self.slot(at));
        }
    }

    /// Takes out the entry that leaves next.
    pub(crate) fn evict(&mut self, now: Timestamp) -> Option<Victim> {
        if let Some((_, at)) = self.expiring.first().copied().filter(|(expires, _)| now >= *expires) {
            let (key, bytes) = self.take(at);
            return Some(Victim { key, bytes, expired: true });
        }
        let mut turns = TURNS;
        loop {
            let from_small = self.main.oldest == NONE || self.small.bytes > self.bytes() / SMALL;
            let from_small = from_small && self.small.oldest != NONE;
            let at = if from_small { self.small.oldest } else { self.main.oldest };
            if at == NONE {
                return None;
            }
            let uses = self.slot(at).uses.load(Ordering::Relaxed);
            if uses > 0 && turns > 0 {
                turns -= 1;
                self.unlink(at);
                // What moves has to be used again to stay.
                let left = if from_small { 0 } else { uses - 1 };
                let slot = self.slot_mut(at);
                slot.uses.store(left, Ordering::Relaxed);
                slot.part = Part::Main;
                self.link(at);
                continue;
            }
            let (key, bytes) = self.take(at);
            if from_small {
                let hash = self.hash(&key);
                self.ghosts.add(hash, self.len);
            }
            return Some(Victim { key, bytes, expired: false });
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_str())
    }

    fn find(&self, hash: u64, key: &Key) -> Option<u32> {
        let mut at = self.buckets.get(self.bucket(hash)).copied()?;
        while at != NONE {
            let slot = self.slot(at);
            if slot.key == *key {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    fn bucket(&self, hash: u64) -> usize {
        place(hash, self.buckets.len())
    }

    fn add(&mut self, hash: u64, key: &Key, (bytes, expires): (u64, Option<Timestamp>), part: Part) {
        if self.len == self.buckets.len() {
            self.grow();
        }
        let slot = Slot {
            key: key.clone(),
            bytes,
            expires,
            older: NONE,
            newer: NONE,
            next: NONE,
            uses: AtomicU8::new(0),
            part,
        };
        let at = if self.unused == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("four thousand million slots take 256 GiB of memory")
        } else {
            let at = self.unused;
            self.unused = self.slot(at).next;
            *self.slot_mut(at) = slot;
            at
        };
        self.len += 1;
        self.link(at);
        self.enter_bucket(hash, at);
        self.note_expiry(at);
    }

    /// Removes a slot from everything.
    fn take(&mut self, at: u32) -> (Key, u64) {
        self.forget_expiry(at);
        self.unlink(at);
        self.leave_bucket(at);
        self.len -= 1;
        let (key, bytes) = (self.slot(at).key.clone(), self.slot(at).bytes);
        self.slot_mut(at).next = self.unused;
        self.unused = at;
        (key, bytes)
    }

    fn enter_bucket(&mut self, hash: u64, at: u32) {
        let bucket = self.bucket(hash);
        if let Some(first) = self.buckets.get_mut(bucket) {
            let next = std::mem::replace(first, at);
            self.slot_mut(at).next = next;
        }
    }

    fn leave_bucket(&mut self, at: u32) {
        let (bucket, next) = (self.bucket(self.hash(&self.slot(at).key)), self.slot(at).next);
        let mut before = self.buckets.get(bucket).copied().unwrap_or(NONE);
        if before == at {
            self.buckets.get_mut(bucket).into_iter().for_each(|first| *first = next);
            return;
        }
        while before != NONE {
            let slot = self.slot_mut(before);
            if slot.next == at {
                slot.next = next;
                return;
            }
            before = slot.next;
        }
    }

    /// Doubles the buckets. All slots are in use.
    fn grow(&mut self) {
        self.buckets = vec![NONE; 2 * self.buckets.len()];
        for at in 0..u32::try_from(self.slots.len()).unwrap_or(NONE) {
            let hash = self.hash(&self.slot(at).key);
            self.enter_bucket(hash, at);
        }
    }

    fn note_expiry(&mut self, at: u32) {
        if let Some(expires) = self.slot(at).expires {
            self.expiring.insert((expires, at));
        }
    }

    fn forget_expiry(&mut self, at: u32) {
        if let Some(expires) = self.slot(at).expires {
            self.expiring.remove(&(expires, at));
        }
    }

    /// Queues a slot in its part, as the newest.
    fn link(&mut self, at: u32) {
        let (part, bytes) = (self.slot(at).part, self.slot(at).bytes);
        let queue = self.queue_mut(part);
        queue.bytes += bytes;
        let newest = std::mem::replace(&mut queue.newest, at);
        if newest == NONE {
            queue.oldest = at;
        } else {
            self.slot_mut(newest).newer = at;
        }
        let slot = self.slot_mut(at);
        (slot.older, slot.newer) = (newest, NONE);
    }

    fn unlink(&mut self, at: u32) {
        let slot = self.slot(at);
        let (part, bytes, older, newer) = (slot.part, slot.bytes, slot.older, slot.newer);
        if older != NONE {
            self.slot_mut(older).newer = newer;
        }
        if newer != NONE {
            self.slot_mut(newer).older = older;
        }
        let queue = self.queue_mut(part);
        queue.bytes -= bytes;
        if queue.oldest == at {
            queue.oldest = newer;
        }
        if queue.newest == at {
            queue.newest = older;
        }
    }

    fn queue_mut(&mut self, part: Part) -> &mut Queue {
        match part {
            Part::Small => &mut self.small,
            Part::Main => &mut self.main,
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "slots are never taken away, and a link names one that is there"
    )]
    fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "slots are never taken away, and a link names one that is there"
    )]
    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }
}

fn use_slot(slot: &Slot) {
    let uses = slot.uses.load(Ordering::Relaxed);
    if uses < MOST_USES {
        // Two uses at the same moment may count as one.
        slot.uses.store(uses + 1, Ordering::Relaxed);
    }
}

/// The place of a hash among so many, a power of two.
fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash & (places as u64 - 1)).unwrap_or(0)
}

impl Ghosts {
    /// What is compared beside the place.
    fn mark(hash: u64) -> u32 {
        // Zero is a place that nothing has.
        u32::try_from(hash >> 32).unwrap_or(0).max(1)
    }

    /// Remembers what left, where so many are held.
    fn add(&mut self, hash: u64, held: usize) {
        let wanted = held.next_power_of_two().max(64);
        if self.places.len() < wanted {
            // As often as what is held doubles; forgetting costs a few misses.
            self.places = vec![(0, 0); wanted];
        }
        self.departures = self.departures.wrapping_add(1);
        let at = place(hash, self.places.len());
        if let Some(place) = self.places.get_mut(at) {
            *place = (Self::mark(hash), self.departures);
        }
    }

    /// Whether this is among as many that left last as are held.
    fn has(&self, hash: u64, held: usize) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let at = place(hash, self.places.len());
        self.places.get(at).is_some_and(|(mark, left)| {
            *mark == Self::mark(hash) && self.departures.wrapping_sub(*left) as usize <= held
        })
    }
}

#[cfg(test)]
mod tests;
