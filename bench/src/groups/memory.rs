//! Memory: what caches hold and allocate, by an allocator that counts. Each figure is taken in a process of its own
//! (`tiered-bench-memory`), since counting would cost the other groups time.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Bench, Findings, Group};
use crate::measure::{self, Sample, Side};
use crate::peers::{self, Contender, Room, tiered};
use crate::report::{Case, Row};
use crate::targets::{self, Target};
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "memory",
    title: "Memory",
    about: "What a cache holds beside keys and values, what it holds when it is full, and how often a hit allocates, by \
            an allocator that counts. Of tiered's bytes, the memory tier by itself; of its hits, the stack.",
    run: |bench| Box::pin(run(bench)),
};

/// What is counted, as the second program knows it.
const KINDS: [Kind; 4] = [
    Kind {
        name: "entry-100",
        panel: "beside key and value",
        case: "100 B",
        unit: "B",
        target: targets::MEMORY,
    },
    Kind {
        name: "entry-4096",
        panel: "beside key and value",
        case: "4 KiB",
        unit: "B",
        target: targets::MEMORY,
    },
    Kind { name: "full", panel: "held of the capacity", case: "1 KiB", unit: "%", target: targets::CAPACITY },
    Kind {
        name: "hit",
        panel: "allocations of a hit",
        case: "100 B",
        unit: "allocations",
        target: targets::ALLOCATIONS,
    },
];

struct Kind {
    name: &'static str,
    panel: &'static str,
    case: &'static str,
    unit: &'static str,
    target: Target,
}

/// The second program, beside this one.
const PROGRAM: &str = "tiered-bench-memory";

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    for kind in KINDS {
        findings.rows.extend(one(bench, &kind).await?);
    }
    findings.notes.push("Capacities of cachet and multi-tier-cache are numbers of entries.".to_owned());
    Ok(findings)
}

async fn one(bench: &Bench, kind: &Kind) -> Result<Vec<Row>> {
    let program = std::env::current_exe()?.with_file_name(PROGRAM);
    let names: Vec<String> = if kind.name == "hit" { peers::cache_names() } else { holders() };
    let mut sides = Vec::new();
    for name in &names {
        let program = program.clone();
        sides.push(Side::new(name.clone(), name.starts_with("tiered"), move || {
            // An empty folder for each: a hybrid cache would find what the one before it wrote.
            let counted = bench.room("memory").and_then(|folder| counted(&program, kind.name, name, &folder));
            Box::pin(async move { Ok(Sample::of(counted?)) })
        }));
    }
    let rounds = bench.effort.pick(1, 3);
    let measured = measure::in_cold_turns(&mut sides, rounds).await?;
    let case = Case {
        panel: kind.panel,
        name: kind.case,
        unit: kind.unit,
        more_is_better: false,
        reference: peers::REFERENCE,
        target: kind.target,
    };
    Ok(case.rows(&measured))
}

fn counted(program: &Path, kind: &str, side: &str, folder: &Path) -> Result<f64> {
    let output =
        Command::new(program).args([kind, side]).arg(folder).output().context("tiered-bench-memory")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// What the allocator has counted so far.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Bytes that are held now.
    pub held: usize,
    /// Allocations ever.
    pub allocations: usize,
}

/// Those who hold entries: tiered's memory tiers by themselves, and the peers.
fn holders() -> Vec<String> {
    let tiers = tiered::TIERS.iter().map(tier_name);
    tiers.chain(peers::cache_names().into_iter().filter(|name| !name.starts_with("tiered"))).collect()
}

fn tier_name(tier: &tiered::Tier) -> String {
    format!("tiered's {} tier", tier.name)
}

async fn holder(name: &str, room: Room, folder: &Path) -> Result<Contender> {
    match tiered::TIERS.iter().find(|tier| tier_name(tier) == name) {
        Some(tier) => Ok(Contender::ours(name, tiered::Plain((tier.open)(room.with_bookkeeping())?))),
        None => peers::cache(name, room, folder).await,
    }
}

/// Entries whose bytes are counted.
const ENTRIES: usize = 20_000;
/// Hits whose allocations are counted.
const HITS: usize = 100_000;

/// Counts one figure of a side; for the second program.
pub async fn count(kind: &str, who: &str, folder: &Path, counted: fn() -> Counted) -> Result<f64> {
    match kind {
        "entry-100" => beside(100, who, folder, counted).await,
        "entry-4096" => beside(4096, who, folder, counted).await,
        "full" => held_of_capacity(who, folder, counted).await,
        "hit" => allocations(who, folder, counted).await,
        _ => bail!("nothing has the name {kind}"),
    }
}

/// Bytes of an entry beside its key and value.
async fn beside(size: usize, who: &str, folder: &Path, counted: fn() -> Counted) -> Result<f64> {
    let workload = Workload::new(ENTRIES, size, Skew::InOrder);
    let room = Room::of(2 * ENTRIES as u64, &workload);
    let before = counted().held;
    let contender = holder(who, room, folder).await?;
    contender.peer.fill(&workload).await?;
    let held = counted().held.saturating_sub(before) as f64;
    Ok(held / ENTRIES as f64 - room.each as f64)
}

/// What is held after four times as much was written as there is room for, in percent of the room.
async fn held_of_capacity(who: &str, folder: &Path, counted: fn() -> Counted) -> Result<f64> {
    let workload = Workload::new(4 * ENTRIES, 1024, Skew::InOrder);
    let room = Room::of(ENTRIES as u64, &workload);
    let before = counted().held;
    let contender = holder(who, room, folder).await?;
    contender.peer.fill(&workload).await?;
    let held = counted().held.saturating_sub(before) as f64;
    let declared = if contender.is_ours { room.with_bookkeeping() } else { room.bytes() };
    Ok(held * 100.0 / declared as f64)
}

/// Allocations of a hit, of which housekeeping is a part.
async fn allocations(who: &str, folder: &Path, counted: fn() -> Counted) -> Result<f64> {
    let workload = Workload::new(1000, 100, Skew::Uniform);
    let contender = peers::cache(who, Room::of(8000, &workload), folder).await?;
    contender.peer.fill(&workload).await?;
    contender.peer.look_up(&workload, HITS).await?;
    let before = counted().allocations;
    contender.peer.look_up(&workload, HITS).await?;
    // What housekeeping allocates now and then is rounded off.
    let each = (counted().allocations - before) as f64 / HITS as f64;
    Ok((each * 100.0).round() / 100.0)
}
