//! A stage of a run: a command, its output passed on, its seconds printed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::setup;

/// What a test stage counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) stacks: u64,
    pub(crate) schedules: u64,
}

impl Counts {
    /// Reads a line of a test run: libtest's summary, a stack of the matrix, or the schedules of a scenario.
    pub(crate) fn read(&mut self, line: &str) {
        // libtest may have begun the line.
        if let Some((_, scenario)) = line.split_once("schedules ") {
            let count = scenario.split(' ').next().and_then(|count| count.parse::<u64>().ok());
            self.schedules += count.unwrap_or(0);
        }
        if line.starts_with("stack ") && !line.contains(": not run") {
            self.stacks += 1;
        }
        let Some(summary) = line.strip_prefix("test result:") else { return };
        let number = |word: &str| {
            let before = summary.split(word).next()?.trim_end();
            before.rsplit([' ', ';']).next()?.parse::<u64>().ok()
        };
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
    }

    /// What was counted, for a line of a table: empty, or after a comma.
    pub(crate) fn in_words(&self) -> String {
        let counts = [
            (self.passed, "passed"),
            (self.failed, "failed"),
            (self.stacks, "stacks"),
            (self.schedules, "schedules"),
        ];
        let counted = counts.into_iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counted.map(|(count, what)| format!(", {count} {what}")).collect();
        words.concat()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.stacks += other.stacks;
        self.schedules += other.schedules;
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo compiles to.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// A cargo command in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    setup::compilers(&mut command);
    command
}

/// Runs a stage to its end; its seconds and what it counted.
pub(crate) fn run(name: &str, mut command: Command) -> Result<Counts, String> {
    println!("--- {name}");
    #[expect(clippy::disallowed_methods, reason = "a build tool has no injected clock")]
    let begun = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name}: cannot start {command:?}: {error}"))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            counts.read(&line);
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    println!("--- {name}: {} s", begun.elapsed().as_secs());
    if status.success() { Ok(counts) } else { Err(format!("{name} failed: {command:?}")) }
}

/// Runs a command to its end.
pub(crate) fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_are_parsed_from_the_output_of_libtest() {
        let mut counts = Counts::default();
        counts.read(
            "test result: ok. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        counts.read("stack moka/redb write-through frontend-first: 100 passed, 0 failed, 20 skipped");
        counts.read("..schedules 6667 writers_and_readers");
        assert_eq!((counts.passed, counts.failed, counts.stacks, counts.schedules), (12, 3, 1, 6667));
    }
}
