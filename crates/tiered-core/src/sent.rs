//! When a request was sent to the backend: what an answer, a copy of it and a load that is under way are worth.

use std::time::Duration;

use crate::entry::{Metadata, Note, Origin};

/// The id of a session of the frontend; never 0. Entries that were validated in an earlier one are doubtful.
pub(crate) type Session = u64;

/// When a request was sent to the backend: its answer is validated since then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    session: Session,
    /// Uptime in milliseconds.
    at: u64,
}

impl Sent {
    pub(crate) const fn new(session: Session, at: u64) -> Self {
        Self { session, at }
    }

    /// The same request, whose answer was `age` old where it came from.
    #[must_use]
    pub(crate) fn earlier_by(self, age: Duration) -> Self {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self { at: self.at.saturating_sub(age), ..self }
    }

    /// Whether this request was sent in the session of `other` and not before it.
    pub(crate) const fn is_since(self, other: Self) -> bool {
        self.session == other.session && self.at >= other.at
    }

    /// How long after `other` this request was sent.
    pub(crate) const fn since(self, other: Self) -> Duration {
        Duration::from_millis(self.at.saturating_sub(other.at))
    }

    /// The note beside a copy of what the backend answered.
    pub(crate) fn note(self, answered: &Metadata) -> Note {
        Note {
            session: self.session,
            validated: self.at,
            origin: Origin::Backend,
            validator: answered.note.validator.clone(),
        }
    }

    /// The note that remembers that the backend has no such entry.
    pub(crate) fn note_of_absence(self) -> Note {
        Note { session: self.session, validated: self.at, origin: Origin::Absence, validator: None }
    }
}
