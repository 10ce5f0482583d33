//! `cargo xtask instructions`: what hits and reads of a disk cost, in instructions, by valgrind's callgrind. Unlike times they are the
//! same on a busy machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::stage::{cargo, target};

/// Reads in the shorter of two runs. The longer one makes twice as many; the difference leaves out what starting costs.
const READS: u64 = 5000;

pub(crate) fn run() -> Result<(), String> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Err("valgrind is not installed; install the package valgrind".to_owned());
    }
    let program = built()?;
    let kinds = output(Command::new(&program))?;
    for (title, kinds) in ["a hit", "over quick_cache", "a read of 1 KB"].into_iter().zip(kinds.lines()) {
        let mut counted = Vec::new();
        for kind in kinds.split_whitespace() {
            let instructions =
                (counted_run(&program, kind, 2 * READS)? - counted_run(&program, kind, READS)?) / READS;
            counted.push((kind, instructions));
        }
        print(title, &counted);
    }
    Ok(())
}

/// Prints a table. The first row is what the others are compared with.
fn print(title: &str, counted: &[(&str, u64)]) {
    let of = |name: &str| counted.iter().find(|(kind, _)| *kind == name).map(|(_, count)| *count);
    let first = counted.first().map_or(1, |(_, count)| *count);
    println!("{title:<15} {:>12} {:>8}", "instructions", "ratio");
    for (kind, instructions) in counted {
        println!("{kind:<15} {instructions:>12} {:>8}", ratio(*instructions, first));
    }
    if let (Some(typed), Some(decode)) = (of("typed"), of("decode")) {
        let beside = typed.saturating_sub(decode);
        println!("typed, without decoding: {beside}, {} of a hit", ratio(beside, first));
    }
    if let (Some(many), Some(raw)) = (of("get-many"), of("redb-many")) {
        println!("get-many: {} of a raw loop", ratio(many, raw));
    }
    if let (Some(miss), Some(load), Some(insert)) = (of("miss"), of("load"), of("insert")) {
        println!("a miss, beside a load and an insert: {}", miss.saturating_sub(load + insert));
    }
}

fn ratio(one: u64, other: u64) -> String {
    let hundredths = one * 100 / other.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Builds the program, as a release.
fn built() -> Result<PathBuf, String> {
    let mut command = cargo(&[
        "build",
        "--release",
        "-p",
        "tiered-tests",
        "--bench",
        "instructions",
        "--message-format=json",
    ]);
    command.stderr(Stdio::inherit());
    let messages = output(command)?;
    let executables = messages.lines().filter_map(|line| line.split_once(r#""executable":""#));
    let program = executables
        .filter_map(|(_, rest)| rest.split('"').next())
        .find(|path| path.contains("instructions-"));
    program.map(PathBuf::from).ok_or_else(|| "cargo named no program".to_owned())
}

fn output(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", output.status))
    }
}

/// The instructions of one run.
fn counted_run(program: &PathBuf, kind: &str, reads: u64) -> Result<u64, String> {
    let file = target().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(program).args([kind, &reads.to_string()]).stderr(Stdio::inherit());
    output(command)?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total
        .and_then(|total| total.split(' ').next()?.parse().ok())
        .ok_or_else(|| "callgrind counted nothing".to_owned())
}
