//! The project's own commands: `cargo xtask test | ci | tidy`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a build tool speaks on the terminal")]

mod ci;
mod setup;
mod stage;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

commands
  test   every test, doctest and adapter stack; ends with `N passed, N failed`
  ci     what CI runs: formatting, lints, tests, documentation, feature combinations, tidy
  tidy   the rules of ARCHITECTURE.md that a machine can check";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let done = match command.as_deref() {
        Some("test") => test::run(),
        Some("ci") => ci::run(),
        Some("tidy") => tidy::run(),
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
