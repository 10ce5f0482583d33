//! `cargo xtask sim`: the simulation, at the gate's size or at any other.

use std::process::Command;

use crate::interleavings;
use crate::stage::{self, cargo};

/// Optimised: a seed is mostly computing.
fn simulation(arguments: &[String]) -> Command {
    let mut command = cargo(&["run", "--quiet", "--release", "--package", "tiered-sim", "--"]);
    command.args(arguments);
    command
}

/// With the arguments of the command line.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    stage::run("simulation", simulation(arguments)).map(|_| ())
}

/// Deliberate bugs, each with the layer and the seed or schedule that caught it: [`--seed S`] [`--ops N`] for the
/// simulation's.
pub(crate) fn planted(arguments: &[String]) -> Result<(), String> {
    let all: Vec<String> =
        ["--planted"].map(str::to_owned).into_iter().chain(arguments.iter().cloned()).collect();
    stage::run("deliberate bugs: the simulation", simulation(&all))?;
    let several = [
        "test",
        "--quiet",
        "--package",
        "tiered-sim",
        "--test",
        "shared",
        "repeated_without_a_fence",
        "--",
        "--nocapture",
    ];
    stage::run("deliberate bugs: several stores over one backend", interleavings::quietly(cargo(&several)))?;
    interleavings::planted()?;
    let broken =
        ["test", "--quiet", "--package", "tiered-conformance", "--test", "it", "broken", "--", "--nocapture"];
    stage::run("deliberate bugs: broken stores under the conformance suite", cargo(&broken)).map(|_| ())
}

/// What CI runs: 200 seeds without a violation, and every deliberate bug caught.
pub(crate) fn gate() -> Result<(), String> {
    run(&["--seeds", "200", "--ops", "2000"].map(str::to_owned))?;
    run(&["--planted", "--ops", "2000"].map(str::to_owned))?;
    interleavings::run(&[])
}
