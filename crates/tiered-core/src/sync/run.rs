//! Carrying decisions out: a window of copies, in the order of their keys.

use std::collections::VecDeque;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::merge::{Merge, Pair, Seen};
use super::options::{DryRun, SyncOptions, SyncProgress};
use super::report::SyncReport;
use super::strategy::{Changes, Decision, SyncStrategy};
use crate::entry::Origin;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::store::Store;

/// How copying one entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// So many bytes were copied.
    Done(u64),
    /// Nothing is to be done: the target has this version already, which neither listing told, or a write under way
    /// brings it in step, or it takes no such entry.
    Same,
    /// The source has no such entry any more.
    Vanished,
    /// The target has another entry than the one listed: another process wrote it meanwhile.
    Overtaken,
}

/// How removing one entry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Done,
    /// The source has the key again, or the target another entry than the one listed.
    Overtaken,
}

/// What a sync writes to: a plain store, or the frontend of a live tiered store.
#[async_trait]
pub(crate) trait Target: Send + Sync {
    /// Lists what the target has, local entries of a frontend included.
    fn list(&self, options: ListOptions) -> ListStream;
    /// Copies `key` from the source, as that listed it where it did, over what the target has.
    async fn copy(&self, key: &Key, ours: Option<&Listed>, theirs: Theirs<'_>) -> Result<Copied>;
    /// Removes what the target has.
    async fn remove(&self, key: &Key, theirs: Theirs<'_>) -> Result<Removed>;
}

/// What the target has of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Theirs<'l> {
    Nothing,
    Listed(&'l Listed),
    /// Something that cannot be read, which only a repair replaces.
    Damaged,
}

/// What became of one key.
enum Step {
    Skipped,
    Failed(Error),
    Copied(Result<Copied>),
    /// As copied, over something damaged.
    Repaired(Result<Copied>),
    Removed(Result<Removed>),
}

struct Work<'a> {
    running: FuturesOrdered<BoxFuture<'a, Step>>,
    /// Key and weight of each running step, in order.
    ahead: VecDeque<(Key, u64)>,
    bytes: u64,
    report: SyncReport,
    checkpoint: Option<Key>,
}

impl SyncReport {
    fn count(&mut self, copied: Copied) {
        match copied {
            Copied::Done(bytes) => {
                self.copied += 1;
                self.bytes += bytes;
            }
            Copied::Vanished => self.vanished += 1,
            Copied::Overtaken | Copied::Same => self.skipped += 1,
        }
    }
}

impl Work<'_> {
    fn new() -> Self {
        Self {
            running: FuturesOrdered::new(),
            ahead: VecDeque::new(),
            bytes: 0,
            report: SyncReport::default(),
            checkpoint: None,
        }
    }

    /// The next pair. The running steps go on meanwhile: a request that is not polled is late, and keeps the server's
    /// attention from the listing.
    async fn next_of(&mut self, merge: &mut Merge, options: &SyncOptions) -> Result<Option<Pair>> {
        let mut next = std::pin::pin!(merge.next());
        loop {
            tokio::select! {
                biased;
                pair = &mut next => return pair,
                settled = self.settle_one(options), if !self.running.is_empty() => settled?,
            }
        }
    }

    /// Waits for the first running step. Dropped, it has changed nothing.
    async fn settle_one(&mut self, options: &SyncOptions) -> Result<()> {
        let (Some(step), Some((key, weight))) = (self.running.next().await, self.ahead.pop_front()) else {
            return Ok(());
        };
        self.bytes -= weight;
        match step {
            Step::Skipped | Step::Removed(Ok(Removed::Overtaken)) => self.report.skipped += 1,
            Step::Copied(Ok(copied)) => self.report.count(copied),
            Step::Repaired(Ok(copied)) => {
                self.report.repaired += u64::from(matches!(copied, Copied::Done(_)));
                self.report.count(copied);
            }
            Step::Removed(Ok(Removed::Done)) => self.report.removed += 1,
            Step::Failed(error)
            | Step::Copied(Err(error))
            | Step::Repaired(Err(error))
            | Step::Removed(Err(error)) => {
                self.report.fail(&key, &error);
                if self.report.failed > options.max_failures {
                    let message =
                        format!("more than {} entries failed; the last is the cause", options.max_failures);
                    return Err(Error::new(ErrorKind::Other, message).for_key(&key).with_source(error));
                }
            }
        }
        if self.report.failed == 0 {
            self.checkpoint = Some(key);
        }
        if options.reports_progress() {
            let progress = SyncProgress { report: self.report.clone(), checkpoint: self.checkpoint.clone() };
            options.report_progress(&progress);
        }
        Ok(())
    }
}

