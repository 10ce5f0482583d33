//! `walk`.

use std::sync::Arc;

use serde::Serialize;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::sync::{DryRun, SyncOptions, Walk as Follow, WalkReport, walk_sync};
use tiered::{Entry, Key, Result as Stored, Schemes, Store};

use super::closing;
use super::sync::target;
use crate::arguments::Walk;
use crate::exit::{CORRUPT, DIFFERENT, FAILED, Failure, OK};
use crate::{output, references, stack};

#[derive(Debug, Serialize)]
struct Line {
    roots: u64,
    reachable: u64,
    copied: u64,
    skipped: u64,
    missing: u64,
    cycles: u64,
    held_back: u64,
    vanished: u64,
    failed: u64,
    damaged: u64,
    bytes: u64,
    seconds: f64,
}

/// Follows references, but not from leaves.
struct Followed<F> {
    references: F,
    leaves: Vec<String>,
}

#[tiered::adapter::async_trait]
impl<F: Follow> Follow for Followed<F> {
    async fn references(&self, key: &Key, entry: &Entry) -> Stored<Vec<Key>> {
        if self.leaves.iter().any(|prefix| key.as_str().starts_with(prefix)) {
            return Ok(Vec::new());
        }
        self.references.references(key, entry).await
    }
}

pub(super) async fn run(schemes: &Schemes, order: Walk, json: bool) -> Result<u8, Failure> {
    let roots: Vec<Key> = order.root.iter().map(Key::new).collect::<Stored<_>>()?;
    if stack::same(&order.from, &order.to) {
        return Err(Failure::Usage(format!(
            "{} is source and target; name two stores",
            stack::without_secrets(&order.from)
        )));
    }
    let from = stack::read_alone(schemes, &order.from).await?;
    let to = match target(schemes, &order.to, order.dry_run).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let done = between(order, &roots, &from, &to, json).await;
    let done = closing(&*to, done).await;
    closing(&*from, done).await
}

async fn between(
    order: Walk,
    roots: &[Key],
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    json: bool,
) -> Result<u8, Failure> {
    let options = SyncOptions::new()
        .concurrency(order.concurrency)
        .max_failures(order.max_failures)
        .dry_run(if order.dry_run { DryRun::Yes } else { DryRun::No });
    let followed = Followed { references: references::walk(order.references), leaves: order.leaves_under };
    let clock = SystemClock::new();
    let started = clock.uptime();
    let report = walk_sync(from, to, roots, &followed, &options).await?;
    let seconds = clock.uptime().saturating_sub(started).as_secs_f64();
    for failure in &report.sync.failures {
        output::complain(&format!("failed: {}: {}", failure.key, failure.error));
    }
    print(&report, seconds, json)?;
    if report.missing > 0 {
        output::complain(&format!(
            "{} keys that are referred to do not exist, and {} keys were held back",
            report.missing, report.held_back
        ));
    }
    Ok(match (report.sync.failed, report.missing) {
        (0, 0) if report.sync.vanished == 0 => OK,
        (0, _) => DIFFERENT,
        _ if report.sync.damaged > 0 => CORRUPT,
        _ => FAILED,
    })
}

fn print(report: &WalkReport, seconds: f64, json: bool) -> Result<(), Failure> {
    let line = Line {
        roots: report.roots,
        reachable: report.reached,
        copied: report.sync.copied,
        skipped: report.sync.skipped,
        missing: report.missing,
        cycles: report.cycles,
        held_back: report.held_back,
        vanished: report.sync.vanished,
        failed: report.sync.failed,
        damaged: report.sync.damaged,
        bytes: report.sync.bytes,
        seconds,
    };
    if json {
        return output::json(&line);
    }
    let text = format!(
        "{} roots, {} keys reachable; copied {} ({} bytes), skipped {}, missing {}, held back {}, vanished {}, failed {} ({} damaged), {} references in cycles; {seconds:.1} s\n",
        line.roots,
        line.reachable,
        line.copied,
        line.bytes,
        line.skipped,
        line.missing,
        line.held_back,
        line.vanished,
        line.failed,
        line.damaged,
        line.cycles
    );
    output::bytes(text.as_bytes())
}
