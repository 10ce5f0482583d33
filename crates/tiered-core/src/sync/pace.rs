//! How fast a sync may move bytes.

use std::time::Duration;

use crate::sync_primitives::time::{self, Instant};

/// Lets so many bytes go in a second, on average. What is spent at once is waited for afterwards: a single value that is
/// larger than a second's bytes still goes.
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    begun: Instant,
    /// When the next bytes may go, since it has begun.
    due: Duration,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, begun: Instant::now(), due: Duration::ZERO }
    }

    /// What to wait for before more bytes go, if anything.
    pub(super) fn waits(&self) -> Option<impl Future<Output = ()> + use<>> {
        let left = self.due.checked_sub(self.begun.elapsed()).filter(|left| !left.is_zero())?;
        Some(time::sleep(left))
    }

    /// Counts bytes that go now.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.due = self.due.max(self.begun.elapsed()).saturating_add(self.taken(bytes));
    }

    /// Counts bytes that were to go and did not.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.due = self.due.saturating_sub(self.taken(bytes));
    }

    /// How long so many bytes take.
    fn taken(&self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}
