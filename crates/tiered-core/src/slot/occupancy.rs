//! Which keys may have a slot, without a lock.

use crate::sync_primitives::atomic::{AtomicU16, AtomicUsize, Ordering};

/// Cells: so many that a thousand busy keys leave 98 of 100 others alone, in 128 KiB. Few where interleavings are explored, so
/// that keys meet.
const CELLS: usize = if cfg!(shuttle) { 2 } else { 1 << 16 };

/// How many slots there are, and how many for each hash of a key. A slot is counted before the write that it stands for
/// begins, and until the frontend agrees with the backend again: a reader that finds its cell empty may take what the
/// frontend has.
#[derive(Debug)]
pub(super) struct Occupancy {
    total: AtomicUsize,
    /// They do not overflow: so many slots for one of them are more than memory holds.
    cells: Box<[AtomicU16]>,
}

impl Occupancy {
    pub(super) fn new() -> Self {
        Self { total: AtomicUsize::new(0), cells: (0..CELLS).map(|_| AtomicU16::new(0)).collect() }
    }

    /// Counts a slot for a key of this hash. Under the lock of its shard.
    pub(super) fn enter(&self, hash: u64) {
        self.cell(hash).fetch_add(1, Ordering::Release);
        self.total.fetch_add(1, Ordering::Release);
    }

    /// A slot for a key of this hash is gone. Under the lock of its shard.
    pub(super) fn leave(&self, hash: u64) {
        self.total.fetch_sub(1, Ordering::Release);
        self.cell(hash).fetch_sub(1, Ordering::Release);
    }

    /// Whether no key at all has a slot.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.total.load(Ordering::Acquire) == 0
    }

    /// Whether a key of this hash may have a slot.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.cell(hash).load(Ordering::Acquire) > 0
    }

    /// By other bits of the hash than those that choose the shard.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
    fn cell(&self, hash: u64) -> &AtomicU16 {
        &self.cells[(hash >> 32) as usize % CELLS]
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_empty_once_each_of_its_slots_is_gone() {
        let occupancy = Occupancy::new();
        let (one, same, other) = (7 << 32, 7 << 32 | 1, 8 << 32);
        occupancy.enter(one);
        occupancy.enter(same);
        assert!(occupancy.may_have(one) && !occupancy.may_have(other) && !occupancy.is_empty());
        occupancy.leave(one);
        assert!(occupancy.may_have(same));
        occupancy.leave(same);
        assert!(!occupancy.may_have(one) && occupancy.is_empty());
    }
}
