//! `demo`: the main job on real files. Every figure is measured while it runs.

mod files;
mod measure;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comfy_table::Table;
use tiered::sync::{FullSync, PopulateMissing, SyncOptions, Walk, WalkOptions};
use tiered::{
    CommitLevel, Create, Entry, Key, Put, Result as StoreResult, Store, TieredBuilder, TieredStore,
    VolatileJournal, WritePolicy,
};

use crate::exit::{Failure, OK};
use crate::output::{self, quoted};
use files::SourceFile;
use measure::{Latencies, Watch};

/// Memory of the frontend: smaller than the largest import, so that a large one shows evictions.
const FRONTEND: &str = "quick:?capacity=32MiB";

pub(crate) async fn run(dir: &Path, data: Option<PathBuf>) -> Result<u8, Failure> {
    let place = place(data)?;
    let files = files::gather(dir)?;
    let bytes: u64 = files.iter().map(|file| file.value.len() as u64).sum();
    let own = files.iter().filter(|file| file.key.as_str().starts_with("files/")).count();
    say(&format!(
        "tiered demo: {own} files from {}, {} from the cargo registry's sources, {} in all",
        dir.display(),
        files.len() - own,
        size(bytes)
    ))?;
    let url = format!("redb:{}", place.join("backend.redb").display());
    let backend = tiered::open(&url, Create::IfAbsent).await?;
    import(&backend, &files).await?;
    read(&backend, &files).await?;
    policies(&place).await?;
    synchronise(&backend, &files).await?;
    backend.close().await?;
    let (url, key) = (quoted(&url), quoted(files.first().map_or("KEY", |file| file.key.as_str())));
    say(&format!(
        "\nThe data is in {}\n  tiered --store {url} list --limit 5\n  tiered --store {url} head {key}\n  tiered --frontend {} --backend {url} get {key}",
        place.display(),
        quoted(FRONTEND),
    ))?;
    Ok(OK)
}

fn place(data: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::Io("the folder for the demo".to_owned(), error);
    match data {
        Some(path) => {
            std::fs::create_dir_all(&path).map_err(failed)?;
            Ok(path)
        }
        // Kept, so that one can look at it.
        None => Ok(tempfile::Builder::new().prefix("tiered-demo-").tempdir().map_err(failed)?.keep()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    output::bytes(format!("{text}\n").as_bytes())
}

fn table(title: &str, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    say(&format!("\n{title}\n{table}"))
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, factor) in units {
        if bytes >= factor {
            return format!("{}.{} {unit}", bytes / factor, bytes % factor * 10 / factor);
        }
    }
    format!("{bytes} B")
}

/// Imports the files into the backend, in batches.
async fn import(backend: &Arc<dyn Store>, files: &[SourceFile]) -> Result<(), Failure> {
    let watch = Watch::start();
    let mut bytes = 0;
    for group in files.chunks(64) {
        let mut batch = tiered::Batch::new();
        for file in group {
            bytes += file.value.len() as u64;
            batch = batch.put(file.key.clone(), Put::new(file.value.clone()));
        }
        backend.apply(batch).await?;
    }
    let seconds = watch.elapsed().as_secs_f64();
    table(
        "1. Import: atomic batches of 64 files, each on disk when acknowledged",
        &["files", "bytes", "seconds"],
        vec![vec![files.len().to_string(), size(bytes), format!("{seconds:.2}")]],
    )
}

async fn tiered_over(backend: &Arc<dyn Store>) -> Result<TieredStore, Failure> {
    let frontend = tiered::open(FRONTEND, Create::IfAbsent).await?;
    Ok(TieredStore::builder(frontend, Arc::clone(backend)).build().await?)
}

/// Reads cold, then hot under a skewed workload.
async fn read(backend: &Arc<dyn Store>, files: &[SourceFile]) -> Result<(), Failure> {
    let store = tiered_over(backend).await?;
    let keys: Vec<Key> = files.iter().map(|file| file.key.clone()).collect();
    let mut rows = Vec::new();
    for (name, order) in
        [("cold: each once", workload::each_once(&keys)), ("hot: skewed", workload::skewed(&keys))]
    {
        let before = store.stats();
        let mut hits = Latencies::new();
        let mut misses = Latencies::new();
        let mut bytes = 0;
        for key in order {
            let watch = Watch::start();
            let peeked = store.peek(&key);
            let hit = peeked.is_some();
            let entry = match peeked {
                Some(entry) => Some(entry),
                None => store.load(&key, &tiered::ReadOptions::new()).await?.into_entry(),
            };
            if hit {
                hits.record(watch.elapsed());
            } else {
                misses.record(watch.elapsed());
            }
            bytes += entry.map_or(0, |entry| entry.size());
        }
        store.flush().await?;
        let after = store.stats();
        let (found, sought) = (after.hits - before.hits, after.misses - before.misses);
        let ratio = found * 1000 / (found + sought).max(1);
        rows.push(vec![
            name.to_owned(),
            (found + sought).to_string(),
            format!("{}.{} %", ratio / 10, ratio % 10),
            hits.show(),
            misses.show(),
            size(bytes),
        ]);
    }
    table(
        "2. Reads through memory over redb",
        &["workload", "reads", "hit ratio", "frontend p50 / p99", "backend p50 / p99", "bytes"],
        rows,
    )
}

/// One write under each policy: when it was acknowledged, and where it was at that moment.
async fn policies(place: &Path) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for policy in WritePolicy::ALL.iter().copied() {
        let url = format!("redb:{}", place.join(format!("{policy}.redb")).display());
        let backend = tiered::open(&url, Create::IfAbsent).await?;
        let frontend = tiered::open(FRONTEND, Create::IfAbsent).await?;
        let store =
            under(policy, TieredStore::builder(Arc::clone(&frontend), Arc::clone(&backend))).build().await?;
        let key = Key::new("written/by/the/demo")?;
        let mut acknowledged = Latencies::new();
        let mut last = None;
        for round in 0..50 {
            let watch = Watch::start();
            last = Some(store.put(&key, Put::new(format!("value {round}"))).await?);
            acknowledged.record(watch.elapsed());
        }
        let since = Watch::start();
        let here = |found: bool| if found { "yes" } else { "no" }.to_owned();
        let (in_front, in_back) = (at_last(&frontend, &key).await?, at_last(&backend, &key).await?);
        let mut committed = "-".to_owned();
        let mut level = "";
        if let Some(written) = last {
            let behind = written.level == CommitLevel::Journaled;
            level = match policy {
                WritePolicy::FrontendOnly => "in the frontend",
                _ if behind => "journaled",
                _ => "committed",
            };
            written.receipt.durable(CommitLevel::Committed).await?;
            if behind {
                committed = format!("{:.1} ms later", since.elapsed().as_secs_f64() * 1000.0);
            }
        }
        store.flush().await?;
        rows.push(vec![
            policy.to_string(),
            level.to_owned(),
            acknowledged.show(),
            here(in_front),
            here(in_back),
            committed,
        ]);
        store.close().await?;
    }
    table(
        "3. Fifty writes of one key under each policy (write-behind with a volatile journal);\n   the last one: where it was right after its acknowledgement, and when the backend had it",
        &["policy", "acknowledged as", "after p50 / p99", "in the frontend", "in the backend", "committed"],
        rows,
    )
}

