//! Public behaviour of the core.

mod model;
mod promises;
mod synchronisation;
mod tiering;
