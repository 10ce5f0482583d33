//! `tiered-bench-memory KIND SIDE FOLDER`: counts one figure of the group `memory` and prints it.
#![allow(clippy::print_stdout, reason = "it hands its figure over on standard output")]

use std::alloc::System;
use std::path::Path;

use anyhow::{Result, bail};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tiered_bench::groups::memory::{Counted, count};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn counted() -> Counted {
    let stats = ALLOCATOR.stats();
    Counted {
        held: stats.bytes_allocated.saturating_sub(stats.bytes_deallocated),
        allocations: stats.allocations + stats.reallocations,
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, side, folder] = arguments.as_slice() else {
        bail!("usage: tiered-bench-memory KIND SIDE FOLDER");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", runtime.block_on(count(kind, side, Path::new(folder), counted))?);
    Ok(())
}
