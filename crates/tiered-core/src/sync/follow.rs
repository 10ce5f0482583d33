//! Following a source: a sync, then what its feed tells.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};

use super::checkpoint::Checkpoint;
use super::options::SyncOptions;
use super::run::{run_changed, run_naming};
use super::strategy::SyncStrategy;
use super::target::Target;
use crate::error::Result;
use crate::key::Key;
use crate::store::{Change, ChangeStream, Store};
use crate::sync_primitives::time;

/// Keys that are told of and wait: with more, everything is compared.
const WAITING: usize = 100_000;
/// How long to wait before what failed is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What is to be compared.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Everything,
    Keys(BTreeSet<Key>),
}

impl Due {
    const fn nothing() -> Self {
        Self::Keys(BTreeSet::new())
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Keys(keys) if keys.is_empty())
    }

    fn add(&mut self, key: Key) {
        if let Self::Keys(keys) = self {
            keys.insert(key);
            if keys.len() > WAITING {
                *self = Self::Everything;
            }
        }
    }

    fn merge(&mut self, other: Self) {
        match other {
            Self::Everything => *self = Self::Everything,
            Self::Keys(keys) => keys.into_iter().for_each(|key| self.add(key)),
        }
    }

    fn tell(&mut self, change: Change, options: &SyncOptions) {
        match change {
            Change::Resync => *self = Self::Everything,
            Change::Key { key, .. } if options.covers(&key) => self.add(key),
            Change::Key { .. } => {}
        }
    }
}

/// Keys that failed, and when they are tried again.
struct Again {
    due: Due,
    after: Duration,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Again {
    const fn new() -> Self {
        Self { due: Due::nothing(), after: RETRY.0, timer: None }
    }

    /// Sets what failed apart.
    fn later(&mut self, failed: Due) {
        self.due.merge(failed);
        if self.timer.is_none() {
            self.timer = Some(time::sleep(self.after).boxed());
            self.after = (self.after * 2).min(RETRY.1);
        }
    }

    /// A pass went well: unless something waits still, the next failure is tried again soon.
    fn forget(&mut self) {
        if self.timer.is_none() {
            self.after = RETRY.0;
        }
    }

    /// Waits until it is time; forever where nothing failed.
    async fn wait(&mut self) -> Due {
        match &mut self.timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
        self.timer = None;
        std::mem::replace(&mut self.due, Due::nothing())
    }
}

/// Compares everything, then what the feed tells, until the feed ends. What is told meanwhile waits, and goes together.
pub(super) async fn run_follow(
    source: &dyn Store,
    mut changes: ChangeStream,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
) -> Result<()> {
    let mut options = options.clone();
    let (mut due, mut again, mut has_ended) = (Due::Everything, Again::new(), false);
    loop {
        let now = std::mem::replace(&mut due, Due::nothing());
        let passed = {
            let mut passing = std::pin::pin!(pass(source, target, strategy, &options, &now));
            loop {
                tokio::select! {
                    passed = &mut passing => break passed,
                    change = changes.next(), if !has_ended => match change {
                        Some(change) => due.tell(change, &options),
                        None => has_ended = true,
                    },
                }
            }
        };
        match passed {
            Ok(failed) if failed.is_nothing() => again.forget(),
            Ok(failed) => again.later(failed),
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "a sync that follows its source could not compare them; it is tried again");
                again.later(now);
            }
            Err(error) => return Err(error),
        }
        // The first pass alone goes on from a checkpoint.
        options.resume = None;
        while due.is_nothing() {
            if has_ended && again.timer.is_none() {
                return Ok(());
            }
            tokio::select! {
                failed = again.wait() => due = failed,
                change = changes.next(), if !has_ended => match change {
                    Some(change) => due.tell(change, &options),
                    None => has_ended = true,
                },
            }
        }
        // What failed has its turn, however much is told.
        if let Some(failed) = again.wait().now_or_never() {
            due.merge(failed);
        }
        // What is told at once goes together.
        while !has_ended && let Some(change) = changes.next().now_or_never() {
            match change {
                Some(change) => due.tell(change, &options),
                None => has_ended = true,
            }
        }
    }
}

/// Compares what is due. What of it failed.
async fn pass(
    source: &dyn Store,
    target: &dyn Target,
    strategy: &dyn SyncStrategy,
    options: &SyncOptions,
    due: &Due,
) -> Result<Due> {
    let (_, failed) = match due {
        Due::Everything => run_naming(source, target, strategy, options).await?,
        Due::Keys(keys) => run_changed(source, target, strategy, options, keys).await?,
    };
    // More than are named.
    if failed.len() > Checkpoint::MAX_FAILED {
        return Ok(Due::Everything);
    }
    Ok(Due::Keys(failed.into_iter().collect()))
}
