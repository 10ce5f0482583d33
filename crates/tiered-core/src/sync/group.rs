//! Groups: neighbouring keys that are carried out together, and count as one for the checkpoint.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::Semaphore;

use super::options::{DryRun, SyncOptions};
use super::report::SyncReport;
use super::target::{Attempt, Batched, Copied, Done, Removed, Target, Task};
use crate::error::{Error, Result};
use crate::key::Key;

/// Keys that a group goes past at most: enough that a group costs nothing beside them, few enough that progress is told from
/// the first page on.
const PASSED: u64 = 1_000;

/// Neighbouring keys, gathered until they are enough.
#[derive(Debug, Default)]
pub(super) struct Group {
    place: Place,
    tasks: Vec<Task>,
    /// Keys that it went past: skipped, or no part of the sync.
    passed: u64,
    counts: Counts,
    /// Bytes of the values that it moves.
    weight: u64,
}

/// What is counted of the keys of a group, whatever becomes of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    listed_from: u64,
    listed_to: u64,
    skipped: u64,
}

impl Counts {
    /// Of a key that these sides list.
    pub(super) fn listed(by_source: bool, by_target: bool) -> Self {
        Self { listed_from: u64::from(by_source), listed_to: u64::from(by_target), skipped: 0 }
    }
}

/// What a group is to the checkpoint.
#[derive(Clone, Debug, Default)]
pub(super) enum Place {
    /// Everything up to and including this key.
    Up(Key),
    /// A key before the checkpoint that failed in an earlier run.
    Again(Key),
    /// No key yet.
    #[default]
    Nowhere,
}

impl Group {
    /// A key that failed in an earlier run. It was counted as listed then.
    pub(super) fn again(key: Key, task: Option<Task>) -> Self {
        let mut group = Self::default();
        group.push(key.clone(), Counts::default(), task);
        Self { place: Place::Again(key), ..group }
    }

    /// Adds the next key, which the sides list as `counts` says. `task`: what is to be done about it, if anything is.
    pub(super) fn push(&mut self, key: Key, counts: Counts, task: Option<Task>) {
        self.counts.listed_from += counts.listed_from;
        self.counts.listed_to += counts.listed_to;
        if let Some(task) = task {
            self.weight = self.weight.saturating_add(task.weight());
            self.tasks.push(task);
            self.place = Place::Up(key);
        } else {
            self.counts.skipped += 1;
            self.pass(key);
        }
    }

    /// Goes past a key that is no part of the sync.
    pub(super) fn pass(&mut self, key: Key) {
        self.passed += 1;
        self.place = Place::Up(key);
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self.place, Place::Nowhere)
    }

    /// Whether it has room for a value of `weight`. A value beyond the bound of a group has one of its own.
    pub(super) fn has_room(&self, weight: u64, bounds: Bounds) -> bool {
        self.tasks.is_empty() || self.weight.saturating_add(weight) <= bounds.bytes
    }

    pub(super) fn is_full(&self, bounds: Bounds) -> bool {
        self.tasks.len() >= bounds.keys || self.weight >= bounds.bytes || self.passed >= PASSED
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    /// Carries it out. `alone` bounds what is carried out key by key, in all groups together.
    pub(super) async fn carry_out(
        self,
        target: &dyn Target,
        alone: &Semaphore,
        options: &SyncOptions,
    ) -> Ended {
        let ended = match options.dry_run {
            DryRun::Yes => self.tasks.iter().map(|task| Some(task.pretend())).collect(),
            DryRun::No => run(&self.tasks, target, alone, options).await,
        };
        let all = self.tasks.len();
        let tasks = self.tasks.into_iter().zip(ended);
        let tasks: Vec<_> = tasks.map_while(|(task, ended)| Some(TaskEnded::of(task, ended?))).collect();
        let is_whole = tasks.len() == all;
        Ended { tasks, is_whole, counts: self.counts, weight: self.weight, place: self.place }
    }
}

/// When a group is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Tasks.
    keys: usize,
    /// Bytes of values: all groups under way keep within the budget.
    bytes: u64,
}

