//! `sync`.

mod kept;
mod state;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use tiered::adapter::url::format_bytes;
use tiered::adapter::{Clock as _, SystemClock};
use tiered::sync::{
    Checkpoint, DryRun, ProgressStream, StrategyName, SyncOptions, SyncProgress, SyncReport, follow, sync,
};
use tiered::{Create, ErrorKind, Feature, MemoryStore, Schemes, Store};

use self::state::{Range, State};
use super::check::{self, compare};
use super::closing;
use crate::arguments::{Patterns, Sync};
use crate::exit::{CORRUPT, FAILED, Failure, OK};
use crate::progress::Progress;
use crate::{output, stack};

/// How often a checkpoint is kept at most.
const KEEP_EACH: Duration = Duration::from_millis(500);

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

pub(super) async fn run(schemes: &Schemes, order: &Sync, json: bool) -> Result<u8, Failure> {
    let strategy = order.strategy.parse::<StrategyName>()?;
    let patterns = order.chosen.patterns().map_err(Failure::Usage)?;
    if stack::same(&order.from, &order.to) {
        return Err(Failure::Usage(format!(
            "{} is source and target; name two stores",
            stack::without_secrets(&order.from)
        )));
    }
    if let Some(place) = &order.resume
        && [&order.from, &order.to].into_iter().any(|store| stack::same(store, place))
    {
        let why = "--resume names a store that is synchronised; what is kept needs a place of its own";
        return Err(Failure::Usage(why.to_owned()));
    }
    let from = stack::read_alone(schemes, &order.from).await?;
    if order.follow && !from.capabilities().has(Feature::Changes) {
        let why = format!(
            "{} has no feed of changes; sync again now and then instead of --follow",
            stack::without_secrets(&order.from)
        );
        return closing(&*from, Err(Failure::Usage(why))).await;
    }
    let state = match &order.resume {
        Some(place) => match State::open(schemes, place, order).await {
            Ok(state) => Some(state),
            Err(error) => return closing(&*from, Err(error)).await,
        },
        None => None,
    };
    let to = target(schemes, &order.to, order.dry_run).await;
    let done = match &to {
        Ok(to) => {
            closing(&**to, between(order, strategy, patterns, &from, to, state.as_ref(), json).await).await
        }
        Err(_) => Ok(OK),
    };
    let done = to.and(done);
    let closed = match &state {
        Some(state) => state.close().await,
        None => Ok(()),
    };
    let code = closing(&*from, done).await?;
    closed?;
    Ok(code)
}

/// Synchronises two stores that are open.
async fn between(
    order: &Sync,
    strategy: StrategyName,
    patterns: Patterns,
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    state: Option<&State>,
    json: bool,
) -> Result<u8, Failure> {
    let range = match state {
        Some(state) => state.range(&**from).await?,
        None => Range::default(),
    };
    if range.is_empty {
        print(&SyncReport::default(), 0.0, json)?;
        return Ok(OK);
    }
    let options = options(order, &patterns, &range, state).await?;
    let clock = SystemClock::new();
    let started = clock.uptime();
    let (options, progress) = options.progress();
    let strategy_of_it = strategy.strategy();
    if order.follow {
        let following = async move { follow(from, to, strategy_of_it.as_ref(), &options).await };
        let (ended, _) = tokio::join!(following, watch(progress, None, &range));
        ended?;
        return Ok(OK);
    }
    let syncing = async move { sync(from, to, strategy_of_it.as_ref(), &options).await };
    let (report, last) = tokio::join!(syncing, watch(progress, state, &range));
    let seconds = clock.uptime().saturating_sub(started).as_secs_f64();
    let checkpoint = last.map(|last| last.checkpoint).unwrap_or_default();
    let kept = match state {
        // A sync of nothing has had no progress.
        Some(state) if report.is_ok() || checkpoint.after.is_some() => {
            state.keep(&range, &checkpoint, report.is_ok()).await
        }
        _ => Ok(()),
    };
    let report = report?;
    for failure in &report.failures {
        output::complain(&format!("failed: {}: {}", failure.key, failure.error));
    }
    print(&report, seconds, json)?;
    kept?;
    match report.failed {
        0 if order.verify => verify(order, strategy, patterns, range, &**from, &**to, json).await,
        0 => Ok(OK),
        _ if report.damaged > 0 => Ok(CORRUPT),
        _ => Ok(FAILED),
    }
}

