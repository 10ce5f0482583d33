//! The suite on the reference store, on stacks of it, and on deliberately broken ones.

mod broken;
mod compile;
mod memory;
mod running;
mod stacks;
