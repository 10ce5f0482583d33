//! Restarts: how soon a store that was closed serves from its disk tier again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tiered::settings::Reopen;
use tiered::{Store as _, TieredStore};

use super::{Bench, Findings, Group, copy_folder};
use crate::measure::{self, Measured, Sample, Side};
use crate::peers::Room;
use crate::peers::drive::Drive;
use crate::peers::foyer::Hybrid;
use crate::peers::source::Source;
use crate::peers::tiered::{Stack, redb};
use crate::report::{Case, Row, markdown};
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

const REFERENCE: &str = "foyer hybrid";

/// Look-ups at once, after opening.
const TASKS: usize = 4;

/// How finely the rate after opening is looked at.
const WINDOW: Duration = Duration::from_millis(20);

/// Of the last rate: what counts as full.
const FULL: f64 = 0.9;

/// The backends: in words, and how far away they are.
const BACKENDS: [(&str, Duration); 2] =
    [("redb behind it", Duration::ZERO), ("a backend 1 ms away behind it", Duration::from_millis(1))];

/// Look-ups at once that fill a disk tier.
const AT_ONCE: usize = 256;

/// A disk tier.
#[derive(Clone, Copy, Debug)]
enum Disk {
    Redb,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    Foyer,
}

impl Disk {
    const ALL: &[Self] = &[
        Self::Redb,
        #[cfg(feature = "rocksdb")]
        Self::Rocksdb,
        Self::Foyer,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Redb => "tiered redb/redb",
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => "tiered rocksdb/redb",
            Self::Foyer => REFERENCE,
        }
    }

    fn is_ours(self) -> bool {
        !matches!(self, Self::Foyer)
    }

    /// How it is opened again: the ends of the names of its sides.
    fn sides(self) -> &'static [(Reopen, &'static str)] {
        match self {
            Self::Foyer => &[(Reopen::Trust, "")],
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Self::Redb.sides(),
            Self::Redb => &[(Reopen::Revalidate, ", revalidate"), (Reopen::Trust, ", trust")],
        }
    }
}

/// Who is opened again.
#[derive(Clone, Debug)]
struct Who {
    disk: Disk,
    reopen: Reopen,
    name: String,
    /// Where its disk tier is.
    folder: PathBuf,
}

/// What is looked at after opening.
#[derive(Clone, Copy, Debug)]
enum Until {
    FirstHit,
    FullRate,
}

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let keys = bench.effort.pick(10_000, 1_000_000);
    let workload = Workload::new(keys, 1000, Skew::Uniform);
    let folder = bench.room("restart")?;
    let backend = folder.join("backend.redb");
    let store = redb(&backend).await?;
    Source::new("redb", store.clone()).fill(&workload).await?;
    store.close().await?;
    let all = warmed(&folder, &backend, &workload).await?;
    for (name, wait) in BACKENDS {
        for (until, panel) in [(Until::FirstHit, "first hit"), (Until::FullRate, "full rate")] {
            let measured = one(bench, &all, &backend, (wait, until), &workload).await?;
            findings.rows.extend(rows(panel, name, &measured));
        }
    }
    findings.notes.push(format!(
        "Each disk tier holds {} values of 1,000 B. What it wrote is still in the page cache, and the caches of its engine are \
         empty.",
        markdown::figure(keys as f64)
    ));
    #[cfg(not(feature = "rocksdb"))]
    findings.missing.push(crate::report::Missing {
        what: "RocksDB as a disk tier".to_owned(),
        why: "not built: `cargo xtask bench --with rocksdb` has it".to_owned(),
    });
    Ok(findings)
}

/// Fills every disk tier once. Sides that open the same one in different ways have a copy each.
async fn warmed(folder: &Path, backend: &Path, workload: &Workload) -> Result<Vec<Who>> {
    let mut all = Vec::new();
    for disk in Disk::ALL {
        let mut first: Option<PathBuf> = None;
        for (reopen, end) in disk.sides() {
            let name = format!("{}{end}", disk.name());
            let own = folder.join(name.replace([' ', '/', ','], "-"));
            let who = Who { disk: *disk, reopen: *reopen, name, folder: own.clone() };
            match &first {
                Some(first) => copy_folder(first, &own)?,
                None => warm(&who, backend, workload).await?,
            }
            first.get_or_insert(own);
            all.push(who);
        }
    }
    Ok(all)
}

fn rows(panel: &str, name: &str, measured: &[Measured]) -> Vec<Row> {
    let (unit, reference, target) = ("ms", REFERENCE, targets::RESTART);
    Case { panel, name, unit, more_is_better: false, reference, target }.rows(measured)
}

async fn one(
    bench: &Bench,
    all: &[Who],
    backend: &Path,
    (wait, until): (Duration, Until),
    workload: &Workload,
) -> Result<Vec<Measured>> {
    let window = bench.effort.pick(Duration::from_millis(600), Duration::from_millis(1500));
    let side = |who: &Who| {
        let (who, path, workload) = (who.clone(), backend.to_owned(), workload.clone());
        Side::new(who.name.clone(), who.disk.is_ours(), move || {
            let (who, path, workload) = (who.clone(), path.clone(), workload.clone());
            Box::pin(async move {
                let begun = Instant::now();
                let (open, source) = open(&who, &path, wait).await?;
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
    let mut sides: Vec<Side<'_>> = all.iter().map(side).collect();
    let rounds = bench.effort.pick(3, 7);
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

async fn open(who: &Who, backend: &Path, wait: Duration) -> Result<(Open, Source)> {
    std::fs::create_dir_all(&who.folder)?;
    let source = Source::new("redb", redb(backend).await?).waiting(wait);
    let frontend = match who.disk {
        Disk::Redb => redb(&who.folder.join("frontend.redb")).await?,
        #[cfg(feature = "rocksdb")]
        Disk::Rocksdb => crate::peers::tiered::rocksdb(&who.folder.join("frontend")).await?,
        Disk::Foyer => {
            // Little memory: it is the disk tier that is asked.
            let room = Room { entries: 100, each: 1024 };
            let hybrid = Hybrid::open(room, &who.folder, Some(source.clone())).await?;
            return Ok((Open::Foyer(Arc::new(hybrid)), source));
        }
    };
    let store = TieredStore::builder(frontend, source.clone()).reopen(who.reopen).build().await?;
    Ok((Open::Tiered(Arc::new(Stack(store))), source))
}

/// Fills a disk tier from the backend, and closes it.
async fn warm(who: &Who, backend: &Path, workload: &Workload) -> Result<()> {
    let (open, source) = open(who, backend, Duration::ZERO).await?;
    let peer = open.peer();
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
