//! `cargo xtask interleavings`: the engine under shuttle, at the gate's size or at any other.

use std::path::Path;
use std::process::Command;

use crate::stage::{self, cargo, target};

/// Schedules of the gate, over all scenarios.
const SCHEDULES: u64 = 300_000;

/// With the arguments of the command line.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let wanted = match arguments {
        [] => SCHEDULES,
        [option, count] if option == "--schedules" => {
            count.parse().map_err(|_| format!("--schedules takes a number, not {count:?}"))?
        }
        _ => return Err("usage: cargo xtask interleavings [--schedules N]".to_owned()),
    };
    let mut command = exploring("interleavings", &target().join("shuttle"));
    command.env("TIERED_SCHEDULES", wanted.to_string());
    let counts = stage::run("interleavings", command)?;
    println!("{} schedules of interleavings ran", counts.schedules);
    if counts.schedules < wanted.max(1) {
        return Err(format!("{} schedules ran, at least {wanted} should have", counts.schedules));
    }
    Ok(())
}

/// The tests of that name under shuttle, compiled into a folder of its own: other flags would rebuild everything, here
/// and then there.
pub(crate) fn exploring(tests: &str, compiled: &Path) -> Command {
    let mut command = cargo(&["test", "--quiet", "--package", "tiered-core", "--lib"]);
    command.args(["--profile", "interleavings", tests, "--", "--nocapture"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg shuttle").trim());
    command.env("CARGO_TARGET_DIR", compiled);
    command
}
