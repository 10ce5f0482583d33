//! Syncs and walks: copying one store into another.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tiered::sync::{PopulateMissing, SyncOptions, WalkOptions, sync, walk_sync};
use tiered::{Entry, Key, Put, Store, StoreExt as _};

use super::{Bench, Findings, Group};
use crate::measure::{self, Sample, Side};
use crate::peers::raw_redb::{RawRedb, Records};
use crate::peers::source::Source;
use crate::peers::tiered::redb;
use crate::report::Case;
use crate::targets;
use crate::workload::{Name, Skew, Workload};

/// The group.
pub const GROUP: Group = Group {
    name: "sync",
    title: "Syncs and walks",
    about: "A store with values of 100 B is copied into an empty one, redb to redb, and from Postgres to redb where there is \
            a server: by a sync, by a walk from one root over a tree in which each key names up to ten others, and by hand. By \
            hand means a loop that reads records, checks them, and writes records with checksums in transactions of 1,000 \
            keys, as durable as a sync writes them. redb itself copies bytes as they are. The caches among the peers cannot \
            do it.",
    run: |bench| Box::pin(run(bench)),
};

const RAW: &str = "raw redb, a copy";
const BY_HAND: &str = "redb to redb, by hand";
const SYNC: &str = "tiered sync, redb to redb";
const WALK: &str = "tiered walk, redb to redb";

/// How many keys a key of the tree names at most.
const CHILDREN: u64 = 10;

