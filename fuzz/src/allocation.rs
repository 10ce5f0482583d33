//! How much memory a decoder asks for: hostile lengths show there first.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is always allowed, in bytes: errors, small maps, and what a test harness does on other threads meanwhile.
const SLACK: usize = 256 << 10;

/// For each byte of an input: its parts are copied, and each becomes a structure.
pub(crate) const FACTOR: usize = 64;

/// Runs `decode`, which is to ask for `most` bytes at most, and some more for trifles.
pub(crate) fn bounded<T>(most: usize, decode: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.stats().bytes_allocated;
    let decoded = decode();
    let asked = ALLOCATOR.stats().bytes_allocated.saturating_sub(before);
    assert!(asked <= most + SLACK, "{asked} bytes of memory, and {most} would do");
    decoded
}
