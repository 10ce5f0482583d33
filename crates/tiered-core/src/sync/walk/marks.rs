//! A byte for each key that was reached: what is known of it without asking the ledger.

use super::node::Id;

/// It refers to nothing.
const LEAF: u8 = 1;
/// It, or something that it refers to, cannot be copied.
const BROKEN: u8 = 2;
/// It and everything that it refers to is in the target.
const SETTLED: u8 = 4;
/// An earlier walk, from which this one goes on, has looked at it.
const RECALLED: u8 = 8;

#[derive(Debug, Default)]
pub(super) struct Marks {
    of: Vec<u8>,
}

impl Marks {
    fn set(&mut self, id: Id, mark: u8) {
        let index = id as usize;
        if self.of.len() <= index {
            self.of.resize(index + 1, 0);
        }
        if let Some(marks) = self.of.get_mut(index) {
            *marks |= mark;
        }
    }

    fn has(&self, id: Id, mark: u8) -> bool {
        self.of.get(id as usize).is_some_and(|marks| marks & mark != 0)
    }

    pub(super) fn leaf(&mut self, id: Id) {
        self.set(id, LEAF);
    }

    pub(super) fn is_leaf(&self, id: Id) -> bool {
        self.has(id, LEAF)
    }

    pub(super) fn break_off(&mut self, id: Id) {
        self.set(id, BROKEN);
    }

    pub(super) fn is_broken(&self, id: Id) -> bool {
        self.has(id, BROKEN)
    }

    pub(super) fn settle(&mut self, id: Id) {
        self.set(id, SETTLED);
    }

    pub(super) fn recall(&mut self, id: Id) {
        self.set(id, RECALLED);
    }

    pub(super) fn is_recalled(&self, id: Id) -> bool {
        self.has(id, RECALLED)
    }

    /// Whether nothing is left to do about it.
    pub(super) fn is_done(&self, id: Id) -> bool {
        self.has(id, BROKEN | SETTLED)
    }

    pub(super) fn broken(&self) -> u64 {
        self.of.iter().filter(|marks| **marks & BROKEN != 0).count() as u64
    }
}