async fn run(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    let keys = bench.effort.pick(10_000, 100_000);
    let workload = Workload::new(keys, 100, Skew::InOrder);
    let folder = bench.room("sync")?;
    let raw = RawRedb::open(&folder.join("raw.redb"))?;
    raw.fill(&workload)?;
    let records = Records::filled(&folder.join("records.redb"), &workload)?;
    let from = redb(&folder.join("from.redb")).await?;
    Source::new("redb", from.clone()).fill(&workload).await?;
    let tree = redb(&folder.join("tree.redb")).await?;
    plant(&tree, keys as u64).await?;
    let number = Cell::new(0);
    let fresh = || folder.join(format!("to-{}.redb", number.replace(number.get() + 1)));
    let mut sides = vec![
        Side::new(BY_HAND, false, || {
            let sample = by_hand(&records, &fresh(), keys);
            Box::pin(async move { sample })
        }),
        Side::new(RAW, false, || {
            let sample = copied(&raw, &fresh(), keys);
            Box::pin(async move { sample })
        }),
        Side::new(SYNC, true, || Box::pin(synced(from.clone(), fresh(), keys))),
        Side::new(WALK, true, || Box::pin(walked(tree.clone(), fresh(), keys))),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    let case = Case {
        panel: "keys a second",
        name: &format!("{keys} keys"),
        unit: "/s",
        more_is_better: true,
        reference: BY_HAND,
        target: targets::SYNC,
    };
    findings.rows.extend(case.rows(&measured));
    from_postgres(bench, &mut findings).await?;
    findings.notes.push("What a sync holds in memory is bounded by `tests/memory.rs`.".to_owned());
    Ok(findings)
}

/// Keys a second since `begun`.
fn rate(keys: usize, begun: Instant) -> Sample {
    Sample::of(keys as f64 / begun.elapsed().as_secs_f64())
}

fn copied(from: &RawRedb, path: &Path, keys: usize) -> Result<Sample> {
    let to = RawRedb::open(path)?;
    let begun = Instant::now();
    ensure!(from.copy_to(&to)? == keys as u64, "keys are missing");
    Ok(rate(keys, begun))
}

fn by_hand(from: &Records, path: &Path, keys: usize) -> Result<Sample> {
    let to = Records::create(path)?;
    let begun = Instant::now();
    ensure!(from.copy_to(&to)? == keys as u64, "keys are missing");
    Ok(rate(keys, begun))
}

#[cfg(not(feature = "servers"))]
#[expect(clippy::unused_async, reason = "it is called as where it is built")]
async fn from_postgres(_: &Bench, findings: &mut Findings) -> Result<()> {
    findings.missing.push(crate::report::Missing {
        what: "Postgres to redb".to_owned(),
        why: "not built: `cargo xtask bench --with servers` has it".to_owned(),
    });
    Ok(())
}

#[cfg(feature = "servers")]
async fn from_postgres(bench: &Bench, findings: &mut Findings) -> Result<()> {
    use tiered::postgres::PostgresConfig;
    use tiered_services::Service;

    use crate::peers::raw_postgres::{CONNECTIONS, RawPostgres, SCHEMA};

    const CURSOR: &str = "Postgres to redb, a cursor by hand";
    let Some(url) = Service::Postgres.url() else {
        let why = format!("{} is not set", Service::Postgres.variable());
        findings.missing.push(crate::report::Missing { what: "Postgres to redb".to_owned(), why });
        return Ok(());
    };
    let keys = bench.effort.pick(100_000, 1_000_000);
    let workload = Workload::new(keys, 100, Skew::InOrder);
    let folder = bench.room("sync-postgres")?;
    let raw = RawPostgres::create(&url).await?;
    raw.write_all(&workload, 1000, 4).await?;
    let config = PostgresConfig::from_url(&url)?.schema(SCHEMA).table("source").connections(CONNECTIONS);
    let from: Arc<dyn Store> = Arc::new(config.sweep(None).open().await?);
    Source::new("postgres", from.clone()).fill(&workload).await?;
    let number = Cell::new(0);
    let fresh = || folder.join(format!("to-{}.redb", number.replace(number.get() + 1)));
    let mut sides = vec![
        Side::new(CURSOR, false, || {
            let (raw, path) = (raw.clone(), fresh());
            Box::pin(async move {
                let to = Records::create(&path)?;
                let begun = Instant::now();
                let copied = raw.copy_to(&to).await?;
                ensure!(copied == keys as u64, "{copied} of {keys} rows were copied");
                Ok(rate(keys, begun))
            })
        }),
        Side::new("tiered sync, Postgres to redb", true, || Box::pin(synced(from.clone(), fresh(), keys))),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    let case = Case {
        panel: "keys a second, from Postgres",
        name: &format!("{keys} rows"),
        unit: "/s",
        more_is_better: true,
        reference: CURSOR,
        target: targets::SYNC,
    };
    findings.rows.extend(case.rows(&measured));
    drop(sides);
    from.close().await?;
    raw.remove().await
}

async fn synced(from: Arc<dyn Store>, path: PathBuf, keys: usize) -> Result<Sample> {
    let to = redb(&path).await?;
    let begun = Instant::now();
    let report = sync(&from, &to, &PopulateMissing, &SyncOptions::new()).await?;
    ensure!(report.copied == keys as u64, "{} of {keys} keys were copied", report.copied);
    let sample = rate(keys, begun);
    to.close().await?;
    Ok(sample)
}

async fn walked(from: Arc<dyn Store>, path: PathBuf, keys: usize) -> Result<Sample> {
    let to = redb(&path).await?;
    let begun = Instant::now();
    let root = Name::of(0).key;
    let report = walk_sync(&from, &to, &[root], &children, &WalkOptions::new()).await?;
    ensure!(report.reached == keys as u64, "{} of {keys} keys were reached", report.reached);
    let sample = rate(keys, begun);
    to.close().await?;
    Ok(sample)
}

/// Writes a tree: the value of a key names its children.
async fn plant(store: &Arc<dyn Store>, keys: u64) -> Result<()> {
    let mut batch = tiered::Batch::new();
    for number in 0..keys {
        let children = (number * CHILDREN + 1..=number * CHILDREN + CHILDREN).filter(|child| *child < keys);
        let names: Vec<String> = children.map(|child| Name::of(child).text).collect();
        batch = batch.put(Name::of(number).key, Put::new(names.join("\n")));
        if number % 1000 == 999 {
            store.apply(std::mem::take(&mut batch)).await?;
        }
    }
    store.apply(batch).await?;
    ensure!(store.contains(&Name::of(0).key).await?, "the root is not there");
    Ok(())
}

/// The keys that a value names, one on a line.
fn children(_: &Key, entry: &Entry) -> tiered::Result<Vec<Key>> {
    let text = String::from_utf8_lossy(entry.value());
    text.lines().map(Key::new).collect()
}
