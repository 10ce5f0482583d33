//! How much a run does: enough for figures that can be published, or a quick look.

use std::time::Duration;

/// How much a run does.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Whether this is a quick look: the whole run is meant for ten minutes on two cores.
    pub quick: bool,
}

impl Effort {
    /// Either of two values, by effort.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Rounds that count, of sides that take turns.
    pub fn rounds(self) -> usize {
        self.pick(5, 7)
    }

    /// Rounds of what takes seconds each.
    pub fn long_rounds(self) -> usize {
        self.pick(3, 7)
    }

    /// How long one side is measured in one round.
    pub fn slice(self) -> Duration {
        self.pick(Duration::from_millis(25), Duration::from_millis(50))
    }

    /// The same for what waits for a disk.
    pub fn disk_slice(self) -> Duration {
        self.pick(Duration::from_millis(250), Duration::from_millis(500))
    }
}