fn is_local(listed: &Listed) -> bool {
    listed.metadata.as_ref().is_some_and(|metadata| metadata.note.origin.is_local())
}

/// A listing with tombstones, but without notes of absence: those are as good as nothing.
pub(crate) fn without_absences(listing: ListStream) -> ListStream {
    Box::pin(listing.filter(|listed| {
        let metadata = listed.as_ref().ok().and_then(|listed| listed.metadata.as_ref());
        let is_absence = metadata.is_some_and(|metadata| metadata.note.origin == Origin::Absence);
        futures_util::future::ready(!is_absence)
    }))
}

/// Runs a strategy over the two listings.
pub(crate) async fn run(
    source: &dyn Store,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<SyncReport> {
    let mut listing = ListOptions::new().prefix(options.prefix.clone());
    listing.start_after.clone_from(&options.resume_after);
    let mut merge = Merge::new(source.list(listing.clone()), target.list(listing));
    let mut work = Work::new();
    while let Some(pair) = work.next_of(&mut merge, options).await? {
        let is_local = matches!(pair.target(), Some(Seen::Listed(listed)) if is_local(listed));
        work.report.listed_from += u64::from(pair.source().is_some());
        work.report.listed_to += u64::from(pair.target().is_some() && !is_local);
        let Some(key) = pair.source().or(pair.target()).map(|seen| seen.key().clone()) else {
            continue;
        };
        let step = if is_local { Planned::Skip } else { plan(strategy, pair)? };
        let weight = step.weight();
        while work.running.len() >= options.concurrency
            || (!work.running.is_empty() && work.bytes + weight > options.byte_budget)
        {
            work.settle_one(options).await?;
        }
        work.bytes += weight;
        work.ahead.push_back((key.clone(), weight));
        work.running.push_back(match options.dry_run {
            DryRun::Yes => futures_util::future::ready(step.pretend()).boxed(),
            DryRun::No => step.carry_out(key, target).boxed(),
        });
    }
    while !work.running.is_empty() {
        work.settle_one(options).await?;
    }
    Ok(work.report)
}

/// What is to be done about a key.
enum Planned {
    Skip,
    /// The source's entry, or an extra one of the target, is damaged.
    Fail(Error),
    Copy(Listed, Option<Listed>),
    /// The target's entry is damaged.
    Repair(Listed),
    Remove(Listed),
    RemoveDamaged,
}

impl Planned {
    fn weight(&self) -> u64 {
        match self {
            Self::Copy(ours, _) | Self::Repair(ours) => ours.size,
            Self::Skip | Self::Fail(_) | Self::Remove(_) | Self::RemoveDamaged => 0,
        }
    }

    /// What a dry run counts.
    fn pretend(self) -> Step {
        match self {
            Self::Skip => Step::Skipped,
            Self::Fail(error) => Step::Failed(error),
            Self::Copy(ours, _) => Step::Copied(Ok(Copied::Done(ours.size))),
            Self::Repair(ours) => Step::Repaired(Ok(Copied::Done(ours.size))),
            Self::Remove(_) | Self::RemoveDamaged => Step::Removed(Ok(Removed::Done)),
        }
    }

    async fn carry_out(self, key: Key, target: &dyn Target) -> Step {
        match self {
            Self::Skip => Step::Skipped,
            Self::Fail(error) => Step::Failed(error),
            Self::Copy(ours, theirs) => {
                let theirs = theirs.as_ref().map_or(Theirs::Nothing, Theirs::Listed);
                Step::Copied(target.copy(&key, Some(&ours), theirs).await)
            }
            Self::Repair(ours) => Step::Repaired(target.copy(&key, Some(&ours), Theirs::Damaged).await),
            Self::Remove(theirs) => Step::Removed(target.remove(&key, Theirs::Listed(&theirs)).await),
            Self::RemoveDamaged => Step::Removed(target.remove(&key, Theirs::Damaged).await),
        }
    }
}

/// Asks the strategy. What is damaged at the source is there, and nothing of the target's is touched; what is damaged at
/// the target counts as missing where the source has the key, and as extra where not.
fn plan(strategy: &dyn SyncStrategy, pair: Pair) -> Result<Planned> {
    let (ours, theirs) = match pair.into_sides() {
        (Some(Seen::Damaged(_, error)), _) => return Ok(Planned::Fail(error)),
        (Some(Seen::Listed(ours)), Some(Seen::Damaged(..))) => {
            let decision = strategy.decide(Some(&ours), None);
            check(strategy, decision, None)?;
            let repairs = decision == Decision::Copy;
            return Ok(if repairs { Planned::Repair(ours) } else { Planned::Skip });
        }
        (None, Some(Seen::Damaged(key, error))) => {
            let extra = Listed { key, size: 0, version: None, validator: None, metadata: None, value: None };
            let decision = strategy.decide(None, Some(&extra));
            check(strategy, decision, Some(&extra))?;
            let removes = decision == Decision::Remove;
            return Ok(if removes { Planned::RemoveDamaged } else { Planned::Fail(error) });
        }
        (Some(Seen::Listed(ours)), Some(Seen::Listed(theirs))) => (Some(ours), Some(theirs)),
        (Some(Seen::Listed(ours)), None) => (Some(ours), None),
        (None, Some(Seen::Listed(theirs))) => (None, Some(theirs)),
        (None, None) => (None, None),
    };
    let decision = strategy.decide(ours.as_ref(), theirs.as_ref());
    check(strategy, decision, theirs.as_ref())?;
    Ok(match (decision, ours, theirs) {
        (Decision::Copy, Some(ours), theirs) => Planned::Copy(ours, theirs),
        (Decision::Remove, None, Some(theirs)) => Planned::Remove(theirs),
        _ => Planned::Skip,
    })
}

/// Refuses a decision that the strategy did not announce.
fn check(strategy: &dyn SyncStrategy, decision: Decision, theirs: Option<&Listed>) -> Result<()> {
    let needed = match (decision, theirs) {
        (Decision::Skip, _) | (Decision::Copy, None) => Changes::Adds,
        (Decision::Copy, Some(_)) => Changes::Overwrites,
        (Decision::Remove, _) => Changes::Removes,
    };
    if needed <= strategy.changes() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("the strategy {} decided {decision:?}, beyond what it announces", strategy.name()),
    ))
}

