//! `journal list`, `verify`, `retry` and `drop`.

use std::path::Path;

use serde::Serialize;
use tiered::journal::Report;
use tiered::{Action, JournalRecord, Store as _, TieredStore};

use super::closing;
use crate::arguments::{Journal, Place};
use crate::exit::{Failure, OK};
use crate::output::Lines;
use crate::{output, stack};

pub(super) async fn run(place: &Place, json: bool, command: Journal) -> Result<u8, Failure> {
    match command {
        Journal::List => list(folder(place)?, json),
        Journal::Verify => verify(folder(place)?, json),
        Journal::Retry { sequence } => {
            let store = stack::open_tiered(place).await?;
            let retried = retry(&store, sequence).await;
            closing(&store, retried).await?;
            Ok(OK)
        }
        Journal::Drop { sequence } => {
            let store = stack::open_tiered(place).await?;
            let dropped = give_up(&store, sequence).await;
            closing(&store, dropped).await?;
            Ok(OK)
        }
    }
}

fn folder(place: &Place) -> Result<&Path, Failure> {
    match place.journal.as_deref() {
        Some("volatile:") => Err(Failure::Usage("a volatile journal is gone with its process".to_owned())),
        Some(path) => Ok(Path::new(path)),
        None => Err(Failure::Usage("name the journal: --journal PATH".to_owned())),
    }
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    sequence: u64,
    key: &'a str,
    operation: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

fn list(folder: &Path, json: bool) -> Result<u8, Failure> {
    let (_, recovered) = Report::read(folder)?;
    let aside = &recovered.aside;
    let mut lines = Lines::new();
    for parked in &aside.parked {
        for (sequence, record) in &parked.records {
            print(&mut lines, json, *sequence, record, Some(&parked.reason))?;
        }
    }
    let is_parked = |sequence: u64| {
        aside.parked.iter().any(|parked| parked.records.iter().any(|(parked, _)| *parked == sequence))
    };
    for (sequence, record) in &recovered.records {
        if !is_parked(*sequence) && !aside.dropped.contains(sequence) {
            print(&mut lines, json, *sequence, record, None)?;
        }
    }
    lines.finish()?;
    Ok(OK)
}

fn print(
    lines: &mut Lines,
    json: bool,
    sequence: u64,
    record: &JournalRecord,
    refused: Option<&str>,
) -> Result<(), Failure> {
    let (operation, size) = match &record.action {
        Action::Put(put) => ("put", put.value.len() as u64),
        Action::Delete(_) => ("delete", 0),
    };
    let key = record.key.as_str();
    if json {
        return lines.json(&Line { sequence, key, operation, size, refused });
    }
    let state = refused.map_or("waits".to_owned(), |reason| format!("refused: {reason}"));
    lines.text(&format!("{sequence}\t{operation}\t{key}\t{size}\t{state}"))
}

#[derive(Debug, Serialize)]
struct Verified<'a> {
    backend: Option<&'a str>,
    segments: usize,
    bytes: u64,
    waiting: usize,
    parked: usize,
    cut_bytes: u64,
}

fn verify(folder: &Path, json: bool) -> Result<u8, Failure> {
    let (report, _) = Report::read(folder)?;
    let mut lines = Lines::new();
    if json {
        lines.json(&Verified {
            backend: report.backend.as_deref(),
            segments: report.segments,
            bytes: report.bytes,
            waiting: report.waiting,
            parked: report.parked,
            cut_bytes: report.cut_bytes,
        })?;
    } else {
        lines.text(&format!("backend   {}", report.backend.as_deref().unwrap_or("none yet")))?;
        lines.text(&format!("segments  {} ({} bytes)", report.segments, report.bytes))?;
        lines.text(&format!("waiting   {}", report.waiting))?;
        lines.text(&format!("refused   {}", report.parked))?;
        let torn = if report.cut_bytes == 0 { "whole" } else { "torn or damaged, and cut off when opened" };
        lines.text(&format!("end       {torn} ({} bytes)", report.cut_bytes))?;
    }
    lines.finish()?;
    Ok(OK)
}

/// Retries one refused write, or all.
async fn retry(store: &TieredStore, sequence: Option<u64>) -> Result<(), Failure> {
    // Where the flush halts, opening the stack has tried again already.
    settle(store).await?;
    for parked in store.parked() {
        if sequence.is_none_or(|sequence| sequence == parked.sequence()) {
            store.retry_parked(parked.sequence())?;
        }
    }
    store.flush().await?;
    output::complain("every journaled write is in the backend");
    Ok(())
}

async fn give_up(store: &TieredStore, sequence: u64) -> Result<(), Failure> {
    settle(store).await?;
    store.drop_parked(sequence).await?;
    Ok(())
}

/// Lets the flush go as far as it can.
async fn settle(store: &TieredStore) -> Result<(), Failure> {
    match store.flush().await {
        Ok(()) => Ok(()),
        // Refusals are what these commands are about.
        Err(_) if !store.parked().is_empty() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
