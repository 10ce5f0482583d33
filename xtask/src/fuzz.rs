//! `cargo xtask fuzz`: each target under libFuzzer for a while, on the stable toolchain.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::stage::{self, cargo, root};

/// The version of cargo-fuzz that is installed if it is missing.
const CARGO_FUZZ: &str = "0.13.2";

/// How long each target runs, in seconds, unless the command line says otherwise.
const SECONDS: u64 = 60;

/// The largest input, in bytes: larger ones find the same, and more slowly.
const MAX_LEN: u64 = 4096;

/// How long one input may take, in seconds: a thousand times as long as the slowest takes.
const TIMEOUT: u64 = 10;

/// With the arguments of the command line: `[TARGET] [--seconds N]`.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (target, seconds) = parse(arguments)?;
    let targets = targets()?;
    let chosen: Vec<&String> =
        targets.iter().filter(|known| target.as_ref().is_none_or(|target| target == *known)).collect();
    if chosen.is_empty() {
        return Err(format!("the target does not exist; use one of {}", targets.join(", ")));
    }
    if !cargo(&["fuzz", "--version"]).output().is_ok_and(|found| found.status.success()) {
        let install = ["install", "--quiet", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ];
        stage::run("cargo-fuzz, which is not installed", cargo(&install))?;
    }
    let mut crashes = Vec::new();
    for name in chosen {
        let before = artifacts(name);
        let ran = stage::run(&format!("fuzzing {name}"), fuzzing(name, seconds)?);
        let found: Vec<PathBuf> = artifacts(name).into_iter().filter(|file| !before.contains(file)).collect();
        if ran.is_err() && found.is_empty() {
            return ran.map(|_| ());
        }
        for file in found {
            crashes.push(format!("{}: cargo run -p tiered-fuzz --bin {name} -- {0}", file.display()));
        }
    }
    for crash in &crashes {
        eprintln!("{crash}");
    }
    if crashes.is_empty() { Ok(()) } else { Err(format!("{} inputs fail", crashes.len())) }
}

fn parse(arguments: &[String]) -> Result<(Option<String>, u64), String> {
    let (mut target, mut seconds) = (None, SECONDS);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().and_then(|text| text.parse().ok());
            seconds = number.ok_or("--seconds needs a number")?;
        } else if argument.starts_with('-') || target.is_some() {
            return Err("usage: cargo xtask fuzz [TARGET] [--seconds N]".to_owned());
        } else {
            target = Some(argument.clone());
        }
    }
    Ok((target, seconds))
}

/// The targets are the programs of the crate.
fn targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// A target directory of its own, since every crate is built with other flags.
fn directory() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("fuzz")
}

/// Fuzzes into a corpus below the target directory, from the one that is committed.
fn fuzzing(name: &str, seconds: u64) -> Result<Command, String> {
    let grown = directory().join("corpus").join(name);
    fs::create_dir_all(&grown).map_err(|error| format!("{}: {error}", grown.display()))?;
    // No sanitizer: those need the nightly toolchain, and there is no unsafe code of ours to look at.
    let mut command = cargo(&["fuzz", "run", "--sanitizer", "none", "--target-dir"]);
    command.arg(directory()).arg(name).arg(grown).arg(root().join("fuzz/corpus").join(name)).arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_LEN}"),
        format!("-timeout={TIMEOUT}"),
        "-print_final_stats=1".to_owned(),
    ]);
    Ok(command)
}

/// The inputs that failed.
fn artifacts(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("fuzz/artifacts").join(name));
    files.into_iter().flatten().flatten().map(|file| file.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::{SECONDS, parse};

    #[test]
    fn arguments_are_parsed_as_a_target_and_seconds() {
        let parsed = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parsed(""), Ok((None, SECONDS)));
        assert_eq!(parsed("key --seconds 5"), Ok((Some("key".to_owned()), 5)));
        assert!(parsed("--seconds").is_err() && parsed("key url").is_err() && parsed("--minutes 1").is_err());
    }
}