/// Copies named keys.
pub(crate) async fn run_keys(
    source: &dyn Store,
    target: &dyn Target,
    keys: &[Key],
    options: &SyncOptions,
) -> Result<SyncReport> {
    let mut work = Work::new();
    for key in keys {
        while work.running.len() >= options.concurrency {
            work.settle_one(options).await?;
        }
        work.report.listed_from += 1;
        work.ahead.push_back((key.clone(), 0));
        let dry = options.dry_run == DryRun::Yes;
        work.running.push_back(
            async move {
                if dry {
                    let head = source.head(key, &crate::ReadOptions::new()).await;
                    return Step::Copied(
                        head.map(|head| head.map_or(Copied::Vanished, |m| Copied::Done(m.size))),
                    );
                }
                Step::Copied(copy_named(target, key).await)
            }
            .boxed(),
        );
    }
    while !work.running.is_empty() {
        work.settle_one(options).await?;
    }
    Ok(work.report)
}

/// Copies a key over whatever the target has, as listed now.
pub(super) async fn copy_named(target: &dyn Target, key: &Key) -> Result<Copied> {
    loop {
        let mut listing = target.list(ListOptions::new().prefix(key.as_str()).limit(1));
        let listed = match listing.next().await {
            Some(Ok(listed)) => Some(listed).filter(|listed| listed.key == *key),
            None => None,
            Some(Err(error)) if error.damaged_key().is_some() => {
                if error.key() == Some(key) {
                    return target.copy(key, None, Theirs::Damaged).await;
                }
                None
            }
            Some(Err(error)) => return Err(error),
        };
        if listed.as_ref().is_some_and(is_local) {
            return Ok(Copied::Overtaken);
        }
        let theirs = listed.as_ref().map_or(Theirs::Nothing, Theirs::Listed);
        match target.copy(key, None, theirs).await? {
            // Another process wrote in between: look again, as the caller asked for this key.
            Copied::Overtaken => {}
            done => return Ok(done),
        }
    }
}
