//! `walk`.

mod roots;
mod workspace;

use std::sync::Arc;

use serde::Serialize;
use tiered::adapter::url::format_bytes;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::sync::{DryRun, Present, Walk as Follow, WalkOptions, WalkReport, walk_sync};
use tiered::{Entry, Key, Result as Stored, Schemes, Store};

use self::roots::roots;
use self::workspace::Workspace;
use super::closing;
use super::sync::target;
use crate::arguments::Walk;
use crate::exit::{CORRUPT, DIFFERENT, FAILED, Failure, OK};
use crate::progress::Progress;
use crate::{output, references, stack};

#[derive(Debug, Serialize)]
struct Line {
    roots: u64,
    reachable: u64,
    resumed: u64,
    trusted: u64,
    copied: u64,
    skipped: u64,
    missing: u64,
    changed: u64,
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
        self.references.references(key, entry).await
    }

    fn is_leaf(&self, key: &Key) -> bool {
        self.leaves.iter().any(|prefix| key.as_str().starts_with(prefix)) || self.references.is_leaf(key)
    }
}

/// Progress in words.
fn in_words(report: &WalkReport) -> String {
    let (reached, copied, skipped) = (report.reached, report.sync.copied, report.sync.skipped);
    format!("{reached} keys reached, {copied} copied, {skipped} skipped, {}", format_bytes(report.sync.bytes))
}

pub(super) async fn run(schemes: &Schemes, order: Walk, json: bool) -> Result<u8, Failure> {
    if stack::same(&order.from, &order.to) {
        return Err(Failure::Usage(format!(
            "{} is source and target; name two stores",
            stack::without_secrets(&order.from)
        )));
    }
    if let Some(place) = order.resume.as_ref().or(order.workspace.as_ref())
        && [&order.from, &order.to].into_iter().any(|store| stack::same(store, place))
    {
        let why =
            "what is known of the keys needs a place of its own, which is neither the source nor the target";
        return Err(Failure::Usage(why.to_owned()));
    }
    let from = stack::read_alone(schemes, &order.from).await?;
    let roots = match roots(&*from, &order).await {
        Ok(roots) => roots,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let to = match target(schemes, &order.to, order.dry_run).await {
        Ok(to) => to,
        Err(error) => return closing(&*from, Err(error)).await,
    };
    let done = match Workspace::open(schemes, &order).await {
        Ok(workspace) => {
            let done = between(order, &roots, &from, &to, &workspace, json).await;
            workspace.close(done).await
        }
        Err(error) => Err(error),
    };
    let done = closing(&*to, done).await;
    closing(&*from, done).await
}

async fn between(
    order: Walk,
    roots: &[Key],
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    workspace: &Workspace,
    json: bool,
) -> Result<u8, Failure> {
    let shown = Progress::new("keys");
    let progress = shown.clone();
    let mut options = WalkOptions::new()
        .concurrency(order.concurrency)
        .max_failures(order.max_failures)
        .present(if order.trust_present { Present::Trust } else { Present::Follow })
        .dry_run(if order.dry_run { DryRun::Yes } else { DryRun::No })
        .on_progress(move |report| progress.say(in_words(report)));
    if let Some(rate) = order.limit_rate {
        options = options.bytes_per_second(rate);
    }
    options = workspace.options(options);
    let followed = Followed { references: references::walk(order.references), leaves: order.leaves_under };
    let clock = SystemClock::new();
    let started = clock.uptime();
    let report = walk_sync(from, to, roots, &followed, &options).await?;
    let seconds = clock.uptime().saturating_sub(started).as_secs_f64();
    shown.end();
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
    if report.changed > 0 {
        output::complain(&format!(
            "{} keys changed while they were walked, and were not copied; walk again",
            report.changed
        ));
    }
    Ok(match (report.sync.failed, report.missing + report.changed) {
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
        resumed: report.resumed,
        trusted: report.trusted,
        copied: report.sync.copied,
        skipped: report.sync.skipped,
        missing: report.missing,
        changed: report.changed,
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
        "{} roots, {} keys reachable, {} known from an earlier run, {} trusted; copied {} ({} bytes), skipped {}, missing {}, changed {}, held back {}, vanished {}, failed {} ({} damaged), {} references in cycles; {seconds:.1} s\n",
        line.roots,
        line.reachable,
        line.resumed,
        line.trusted,
        line.copied,
        line.bytes,
        line.skipped,
        line.missing,
        line.changed,
        line.held_back,
        line.vanished,
        line.failed,
        line.damaged,
        line.cycles
    );
    output::bytes(text.as_bytes())
}
