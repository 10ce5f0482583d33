//! Public behaviour of the core.

mod promises;
mod synchronisation;
mod tiering;
