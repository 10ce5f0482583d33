//! The matrix: every stack through the conformance suite.
#![allow(clippy::print_stdout, reason = "the matrix prints a line a stack, which xtask counts")]

use std::sync::Arc;

use tiered::Store;
use tiered_conformance::RunOptions;
use tiered_tests::stacks;

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
        let shared = Arc::clone(&store);
        let factory = move || {
            let store: Arc<dyn Store> = Arc::clone(&shared);
            async move { store }
        };
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
