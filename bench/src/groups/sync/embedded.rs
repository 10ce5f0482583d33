//! Between files of this disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tiered::sync::{WalkOptions, walk_sync};
use tiered::{Entry, Key, Put, Store, StoreExt as _};

use super::{fresh, rate, synced};
use crate::groups::{Bench, Findings};
use crate::measure::{self, Sample, Side};
use crate::peers::raw_redb::{RawRedb, Records};
use crate::peers::source::Source;
use crate::peers::tiered::redb;
use crate::report::Case;
use crate::targets;
use crate::workload::{Name, Skew, Workload};

const RAW: &str = "raw redb, a copy";
const BY_HAND: &str = "redb to redb, by hand";

/// How many keys a key of the tree names at most.
const CHILDREN: u64 = 10;

fn case<'a>(panel: &'a str, name: &'a str, reference: &'a str) -> Case<'a> {
    Case { panel, name, unit: "/s", more_is_better: true, reference, target: targets::SYNC }
}

fn workload(keys: usize) -> Workload {
    Workload::new(keys, 100, Skew::InOrder)
}

pub(super) async fn redb_to_redb(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let keys = bench.effort.pick(100_000, 1_000_000);
    let (workload, folder) = (workload(keys), bench.room("sync")?);
    let raw = RawRedb::open(&folder.join("raw.redb"))?;
    raw.fill(&workload)?;
    let records = Records::filled(&folder.join("records.redb"), &workload)?;
    let from = redb(&folder.join("from.redb")).await?;
    Source::new("redb", from.clone()).fill(&workload).await?;
    let mut sides = vec![
        Side::new(BY_HAND, false, || {
            let sample = by_hand(&records, fresh(bench), keys);
            Box::pin(async move { sample })
        }),
        Side::new(RAW, false, || {
            let sample = copied(&raw, fresh(bench), keys);
            Box::pin(async move { sample })
        }),
        Side::new("tiered sync, redb to redb", true, || Box::pin(synced(from.clone(), fresh(bench), keys))),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    drop(sides);
    findings.rows.extend(case("keys a second", &format!("{keys} keys"), BY_HAND).rows(&measured));
    Ok(from.close().await?)
}

pub(super) async fn walks(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let keys = bench.effort.pick(10_000, 100_000);
    let folder = bench.room("sync")?;
    let records = Records::filled(&folder.join("records.redb"), &workload(keys))?;
    let tree = redb(&folder.join("tree.redb")).await?;
    plant(&tree, keys as u64).await?;
    let mut sides = vec![
        Side::new(BY_HAND, false, || {
            let sample = by_hand(&records, fresh(bench), keys);
            Box::pin(async move { sample })
        }),
        Side::new("tiered walk, redb to redb", true, || Box::pin(walked(tree.clone(), fresh(bench), keys))),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    drop(sides);
    findings.rows.extend(case("keys a second, a tree", &format!("{keys} keys"), BY_HAND).rows(&measured));
    Ok(tree.close().await?)
}

#[cfg(not(feature = "rocksdb"))]
#[expect(clippy::unused_async, reason = "it is called as where it is built")]
pub(super) async fn redb_to_rocksdb(_: &Bench, findings: &mut Findings) -> Result<()> {
    findings.missing.push(crate::report::Missing {
        what: "redb to RocksDB".to_owned(),
        why: "not built: `cargo xtask bench --with rocksdb` has it".to_owned(),
    });
    Ok(())
}

#[cfg(feature = "rocksdb")]
pub(super) async fn redb_to_rocksdb(bench: &Bench, findings: &mut Findings) -> Result<()> {
    use crate::peers::raw_rocksdb::RawRocksdb;
    use crate::peers::tiered::rocksdb;

    const BY_HAND: &str = "redb to RocksDB, by hand";
    let keys = bench.effort.pick(100_000, 1_000_000);
    let (workload, folder) = (workload(keys), bench.room("sync")?);
    let records = Records::filled(&folder.join("records.redb"), &workload)?;
    let from = redb(&folder.join("from.redb")).await?;
    Source::new("redb", from.clone()).fill(&workload).await?;
    let by_hand = |path: Result<PathBuf>| -> Result<Sample> {
        let to = RawRocksdb::create(&path?)?;
        let begun = Instant::now();
        let copied = records.batches(|entries| to.write(entries))?;
        ensure!(copied == keys as u64, "keys are missing");
        Ok(rate(keys, begun))
    };
    let mut sides = vec![
        Side::new(BY_HAND, false, || {
            let sample = by_hand(fresh(bench));
            Box::pin(async move { sample })
        }),
        Side::new("tiered sync, redb to RocksDB", true, || {
            let (from, path) = (from.clone(), fresh(bench));
            Box::pin(async move {
                let to = rocksdb(&path?).await?;
                let sample = super::synced_into(&from, &to, keys, Instant::now()).await?;
                to.close().await?;
                Ok(sample)
            })
        }),
    ];
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    drop(sides);
    findings.rows.extend(case("keys a second, to RocksDB", &format!("{keys} keys"), BY_HAND).rows(&measured));
    Ok(from.close().await?)
}

fn copied(from: &RawRedb, path: Result<PathBuf>, keys: usize) -> Result<Sample> {
    let to = RawRedb::open(&path?)?;
    let begun = Instant::now();
    ensure!(from.copy_to(&to)? == keys as u64, "keys are missing");
    Ok(rate(keys, begun))
}

fn by_hand(from: &Records, path: Result<PathBuf>, keys: usize) -> Result<Sample> {
    let to = Records::create(&path?)?;
    let begun = Instant::now();
    ensure!(from.copy_to(&to)? == keys as u64, "keys are missing");
    Ok(rate(keys, begun))
}

async fn walked(from: Arc<dyn Store>, path: Result<PathBuf>, keys: usize) -> Result<Sample> {
    let to = redb(&path?).await?;
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
