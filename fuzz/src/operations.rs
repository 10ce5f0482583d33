//! `operations`: whatever is done to a store, it answers as a map does.
//!
//! The model-based test of `tiered-core` asks the same of short sequences for all pairs of policies; here are expiry,
//! preconditions, listings with options, reopening and the journal's bytes besides, and sequences that coverage steers.

mod model;
mod script;
mod subject;

use arbitrary::{Arbitrary, Unstructured};

use model::Model;
use script::{Operation, Run};
use subject::{Kind, Subject};

/// Operations that are carried out.
const OPERATIONS: usize = 64;

#[derive(Arbitrary, Debug)]
struct Input {
    kind: Kind,
    /// Keys that the backend has before the store is built.
    there: u8,
    operations: Vec<Operation>,
}

/// A sequence of operations on a store and on a map.
pub fn operations(data: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut subject = Subject::new(input.kind);
    let mut model = Model::default();
    let there = if input.kind.sees_the_backend() { input.there } else { 0 };
    let mut operations = input.operations.into_iter().take(OPERATIONS).peekable();
    // Each pass of the loop is the life of a process.
    let mut first = true;
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let ended = runtime.block_on(async {
            if first {
                subject.fill(there, &mut model).await;
            }
            let store = subject.open().await;
            let mut run = Run { store: &store, subject: &subject, model: &mut model };
            for operation in operations.by_ref() {
                if matches!(operation, Operation::Reopen) {
                    return false;
                }
                run.step(&operation).await;
                run.peeks();
            }
            run.ends().await;
            true
        });
        if ended {
            return;
        }
        first = false;
        subject.reopened();
    }
}
