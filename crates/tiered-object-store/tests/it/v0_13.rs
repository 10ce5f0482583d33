//! For `object_store` 0.13.

#[allow(clippy::duplicate_mod, reason = "one source for two versions of a crate")]
#[path = "both/mod.rs"]
mod both;

use tiered_object_store::v0_13 as bridge;
