//! Driving a batch whose operations are judged one by one, over a backend that applies batches as a whole.

use super::super::engine::Engine;
use super::batch::DrivenBatch;
use super::precondition_of;
use crate::batch::{Action, Atomicity, BatchOutcomes};
use crate::error::{ErrorKind, Outcome};
use crate::key::Key;
use crate::store::precondition_failed;

impl Engine {
    /// Sets the operations aside whose preconditions do not hold, and drives the others as one atomic batch. Where
    /// another writer came in between, all are judged anew.
    pub(super) async fn drive_per_item(&self, operations: &[(Key, Action)]) -> DrivenBatch {
        loop {
            let versions = match self.versions(operations).await {
                Ok(versions) => versions,
                Err(error) => return DrivenBatch::once(Err(error.outcome_is(Outcome::NotApplied))),
            };
            let holds = |(key, action): &(Key, Action)| {
                let current = versions.get(key).and_then(Option::as_ref);
                precondition_of(action).holds(current)
            };
            let held: Vec<bool> = operations.iter().map(holds).collect();
            let rest: Vec<(Key, Action)> =
                operations.iter().zip(&held).filter(|(_, held)| **held).map(|(op, _)| op.clone()).collect();
            let driven = if rest.is_empty() {
                DrivenBatch::once(Ok(Vec::new()))
            } else {
                self.drive_together(&rest, Atomicity::Required).await
            };
            let overtaken = |kind| kind == ErrorKind::PreconditionFailed && driven.unfenced.is_empty();
            match &driven.result {
                Err(error) if error.write_outcome() == Outcome::NotApplied && overtaken(error.kind()) => {}
                _ => return merged(operations, &held, driven),
            }
        }
    }
}

/// The outcomes of all operations, from those of the ones that held.
fn merged(operations: &[(Key, Action)], held: &[bool], driven: DrivenBatch) -> DrivenBatch {
    let merge = |outcomes: BatchOutcomes| {
        let mut outcomes = outcomes.into_iter();
        let one = |((key, _), held): (&(Key, Action), &bool)| {
            let outcome = if *held { outcomes.next() } else { None };
            outcome.unwrap_or_else(|| Err(precondition_failed(key)))
        };
        operations.iter().zip(held).map(one).collect()
    };
    DrivenBatch { result: driven.result.map(merge), ..driven }
}