/// The value of the last of the fifty writes.
const LAST: &str = "value 49";

/// Whether a tier holds the last write now.
async fn at_last(tier: &Arc<dyn Store>, key: &Key) -> Result<bool, Failure> {
    let read = tier.load(key, &tiered::ReadOptions::new()).await?;
    Ok(read.entry().is_some_and(|entry| entry.value() == LAST))
}

fn under(policy: WritePolicy, builder: TieredBuilder) -> TieredBuilder {
    let builder = builder.write_policy(policy);
    if policy == WritePolicy::WriteBehind { builder.journal(VolatileJournal::new()) } else { builder }
}

/// A folder's index refers to its files: what a walk follows.
struct Index;

#[async_trait::async_trait]
impl Walk for Index {
    async fn references(&self, key: &Key, entry: &Entry) -> StoreResult<Vec<Key>> {
        if !key.as_str().starts_with("index/") {
            return Ok(Vec::new());
        }
        String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
    }
}

/// Fills fresh frontends: by strategy, and by a walk from one root.
async fn synchronise(backend: &Arc<dyn Store>, files: &[SourceFile]) -> Result<(), Failure> {
    let part: Vec<&str> = files.iter().take(files.len().min(100)).map(|file| file.key.as_str()).collect();
    let root = Key::new("index/demo")?;
    backend.put(&root, Put::new(part.join("\n"))).await?;
    let mut rows = Vec::new();
    let mut row = |name: &str, report: &tiered::sync::SyncReport, seconds: f64| {
        rows.push(vec![
            name.to_owned(),
            report.copied.to_string(),
            report.skipped.to_string(),
            report.removed.to_string(),
            size(report.bytes),
            format!("{seconds:.2}"),
        ]);
    };
    let store = tiered_over(backend).await?;
    let watch = Watch::start();
    let report = store.sync(&PopulateMissing, &SyncOptions::new()).await?;
    row("populate-missing, fresh frontend", &report, watch.elapsed().as_secs_f64());
    let watch = Watch::start();
    let report = store.sync(&FullSync, &SyncOptions::new()).await?;
    row("full-sync, the same frontend", &report, watch.elapsed().as_secs_f64());
    // One store at a time owns the backend.
    drop(store);
    let walked = tiered_over(backend).await?;
    let watch = Watch::start();
    let report = walked.walk_sync(&[root], &Index, &WalkOptions::new()).await?;
    row("walk from index/demo, fresh frontend", &report.sync, watch.elapsed().as_secs_f64());
    table(
        "4. Synchronising a frontend from the backend",
        &["how", "copied", "skipped", "removed", "bytes", "seconds"],
        rows,
    )
}
