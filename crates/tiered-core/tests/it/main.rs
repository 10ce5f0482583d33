//! Public behaviour of the core.

mod coherence;
mod promises;
mod synchronisation;
mod tiering;
