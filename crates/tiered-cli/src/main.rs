//! The `tiered` command: read, write, list, synchronise and check stores in tiers.

use std::process::ExitCode;

fn main() -> ExitCode {
    tiered_cli::main_with(tiered::Schemes::standard())
}
