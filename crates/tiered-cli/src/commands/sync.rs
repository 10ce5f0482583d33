//! `sync`.

use std::sync::Arc;

use serde::Serialize;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::sync::{DryRun, StrategyName, SyncOptions, SyncReport, sync};
use tiered::{Create, ErrorKind, MemoryStore, Schemes, Store};

use super::closing;
use crate::exit::{CORRUPT, FAILED, Failure, OK};
use crate::progress::Progress;
use crate::{output, stack};

/// What `sync` is asked to do.
pub(super) struct Order {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) strategy: String,
    pub(super) prefix: String,
    pub(super) dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    listed_from: u64,
    listed_to: u64,
    copied: u64,
    repaired: u64,
    skipped: u64,
    removed: u64,
    vanished: u64,
    failed: u64,
    damaged: u64,
    bytes: u64,
    seconds: f64,
}

pub(super) async fn run(schemes: &Schemes, order: &Order, json: bool) -> Result<u8, Failure> {
    let strategy = order.strategy.parse::<StrategyName>()?.strategy();
    if stack::same(&order.from, &order.to) {
        return Err(Failure::Usage(format!(
            "{} is source and target; name two stores",
            stack::without_secrets(&order.from)
        )));
    }
    let from = stack::read_alone(schemes, &order.from).await?;
    let to = match target(schemes, order).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let progress = Progress::new("");
    let shown = progress.clone();
    let options = SyncOptions::new()
        .prefix(order.prefix.clone())
        .dry_run(if order.dry_run { DryRun::Yes } else { DryRun::No })
        .on_progress(move |progress| {
            let report = &progress.report;
            shown.say(format!(
                "{} copied, {} skipped, {} removed",
                report.copied, report.skipped, report.removed
            ));
        });
    let clock = SystemClock::new();
    let started = clock.uptime();
    let report = sync(&from, &to, strategy.as_ref(), &options).await.map_err(Failure::from);
    let seconds = clock.uptime().saturating_sub(started).as_secs_f64();
    progress.end();
    let closed = closing(&*to, report).await;
    let report = closing(&*from, closed).await?;
    for failure in &report.failures {
        output::complain(&format!("failed: {}: {}", failure.key, failure.error));
    }
    print(&report, seconds, json)?;
    Ok(match report.failed {
        0 => OK,
        _ if report.damaged > 0 => CORRUPT,
        _ => FAILED,
    })
}

/// A dry run makes nothing: a target that is absent, or empty still, counts as empty.
async fn target(schemes: &Schemes, order: &Order) -> Result<Arc<dyn Store>, Failure> {
    if !order.dry_run {
        return stack::open_alone(schemes, &order.to, Create::IfAbsent).await;
    }
    match schemes.open(&order.to, Create::Never).await {
        Ok(store) => Ok(stack::warned(store, Some(&order.to)).await),
        Err(error) => {
            let path =
                order.to.split_once(':').map_or("", |(_, rest)| rest.split('?').next().unwrap_or_default());
            let empty_file = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
            let empty_folder = order.to.starts_with("rocksdb:")
                && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
            let empty = empty_file || empty_folder;
            let folder = std::path::Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
            let makeable = error.kind() == ErrorKind::NotFound && folder.is_none_or(std::path::Path::is_dir);
            if makeable || empty { Ok(Arc::new(MemoryStore::new())) } else { Err(error.into()) }
        }
    }
}

fn print(report: &SyncReport, seconds: f64, json: bool) -> Result<(), Failure> {
    let line = Line {
        listed_from: report.listed_from,
        listed_to: report.listed_to,
        copied: report.copied,
        repaired: report.repaired,
        skipped: report.skipped,
        removed: report.removed,
        vanished: report.vanished,
        failed: report.failed,
        damaged: report.damaged,
        bytes: report.bytes,
        seconds,
    };
    if json {
        return output::json(&line);
    }
    let text = format!(
        "listed {} and {}; copied {} ({} bytes; {} repaired), skipped {}, removed {}, vanished {}, failed {} ({} damaged); {seconds:.1} s\n",
        line.listed_from,
        line.listed_to,
        line.copied,
        line.bytes,
        line.repaired,
        line.skipped,
        line.removed,
        line.vanished,
        line.failed,
        line.damaged
    );
    output::bytes(text.as_bytes())
}
