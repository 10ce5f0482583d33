//! `cargo xtask bench`: builds the benchmark program of `bench/`, which is a workspace of its own, and runs it.

use std::process::{Command, Stdio};

use crate::services::Services;
use crate::stage::{cargo, root, succeed, target};

/// Passes `arguments` on, but for `--with FEATURES`: `[--quick] [--with rocksdb,servers] [--trace FILE] [--output DIR] [GROUP…]`.
/// Paths are relative to the project's root. Without `--output` the results go to `docs/benchmarks`, and the main figures into
/// the README.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut arguments = arguments.to_vec();
    let features = take_features(&mut arguments)?;
    let mut build = cargo(&["build", "--release", "--bins", "--manifest-path", "bench/Cargo.toml"]);
    if let Some(features) = &features {
        build.args(["--features", features]);
    }
    succeed(build.arg("--target-dir").arg(target()))?;
    let mut bench = Command::new(target().join("release/tiered-bench"));
    bench.current_dir(root()).args(&arguments);
    let is_list = arguments.iter().any(|argument| argument == "--list");
    if !is_list && !arguments.iter().any(|argument| argument.starts_with("--output")) {
        bench.args(["--readme", "README.md"]);
    }
    let needs_servers = features.is_some_and(|features| features.split(',').any(|name| name == "servers"));
    if is_list || !needs_servers {
        return succeed(&mut bench);
    }
    // They end with this function.
    let services = Services::start_durable(Stdio::inherit())?;
    services.announce(&mut bench);
    succeed(&mut bench)
}

/// Takes `--with FEATURES` out of the arguments.
fn take_features(arguments: &mut Vec<String>) -> Result<Option<String>, String> {
    let Some(at) = arguments.iter().position(|argument| argument == "--with") else { return Ok(None) };
    let mut taken = arguments.drain(at..arguments.len().min(at + 2));
    match taken.nth(1) {
        Some(features) => Ok(Some(features)),
        None => Err("--with needs features: rocksdb, servers, or both with a comma between".to_owned()),
    }
}
