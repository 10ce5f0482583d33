//! The gate of a key: one write at a time, and no hits while it is closed.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{Slot, Slots};
use crate::key::Key;
use crate::planted::Plant;

/// A closed gate. Dropping it opens the key.
///
/// While it is closed, reads of the key go to the backend and leave nothing in the frontend. Closing it revoked
/// the key's lease.
#[derive(Debug)]
pub(crate) struct Gate {
    interest: Interest,
    // After the gate is opened in `drop`, the next writer gets its turn.
    _turn: OwnedMutexGuard<()>,
}

/// Keeps the slot, and with it the queue of writers, while somebody waits.
#[derive(Debug)]
struct Interest {
    slots: Arc<Slots>,
    key: Key,
}

impl Interest {
    fn new(slots: &Arc<Slots>, key: &Key) -> (Self, Arc<tokio::sync::Mutex<()>>) {
        let turn = slots.with(key, |slot| {
            slot.interest += 1;
            Arc::clone(&slot.turn)
        });
        (Self { slots: Arc::clone(slots), key: key.clone() }, turn)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.slots.with(&self.key, |slot| slot.interest -= 1);
    }
}

impl Slots {
    /// Closes the gate of `key`, after those who came before.
    ///
    /// Cancel safe: dropped while it waits, it leaves nothing behind.
    pub(crate) async fn close_gate(self: &Arc<Self>, key: &Key) -> Gate {
        let (interest, turn) = Interest::new(self, key);
        let turn = turn.lock_owned().await;
        self.with(key, |slot| {
            slot.gated = true;
            if !self.planted.has(Plant::FollowerJoinsOldFlight) {
                slot.flight = None;
            }
        });
        Gate { interest, _turn: turn }
    }

    /// Closes the gates of several keys, in their order, so that two callers never wait for each other.
    pub(crate) async fn close_gates(self: &Arc<Self>, mut keys: Vec<Key>) -> Vec<Gate> {
        keys.sort_unstable();
        keys.dedup();
        let mut gates = Vec::with_capacity(keys.len());
        for key in keys {
            gates.push(self.close_gate(&key).await);
        }
        gates
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.interest.slots.with(&self.interest.key, |slot: &mut Slot| slot.gated = false);
    }
}
