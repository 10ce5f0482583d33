//! `cargo xtask bench`: builds the benchmark program of `bench/`, which is a workspace of its own, and runs it.

use std::process::Command;

use crate::stage::{cargo, root, target};

/// Passes `arguments` on: `[--quick] [--trace FILE] [--output DIR] [GROUP…]`. Paths are relative to the project's root.
/// Without `--output` the results go to `docs/benchmarks`, and the main figures into the README.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut build = cargo(&["build", "--release", "--bins", "--manifest-path", "bench/Cargo.toml"]);
    succeed(build.arg("--target-dir").arg(target()))?;
    let mut bench = Command::new(target().join("release/tiered-bench"));
    bench.current_dir(root()).args(arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--output") || argument == "--list") {
        bench.args(["--readme", "README.md"]);
    }
    succeed(&mut bench)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}
