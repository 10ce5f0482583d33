//! The `tiered` command: read, write, list, synchronise and check stores in tiers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks on the terminal")]

mod arguments;
mod commands;
mod demo;
mod exit;
mod output;
mod output_file;
mod progress;
mod stack;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors. A failed print means that the reader has left.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("error: the runtime cannot start: {error}"));
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            error.code()
        }
    };
    // A call that hangs must not keep the process alive.
    runtime.shutdown_background();
    ExitCode::from(code)
}
