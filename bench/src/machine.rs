//! The machine of a run, and the versions of what was compared.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Peers and what they stand on, whose versions a report names.
const COMPARED: [&str; 11] = [
    "aws-sdk-s3",
    "cachet",
    "foyer",
    "moka",
    "multi-tier-cache",
    "quick_cache",
    "redb",
    "redis",
    "rocksdb",
    "sqlx",
    "tokio",
];

/// What the figures depend on beside the code.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Threads that run at once.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub system: String,
    /// The compiler.
    pub compiler: String,
    /// The commit of this project, marked where the tree differs from it.
    pub revision: String,
    /// Others on this machine when the run began: the load of the last minute.
    pub load: String,
    /// What was compared, with versions.
    pub versions: Vec<String>,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        let load = read("/proc/loadavg");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: kib >> 10,
            system: said(&["uname", "-sr"]),
            compiler: said(&["rustc", "--version"]),
            revision: revision(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            versions: versions(include_str!("../Cargo.lock")),
        }
    }
}

/// What a program prints; `unknown` where it cannot be asked.
pub fn said(words: &[&str]) -> String {
    let Some((program, arguments)) = words.split_first() else { return String::new() };
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn revision() -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    let commit = said(&["git", "-C", here, "rev-parse", "--short", "HEAD"]);
    let changes = said(&["git", "-C", here, "status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { commit } else { format!("{commit}, with changes") }
}

fn versions(lock: &str) -> Vec<String> {
    let mut versions = Vec::new();
    let mut lines = lock.lines().peekable();
    while let Some(line) = lines.next() {
        let quoted = |line: &str, name: &str| {
            line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"').map(str::to_owned)
        };
        if let Some(name) = quoted(line, "name")
            && COMPARED.contains(&name.as_str())
            && let Some(version) = lines.peek().and_then(|line| quoted(line, "version"))
        {
            versions.push(format!("{name} {version}"));
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"moka\"\nversion = \"0.12.16\"\n\n[[package]]\nname = \"x\"\nversion = \"1.0.0\"\n";
        assert_eq!(versions(lock), ["moka 0.12.16"]);
    }
}
