//! Carrying decisions out: the two listings are read while groups of keys are copied and removed.

use std::collections::BTreeSet;

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;

use super::decide::decide;
use super::group::{Bounds, Counts, Ended, Group, Place};
use super::merge::{Merge, Pair, Seen, look_at};
use super::options::{DryRun, SyncOptions};
use super::report::SyncReport;
use super::strategy::SyncStrategy;
use super::target::{Attempt, Copied, Target, Task, Theirs, add_lacking};
use super::window::Window;
use crate::capability::Feature;
use crate::error::Result;
use crate::key::Key;
use crate::list::{ListOptions, Listed};
use crate::read::{Read, ReadOptions};
use crate::store::Store;

fn is_local(listed: &Listed) -> bool {
    listed.metadata.as_ref().is_some_and(|metadata| metadata.note.origin.is_local())
}

/// Runs a strategy over the two listings.
pub(crate) async fn run(
    source: &dyn Store,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<SyncReport> {
    Ok(run_naming(source, target, strategy, options).await?.0)
}

/// The same, with the keys that failed.
pub(super) async fn run_naming(
    source: &dyn Store,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<(SyncReport, Vec<Key>)> {
    let mut theirs = ListOptions::new().prefix(options.prefix.clone());
    theirs.start_after = options.starts_after().cloned();
    let mut ours = theirs.clone();
    ours.values = target.takes_listed_values().filter(|_| options.dry_run == DryRun::No);
    let alone = Semaphore::new(options.at_a_time());
    let mut run =
        Run { target, options, alone: &alone, window: Window::new(options), group: Group::default() };
    for key in options.failed_before() {
        run.again(source, strategy, key).await?;
    }
    let mut merge = Merge::new(source.list(ours), target.list(theirs));
    while let Some(pair) = run.next_of(&mut merge).await? {
        if pair.key().is_some_and(|key| options.is_beyond(key)) {
            break;
        }
        run.take(strategy, pair).await?;
    }
    run.begin().await?;
    run.window.finish().await
}

/// Runs a strategy over these keys, as both sides list them now.
pub(super) async fn run_changed(
    source: &dyn Store,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
    keys: &BTreeSet<Key>,
) -> Result<(SyncReport, Vec<Key>)> {
    let alone = Semaphore::new(options.at_a_time());
    let mut run =
        Run { target, options, alone: &alone, window: Window::new(options), group: Group::default() };
    let (mut rest, mut looks) = (keys.iter(), FuturesOrdered::new());
    loop {
        for key in rest.by_ref().take(options.at_a_time() - looks.len()) {
            looks.push_back(look_at_both(source, target, key));
        }
        let Some(sides) = looks.next().await else { break };
        run.take(strategy, Pair::of(sides?)).await?;
    }
    run.begin().await?;
    run.window.finish().await
}

/// What both sides list of a key now.
async fn look_at_both(
    source: &dyn Store,
    target: &dyn Target,
    key: &Key,
) -> Result<(Option<Seen>, Option<Seen>)> {
    let one = || ListOptions::new().prefix(key.as_str()).limit(1);
    Ok((look_at(key, source.list(one())).await?, look_at(key, target.list(one())).await?))
}

struct Run<'a> {
    target: &'a dyn Target,
    options: &'a SyncOptions,
    /// Turns for what is carried out key by key.
    alone: &'a Semaphore,
    window: Window<'a>,
    /// The keys that are being gathered.
    group: Group,
}

impl Run<'_> {
    /// Looks anew at a key that failed in an earlier run.
    async fn again(&mut self, source: &dyn Store, strategy: &dyn SyncStrategy, key: &Key) -> Result<()> {
        let sides = look_at_both(source, self.target, key).await?;
        let is_local = matches!(&sides.1, Some(Seen::Listed(listed)) if is_local(listed));
        let pair = Pair::of(sides);
        let is_gone = pair.key().is_none();
        let task = if is_local || is_gone { None } else { self.decide(strategy, pair)? };
        self.group = Group::again(key.clone(), task);
        self.begin().await
    }

    /// The next pair. The groups under way go on meanwhile: a request that is not polled is late, and keeps the server's
    /// attention from the listing. Where nothing is under way, what has been gathered does not wait for the listing.
    async fn next_of(&mut self, merge: &mut Merge) -> Result<Option<Pair>> {
        let mut next = std::pin::pin!(merge.next());
        loop {
            tokio::select! {
                biased;
                pair = &mut next => return pair,
                settled = self.window.settle_one(), if !self.window.is_idle() => settled?,
                () = std::future::ready(()), if self.window.is_idle() && !self.group.is_empty() => self.begin().await?,
            }
        }
    }

    /// Takes a key into the group that is being gathered, and begins that once it is full.
    async fn take(&mut self, strategy: &dyn SyncStrategy, pair: Pair) -> Result<()> {
        let Some(key) = pair.key().cloned() else { return Ok(()) };
        if self.options.admits(&key) {
            self.gather(strategy, pair, key).await?;
        } else {
            self.group.pass(key);
        }
        if self.group.is_full(Bounds::of(self.target, self.options)) {
            self.begin().await?;
        }
        Ok(())
    }

    /// Gathers what is to be done about a key.
    async fn gather(&mut self, strategy: &dyn SyncStrategy, pair: Pair, key: Key) -> Result<()> {
        let is_local = matches!(pair.target(), Some(Seen::Listed(listed)) if is_local(listed));
        let counts = Counts::listed(pair.source().is_some(), pair.target().is_some() && !is_local);
        let task = if is_local { None } else { self.decide(strategy, pair)? };
        let weight = task.as_ref().map_or(0, Task::weight);
        if !self.group.has_room(weight, Bounds::of(self.target, self.options)) {
            self.begin().await?;
        }
        self.group.push(key, counts, task);
        Ok(())
    }

    /// What is to be done about a key. A target that gives copies versions of its own is judged by sizes and checksums.
    fn decide(&self, strategy: &dyn SyncStrategy, pair: Pair) -> Result<Option<Task>> {
        let pair = if self.target.keeps_versions() { pair } else { pair.without_version() };
        decide(strategy, pair)
    }

    /// Begins what has been gathered.
    async fn begin(&mut self) -> Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        let weight = group.weight();
        self.window.begin(weight, group.carry_out(self.target, self.alone, self.options).boxed()).await
    }
}

