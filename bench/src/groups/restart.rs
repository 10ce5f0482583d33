//! Restarts: how soon a store that was closed serves from its disk tier again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tiered::settings::Reopen;
use tiered::{Store as _, TieredStore};

use super::{Bench, Findings, Group};
use crate::measure::{self, Measured, Sample, Side};
use crate::peers::Room;
use crate::peers::drive::Drive;
use crate::peers::foyer::Hybrid;
use crate::peers::source::Source;
use crate::peers::tiered::{Stack, redb};
use crate::report::{Case, Row};
use crate::targets;
use crate::workload::{Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "restart",
    title: "Restarts",
    about: "A disk tier before a backend, filled and closed cleanly, then opened again: the time until the first look-up \
            is answered, and until look-ups are as fast as they become. The backend is redb, at once or 1 ms away. foyer \
            is there with its hybrid cache over the same backend.",
    run: |bench| Box::pin(run(bench)),
};

const KEYS: usize = 10_000;
const REFERENCE: &str = "foyer hybrid";

/// Look-ups at once, after opening.
const TASKS: usize = 4;

/// How finely the rate after opening is looked at.
const WINDOW: Duration = Duration::from_millis(20);

/// Of the last rate: what counts as full.
const FULL: f64 = 0.9;

/// The backends: in words, and how far away they are.
const BACKENDS: [(&str, Duration); 2] =
    [("redb before redb", Duration::ZERO), ("redb before a backend 1 ms away", Duration::from_millis(1))];

/// Look-ups at once that fill a disk tier.
const AT_ONCE: usize = 256;

/// Who is opened again.
#[derive(Clone, Copy, Debug)]
enum Who {
    Tiered(Reopen),
    Foyer,
}

const SIDES: [(Who, &str, bool); 3] = [
    (Who::Tiered(Reopen::Revalidate), "tiered redb/redb, revalidate", true),
    (Who::Tiered(Reopen::Trust), "tiered redb/redb, trust", true),
    (Who::Foyer, REFERENCE, false),
];

/// What is looked at after opening.
#[derive(Clone, Copy, Debug)]
enum Until {
    FirstHit,
    FullRate,
}

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let workload = Workload::new(KEYS, 1000, Skew::Uniform);
    for (name, wait) in BACKENDS {
        let folder = bench.room("restart")?;
        let path = folder.join("backend.redb");
        let store = redb(&path).await?;
        Source::new("redb", store.clone()).fill(&workload).await?;
        store.close().await?;
        for (who, side, _) in SIDES {
            let folder = folder.join(side.replace([' ', '/', ','], "-"));
            warm(who, &folder, &path, &workload).await?;
        }
        for (until, panel) in [(Until::FirstHit, "first hit"), (Until::FullRate, "full rate")] {
            let measured = one(bench, &folder, (wait, until), &workload).await?;
            findings.rows.extend(rows(panel, name, &measured));
        }
    }
    Ok(findings)
}

fn rows(panel: &str, name: &str, measured: &[Measured]) -> Vec<Row> {
    let (unit, reference, target) = ("ms", REFERENCE, targets::RESTART);
    Case { panel, name, unit, more_is_better: false, reference, target }.rows(measured)
}

async fn one(
    bench: &Bench,
    folder: &Path,
    (wait, until): (Duration, Until),
    workload: &Workload,
) -> Result<Vec<Measured>> {
    let window = bench.effort.pick(Duration::from_millis(600), Duration::from_secs(3));
    let side = |(who, name, is_ours): (Who, &str, bool)| {
        let own = folder.join(name.replace([' ', '/', ','], "-"));
        let path = folder.join("backend.redb");
        let workload = workload.clone();
        Side::new(name, is_ours, move || {
            let (own, path, workload) = (own.clone(), path.clone(), workload.clone());
            Box::pin(async move {
                let begun = Instant::now();
                let (open, source) = open(who, &own, &path, wait).await?;
                if let Some(name) = workload.names.first() {
                    ensure!(open.peer().find(name).await?.is_some(), "the first key is not there");
                }
                let value = match until {
                    Until::FirstHit => begun.elapsed().as_secs_f64() * 1e3,
                    Until::FullRate => full_rate(open.peer(), &workload, begun, window).await?,
                };
                open.close().await?;
                source.store().close().await?;
                Ok(Sample::of(value))
            })
        })
    };
    let mut sides: Vec<Side<'_>> = SIDES.into_iter().map(side).collect();
    let rounds = bench.effort.pick(3, 15);
    measure::in_cold_turns(&mut sides, rounds).await
}

