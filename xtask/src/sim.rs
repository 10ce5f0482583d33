//! `cargo xtask sim`: the simulation, at the gate's size or at any other.

use std::process::Command;

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
