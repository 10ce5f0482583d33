//! Every combination of adapters: which stacks there are, as data.
//!
//! The README's program is compiled and run as a documentation test of this crate:
#![doc = include_str!("../../README.md")]

#[cfg(any(feature = "postgres", feature = "s3"))]
mod remote;
mod stack;

pub use stack::{Tier, Tiers, combinations, stacks};
