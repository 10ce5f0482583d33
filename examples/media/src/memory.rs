//! How much memory this process takes.

use std::fs;

use anyhow::Context as _;

/// The most that it had in memory at a time, in bytes.
pub fn peak() -> anyhow::Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("only Linux tells how much memory it was")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}