async fn options(
    order: &Sync,
    patterns: &Patterns,
    range: &Range,
    state: Option<&State>,
) -> Result<SyncOptions, Failure> {
    let mut options = SyncOptions::new()
        .prefix(order.chosen.prefix.clone())
        .concurrency(order.concurrency)
        .max_failures(order.max_failures)
        .dry_run(if order.dry_run { DryRun::Yes } else { DryRun::No });
    options.after.clone_from(&range.after);
    options.through.clone_from(&range.through);
    options.bytes_per_second = order.limit_rate;
    if let Some(state) = state {
        let found = state.checkpoint(range).await?;
        // Now rather than after the first copies: the place may not be writable.
        state.keep(range, found.as_ref().unwrap_or(&Checkpoint::default()), false).await?;
        if let Some(checkpoint) = found {
            let settled = checkpoint.report.copied + checkpoint.report.skipped + checkpoint.report.removed;
            let after = checkpoint.after.as_ref().map_or("", |key| key.as_str());
            output::complain(&format!("goes on after {after:?}: {settled} keys are settled"));
            options = options.resume(checkpoint);
        } else {
            output::complain("begins anew: nothing is kept of an earlier run that did not end");
        }
    }
    Ok(with(options, patterns))
}

fn with(options: SyncOptions, patterns: &Patterns) -> SyncOptions {
    if patterns.is_empty() {
        return options;
    }
    let patterns = patterns.clone();
    options.filter(move |key| patterns.admit(key.as_str()))
}

/// Shows how far a sync is, and keeps it now and then, to its end; the last that it told. Where it cannot be kept the sync goes
/// on: the next time may be better, and the last time decides.
async fn watch(mut stream: ProgressStream, state: Option<&State>, range: &Range) -> Option<SyncProgress> {
    let shown = Progress::new("");
    let clock = SystemClock::new();
    let begun = clock.uptime();
    let (mut last, mut kept, mut bytes_before) = (None, None, None);
    while let Some(progress) = stream.next().await {
        let now = clock.uptime();
        let bytes = progress.report.bytes;
        let copied = bytes - *bytes_before.get_or_insert(bytes);
        shown.say(in_words(&progress.report, copied, now.saturating_sub(begun)));
        if let Some(state) = state
            && kept.is_none_or(|kept| now.saturating_sub(kept) >= KEEP_EACH)
        {
            if let Err(error) = state.keep(range, &progress.checkpoint, false).await {
                output::complain(&format!("how far the sync is cannot be kept: {error}"));
            }
            kept = Some(clock.uptime());
        }
        last = Some(progress);
    }
    shown.end();
    last
}

fn in_words(report: &SyncReport, bytes: u64, elapsed: Duration) -> String {
    let per_second = u128::from(bytes) * 1_000 / elapsed.as_millis().max(1);
    let failed = if report.failed > 0 { format!(", {} failed", report.failed) } else { String::new() };
    format!(
        "{} copied, {} skipped, {} removed{failed}; {} a second",
        report.copied,
        report.skipped,
        report.removed,
        format_bytes(u64::try_from(per_second).unwrap_or(u64::MAX))
    )
}

/// Compares the two sides, except for what the strategy leaves as it is.
async fn verify(
    order: &Sync,
    strategy: StrategyName,
    patterns: Patterns,
    range: Range,
    from: &dyn Store,
    to: &dyn Store,
    json: bool,
) -> Result<u8, Failure> {
    let allowed: &[&str] = match strategy {
        StrategyName::PopulateMissing => &[check::EXTRA, check::DIFFERS],
        StrategyName::Refresh => &[check::EXTRA],
        _ => &[],
    };
    let range = check::Range {
        prefix: order.chosen.prefix.clone(),
        after: range.after,
        through: range.through,
        patterns,
        allowed,
    };
    let found = compare(from, to, &range, false, json).await?;
    Ok(found.code())
}

/// A dry run makes nothing: a target that is absent, or empty still, counts as empty.
pub(super) async fn target(schemes: &Schemes, url: &str, dry_run: bool) -> Result<Arc<dyn Store>, Failure> {
    if !dry_run {
        return stack::open_alone(schemes, url, Create::IfAbsent).await;
    }
    match schemes.open(url, Create::Never).await {
        Ok(store) => Ok(stack::warned(store, Some(url)).await),
        Err(error) => {
            let path = url.split_once(':').map_or("", |(_, rest)| rest.split('?').next().unwrap_or_default());
            let empty_file = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
            let empty_folder = url.starts_with("rocksdb:")
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
