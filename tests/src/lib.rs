//! Every combination of adapters: which stacks there are, as data.
//!
//! The README's program is compiled and run as a documentation test of this crate:
#![doc = include_str!("../../README.md")]

#[cfg(any(feature = "postgres", feature = "s3"))]
mod remote;
mod stack;

pub use stack::{Tier, Tiers, combinations, stacks};

#[cfg(feature = "s3")]
pub use remote::prepare_s3;

/// A store on the S3 server for tests, under a prefix of its own that is named after `folder`. Values have up to `max_value` bytes.
///
/// # Errors
/// The server's.
#[cfg(feature = "s3")]
pub async fn s3(
    folder: &std::path::Path,
    max_value: u64,
) -> tiered::Result<std::sync::Arc<dyn tiered::Store>> {
    prepare_s3().await?;
    remote::s3(folder, "judge", max_value).await
}
