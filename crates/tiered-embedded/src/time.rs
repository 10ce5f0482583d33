//! What the disk takes.

use std::time::Instant;

/// Now, in real time, by which the disk is measured. Nothing that a caller sees depends on it.
#[expect(clippy::disallowed_methods, reason = "what the disk takes is real time; nothing else depends on it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