/// An opened side.
enum Open {
    Tiered(Arc<Stack>),
    Foyer(Arc<Hybrid>),
}

impl Open {
    fn peer(&self) -> Arc<dyn Drive> {
        match self {
            Self::Tiered(stack) => stack.clone(),
            Self::Foyer(hybrid) => hybrid.clone(),
        }
    }

    async fn close(&self) -> Result<()> {
        match self {
            Self::Tiered(stack) => Ok(stack.0.close().await?),
            Self::Foyer(hybrid) => hybrid.close().await,
        }
    }
}

async fn open(who: Who, own: &Path, backend: &Path, wait: Duration) -> Result<(Open, Source)> {
    std::fs::create_dir_all(own)?;
    let source = Source::new("redb", redb(backend).await?).waiting(wait);
    let open = match who {
        Who::Tiered(reopen) => {
            let frontend = redb(&own.join("frontend.redb")).await?;
            let store = TieredStore::builder(frontend, source.clone()).reopen(reopen).build().await?;
            Open::Tiered(Arc::new(Stack(store)))
        }
        Who::Foyer => {
            // Little memory: it is the disk tier that is asked.
            let room = Room { entries: 100, each: 1024 };
            Open::Foyer(Arc::new(Hybrid::open(room, own, Some(source.clone())).await?))
        }
    };
    Ok((open, source))
}

/// Fills a disk tier from the backend, and closes it.
async fn warm(who: Who, own: &Path, backend: &Path, workload: &Workload) -> Result<()> {
    let (open, source) = open(who, own, backend, Duration::ZERO).await?;
    let peer = open.peer();
    // Several at once, so that their fills share commits.
    for names in workload.names.chunks(AT_ONCE) {
        try_join_all(names.iter().map(|name| peer.find(name))).await?;
    }
    open.close().await?;
    source.store().close().await?;
    Ok(())
}

/// Milliseconds from `begun` until the rate is nearly what it is in the end.
async fn full_rate(
    peer: Arc<dyn Drive>,
    workload: &Workload,
    begun: Instant,
    window: Duration,
) -> Result<f64> {
    let started = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let (peer, workload) = (peer.clone(), workload.clone());
        tokio::spawn(async move {
            let mut counts = vec![0_u64; (window.as_micros() / WINDOW.as_micros()) as usize];
            let order = workload.order.iter().cycle().skip(task * workload.order.len() / TASKS);
            for index in order {
                let Some(name) = workload.names.get(*index as usize) else { continue };
                ensure!(peer.find(name).await?.is_some(), "a key is not there");
                let at = (started.elapsed().as_micros() / WINDOW.as_micros()) as usize;
                match counts.get_mut(at) {
                    Some(count) => *count += 1,
                    None => break,
                }
            }
            anyhow::Ok(counts)
        })
    });
    let mut counts: Vec<u64> = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        let more = task.await??;
        counts.resize(more.len(), 0);
        counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
    }
    let before = started.duration_since(begun).as_secs_f64() * 1e3;
    Ok(before + first_full(&counts) as f64 * WINDOW.as_secs_f64() * 1e3)
}

/// The first window whose rate is nearly that of the last quarter.
fn first_full(counts: &[u64]) -> usize {
    let last = counts.get(counts.len() - counts.len() / 4..).unwrap_or_default();
    let mut sorted = last.to_vec();
    sorted.sort_unstable();
    let full = sorted.get(sorted.len() / 2).map_or(0.0, |count| *count as f64 * FULL);
    counts.iter().position(|count| *count as f64 >= full).unwrap_or(counts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_full_window_is_as_fast_as_the_last_ones() {
        assert_eq!(first_full(&[1, 5, 20, 95, 80, 100, 100, 99]), 3);
        assert_eq!(first_full(&[100, 100, 100, 100]), 0);
    }
}
