//! The matrix: every stack through the conformance suite.
#![allow(clippy::print_stdout, reason = "the matrix prints a line a stack, which xtask counts")]

use std::sync::Arc;

use tempfile::TempDir;
use tiered::{Result, Store};
use tiered_conformance::{Factory, Place, RunOptions};
use tiered_tests::{Tiers, stacks};

/// A stack that is open, and places to open others like it.
struct Stacks {
    tiers: Tiers,
    store: Arc<dyn Store>,
}

/// A folder that holds the files of one stack: opening it again reopens the stack.
struct Folder(TempDir, Tiers);

#[async_trait::async_trait]
impl Place for Folder {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        self.1.open(self.0.path()).await
    }
}

#[async_trait::async_trait]
impl Factory for Stacks {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        // A backend that is new each time is another backend, which a frontend that lasts refuses.
        if !self.tiers.tiers.last().is_some_and(|tier| tier.lasts()) {
            return None;
        }
        Some(Arc::new(Folder(tempfile::tempdir().ok()?, self.tiers.clone())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrix_of_stacks() {
    let mut faults = Vec::new();
    for stack in stacks() {
        let name = stack.name();
        let folder = tempfile::tempdir().expect("a folder");
        let store = match stack.open(folder.path()).await {
            Ok(store) => store,
            Err(error) => {
                faults.push(format!("{name} did not open: {}", error.chain()));
                continue;
            }
        };
        let factory = Stacks { tiers: stack.clone(), store: Arc::clone(&store) };
        let report = tiered_conformance::run(factory, RunOptions::new()).await;
        println!(
            "stack {name}: {} passed ({} by refusal), {} failed, {} skipped",
            report.passed(),
            report.refused(),
            report.failed(),
            report.skipped()
        );
        if !report.is_ok() {
            faults.push(format!("{name}\n{report}"));
        }
        store.close().await.expect("closes");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
