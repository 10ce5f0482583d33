//! What the rooms of the engine wait, lock, count and run with: `parking_lot`'s locks, std's atomics, tokio's time and
//! tasks. Where interleavings are explored, it is shuttle's, whose scheduler decides at each of them who goes on.
//!
//! The rooms use these names and no others. Statistics are counted with std's atomics: nothing is decided by them.

#[cfg(all(test, shuttle))]
pub(crate) mod explored;

#[cfg(not(all(test, shuttle)))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{OnceLock, atomic};
#[cfg(not(all(test, shuttle)))]
pub(crate) use tokio::{runtime::Handle, task::yield_now, time};

/// How often a task lets others go on that it expects something of.
#[cfg(not(all(test, shuttle)))]
pub(crate) const TURNS: usize = 128;
#[cfg(all(test, shuttle))]
pub(crate) const TURNS: usize = 2;

#[cfg(all(test, shuttle))]
pub(crate) use explored::{Handle, Mutex, OnceLock, pause as yield_now, time};
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::atomic;