/// Copies named keys: together those that the target lacks, where both stores take many as one request.
pub(crate) async fn run_keys(
    source: &dyn Store,
    target: &dyn Target,
    keys: &[Key],
    options: &SyncOptions,
) -> Result<SyncReport> {
    let mut window = Window::new(options);
    for key in options.failed_before() {
        let copying =
            copy_keys(source, target, Place::Again(key.clone()), std::slice::from_ref(key), options);
        window.begin(0, copying.boxed()).await?;
    }
    // Behind the checkpoint, where that is one of them.
    let after = options.resume.as_ref().and_then(|checkpoint| checkpoint.after.as_ref());
    let done = after.and_then(|after| keys.iter().position(|key| key == after)).map_or(0, |place| place + 1);
    let together = target.batches() && source.capabilities().has(Feature::AtomicBatch);
    let rest = keys.get(done..).unwrap_or_default();
    for some in rest.chunks(if together { options.in_a_batch() } else { 1 }) {
        let Some(last) = some.last() else { continue };
        let copying = copy_keys(source, target, Place::Up(last.clone()), some, options);
        window.begin(0, copying.boxed()).await?;
    }
    Ok(window.finish().await?.0)
}

/// Copies some keys, at most so many bytes of values at a time, or one larger value.
async fn copy_keys(
    source: &dyn Store,
    target: &dyn Target,
    place: Place,
    keys: &[Key],
    options: &SyncOptions,
) -> Ended {
    if let ([key], DryRun::No) = (keys, options.dry_run) {
        return Ended::copies(place, vec![(key.clone(), copy_named(target, key, None).await)]);
    }
    let heads = source.get_many(keys, &ReadOptions::new().authoritative().range(0..0)).await;
    let found = |head: Result<Read>| head.map(|head| head.into_entry().map(|entry| entry.metadata().size));
    let sizes: Vec<Result<Option<u64>>> = heads.into_iter().map(found).collect();
    let mut copied = Vec::with_capacity(keys.len());
    if options.dry_run == DryRun::Yes {
        let pretended = |size: Result<Option<u64>>| Ok(size?.map_or(Copied::Vanished, Copied::Done));
        copied.extend(keys.iter().cloned().zip(sizes.into_iter().map(pretended)));
        return Ended::copies(place, copied);
    }
    let (mut some, mut weight) = (Vec::new(), 0_u64);
    for (key, size) in keys.iter().zip(sizes) {
        match size {
            Ok(Some(size)) => {
                if weight.saturating_add(size) > options.share() {
                    copy_together(target, std::mem::take(&mut some), &mut copied).await;
                    weight = 0;
                }
                weight = weight.saturating_add(size);
                some.push(Listed::new(key.clone(), size));
            }
            Ok(None) => copied.push((key.clone(), Ok(Copied::Vanished))),
            // What is wrong with it, if anything, shows when it is copied by itself.
            Err(_) => copied.push((key.clone(), copy_named(target, key, None).await)),
        }
    }
    copy_together(target, some, &mut copied).await;
    Ended::copies(place, copied)
}

/// Copies keys together that the target lacks, and the others by themselves.
async fn copy_together(target: &dyn Target, some: Vec<Listed>, copied: &mut Vec<(Key, Result<Copied>)>) {
    if some.is_empty() {
        return;
    }
    let keys: Vec<Key> = some.iter().map(|listed| listed.key.clone()).collect();
    for (key, ended) in keys.into_iter().zip(add_lacking(target, some).await) {
        let ended = match ended {
            Some(ended) => ended,
            None => copy_named(target, &key, None).await,
        };
        copied.push((key, ended));
    }
}

/// Copies a key over whatever the target has, as listed now. `ours`: the entry to copy; without one, what the source has now.
pub(super) async fn copy_named(target: &dyn Target, key: &Key, ours: Option<&Listed>) -> Result<Copied> {
    loop {
        let mut listing = target.list(ListOptions::new().prefix(key.as_str()).limit(1));
        let listed = match listing.next().await {
            Some(Ok(listed)) => Some(listed).filter(|listed| listed.key == *key),
            None => None,
            Some(Err(error)) if error.damaged_key().is_some() => {
                if error.key() == Some(key) {
                    return target.copy(key, ours, Theirs::Damaged, Attempt::First).await;
                }
                None
            }
            Some(Err(error)) => return Err(error),
        };
        if listed.as_ref().is_some_and(is_local) {
            return Ok(Copied::Overtaken);
        }
        let theirs = listed.as_ref().map_or(Theirs::Nothing, Theirs::Listed);
        match target.copy(key, ours, theirs, Attempt::First).await? {
            // Another process wrote in between: look again, as the caller asked for this key.
            Copied::Overtaken => {}
            done => return Ok(done),
        }
    }
}
