//! What was taken out of the queue and is not done.

use super::queue::Unit;
use crate::journal::Sequence;

/// Units that were taken together.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The sequence of their first write.
    first: Sequence,
    /// When the oldest was journaled, by uptime in milliseconds.
    since: u64,
}

/// The units that the backend works on, and those before them, which it has and with which the frontend is brought in step.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    applying: Option<Span>,
    landing: Option<Span>,
}

impl InFlight {
    /// These go to the backend now.
    pub(super) fn begin(&mut self, units: &[Unit]) {
        self.applying = units.first().map(|unit| Span { first: unit.first(), since: unit.since() });
    }

    /// The backend has what it was working on.
    pub(super) fn applied(&mut self) {
        self.landing = self.applying.take();
    }

    /// Nothing of what went to the backend is under way: it waits again, or is parked.
    pub(super) fn ended(&mut self) {
        self.applying = None;
    }

    /// The frontend is in step with what the backend has.
    pub(super) fn landed(&mut self) {
        self.landing = None;
    }

    /// The sequence of the first write.
    pub(super) fn first(&self) -> Option<Sequence> {
        self.spans().map(|span| span.first).min()
    }

    /// When the oldest write was journaled.
    pub(super) fn since(&self) -> Option<u64> {
        self.spans().map(|span| span.since).min()
    }

    fn spans(&self) -> impl Iterator<Item = Span> {
        self.applying.into_iter().chain(self.landing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Stamp;
    use crate::effect::Write;
    use crate::version::Precondition;
    use crate::write::Progress;
    use crate::{Key, Put};

    fn unit(first: Sequence) -> Vec<Unit> {
        let entry = Stamp::system().entry(&Put::new("value"));
        let write = Write::put(Key::new("k").expect("valid"), entry, Precondition::None);
        let progress = tokio::sync::watch::Sender::new(Progress::Journaled);
        vec![Unit::new(vec![super::super::queue::Queued::new(first, write, progress)], first * 10, None)]
    }

    #[test]
    fn what_lands_counts_until_it_has_landed() {
        let mut in_flight = InFlight::default();
        let at = |in_flight: &InFlight| (in_flight.first(), in_flight.since());
        assert_eq!(at(&in_flight), (None, None));
        in_flight.begin(&unit(1));
        in_flight.applied();
        in_flight.begin(&unit(2));
        assert_eq!(at(&in_flight), (Some(1), Some(10)));
        in_flight.landed();
        assert_eq!(at(&in_flight), (Some(2), Some(20)));
        // Retried after parking, so older than what lands.
        in_flight.applied();
        in_flight.begin(&unit(0));
        assert_eq!(at(&in_flight), (Some(0), Some(0)));
        in_flight.ended();
        assert_eq!(at(&in_flight), (Some(2), Some(20)));
        in_flight.landed();
        in_flight.begin(&[]);
        assert_eq!(at(&in_flight), (None, None));
    }
}
