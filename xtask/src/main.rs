//! The project's own commands: `cargo xtask test | ci | bench | consumers | services | images | crash | sim | planted | interleavings | fuzz | instructions | tidy`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a build tool speaks on the terminal")]

mod bench;
mod ci;
mod consumers;
mod face;
mod fuzz;
mod instructions;
mod interleavings;
mod pipeline;
mod planted;
mod programs;
mod progress;
mod scratch;
mod services;
mod session;
mod setup;
mod sim;
mod stage;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

commands
  test   every test, every documentation test and every combination of adapters; says first how long it takes
  ci     the same, and formatting, lints, features, documentation, dependencies, and the long tests
  services up|down   the servers for tests, for work by hand
  bench  tiered beside its peers, into docs/benchmarks: [--quick] [--with rocksdb,servers] [--trace FILE] [--output DIR] [--list] [GROUP…]
  consumers  programs that use tiered, over real servers: [--quick] [NAME…] [-- ARGUMENT…]
  images the images of those servers, where no registry can be reached
  crash  processes that are killed, over real engines: [--cycles N] [--stack NAME] [--seed S] [--step NAME]
  sim    the simulation: [--seeds N] [--ops N] [--seed S] [--careless NAME] [--trace]
  planted  deliberate bugs, and what caught each: [NAME…] [--engine] [--sample N] [--seed S] [--ops N]
  interleavings  the engine under shuttle: [--schedules N]
  fuzz   the fuzz targets, one after the other: [TARGET] [--seconds N]
  instructions  what hits, writes and reads cost, counted by valgrind; [--check] that none costs more than before
  tidy   the rules of ARCHITECTURE.md that a machine can check";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first().map(|(command, rest)| (command.as_str(), rest)) {
        Some(("test", [])) => test::run(),
        Some(("ci", [])) => ci::run(),
        Some(("bench", rest)) => bench::run(rest),
        Some(("consumers", rest)) => consumers::run(rest),
        Some(("images", [])) => services::images(),
        Some(("services", [what])) if what == "up" => services::up(),
        Some(("services", [what])) if what == "down" => services::down(),
        Some(("tidy", [])) => tidy::run(),
        Some(("crash", rest)) => test::crash(rest),
        Some(("sim", rest)) => sim::run(rest),
        Some(("planted", rest)) => planted::command(rest),
        Some(("interleavings", rest)) => interleavings::run(rest),
        Some(("fuzz", rest)) => fuzz::run(rest),
        Some(("instructions", rest)) => instructions::run(rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
