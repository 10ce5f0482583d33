//! For tests, under the feature `test-util`: time that a test moves by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Steady, Timestamp, millis};

/// A clock that a test moves by hand. The wall clock and uptime move separately.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::Timestamp;
/// use tiered_core::adapter::Clock;
/// use tiered_core::testing::ManualClock;
///
/// let clock = ManualClock::new(Timestamp::from_millis(1_000));
/// clock.set_wall(Timestamp::from_millis(9_000));
/// clock.set_wall(Timestamp::from_millis(1_000)); // corrected: time goes on from where it was
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.now(), Timestamp::from_millis(9_005));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    uptime_millis: AtomicU64,
    steady: Steady,
}

impl ManualClock {
    /// A clock that stands at `now`, with no uptime.
    pub const fn new(now: Timestamp) -> Self {
        Self {
            wall: AtomicU64::new(now.as_millis()),
            uptime_millis: AtomicU64::new(0),
            steady: Steady::new(),
        }
    }

    /// Moves the wall clock and uptime forward.
    pub fn advance(&self, by: Duration) {
        self.wall.fetch_add(millis(by), Ordering::Relaxed);
        self.uptime_millis.fetch_add(millis(by), Ordering::Relaxed);
        self.now();
    }

    /// Sets the wall clock alone, forward or back, as an operator or a time server does.
    /// [`now`](Clock::now) follows it forward; after a step back it goes on at the pace of uptime.
    pub fn set_wall(&self, wall: Timestamp) {
        self.now();
        self.wall.store(wall.as_millis(), Ordering::Relaxed);
        self.now();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let uptime = self.uptime_millis.load(Ordering::Relaxed);
        Timestamp::from_millis(self.steady.read(self.wall.load(Ordering::Relaxed), uptime))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime_millis.load(Ordering::Relaxed))
    }
}
