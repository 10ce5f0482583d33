//! Calls that change the frontend: at most one per key at a time, never dropped half-way.

use std::sync::Arc;

use super::latch::Latch;
use super::{Slot, Slots};
use crate::key::Key;

/// A call to the frontend that is under way. Dropped when it has returned.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) slots: Arc<Slots>,
    pub(super) key: Key,
    latch: Arc<Latch>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.slots.with(&self.key, |slot| slot.call = None);
        self.latch.end();
    }
}

impl Slots {
    /// Begins a call that changes `key` in the frontend, or gives the one to wait for.
    pub(crate) fn begin_call(self: &Arc<Self>, key: &Key) -> Result<Call, Arc<Latch>> {
        self.with(key, |slot| match &slot.call {
            Some(call) => Err(Arc::clone(call)),
            None => Ok(slot.begin_call(self, key)),
        })
    }
}

impl Slot {
    /// Begins a call, where none is under way.
    pub(super) fn begin_call(&mut self, slots: &Arc<Slots>, key: &Key) -> Call {
        let latch = Arc::new(Latch::new());
        self.call = Some(Arc::clone(&latch));
        Call { slots: Arc::clone(slots), key: key.clone(), latch }
    }
}
