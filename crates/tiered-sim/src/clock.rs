//! A clock that follows virtual time, and jumps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tiered_core::Timestamp;
use tiered_core::adapter::Clock;
use tokio::time::Instant;

/// Wall time is tokio's time and an offset; uptime is tokio's alone.
#[derive(Debug)]
pub struct SimClock {
    begun: Instant,
    offset: AtomicU64,
}

impl SimClock {
    /// Wall time begins at `offset` milliseconds.
    pub fn new(offset: u64) -> Self {
        Self { begun: Instant::now(), offset: AtomicU64::new(offset) }
    }

    /// Moves wall time by so many milliseconds, forward or, between two lives of a process, backward.
    pub fn jump(&self, by: i64) {
        let offset = self.offset.load(Ordering::Relaxed);
        self.offset.store(offset.saturating_add_signed(by), Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(self.offset.load(Ordering::Relaxed).saturating_add(elapsed))
    }

    fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }
}
