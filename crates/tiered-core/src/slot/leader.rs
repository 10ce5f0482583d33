//! The reader that leads a load: it reads the backend for all who follow, and may fill the frontend.

use std::sync::Arc;

use super::call::Call;
use super::load::{Answer, Load};
use super::table::Slots;
use crate::key::Key;

/// The side of a load that reads the backend. Dropping it ends the load and gives the fill token up.
#[derive(Debug)]
pub(crate) struct Leader {
    slots: Arc<Slots>,
    key: Key,
    load: Load,
}

impl Leader {
    /// Gives the followers their answer.
    pub(crate) fn announce(&self, answer: Answer) {
        self.load.announce(answer);
    }

    /// Begins the call that fills the frontend, if the fill token has not been revoked and nothing else is in the way.
    pub(crate) fn begin_fill(&self) -> Option<Call> {
        let latch = self.slots.with(&self.key, |slot| {
            let holds_token = slot.load().is_some_and(|load| load.is(&self.load));
            (holds_token && slot.admits_fill()).then(|| slot.begin_call())
        })?;
        Some(Call::new(&self.slots, &self.key, latch))
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.slots.with(&self.key, |slot| {
            if slot.load().is_some_and(|load| load.is(&self.load)) {
                slot.revoke_fill_token();
            }
        });
        self.load.end();
    }
}

/// How a reader gets its answer.
#[derive(Debug)]
pub(crate) enum Joined {
    /// It reads the backend, for itself and for those who follow.
    Leading(Load, Leader),
    /// The load of another reader brings it.
    Following(Load),
    /// The state of the key has changed: look again.
    LookAgain,
}

/// Whether a reader may follow a load that began before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// It may.
    Earlier,
    /// It may not: it leads a new load, which takes the fill token over.
    OnlyNew,
}

impl Joined {
    /// Joins the load of `key`, or begins one.
    pub(crate) fn load_of(slots: &Arc<Slots>, key: &Key, joining: Joining) -> Self {
        slots.with(key, |slot| {
            if slot.is_being_written() {
                return Self::LookAgain;
            }
            if let Some(load) = slot.load().filter(|_| joining == Joining::Earlier) {
                return Self::Following(load.clone());
            }
            let load = Load::new();
            slot.give_fill_token(load.clone());
            let leader = Leader { slots: Arc::clone(slots), key: key.clone(), load: load.clone() };
            Self::Leading(load, leader)
        })
    }
}
