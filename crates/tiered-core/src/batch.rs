//! Batches: several puts and deletes at once.

use std::fmt;

use crate::error::Result;
use crate::key::Key;
use crate::write::{Delete, Deleted, Put, Written};

/// One operation of a batch.
#[derive(Clone, Debug)]
pub enum Action {
    /// Writes the key.
    Put(Put),
    /// Deletes the key.
    Delete(Delete),
}

/// Whether a batch must be all-or-nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atomicity {
    /// All-or-nothing; a store without [`Feature::AtomicBatch`](crate::Feature::AtomicBatch) refuses.
    #[default]
    Required,
    /// All-or-nothing where the store can, else one outcome per operation.
    BestEffort,
}

/// Puts and deletes to apply together.
///
/// Preconditions are judged against the state before the batch. The last operation on a key wins; the earlier
/// ones still have their preconditions judged, and answer as if they had taken effect.
///
/// # Examples
/// ```
/// use tiered_core::{Batch, Delete, Key, Put};
///
/// let batch = Batch::new()
///     .put(Key::new("leaf")?, Put::new("value"))
///     .delete(Key::new("old")?, Delete::new());
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Batch {
    operations: Vec<(Key, Action)>,
    atomicity: Atomicity,
}

impl fmt::Debug for Batch {
    // A number: there may be very many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("operations", &self.operations.len())
            .field("atomicity", &self.atomicity)
            .finish()
    }
}

impl Batch {
    /// An empty batch that must be all-or-nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All-or-nothing only where the store can.
    #[must_use]
    pub fn best_effort(mut self) -> Self {
        self.atomicity = Atomicity::BestEffort;
        self
    }

    /// With one more put.
    #[must_use]
    pub fn put(mut self, key: Key, put: impl Into<Put>) -> Self {
        self.operations.push((key, Action::Put(put.into())));
        self
    }

    /// With one more delete.
    #[must_use]
    pub fn delete(mut self, key: Key, delete: Delete) -> Self {
        self.operations.push((key, Action::Delete(delete)));
        self
    }

    /// Adds one more operation.
    pub fn push(&mut self, key: Key, action: Action) {
        self.operations.push((key, action));
    }

    /// Whether it must be all-or-nothing.
    pub const fn atomicity(&self) -> Atomicity {
        self.atomicity
    }

    /// The operations, in order.
    pub fn operations(&self) -> &[(Key, Action)] {
        &self.operations
    }

    /// Takes the operations, in order.
    pub fn into_operations(self) -> Vec<(Key, Action)> {
        self.operations
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// One applied operation of a batch.
#[derive(Clone, Debug)]
pub enum Applied {
    /// A put.
    Put(Written),
    /// A delete.
    Delete(Deleted),
}

/// The answer to a batch: one outcome per operation, in the batch's order. Where the store applied it as a
/// whole, all are `Ok`.
pub type BatchOutcomes = Vec<Result<Applied>>;
