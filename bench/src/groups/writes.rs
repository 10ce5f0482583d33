//! Writes under each policy, beside the backend by itself.

use anyhow::Result;
use tiered::{TieredStore, WritePolicy};

use super::{Bench, Findings, Group, sides};
use crate::measure;
use crate::peers::behind::{self, Log};
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::raw_redb::RawRedb;
use crate::peers::tiered::{DEFAULT, Plain, Stack, redb};
use crate::peers::{self, Contender};
use crate::report::Case;
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "writes",
    title: "Writes by policy",
    about: "Writes of 100 B to 10,000 keys, until they are acknowledged, by 1 and 8 tasks, over redb. What an \
            acknowledged write survives differs by policy: see the table of durable writes.",
    run: |bench| Box::pin(run(bench)),
};

const RAW: &str = "raw redb";

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings { missing: peers::not_here(), ..Findings::default() };
    let workload = Workload::new(10_000, 100, Skew::Uniform);
    let folder = bench.room("writes")?;
    let raw = RawRedb::open(&folder.join("raw.redb"))?;
    let mut contenders = vec![
        Contender::theirs(RAW, raw),
        Contender::ours("tiered redb, no tiers", Plain(redb(&folder.join("plain.redb")).await?)),
    ];
    for (log, name) in [(Log::Through, "through"), (Log::Around, "around"), (Log::Synced, "behind")] {
        let folder = bench.room(&format!("writes/{name}"))?;
        contenders.push(Contender::ours(log.stack(), behind::open(&folder, log).await?));
    }
    let local = TieredStore::builder((DEFAULT.open)(1 << 30)?, redb(&folder.join("local.redb")).await?)
        .write_policy(WritePolicy::FrontendOnly);
    let name = format!("{}, frontend-only", DEFAULT.stack("redb"));
    contenders.push(Contender::ours(name, Stack(local.build().await?)));
    for (tasks, case) in [(1, "1 task"), (8, "8 tasks")] {
        let work = Work {
            operation: Operation::Put,
            workload: workload.clone(),
            tasks,
            time: bench.effort.disk_slice(),
            is_timed: true,
            figure: Figure::Rate,
        };
        let measured = measure::in_turns(&mut sides(&contenders, &work), bench.effort.rounds()).await?;
        let case = Case {
            panel: "writes a second",
            name: case,
            unit: "/s",
            more_is_better: true,
            reference: RAW,
            target: targets::WRITES,
        };
        findings.rows.extend(case.rows(&measured));
    }
    Ok(findings)
}
