//! Public behaviour of the core.

mod tiering;
