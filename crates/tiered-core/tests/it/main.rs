//! Public behaviour of the core.

mod coherence;
mod synchronisation;
mod tiering;
