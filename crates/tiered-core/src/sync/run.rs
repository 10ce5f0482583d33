//! Carrying decisions out: a window of copies, in the order of their keys.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};

use super::merge::{Merge, Pair};
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
    /// The target has another entry than the one listed: somebody wrote it meanwhile.
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
    /// Copies `key` from the source, as that listed it where it did, over the entry that the target listed.
    async fn copy(&self, key: &Key, ours: Option<&Listed>, theirs: Option<&Listed>) -> Result<Copied>;
    /// Removes the entry that the target listed.
    async fn remove(&self, listed: &Listed) -> Result<Removed>;
}

/// What became of one key.
enum Step {
    Skipped,
    Copied(Result<Copied>),
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

    /// The next pair. The running steps go on meanwhile: a request that nobody polls is late, and keeps the server's
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
            Step::Skipped => self.report.skipped += 1,
            Step::Copied(Ok(Copied::Done(bytes))) => {
                self.report.copied += 1;
                self.report.bytes += bytes;
            }
            Step::Copied(Ok(Copied::Vanished)) => self.report.vanished += 1,
            Step::Copied(Ok(Copied::Overtaken | Copied::Same)) | Step::Removed(Ok(Removed::Overtaken)) => {
                self.report.skipped += 1;
            }
            Step::Removed(Ok(Removed::Done)) => self.report.removed += 1,
            Step::Copied(Err(error)) | Step::Removed(Err(error)) => {
                self.report.fail(&key, &error);
                if self.report.failed > options.max_failures {
                    let message =
                        format!("more than {} entries failed; the last is the cause", options.max_failures);
                    return Err(Error::new(ErrorKind::Other, message).for_key(&key).with_source(error));
                }
            }
        }
        self.checkpoint = Some(key);
        if let Some(progress) = &options.progress {
            progress(&SyncProgress { report: self.report.clone(), checkpoint: self.checkpoint.clone() });
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
    source: &Arc<dyn Store>,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<SyncReport> {
    let mut listing = ListOptions::new().prefix(options.prefix.clone());
    listing.start_after.clone_from(&options.resume_after);
    let mut merge = Merge::new(source.list(listing.clone()), target.list(listing));
    let mut work = Work::new();
    while let Some(Pair { source: ours, target: theirs }) = work.next_of(&mut merge, options).await? {
        let local = theirs.as_ref().is_some_and(is_local);
        work.report.listed_from += u64::from(ours.is_some());
        work.report.listed_to += u64::from(theirs.is_some() && !local);
        let decision = if local { Decision::Skip } else { strategy.decide(ours.as_ref(), theirs.as_ref()) };
        check(strategy, decision, theirs.as_ref())?;
        let Some(listed) = ours.as_ref().or(theirs.as_ref()) else { continue };
        let key = listed.key.clone();
        let weight = if decision == Decision::Copy { listed.size } else { 0 };
        while work.running.len() >= options.concurrency
            || (!work.running.is_empty() && work.bytes + weight > options.byte_budget)
        {
            work.settle_one(options).await?;
        }
        work.bytes += weight;
        work.ahead.push_back((key.clone(), weight));
        let dry = options.dry_run == DryRun::Yes;
        work.running.push_back(match (decision, ours, theirs) {
            (Decision::Copy, Some(ours), _) if dry => {
                futures_util::future::ready(Step::Copied(Ok(Copied::Done(ours.size)))).boxed()
            }
            (Decision::Copy, ours @ Some(_), theirs) => {
                async move { Step::Copied(target.copy(&key, ours.as_ref(), theirs.as_ref()).await) }.boxed()
            }
            (Decision::Remove, None, Some(_)) if dry => {
                futures_util::future::ready(Step::Removed(Ok(Removed::Done))).boxed()
            }
            (Decision::Remove, None, Some(theirs)) => {
                async move { Step::Removed(target.remove(&theirs).await) }.boxed()
            }
            _ => futures_util::future::ready(Step::Skipped).boxed(),
        });
    }
    while !work.running.is_empty() {
        work.settle_one(options).await?;
    }
    Ok(work.report)
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
    source: &Arc<dyn Store>,
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
        let listed = listing.next().await.transpose()?.filter(|listed| listed.key == *key);
        if listed.as_ref().is_some_and(is_local) {
            return Ok(Copied::Overtaken);
        }
        match target.copy(key, None, listed.as_ref()).await? {
            // Somebody wrote in between: look again, as the caller asked for this key.
            Copied::Overtaken => {}
            done => return Ok(done),
        }
    }
}
