//! Hits: what a look-up in memory costs.

use anyhow::Result;

use super::{Bench, Findings, Group, sides};
use crate::measure;
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::{self, Contender, Room};
use crate::report::Case;
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "hit",
    title: "Hits",
    about: "Look-ups of keys that are in memory: nanoseconds of a core for one look-up, by 1, 2, 8 and 64 tasks. Tiered \
            stands over an empty memory backend, peers over nothing.",
    run: |bench| Box::pin(run(bench)),
};

/// Sizes of values, in words and bytes, and how many keys have them.
const SIZES: [(&str, usize, usize); 3] =
    [("100 B", 100, 10_000), ("4 KiB", 4 << 10, 10_000), ("1 MiB", 1 << 20, 64)];

/// Tasks that look up at once.
pub const TASKS: [(usize, &str); 4] = [(1, "1 task"), (2, "2 tasks"), (8, "8 tasks"), (64, "64 tasks")];

/// How much larger caches are than what they hold, so that no shard of them evicts.
const SPARE: u64 = 8;

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    for (size_in_words, size, keys) in SIZES {
        let workload = Workload::new(keys, size, Skew::Uniform);
        let room = Room::of(keys as u64 * SPARE, &workload);
        let contenders = peers::caches(room, &bench.room("hit")?).await?;
        for contender in &contenders {
            contender.peer.fill(&workload).await?;
        }
        for skew in [Skew::Uniform, Skew::Zipf] {
            let workload = Workload::new(keys, size, skew);
            let panel = format!("{size_in_words}, {}", skew.name());
            for (tasks, case) in TASKS {
                findings.rows.extend(one(bench, &contenders, &workload, tasks, (&panel, case)).await?);
            }
        }
    }
    findings.notes.push(
        "moka is `moka::sync::Cache` with LRU and foldhash, as beneath tiered's own tier; the other peers have their \
         defaults."
            .to_owned(),
    );
    Ok(findings)
}

async fn one(
    bench: &Bench,
    contenders: &[Contender],
    workload: &Workload,
    tasks: usize,
    (panel, case): (&str, &str),
) -> Result<Vec<crate::report::Row>> {
    let work = Work {
        operation: Operation::Get,
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
        target: targets::HIT,
    };
    Ok(case.rows(&measured))
}
