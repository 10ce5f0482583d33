//! The `tiered` command, for programs with stores of their own: read, write, list, synchronise and check stores in tiers.
//!
//! [`main_with`] is the whole command with the schemes of the program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks on the terminal")]

mod arguments;
mod commands;
mod demo;
mod exit;
mod fingerprint;
mod git;
mod output;
mod output_file;
mod progress;
mod references;
mod stack;

use std::ffi::OsString;
use std::process::ExitCode;

use tiered::Schemes;

/// The programs of the book's page on the command, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/cli.md")]
struct Pages;

/// Runs the command with the arguments of the process, and with stores of `schemes`.
///
/// A scheme of the program may stand wherever a URL does: `--store mine:…`, `--backend mine:…`, in a `--config`, and in
/// `conformance mine:…`.
///
/// # Examples
/// ```no_run
/// use std::process::ExitCode;
///
/// use tiered::adapter::url::StoreUrl;
/// use tiered::{Create, MemoryStore, Result, Schemes};
///
/// /// `mine:NAME`
/// async fn mine(url: StoreUrl, _: Create) -> Result<MemoryStore> {
///     url.finish(&[])?;
///     Ok(MemoryStore::new())
/// }
///
/// fn main() -> ExitCode {
///     tiered_cli::main_with(Schemes::standard().with("mine", mine))
/// }
/// ```
#[expect(clippy::needless_pass_by_value, reason = "a main function has no other use for it")]
pub fn main_with(schemes: Schemes) -> ExitCode {
    ExitCode::from(run_with(&schemes, std::env::args_os()))
}

/// Runs the command with these arguments, of which the first is the program's name, and answers the code that it ends with.
/// Starts a runtime of its own, so it must not be called within one.
///
/// # Examples
/// ```
/// use tiered::Schemes;
///
/// let code = tiered_cli::run_with(&Schemes::standard(), ["tiered", "--store", "memory:", "get", "k"].map(Into::into));
/// assert_eq!(code, 1, "no such key");
/// ```
pub fn run_with(schemes: &Schemes, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments = match arguments::parse(arguments.into_iter()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors. A failed print means that the reader has left.
            error.print().ok();
            return if error.use_stderr() { exit::USAGE } else { exit::OK };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("error: the runtime cannot start: {error}"));
            return exit::FAILED;
        }
    };
    let code = match runtime.block_on(commands::run(schemes, arguments)) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            error.code()
        }
    };
    // A call that hangs must not keep the process alive.
    runtime.shutdown_background();
    code
}
