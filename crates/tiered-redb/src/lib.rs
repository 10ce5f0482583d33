//! Embedded disk tier for tiered, over redb: pure Rust, the zero-setup default.
