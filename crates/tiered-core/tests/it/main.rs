//! Public behaviour of the core.

mod synchronisation;
mod tiering;
