//! `cargo xtask test`: every test there is.

use crate::setup;
use crate::sim;
use crate::stage::{self, Counts, cargo, root};

/// Stacks of tiers that the matrix runs at least. Fewer means that some did not run.
const STACKS: u64 = 128;

fn run_tests() -> Result<Counts, String> {
    let mut counts = Counts::default();
    // Everything but the matrix, which prints one line a stack, so that its output must not be captured.
    let all =
        ["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--exclude", "tiered-tests"];
    counts.add(stage::run("tests", cargo(&all))?);
    counts
        .add(stage::run("documentation tests", cargo(&["test", "--workspace", "--all-features", "--doc"]))?);
    // The same selection of features as above: RocksDB would be built again for another.
    let matrix = [
        "test",
        "--workspace",
        "--all-features",
        "--test",
        "matrix",
        "--test",
        "allocations",
        "--test",
        "memory",
        "--",
        "--nocapture",
    ];
    counts.add(stage::run("matrix", cargo(&matrix))?);
    let manifest = root().join("examples/custom-adapter/Cargo.toml");
    let mut example = cargo(&["test", "--manifest-path"]);
    example.arg(manifest);
    counts.add(stage::run("an adapter outside of the workspace", example)?);
    sim::gate()?;
    if counts.stacks < STACKS {
        return Err(format!("{} stacks ran, at least {STACKS} should have", counts.stacks));
    }
    Ok(counts)
}

pub(crate) fn run() -> Result<(), String> {
    setup::run()?;
    let counts = run_tests()?;
    println!("{} stacks of tiers ran", counts.stacks);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed > 0 || counts.passed == 0 {
        return Err("there are failures".to_owned());
    }
    Ok(())
}
