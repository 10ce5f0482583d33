//! The bridge to `object_store`: its own integration tests on stacks, and what they do not try.

mod stacks;
#[cfg(feature = "v0_13")]
mod v0_13;
#[cfg(feature = "v0_14")]
mod v0_14;
