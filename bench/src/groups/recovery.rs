//! Recovery: how long a store takes to serve again, with many records.
//!
//! What is recovered is written once. Each round opens it again, or a copy of it where opening changes it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tiered::Store as _;

use super::durable::{redis_name, seconds};
use super::{Bench, Findings, copy_folder};
use crate::measure::{self, Sample, Side};
use crate::peers::Peer as _;
use crate::peers::away::{Away, Presence};
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
        sides.push(of_redis(&bench.room("recovery-redis")?, &workload).await?);
    }
    sides.push(of_raw_redb(&bench.room("recovery-raw")?, &workload)?);
    sides.push(of_backend(&bench.room("recovery-backend")?, &workload).await?);
    sides.push(of_journal(bench, &bench.room("recovery-journal")?, &workload).await?);
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

async fn of_redis<'a>(folder: &Path, workload: &Workload) -> Result<Side<'a>> {
    let server = Server::start(folder, AppendFsync::EverySecond).await?;
    server.client().await?.fill(workload).await?;
    // Its log is written out before it is killed for the first time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (server, last) = (Rc::new(RefCell::new(Some(server))), last(workload)?);
    Ok(Side::new(redis_name(AppendFsync::EverySecond), false, move || {
        let (server, last) = (Rc::clone(&server), last.clone());
        Box::pin(async move {
            let running = server.borrow_mut().take().context("the server of the last round is gone")?;
            let (running, time) = running.restart().await?;
            ensure!(running.client().await?.get(&last).await?.is_some(), "the last record is not there");
            server.replace(Some(running));
            Ok(Sample::of(time.as_secs_f64()))
        })
    }))
}

fn of_raw_redb<'a>(folder: &Path, workload: &Workload) -> Result<Side<'a>> {
    let path = folder.join("raw.redb");
    RawRedb::open(&path)?.fill(workload)?;
    let last = last(workload)?;
    Ok(Side::new("raw redb", false, move || {
        let (path, last) = (path.clone(), last.clone());
        Box::pin(async move {
            let begun = Instant::now();
            let again = RawRedb::reopen(&path)?;
            ensure!(again.get(&last).await?.is_some(), "the last record is not there");
            Ok(Sample::of(seconds(begun)))
        })
    }))
}

async fn of_backend<'a>(folder: &Path, workload: &Workload) -> Result<Side<'a>> {
    let source = Source::new("redb", redb(&folder.join("data.redb")).await?);
    source.fill(workload).await?;
    source.store().close().await?;
    let (folder, workload) = (folder.to_owned(), workload.clone());
    Ok(Side::new(Log::Through.stack(), true, move || {
        let (folder, workload) = (folder.clone(), workload.clone());
        Box::pin(async move { Ok(Sample::of(serves(&folder, Log::Through, &workload).await?)) })
    }))
}

/// Every record is in the journal, and the backend has been away all the time.
async fn of_journal<'a>(bench: &'a Bench, folder: &Path, workload: &Workload) -> Result<Side<'a>> {
    let records = workload.names.len();
    let away = Away::new(redb(&folder.join("data.redb")).await?);
    let backend = std::sync::Arc::new(away.clone());
    let stack = behind::open_over(folder, Log::Unsynced, backend, |builder| {
        let room = (records as u64 + 1) * 4096;
        let builder = builder.max_pending_operations(records + 1).max_pending_bytes(room);
        builder.max_pending_age(None).close_deadline(Duration::from_millis(1))
    });
    let stack = stack.await?;
    away.set(Presence::Away);
    write_all(&stack, workload).await?;
    stack.0.close().await?;
    drop((stack, away));
    let (folder, workload) = (folder.to_owned(), workload.clone());
    Ok(Side::new(Log::Synced.stack(), true, move || {
        let (from, to, workload) = (folder.clone(), bench.room("recovery"), workload.clone());
        Box::pin(async move {
            // The flush that follows changes the journal.
            let to = to?;
            copy_folder(&from, &to)?;
            Ok(Sample::of(serves(&to, Log::Synced, &workload).await?))
        })
    }))
}

fn last(workload: &Workload) -> Result<crate::workload::Name> {
    workload.names.last().cloned().context("the workload has no keys")
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
    let backend = Away::new(redb(&folder.join("data.redb")).await?);
    let records = workload.names.len();
    let room = (records as u64 + 1) * 4096;
    let stack = behind::open_over(folder, log, std::sync::Arc::new(backend.clone()), |builder| {
        let builder = builder.max_pending_operations(records + 1).max_pending_bytes(room);
        builder.max_pending_age(None).close_deadline(Duration::from_millis(1))
    });
    let stack = stack.await?;
    ensure!(stack.get(&last(workload)?).await?.is_some(), "the last record is not there");
    let time = seconds(begun);
    // What is left stays in the journal.
    backend.set(Presence::Away);
    stack.0.close().await?;
    Ok(time)
}
