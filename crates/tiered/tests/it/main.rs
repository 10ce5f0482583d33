//! The facade as its users see it.

mod debug;
mod names;
mod runtime;
