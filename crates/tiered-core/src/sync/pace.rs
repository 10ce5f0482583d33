//! How fast a sync may move bytes.

use std::time::Duration;

use crate::sync_primitives::time::{self, Instant};

/// Lets so many bytes go in a second, on average. What is spent at once is waited for afterwards: a single value that is
/// larger than a second's bytes still goes.
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    /// When the next bytes may go.
    next: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, next: None }
    }

    /// What to wait for before more bytes go, if anything.
    pub(super) fn waits(&self) -> Option<impl Future<Output = ()> + use<>> {
        let next = self.next.filter(|next| *next > Instant::now())?;
        Some(time::sleep_until(next))
    }

    /// Counts bytes that go now.
    pub(super) fn spend(&mut self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let now = Instant::now();
        // In parts of a second that are small beside a group; a group is far below 2^34 bytes.
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let taken = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let begins = self.next.map_or(now, |next| next.max(now));
        self.next = begins.checked_add(taken);
    }
}
