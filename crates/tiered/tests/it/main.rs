//! The facade as its users see it.

#[cfg(feature = "blocking")]
mod blocking;
mod debug;
#[cfg(all(feature = "redb", feature = "moka", feature = "journal", feature = "encryption", feature = "lz4"))]
mod lifecycle;
#[cfg(feature = "toml")]
mod runtime;
#[cfg(all(feature = "redb", feature = "moka", feature = "journal", feature = "encryption", feature = "lz4"))]
mod stacks;
