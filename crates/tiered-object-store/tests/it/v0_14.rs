//! For `object_store` 0.14.

#[allow(clippy::duplicate_mod, reason = "one source for two versions of a crate")]
#[path = "both/mod.rs"]
mod both;
mod extensions;

use tiered_object_store::v0_14 as bridge;

/// What 0.13 does not have.
mod options {
    use super::bridge::{ObjectView, object_store::integration};

    crate::integration! { multipart_with_opts(view, &view) multipart_put_part_out_of_order(view, &view) }
}
