//! Calls that change the frontend: at most one per key at a time, never dropped half-way.

use std::sync::Arc;

use super::latch::Latch;
use super::table::{Slot, Slots};
use crate::key::Key;

/// A call to the frontend that is under way. Dropped when it has returned.
#[derive(Debug)]
pub(crate) struct Call {
    slots: Arc<Slots>,
    key: Key,
    latch: Arc<Latch>,
}

impl Call {
    pub(super) fn new(slots: &Arc<Slots>, key: &Key, latch: Arc<Latch>) -> Self {
        Self { slots: Arc::clone(slots), key: key.clone(), latch }
    }

    /// Begins a call that changes `key` in the frontend, or gives the one to wait for.
    pub(crate) fn begin(slots: &Arc<Slots>, key: &Key) -> Result<Self, Arc<Latch>> {
        let latch = slots.with(key, |slot| match slot.call() {
            Some(earlier) => Err(Arc::clone(earlier)),
            None => Ok(slot.begin_call()),
        })?;
        Ok(Self::new(slots, key, latch))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.slots.with(&self.key, Slot::end_call);
        self.latch.end();
    }
}
