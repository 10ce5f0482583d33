//! `cargo xtask test`: every test there is.

use crate::stage::{self, Counts, cargo, root};

/// Stacks of tiers that the matrix runs at least. Fewer means that some did not run.
const STACKS: u64 = 40;

fn run_tests() -> Result<Counts, String> {
    let mut counts = Counts::default();
    // Unit and integration tests; the matrix prints one line a stack, so its output must not be captured.
    counts.add(stage::run(
        "tests",
        cargo(&["test", "--workspace", "--all-features", "--all-targets", "--no-fail-fast"]),
    )?);
    counts.add(stage::run("doctests", cargo(&["test", "--workspace", "--all-features", "--doc"]))?);
    counts.add(stage::run(
        "matrix",
        cargo(&[
            "test",
            "--package",
            "tiered-tests",
            "--test",
            "it",
            "--",
            "--nocapture",
            "--test-threads=2",
            "matrix",
        ]),
    )?);
    let manifest = root().join("examples/custom-adapter/Cargo.toml");
    let mut example = cargo(&["test", "--manifest-path"]);
    example.arg(manifest);
    counts.add(stage::run("an adapter outside of the workspace", example)?);
    if counts.stacks < STACKS {
        return Err(format!("{} stacks ran, at least {STACKS} should have", counts.stacks));
    }
    Ok(counts)
}

pub(crate) fn run() -> Result<(), String> {
    let counts = run_tests()?;
    println!("{} stacks of tiers ran", counts.stacks);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 || counts.passed == 0 {
        return Err("there are failures".to_owned());
    }
    Ok(())
}
