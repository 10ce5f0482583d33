//! Public behaviour of the core.

mod driving;
mod feed;
mod leasing;
mod model;
mod promises;
mod resilience;
mod scripted;
mod synchronisation;
mod tiering;
