//! The facade as its users see it.

#[cfg(feature = "blocking")]
mod blocking;
mod debug;
#[cfg(feature = "toml")]
mod runtime;
