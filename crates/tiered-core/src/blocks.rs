//! Blocks of large values: which bytes they hold, how they are named, and the stub that says what they are blocks of.
//!
//! Nothing here is asynchronous, and nothing calls a store.

mod cut;
mod grid;
mod name;
mod stub;

pub(crate) use cut::Cut;
pub(crate) use grid::Grid;
pub(crate) use name::{LONGEST, Names, is_block, past_blocks};
pub(crate) use stub::Stub;
