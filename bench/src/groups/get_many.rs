//! Many keys by one call.

use anyhow::Result;

use super::{Bench, Findings, Group, sides, source_in_redb};
use crate::measure;
use crate::peers::drive::{Figure, Operation, Work};
use crate::peers::{self, Room};
use crate::report::Case;
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "get_many",
    title: "Many keys by one call",
    about: "100 keys with values of 100 B by one call, over a redb backend: all in memory, or none. Peers have no such \
            call and are asked for one key after the other.",
    run: |bench| Box::pin(run(bench)),
};

const KEYS: usize = 20_000;
/// Keys of one call.
const CALL: usize = 100;

/// What is in memory: in words, and of how many keys.
const HELD: [(&str, u64); 2] = [("all in memory", 8 * KEYS as u64), ("none in memory", KEYS as u64 / 100)];

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let workload = Workload::new(KEYS, 100, Skew::InOrder);
    let source = source_in_redb(bench, "get_many").await?;
    source.fill(&workload).await?;
    for (panel, entries) in HELD {
        let room = Room::of(entries, &workload);
        let contenders = peers::caches_over(&source, room, &bench.room("caches")?).await?;
        if entries > KEYS as u64 {
            for contender in &contenders {
                contender.peer.look_up(&workload, KEYS).await?;
            }
        }
        let work = Work {
            operation: Operation::GetMany(CALL),
            workload: workload.clone(),
            tasks: 1,
            time: bench.effort.slice(),
            is_timed: true,
            figure: Figure::Nanoseconds,
        };
        let measured = measure::in_turns(&mut sides(&contenders, &work), bench.effort.rounds()).await?;
        let case = Case {
            panel,
            name: "100 keys, 1 task",
            unit: "ns",
            more_is_better: false,
            reference: peers::REFERENCE,
            target: targets::GET_MANY,
        };
        findings.rows.extend(case.rows(&measured));
    }
    source.store().close().await?;
    Ok(findings)
}
