//! Public behaviour of the core.

mod feed;
mod model;
mod promises;
mod synchronisation;
mod tiering;
