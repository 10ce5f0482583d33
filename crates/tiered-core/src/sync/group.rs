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
    tasks: Vec<Task>,
    /// Keys that it went past: skipped, or no part of the sync.
    passed: u64,
    skipped: u64,
    /// Bytes of the values that it moves.
    weight: u64,
    last: Option<Key>,
}

impl Group {
    /// Adds the next key. `task`: what is to be done about it, if anything is.
    pub(super) fn push(&mut self, key: Key, task: Option<Task>) {
        if let Some(task) = task {
            self.weight = self.weight.saturating_add(task.weight());
            self.tasks.push(task);
            self.last = Some(key);
        } else {
            self.skipped += 1;
            self.pass(key);
        }
    }

    /// Goes past a key that is no part of the sync.
    pub(super) fn pass(&mut self, key: Key) {
        self.passed += 1;
        self.last = Some(key);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.last.is_none()
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
        let tasks = self.tasks.into_iter().zip(ended);
        let tasks = tasks.map_while(|(task, ended)| Some(TaskEnded::of(task, ended?))).collect();
        Ended { tasks, skipped: self.skipped, weight: self.weight, last: self.last }
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
        Self {
            keys: if target.batches() { options.batch } else { 1 },
            bytes: (options.byte_budget / options.concurrency as u64).max(1),
        }
    }
}

/// How a group ended.
pub(super) struct Ended {
    /// Its tasks, in the order of their keys.
    tasks: Vec<TaskEnded>,
    skipped: u64,
    weight: u64,
    last: Option<Key>,
}

impl Ended {
    /// A copy of one key that was in no group.
    pub(super) fn copy(key: Key, copied: Result<Copied>) -> Self {
        let ended = TaskEnded { key, repairs: false, result: copied.map(Done::Copied) };
        Self { tasks: vec![ended], skipped: 0, weight: 0, last: None }
    }

    pub(super) const fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How its tasks ended, and its last key.
    pub(super) fn into_tasks(self) -> (Vec<TaskEnded>, Option<Key>) {
        (self.tasks, self.last)
    }
}

/// How one task ended.
pub(super) struct TaskEnded {
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

    /// Counts it; its key, and why it failed.
    pub(super) fn count(self, report: &mut SyncReport) -> (Key, Option<Error>) {
        match self.result {
            Ok(Done::Copied(copied)) => {
                report.repaired += u64::from(self.repairs && matches!(copied, Copied::Done(_)));
                report.count(copied);
            }
            Ok(Done::Removed(Removed::Done)) => report.removed += 1,
            Ok(Done::Removed(Removed::Overtaken)) => report.skipped += 1,
            Err(error) => {
                report.fail(&self.key, &error);
                return (self.key, Some(error));
            }
        }
        (self.key, None)
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