impl Bounds {
    pub(super) fn of(target: &dyn Target, options: &SyncOptions) -> Self {
        Self { keys: if target.batches() { options.in_a_batch() } else { 1 }, bytes: options.paced_share() }
    }
}

/// How a group ended.
pub(super) struct Ended {
    /// Its tasks, in the order of their keys.
    tasks: Vec<TaskEnded>,
    /// Whether these are all of them.
    is_whole: bool,
    counts: Counts,
    weight: u64,
    place: Place,
}

impl Ended {
    /// Copies of named keys.
    pub(super) fn copies(place: Place, copied: Vec<(Key, Result<Copied>)>) -> Self {
        let mut counts = Counts::default();
        if matches!(place, Place::Up(_)) {
            counts.listed_from = copied.len() as u64;
        }
        let tasks = copied
            .into_iter()
            .map(|(key, copied)| TaskEnded { key, repairs: false, result: copied.map(Done::Copied) })
            .collect();
        Self { tasks, is_whole: true, counts, weight: 0, place }
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether all of its tasks have ended.
    pub(super) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    /// Counts it; its keys that failed, and why.
    pub(super) fn count(self, report: &mut SyncReport) -> Vec<(Key, Error)> {
        report.listed_from += self.counts.listed_from;
        report.listed_to += self.counts.listed_to;
        report.skipped += self.counts.skipped;
        self.tasks.into_iter().filter_map(|task| task.count(report)).collect()
    }
}

/// How one task ended.
struct TaskEnded {
    key: Key,
    /// Whether it was to replace something damaged.
    repairs: bool,
    result: Result<Done>,
}

impl TaskEnded {
    fn of(task: Task, result: Result<Done>) -> Self {
        let repairs = matches!(task, Task::Repair(_));
        let key = match task {
            Task::Copy(listed, _) | Task::Repair(listed) | Task::Remove(listed) => listed.key,
            Task::RemoveDamaged(key) | Task::Fail(key, _) => key,
        };
        Self { key, repairs, result }
    }

    /// Counts it; its key and the error, where it failed.
    fn count(self, report: &mut SyncReport) -> Option<(Key, Error)> {
        match self.result {
            Ok(Done::Copied(copied)) => {
                report.repaired += u64::from(self.repairs && matches!(copied, Copied::Done(_)));
                report.count(copied);
            }
            Ok(Done::Removed(Removed::Done)) => report.removed += 1,
            Ok(Done::Removed(Removed::Overtaken)) => report.skipped += 1,
            Err(error) => {
                report.fail(&self.key, &error);
                return Some((self.key, error));
            }
        }
        None
    }
}

/// Carries out tasks: together what the target can, the rest key by key. Once more of these have failed than are allowed,
/// nothing more is begun, and what is left has no end.
async fn run(
    tasks: &[Task],
    target: &dyn Target,
    alone: &Semaphore,
    options: &SyncOptions,
) -> Vec<Option<Result<Done>>> {
    let batched = if target.batches() {
        target.carry_out(tasks).await
    } else {
        tasks.iter().map(|_| Batched::Alone(Attempt::First)).collect()
    };
    let (mut ended, mut rest) = (Vec::with_capacity(tasks.len()), Vec::new());
    for ((index, task), batched) in tasks.iter().enumerate().zip(batched) {
        ended.push(match batched {
            Batched::Ended(result) => Some(result),
            Batched::Alone(attempt) => {
                rest.push((index, task, attempt));
                None
            }
        });
    }
    let mut running = FuturesOrdered::new();
    for (index, task, attempt) in rest {
        running.push_back(async move {
            // Never closed.
            let _turn = alone.acquire().await.ok();
            (index, task.carry_out(target, attempt).await)
        });
    }
    let mut failed = 0;
    while let Some((index, result)) = running.next().await {
        failed += u64::from(result.is_err());
        if let Some(place) = ended.get_mut(index) {
            *place = Some(result);
        }
        if failed > options.max_failures {
            break;
        }
    }
    ended
}
