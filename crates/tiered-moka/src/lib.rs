//! Memory tier for tiered, over moka.
