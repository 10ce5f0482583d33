//! Inputs again: a target's corpus, or files by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::Target;

/// The files of the corpus of the target `name`, in the order of their names.
///
/// # Errors
/// The operating system's.
pub fn corpus(name: &str) -> io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort_unstable();
    Ok(files)
}

/// The program of a target without libFuzzer: replays the files that are named on the command line.
#[expect(clippy::print_stderr, reason = "a program speaks on the terminal")]
pub fn main(target: Target) -> ExitCode {
    for file in std::env::args_os().skip(1) {
        eprintln!("{}", Path::new(&file).display());
        match fs::read(&file) {
            Ok(input) => target(&input),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
