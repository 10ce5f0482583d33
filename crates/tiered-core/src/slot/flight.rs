//! Flights: one backend read for all readers of a key, and the lease to fill the frontend with its answer.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Call, Slots};
use crate::error::{Error, ErrorKind};
use crate::key::Key;
use crate::read::Lookup;

/// What a flight brought: an entry or its absence, or why it failed.
pub(crate) type Answer = Result<Lookup, Arc<Error>>;

/// A flight, as its followers see it. The one in a key's slot holds the key's lease.
#[derive(Clone, Debug)]
pub(crate) struct Flight(watch::Receiver<Option<Answer>>);

impl Flight {
    /// The flight's answer.
    pub(crate) async fn answer(mut self) -> Answer {
        let lost = || {
            Arc::new(Error::new(ErrorKind::Other, "the task that read the backend ended without an answer"))
        };
        match self.0.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(lost())),
            Err(_) => Err(lost()),
        }
    }

    /// Waits until the flight has answered and has filled the frontend, or will not.
    pub(crate) async fn ended(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

/// The flying side. Dropping it ends the flight and gives up its lease.
#[derive(Debug)]
pub(crate) struct Pilot {
    slots: Arc<Slots>,
    key: Key,
    flight: Flight,
    answer: watch::Sender<Option<Answer>>,
}

impl Pilot {
    /// Tells the followers.
    pub(crate) fn announce(&self, answer: Answer) {
        self.answer.send_replace(Some(answer));
    }

    /// Begins the call that fills the frontend, if the lease stands and nothing else is in the way.
    pub(crate) fn begin_fill(&self) -> Option<Call> {
        self.slots.with(&self.key, |slot| {
            let leased = slot.flight.as_ref().is_some_and(|flight| flight.is(&self.flight));
            if !leased || slot.gated || slot.quarantined || slot.pending.is_some() || slot.call.is_some() {
                return None;
            }
            let (ended, call) = watch::channel(());
            slot.call = Some(call);
            Some(Call { slots: Arc::clone(&self.slots), key: self.key.clone(), _ended: ended })
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
            let (answer, receiver) = watch::channel(None);
            let flight = Flight(receiver);
            slot.flight = Some(flight.clone());
            let pilot = Pilot { slots: Arc::clone(self), key: key.clone(), flight: flight.clone(), answer };
            Boarding::Lead(flight, pilot)
        })
    }
}
