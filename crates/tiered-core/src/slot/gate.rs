//! The gate of a key: one write at a time, and no hits while it is closed.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::table::{Slot, Slots};
use crate::key::Key;

/// A closed gate. Dropping it opens the key.
///
/// While it is closed, reads of the key go to the backend and leave nothing in the frontend. Closing it revoked
/// the key's fill token.
#[derive(Debug)]
pub(crate) struct Gate {
    interest: Interest,
    // After the gate is opened in `drop`, the next writer gets its turn.
    _turn: OwnedMutexGuard<()>,
}

/// Keeps the slot, and with it the queue of writers, while a writer waits.
#[derive(Debug)]
struct Interest {
    slots: Arc<Slots>,
    key: Key,
}

impl Interest {
    fn new(slots: &Arc<Slots>, key: &Key) -> (Self, Arc<tokio::sync::Mutex<()>>) {
        let turn = slots.with(key, Slot::queue_writer);
        (Self { slots: Arc::clone(slots), key: key.clone() }, turn)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.slots.with(&self.key, Slot::dismiss_writer);
    }
}

/// Keeps a key from hits while a change that the backend has told of waits for the key's gate: a write under way may end and
/// open the gate before.
#[derive(Debug)]
pub(crate) struct Doubt {
    slots: Arc<Slots>,
    key: Key,
}

impl Doubt {
    /// Doubts what the frontend has of `key`, from now until this is dropped.
    pub(crate) fn new(slots: &Arc<Slots>, key: &Key) -> Self {
        slots.with(key, Slot::begin_doubt);
        Self { slots: Arc::clone(slots), key: key.clone() }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.slots.with(&self.key, Slot::end_doubt);
    }
}

impl Gate {
    /// Closes the gate of `key`, after those who came before.
    ///
    /// Cancel safe: dropped while it waits, it leaves nothing behind.
    pub(crate) async fn close(slots: &Arc<Slots>, key: &Key) -> Self {
        let (interest, turn) = Interest::new(slots, key);
        let turn = turn.lock_owned().await;
        slots.with(key, Slot::close_gate);
        Self { interest, _turn: turn }
    }

    /// Closes the gates of several keys, each once and in their order, so that two callers never wait for each other.
    pub(crate) async fn close_all(slots: &Arc<Slots>, mut keys: Vec<Key>) -> Vec<Self> {
        keys.sort_unstable();
        keys.dedup();
        let mut gates = Vec::with_capacity(keys.len());
        for key in keys {
            gates.push(Self::close(slots, &key).await);
        }
        gates
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.interest.key
    }

    /// Waits until the gate of `key` is open.
    pub(crate) async fn wait_until_open(slots: &Arc<Slots>, key: &Key) {
        drop(Self::close(slots, key).await);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.interest.slots.with(&self.interest.key, Slot::open_gate);
    }
}
