//! Flights: one backend read for all readers of a key, and the lease to fill the frontend with its answer.

use std::sync::Arc;

use super::latch::Latch;
use super::{Call, Slots};
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::read::Lookup;

/// What a flight brought: an entry or its absence, or why it failed.
pub(crate) type Answer = Result<Lookup, Arc<Error>>;

/// A flight, as its followers see it. The one in a key's slot holds the key's lease.
#[derive(Clone, Debug)]
pub(crate) struct Flight(Arc<Latch<Answer>>);

impl Flight {
    /// The flight's answer.
    pub(crate) async fn answer(self) -> Answer {
        self.0.answered().await.cloned().unwrap_or_else(|| {
            let lost = "the task that read the backend ended without an answer";
            Err(Arc::new(Error::new(ErrorKind::Other, lost)))
        })
    }

    /// Waits until the flight has answered and has filled the frontend, or will not.
    pub(crate) async fn ended(self) {
        self.0.ended().await;
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The flying side. Dropping it ends the flight and gives up its lease.
#[derive(Debug)]
pub(crate) struct Pilot {
    slots: Arc<Slots>,
    key: Key,
    flight: Flight,
}

impl Pilot {
    /// Tells the followers.
    pub(crate) fn announce(&self, answer: Answer) {
        self.flight.0.answer(answer);
    }

    /// Begins the call that fills the frontend, if the lease stands and nothing else is in the way.
    pub(crate) fn begin_fill(&self) -> Option<Call> {
        self.slots.with(&self.key, |slot| {
            let leased = slot.flight.as_ref().is_some_and(|flight| flight.is(&self.flight));
            if !leased || slot.gated || slot.quarantined || slot.pending.is_some() || slot.call.is_some() {
                return None;
            }
            Some(slot.begin_call(&self.slots, &self.key))
        })
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        self.slots.with(&self.key, |slot| {
            if slot.flight.as_ref().is_some_and(|flight| flight.is(&self.flight)) {
                slot.flight = None;
            }
        });
        self.flight.0.end();
    }
}

/// How a reader gets its answer.
#[derive(Debug)]
pub(crate) enum Boarding {
    /// It flies, for itself and for those who join.
    Lead(Flight, Pilot),
    /// Another's flight brings it.
    Join(Flight),
    /// The key has got other state meanwhile: look again.
    Look,
}

impl Slots {
    /// Joins the flight of `key`, or opens one. With `fresh`, always opens one, which takes the lease over.
    pub(crate) fn board(self: &Arc<Self>, key: &Key, fresh: bool) -> Boarding {
        self.with(key, |slot| {
            if slot.gated || slot.pending.is_some() {
                return Boarding::Look;
            }
            if let Some(flight) = slot.flight.as_ref().filter(|_| !fresh) {
                return Boarding::Join(flight.clone());
            }
            let flight = Flight(Arc::new(Latch::new()));
            slot.flight = Some(flight.clone());
            let pilot = Pilot { slots: Arc::clone(self), key: key.clone(), flight: flight.clone() };
            Boarding::Lead(flight, pilot)
        })
    }
}
