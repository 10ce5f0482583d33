//! A batch on a store that has no better way: one operation after the other.

use super::{Store, precondition_failed};
use crate::batch::{Action, Applied, Atomicity, Batch, BatchOutcomes, fail_with_last};
use crate::capability::Feature;
use crate::error::{Operation, Result};
use crate::key::Key;
use crate::read::ReadOptions;
use crate::version::Version;
use crate::write::{Deleted, Written};

/// Applies a batch one operation after the other, for a store without a better way.
pub(super) async fn apply_one_by_one<S: Store + ?Sized>(store: &S, batch: Batch) -> Result<BatchOutcomes> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    if batch.atomicity() == Atomicity::Required {
        store.capabilities().require(Feature::AtomicBatch).map_err(|error| error.during(Operation::Apply))?;
    }
    let operations = batch.into_operations();
    // Only the last operation on a key is carried out; the precondition of an earlier one is judged by a read.
    let last = |index: usize, key: &Key| !operations.iter().skip(index + 1).any(|(later, _)| later == key);
    let mut outcomes: Vec<Option<Result<Applied>>> = Vec::with_capacity(operations.len());
    for (index, (key, action)) in operations.iter().enumerate() {
        outcomes.push(if last(index, key) { None } else { Some(judge(store, key, action).await) });
    }
    let mut answers = Vec::with_capacity(outcomes.len());
    for ((key, action), judged) in operations.iter().zip(outcomes) {
        answers.push(match (judged, action.clone()) {
            (Some(judged), _) => judged,
            (None, Action::Put(put)) => store.put(key, put).await.map(Applied::Put),
            (None, Action::Delete(delete)) => store.delete(key, delete).await.map(Applied::Delete),
        });
    }
    fail_with_last(operations.iter().map(|(key, _)| key), &mut answers);
    Ok(answers)
}

/// What an operation that a later one of its batch replaces would have answered.
async fn judge<S: Store + ?Sized>(store: &S, key: &Key, action: &Action) -> Result<Applied> {
    let current = store.head(key, &ReadOptions::new().authoritative()).await?;
    let version = current.as_ref().map(|metadata| &metadata.version);
    let (precondition, operation) = match action {
        Action::Put(put) => (&put.precondition, Operation::Put),
        Action::Delete(delete) => (&delete.precondition, Operation::Delete),
    };
    if !precondition.holds(version) {
        return Err(precondition_failed(key).during(operation));
    }
    Ok(match action {
        Action::Put(put) => {
            let version = put.version().or(version).cloned();
            Applied::Put(Written::committed(version.unwrap_or(Version::from_u128(0))))
        }
        Action::Delete(_) => Applied::Delete(Deleted::committed(current.is_some())),
    })
}
