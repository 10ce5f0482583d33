//! Syncs and walks: copying one store into another.

mod embedded;
#[cfg(feature = "servers")]
mod postgres;
#[cfg(feature = "servers")]
mod s3;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tiered::Store;
use tiered::sync::{PopulateMissing, SyncOptions, sync};

use super::{Bench, Findings, Group};
use crate::measure::Sample;
use crate::peers::tiered::redb;

/// Between files of this disk.
pub const GROUP: Group = Group {
    name: "sync",
    title: "Syncs and walks",
    about: "A store with values of 100 B is copied into an empty one on this disk: by a sync, by a walk from one root over a \
            tree in which each key names up to ten others, and by hand. By hand means a loop that reads records, checks \
            them, and writes records with checksums in batches of 1,000 keys, as durable as a sync writes them. redb \
            itself copies bytes as they are. The caches among the peers cannot do it.",
    run: |bench| Box::pin(between_files(bench)),
};

/// From servers of this machine.
pub const FROM_SERVERS: Group = Group {
    name: "sync-servers",
    title: "Syncs from servers",
    about: "Rows of a Postgres are copied into an empty redb file: by a sync, and by hand with a cursor, in batches of 1,000 \
            keys with checksums, as durable. Objects of 4 KiB come from an S3 server into redb, and by rclone and s5cmd \
            into files, which they do not sync to the disk. The servers are on this machine.",
    run: |bench| Box::pin(from_servers(bench)),
};

async fn between_files(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    embedded::redb_to_redb(bench, &mut findings).await?;
    embedded::walks(bench, &mut findings).await?;
    embedded::redb_to_rocksdb(bench, &mut findings).await?;
    findings.notes.push("What a sync holds in memory is bounded by `tests/memory.rs`.".to_owned());
    Ok(findings)
}

#[cfg(not(feature = "servers"))]
#[expect(clippy::unused_async, reason = "it is called as where it is built")]
async fn from_servers(_: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    for what in ["Postgres to redb", "S3 to redb"] {
        let why = "not built: `cargo xtask bench --with servers` has it".to_owned();
        findings.missing.push(crate::report::Missing { what: what.to_owned(), why });
    }
    Ok(findings)
}

#[cfg(feature = "servers")]
async fn from_servers(bench: &Bench) -> Result<Findings> {
    let mut findings = Findings::default();
    postgres::run(bench, &mut findings).await?;
    s3::run(bench, &mut findings).await?;
    Ok(findings)
}

/// Keys a second since `begun`.
fn rate(keys: usize, begun: Instant) -> Sample {
    Sample::of(keys as f64 / begun.elapsed().as_secs_f64())
}

/// Syncs a store into a new redb file.
async fn synced(from: Arc<dyn Store>, path: Result<PathBuf>, keys: usize) -> Result<Sample> {
    let to = redb(&path?).await?;
    let begun = Instant::now();
    let sample = synced_into(&from, &to, keys, begun).await?;
    to.close().await?;
    Ok(sample)
}

/// Syncs a store into an empty one; the rate since `begun`.
async fn synced_into(
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    keys: usize,
    begun: Instant,
) -> Result<Sample> {
    let report = sync(from, to, &PopulateMissing, &SyncOptions::new()).await?;
    ensure!(report.copied == keys as u64, "{} of {keys} keys were copied", report.copied);
    Ok(rate(keys, begun))
}

/// Where each turn writes.
fn fresh(bench: &Bench) -> Result<PathBuf> {
    Ok(fresh_folder(bench)?.join("to.redb"))
}

/// An empty folder: what the turn before wrote there is removed. The system writes out what it still has to, so that no turn
/// waits for another one's files.
fn fresh_folder(bench: &Bench) -> Result<PathBuf> {
    let folder = bench.room("sync-target")?;
    let written_out = Command::new("sync").arg("-f").arg(&folder).status().context("sync")?;
    ensure!(written_out.success(), "the disk was not synced");
    Ok(folder)
}
