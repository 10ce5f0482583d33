//! The facade as its users see it.

mod debug;
#[cfg(feature = "toml")]
mod runtime;
