//! Recovery: how long a store takes to serve again that has many records. A part of the group `durable`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tiered::adapter::{BatchOutcomes, Claim, Scope};
use tiered::{
    Batch, Capabilities, Delete, Deleted, Error, ErrorKind, Key, ListOptions, ListStream, Outcome, Put, Read,
    ReadOptions, Store, Written,
};

use super::durable::{redis_name, seconds};
use super::{Bench, Findings};
use crate::measure::{self, Sample, Side};
use crate::peers::Peer as _;
use crate::peers::behind::{self, Log};
use crate::peers::raw_redb::RawRedb;
use crate::peers::redis::{self, AppendFsync, Server};
use crate::peers::source::Source;
use crate::peers::tiered::{Stack, redb};
use crate::report::{Case, Row, markdown};
use crate::targets;
use crate::workload::{Skew, Workload};

/// Measures the recovery of each side that can be started again.
pub async fn run(bench: &Bench, findings: &mut Findings) -> Result<Vec<Row>> {
    let records = bench.effort.pick(100_000, 1_000_000);
    let workload = Workload::new(records, 100, Skew::InOrder);
    let mut sides = Vec::new();
    if redis::why_missing().is_none() {
        sides.push(side(
            bench,
            redis_name(AppendFsync::EverySecond),
            false,
            &workload,
            |folder, workload| Box::pin(of_redis(folder, workload)),
        ));
    }
    sides.push(side(bench, "raw redb".to_owned(), false, &workload, |folder, workload| {
        Box::pin(of_raw_redb(folder, workload))
    }));
    sides.push(side(bench, Log::Through.stack(), true, &workload, |folder, workload| {
        Box::pin(of_backend(folder, workload))
    }));
    sides.push(side(bench, Log::Synced.stack(), true, &workload, |folder, workload| {
        Box::pin(of_journal(folder, workload))
    }));
    let measured = measure::in_cold_turns(&mut sides, bench.effort.long_rounds()).await?;
    let case = Case {
        panel: "until it serves again",
        name: &format!("{} records", markdown::figure(records as f64)),
        unit: "s",
        more_is_better: false,
        reference: &redis_name(AppendFsync::EverySecond),
        target: targets::RECOVERY,
    };
    findings.notes.push(
        "Recovery: Redis is killed and loads its log; redb is opened after a clean close; of write-behind the journal \
         holds every record and the backend none."
            .to_owned(),
    );
    Ok(case.rows(&measured))
}

type Recover = fn(PathBuf, Workload) -> BoxFuture<'static, Result<f64>>;

fn side<'a>(
    bench: &'a Bench,
    name: String,
    is_ours: bool,
    workload: &Workload,
    recover: Recover,
) -> Side<'a> {
    let workload = workload.clone();
    Side::new(name, is_ours, move || {
        let (folder, workload) = (bench.room("recovery"), workload.clone());
        Box::pin(async move { Ok(Sample::of(recover(folder?, workload).await?)) })
    })
}

async fn of_redis(folder: PathBuf, workload: Workload) -> Result<f64> {
    let server = Server::start(&folder, AppendFsync::EverySecond).await?;
    server.client().await?.fill(&workload).await?;
    let (server, time) = server.restart().await?;
    let client = server.client().await?;
    if let Some(name) = workload.names.last() {
        ensure!(client.get(name).await?.is_some(), "the last record is not there");
    }
    Ok(time.as_secs_f64())
}

async fn of_raw_redb(folder: PathBuf, workload: Workload) -> Result<f64> {
    let path = folder.join("raw.redb");
    RawRedb::open(&path)?.fill(&workload)?;
    let begun = Instant::now();
    let again = RawRedb::reopen(&path)?;
    if let Some(name) = workload.names.last() {
        ensure!(again.get(name).await?.is_some(), "the last record is not there");
    }
    Ok(seconds(begun))
}

async fn of_backend(folder: PathBuf, workload: Workload) -> Result<f64> {
    let source = Source::new("redb", redb(&folder.join("data.redb")).await?);
    source.fill(&workload).await?;
    source.store().close().await?;
    drop(source);
    serves(&folder, Log::Through, &workload).await
}

/// Every record is in the journal, and the backend has been away all the time.
async fn of_journal(folder: PathBuf, workload: Workload) -> Result<f64> {
    let records = workload.names.len();
    let away = Away { inner: redb(&folder.join("data.redb")).await?, is_away: AtomicBool::new(false) };
    let away = Arc::new(away);
    let backend: Arc<dyn Store> = away.clone();
    let stack = behind::open_over(&folder, Log::Unsynced, backend, |builder| {
        let room = (records as u64 + 1) * 4096;
        let builder = builder.max_pending_operations(records + 1).max_pending_bytes(room);
        builder.max_pending_age(None).close_deadline(Duration::from_millis(1))
    });
    let stack = stack.await?;
    away.is_away.store(true, Ordering::Relaxed);
    write_all(&stack, &workload).await?;
    stack.0.close().await?;
    drop((stack, away));
    serves(&folder, Log::Synced, &workload).await
}

/// Writes every key once, by several writers.
async fn write_all(stack: &Stack, workload: &Workload) -> Result<()> {
    const WRITERS: usize = 64;
    let part = workload.names.len().div_ceil(WRITERS);
    let tasks = workload.names.chunks(part).map(|names| {
        let (stack, names, value) = (stack.clone(), names.to_vec(), workload.value.clone());
        tokio::spawn(async move {
            for name in &names {
                stack.put(name, value.clone()).await?;
            }
            anyhow::Ok(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(())
}

/// Opens the stack and reads one key; the time of both.
async fn serves(folder: &Path, log: Log, workload: &Workload) -> Result<f64> {
    let begun = Instant::now();
    let backend = redb(&folder.join("data.redb")).await?;
    let records = workload.names.len();
    let room = (records as u64 + 1) * 4096;
    let stack = behind::open_over(folder, log, backend, |builder| {
        builder.max_pending_operations(records + 1).max_pending_bytes(room)
    });
    let stack = stack.await?;
    if let Some(name) = workload.names.last() {
        ensure!(stack.get(name).await?.is_some(), "the last record is not there");
    }
    let time = seconds(begun);
    stack.0.close().await?;
    Ok(time)
}

/// A backend that can be away.
#[derive(Debug)]
struct Away {
    inner: Arc<dyn Store>,
    is_away: AtomicBool,
}

impl Away {
    fn check(&self) -> tiered::Result<()> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(
                Error::new(ErrorKind::Unavailable, "the backend is away").outcome_is(Outcome::NotApplied)
            );
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Away {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> tiered::Result<Read> {
        self.inner.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> tiered::Result<Written> {
        self.check()?;
        self.inner.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> tiered::Result<Deleted> {
        self.check()?;
        self.inner.delete(key, delete).await
    }
    async fn apply(&self, batch: Batch) -> tiered::Result<BatchOutcomes> {
        self.check()?;
        self.inner.apply(batch).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    async fn claim(&self, scope: &Scope) -> tiered::Result<Claim> {
        self.inner.claim(scope).await
    }
    async fn mark(&self, name: &str) -> tiered::Result<Option<Bytes>> {
        self.inner.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> tiered::Result<()> {
        self.inner.set_mark(name, value).await
    }
    async fn mark_names(&self, prefix: &str) -> tiered::Result<Vec<String>> {
        self.inner.mark_names(prefix).await
    }
    async fn flush(&self) -> tiered::Result<()> {
        self.inner.flush().await
    }
    async fn close(&self) -> tiered::Result<()> {
        self.inner.close().await
    }
}
