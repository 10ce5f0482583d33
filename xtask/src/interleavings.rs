//! `cargo xtask interleavings`: the slots under shuttle, at the gate's size or at any other.

use std::path::PathBuf;
use std::process::Command;

use crate::stage::{self, cargo, root};

/// Schedules of the gate, over all scenarios.
const SCHEDULES: u64 = 100_000;

/// With the arguments of the command line.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let wanted = match arguments {
        [] => SCHEDULES,
        [option, count] if option == "--schedules" => {
            count.parse().map_err(|_| format!("--schedules takes a number, not {count:?}"))?
        }
        _ => return Err("usage: cargo xtask interleavings [--schedules N]".to_owned()),
    };
    let mut command = exploring("interleavings");
    command.env("TIERED_SCHEDULES", wanted.to_string());
    let counts = stage::run("interleavings", command)?;
    println!("{} schedules of interleavings ran", counts.schedules);
    if counts.schedules < wanted.max(1) {
        return Err(format!("{} schedules ran, at least {wanted} should have", counts.schedules));
    }
    Ok(())
}

/// The deliberate bugs that interleavings find.
pub(crate) fn planted() -> Result<(), String> {
    stage::run("deliberate bugs: interleavings", quietly(exploring("interleavings::planted"))).map(|_| ())
}

/// Each bug that is caught is a panic: their traces would drown the lines that count.
pub(crate) fn quietly(mut command: Command) -> Command {
    command.env("RUST_BACKTRACE", "0");
    command
}

/// The tests of that name under shuttle.
fn exploring(tests: &str) -> Command {
    let mut command =
        cargo(&["test", "--quiet", "--package", "tiered-core", "--lib", "--features", "planted"]);
    command.args(["--profile", "interleavings", tests, "--", "--nocapture"]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg shuttle").trim());
    // Of its own: other flags would rebuild everything, here and then there.
    command.env("CARGO_TARGET_DIR", target().join("shuttle"));
    command
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}
