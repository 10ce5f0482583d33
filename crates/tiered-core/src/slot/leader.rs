//! The reader that leads a load: it reads the backend for all who follow, and may fill the frontend.

use std::ops::Range;
use std::sync::Arc;

use super::call::Call;
use super::load::{Answer, Load};
use super::table::Slots;
use crate::key::Key;
use crate::sent::Sent;

/// The side of a load that reads the backend. Dropping it ends the load and gives the fill token up.
#[derive(Debug)]
pub(crate) struct Leader {
    slots: Arc<Slots>,
    key: Key,
    load: Load,
}

impl Leader {
    /// Since when its answer is validated.
    pub(crate) const fn sent(&self) -> Sent {
        self.load.sent()
    }

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

/// Which loads that began before a reader it may follow. Otherwise it leads a new load, which takes the fill token over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Joining {
    /// One that was sent in the same session, and not before.
    SentSince(Sent),
    /// None.
    OnlyNew,
}

impl Joining {
    fn admits(self, load: &Load) -> bool {
        match self {
            Self::SentSince(oldest) => load.sent().is_since(oldest),
            Self::OnlyNew => false,
        }
    }
}

impl Joined {
    /// Joins the load of `key`, or begins one that is sent no earlier than `sent`.
    pub(crate) fn load_of(slots: &Arc<Slots>, key: &Key, sent: Sent, joining: Joining) -> Self {
        slots.with(key, |slot| {
            if slot.is_being_written() {
                return Self::LookAgain;
            }
            let whole = slot.load().filter(|load| load.part().is_none());
            if let Some(load) = whole.filter(|load| joining.admits(load)) {
                return Self::Following(load.clone());
            }
            let load = Load::new(sent, None);
            slot.give_fill_token(load.clone());
            let leader = Leader { slots: Arc::clone(slots), key: key.clone(), load: load.clone() };
            Self::Leading(load, leader)
        })
    }
}

/// How a reader of a range gets its answer.
#[derive(Debug)]
pub(crate) enum JoinedPart {
    /// As [`Joined::Leading`].
    Leading(Load, Leader),
    /// As [`Joined::Following`], a load of some part.
    Following(Load),
    /// The whole value is being loaded, and fills the frontend.
    WholeUnderWay,
    /// The state of the key has changed: look again.
    LookAgain,
}

impl JoinedPart {
    /// Joins the load of a part of `key`, or begins that of `part`, which is sent no earlier than `sent`. It does not take the
    /// token of a load of the whole value over.
    pub(crate) fn load_of(
        slots: &Arc<Slots>,
        key: &Key,
        sent: Sent,
        joining: Joining,
        part: Range<u64>,
    ) -> Self {
        slots.with(key, |slot| {
            if slot.is_being_written() {
                return Self::LookAgain;
            }
            match slot.load() {
                Some(load) if load.part().is_none() => return Self::WholeUnderWay,
                Some(load) if joining.admits(load) => return Self::Following(load.clone()),
                Some(_) | None => {}
            }
            let load = Load::new(sent, Some(part));
            slot.give_fill_token(load.clone());
            let leader = Leader { slots: Arc::clone(slots), key: key.clone(), load: load.clone() };
            Self::Leading(load, leader)
        })
    }
}
