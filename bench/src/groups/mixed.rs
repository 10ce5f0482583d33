//! Look-ups mixed with writes.

use anyhow::Result;

use super::{Bench, Findings, Group, sides, source_in_memory};
use crate::measure;
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::{self, Contender, Room};
use crate::report::{Case, Row};
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "mixed",
    title: "Reads and writes",
    about: "Look-ups and writes of 100 B, by Zipf 0.99 over 10,000 keys that are all in memory. A write goes to the \
            backend, a store in memory, and to the cache. Peers write one after the other and promise nothing about the \
            order of two writers; tiered keeps them in step.",
    run: |bench| Box::pin(run(bench)),
};

const KEYS: usize = 10_000;

/// Look-ups of a hundred operations.
const MIXES: [(u8, &str); 2] = [(95, "95 % reads"), (50, "50 % reads")];

async fn run(bench: &Bench) -> Result<Findings> {
    let workload = Workload::new(KEYS, 100, Skew::Zipf);
    let source = source_in_memory();
    source.fill(&workload).await?;
    let room = Room::of(8 * KEYS as u64, &workload);
    let contenders = peers::caches_over(&source, room, &bench.room("mixed")?).await?;
    for contender in &contenders {
        contender.peer.fill(&workload).await?;
    }
    let mut findings = Findings::default();
    for (reads, panel) in MIXES {
        for (tasks, case) in super::hit::TASKS {
            findings.rows.extend(one(bench, &contenders, &workload, reads, (panel, tasks, case)).await?);
        }
    }
    Ok(findings)
}

async fn one(
    bench: &Bench,
    contenders: &[Contender],
    workload: &Workload,
    reads: u8,
    (panel, tasks, case): (&str, usize, &str),
) -> Result<Vec<Row>> {
    let work = Work {
        operation: Operation::Mix(reads),
        workload: workload.clone(),
        tasks,
        time: bench.effort.slice(),
        is_timed: false,
        figure: Figure::Nanoseconds,
    };
    let measured = measure::in_turns(&mut sides(contenders, &work), bench.effort.rounds()).await?;
    let case = Case {
        panel,
        name: case,
        unit: "ns",
        more_is_better: false,
        reference: peers::REFERENCE,
        target: targets::MIXED,
    };
    Ok(case.rows(&measured))
}
