//! Misses with a fill: what a look-up costs that has to load its value.

use anyhow::Result;

use super::{Bench, Findings, Group, sides, source_in_memory, source_in_redb};
use crate::measure;
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::source::Source;
use crate::peers::{self, Room};
use crate::report::{Case, Row};
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "miss",
    title: "Misses with a fill",
    about: "Look-ups of keys in order, of which the cache holds one of a hundred: each loads the value from the backend \
            and puts it into the cache. The backend is the same store for all sides.",
    run: |bench| Box::pin(run(bench)),
};

/// Sizes of values, in words and bytes, and how many keys have them.
const SIZES: [(&str, usize, usize); 2] = [("100 B", 100, 100_000), ("4 KiB", 4 << 10, 20_000)];

/// Tasks that look up at once.
const TASKS: [(usize, &str); 2] = [(1, "1 task"), (8, "8 tasks")];

/// Of how many keys the cache holds one.
const SCARCITY: usize = 100;

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    for (size_in_words, size, keys) in SIZES {
        let workload = Workload::new(keys, size, Skew::InOrder);
        let redb = source_in_redb(bench, "miss").await?;
        for source in [source_in_memory(), redb] {
            source.fill(&workload).await?;
            let panel = format!("{} behind it, {size_in_words}", source.name());
            findings.rows.extend(over(bench, &source, &workload, &panel).await?);
            source.store().close().await?;
        }
    }
    findings.notes.extend([
        "moka is `moka::future::Cache` with `try_get_with`, quick_cache `get_or_insert_async`, foyer `get_or_fetch`, \
         multi-tier-cache `get_or_compute_with`, cachet a fallback tier with `stampede_protection`."
            .to_owned(),
        "foyer hybrid finds on its disk tier what it evicted from memory: it does not ask the backend again."
            .to_owned(),
    ]);
    Ok(findings)
}

async fn over(bench: &Bench, source: &Source, workload: &Workload, panel: &str) -> Result<Vec<Row>> {
    let room = Room::of((workload.names.len() / SCARCITY) as u64, workload);
    let contenders = peers::caches_over(source, room, &bench.room("caches")?).await?;
    let mut rows = Vec::new();
    for (tasks, case) in TASKS {
        let work = Work {
            operation: Operation::Get,
            workload: workload.clone(),
            tasks,
            time: bench.effort.slice(),
            is_timed: true,
            figure: Figure::Nanoseconds,
        };
        let measured = measure::in_turns(&mut sides(&contenders, &work), bench.effort.rounds()).await?;
        let case = Case {
            panel,
            name: case,
            unit: "ns",
            more_is_better: false,
            reference: peers::REFERENCE,
            target: targets::MISS,
        };
        rows.extend(case.rows(&measured));
    }
    Ok(rows)
}
