//! Stampedes: many readers of one key that is not in memory.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use super::{Bench, Findings, Group, source_in_memory};
use crate::measure::{self, Sample, Side};
use crate::peers::source::Source;
use crate::peers::{self, Contender, Room};
use crate::report::Case;
use crate::statistics::Waits;
use crate::targets;
use crate::workload::{Name, Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "stampede",
    title: "Stampedes",
    about: "1,000 readers, each a task, of one key that no cache has; a read of the backend takes 10 ms. How long until \
            all have their answer, and how often the backend was read.",
    run: |bench| Box::pin(run(bench)),
};

const READERS: usize = 1000;
const CASE: &str = "1,000 readers";

/// What a read of the backend takes.
const WAIT: Duration = Duration::from_millis(10);

/// What one stampede tells.
#[derive(Clone, Copy, Debug)]
enum Told {
    Time,
    Loads,
}

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let rounds = bench.effort.rounds();
    // A key for each round of each of the two figures, and for warming up: never one that a cache has.
    let workload = Workload::new(2 * (rounds + 1), 100, Skew::InOrder);
    let source = source_in_memory().waiting(WAIT);
    source.fill(&workload).await?;
    let contenders =
        peers::caches_over(&source, Room::of(10_000, &workload), &bench.room("stampede")?).await?;
    let figures = [
        (Told::Time, "time until all have an answer", "ms", targets::STAMPEDE),
        (Told::Loads, "reads of the backend", "reads", targets::STAMPEDE_LOADS),
    ];
    for (index, (told, panel, unit, target)) in figures.into_iter().enumerate() {
        let first = index * (rounds + 1);
        let mut sides: Vec<Side<'_>> =
            contenders.iter().map(|contender| side(contender, &source, &workload, first, told)).collect();
        let measured = measure::in_turns(&mut sides, rounds).await?;
        let reference = peers::REFERENCE;
        let case = Case { panel, name: CASE, unit, more_is_better: false, reference, target };
        findings.rows.extend(case.rows(&measured));
    }
    Ok(findings)
}

fn side<'a>(
    contender: &'a Contender,
    source: &'a Source,
    workload: &'a Workload,
    first: usize,
    told: Told,
) -> Side<'a> {
    let next = Rc::new(Cell::new(first));
    Side::new(contender.name.clone(), contender.is_ours, move || {
        let name = workload.names.get(next.replace(next.get() + 1)).cloned();
        let (contender, source) = (contender.clone(), source.clone());
        Box::pin(async move {
            let name = name.context("there are more rounds than keys")?;
            stampede(contender, source, name, told).await
        })
    })
}

async fn stampede(contender: Contender, source: Source, name: Name, told: Told) -> Result<Sample> {
    let (begun, before) = (Instant::now(), source.loads());
    let readers = (0..READERS).map(|_| {
        let (peer, name) = (contender.peer.clone(), name.clone());
        tokio::spawn(async move { (peer.find(&name).await, begun.elapsed()) })
    });
    let readers: Vec<_> = readers.collect();
    let (mut waits, mut last) = (Waits::default(), Duration::ZERO);
    for (answer, wait) in try_join_all(readers).await? {
        ensure!(answer?.is_some(), "a reader found nothing");
        waits.record(wait);
        last = last.max(wait);
    }
    Ok(match told {
        Told::Time => Sample { value: last.as_secs_f64() * 1e3, waits: Some(waits) },
        Told::Loads => Sample::of((source.loads() - before) as f64),
    })
}
