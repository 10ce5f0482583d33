//! Writes under each policy, beside what a careful user would write by hand over the same file.

use std::sync::Arc;

use anyhow::Result;
use tiered::{MemoryStore, TieredStore, WritePolicy};

use super::{Bench, Findings, Group, sides};
use crate::measure;
use crate::peers::Contender;
use crate::peers::behind::{self, Log};
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::group_commit::GroupCommit;
use crate::peers::raw_redb::RawRedb;
use crate::peers::tiered::{DEFAULT, Plain, Stack, redb};
use crate::report::Case;
use crate::targets::{self, Target};
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "writes",
    title: "Writes by policy",
    about: "Writes of 100 B to 10,000 keys, until they are acknowledged, by 1, 8 and 64 tasks, over redb. Those that the \
            backend has when they are acknowledged stand beside a group commit written by hand, with the same durability, \
            records and checksums; those that a journal has beside a bare log with one sync for each group. What an \
            acknowledged write survives differs by policy: see the table of durable writes.",
    run: |bench| Box::pin(run(bench)),
};

const BY_HAND: &str = "redb, group commit by hand";
const BARE_LOG: &str = "a bare log";

/// Sides that promise the same.
struct Panel {
    name: &'static str,
    reference: &'static str,
    target: Target,
    contenders: Vec<Contender>,
}

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let workload = Workload::new(10_000, 100, Skew::Uniform);
    for panel in [through(bench).await?, behind(bench).await?] {
        for (tasks, case) in [(1, "1 task"), (8, "8 tasks"), (64, "64 tasks")] {
            let work = Work {
                operation: Operation::Put,
                workload: workload.clone(),
                tasks,
                time: bench.effort.disk_slice(),
                is_timed: true,
                figure: Figure::Rate,
            };
            let mut sides = sides(&panel.contenders, &work);
            let case = Case {
                panel: panel.name,
                name: case,
                unit: "/s",
                more_is_better: true,
                reference: panel.reference,
                target: panel.target,
            };
            findings.rows.extend(case.rows(&measure::in_turns(&mut sides, bench.effort.rounds()).await?));
        }
    }
    Ok(findings)
}

async fn through(bench: &Bench) -> Result<Panel> {
    let folder = bench.room("writes")?;
    let mut contenders = vec![
        Contender::theirs(BY_HAND, GroupCommit::over_redb(&folder.join("by-hand.redb"))?),
        Contender::theirs("redb, a commit for each", RawRedb::open(&folder.join("raw.redb"))?),
        Contender::ours("tiered redb, no tiers", Plain(redb(&folder.join("plain.redb")).await?)),
    ];
    for (log, name) in [(Log::Through, "through"), (Log::Around, "around")] {
        let folder = bench.room(&format!("writes/{name}"))?;
        contenders.push(Contender::ours(log.stack(), behind::open(&folder, log).await?));
    }
    Ok(Panel {
        name: "writes a second, acknowledged by the backend",
        reference: BY_HAND,
        target: targets::WRITE_THROUGH,
        contenders,
    })
}

async fn behind(bench: &Bench) -> Result<Panel> {
    let folder = bench.room("writes/log")?;
    let mut contenders = vec![Contender::theirs(BARE_LOG, GroupCommit::over_log(&folder.join("bare.log"))?)];
    // The backend that follows shares the disk and the cores with the journal: over redb, and over memory.
    let written = bench.room("writes/behind")?;
    contenders.push(Contender::ours(Log::Synced.stack(), behind::open(&written, Log::Synced).await?));
    let beside = bench.room("writes/behind-memory")?;
    let over_memory =
        behind::open_over(&beside, Log::Synced, Arc::new(MemoryStore::new()), |builder| builder);
    contenders
        .push(Contender::ours(format!("{}, write-behind", DEFAULT.stack("memory")), over_memory.await?));
    let local = TieredStore::builder((DEFAULT.open)(1 << 30)?, redb(&folder.join("local.redb")).await?)
        .write_policy(WritePolicy::FrontendOnly);
    let name = format!("{}, frontend-only", DEFAULT.stack("redb"));
    contenders.push(Contender::ours(name, Stack(local.build().await?)));
    Ok(Panel {
        name: "writes a second, acknowledged before",
        reference: BARE_LOG,
        target: targets::WRITE_BEHIND,
        contenders,
    })
}
