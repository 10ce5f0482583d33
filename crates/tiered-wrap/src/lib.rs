//! Wrappers for `tiered`: stores around a store.
//!
//! | wrapper | what it does |
//! |---|---|
//! | [`Prefix`] | a namespace: the keys that begin with a prefix |
//! | [`ReadOnly`] | refuses every write |
//!
//! Each is a [`Store`](tiered_core::Store) and takes any other, so they nest.

mod prefix;
mod read_only;

use tiered_core::{Atomicity, Batch, Capabilities, Feature};

pub use prefix::Prefix;
pub use read_only::ReadOnly;

/// A batch of which the operations that a wrapper refuses fail alone where those that the store inside refuses would.
fn alike(capabilities: &Capabilities, batch: Batch) -> Batch {
    // Without the feature, best effort gives one outcome for each operation, as per item does.
    let is_apart = batch.atomicity() == Atomicity::BestEffort && !capabilities.has(Feature::AtomicBatch);
    if is_apart { batch.per_item() } else { batch }
}
