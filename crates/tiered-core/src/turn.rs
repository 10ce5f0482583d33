//! A write's turn: it waits for room and for its keys' gates, then runs to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::door::Door;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::observe::{Count, Recorder};
use crate::parts::Parts;
use crate::sync_primitives::time::{Instant, timeout, timeout_at};
use crate::tasks::Tasks;

/// Gives writes their turn, within the write deadline.
#[derive(Debug)]
pub(crate) struct Turns {
    deadline: Option<Duration>,
    door: Arc<Door>,
    tasks: Tasks,
    recorder: Arc<Recorder>,
}

impl Turns {
    pub(crate) fn new(parts: &Parts, door: Arc<Door>) -> Arc<Self> {
        let deadline = parts.plan().settings().write_deadline;
        Arc::new(Self { deadline, door, tasks: parts.tasks(), recorder: parts.recorder() })
    }

    /// Waits for `turn`, then runs `write` to its end in a task of its own. Closing waits for both.
    ///
    /// # Errors
    /// Where the store is closed, [`Outcome::NotApplied`].
    /// At the deadline: [`Outcome::NotApplied`] while the write waits for its turn, [`Outcome::Unknown`] after that,
    /// while the write goes on.
    ///
    /// # Cancel safety
    /// Dropped while the write waits for its turn, it has no effect. After that the write runs to its end.
    pub(crate) async fn take<G, T, W>(
        &self,
        operation: Operation,
        turn: impl Future<Output = Result<G>>,
        write: impl FnOnce(G) -> W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let _held = self.tasks.hold();
        self.door.enter(operation)?;
        // One beyond the end of time is none.
        let Some(deadline) = self.deadline.and_then(|deadline| Instant::now().checked_add(deadline)) else {
            return self.tasks.run_to_end(write(turn.await?)).await;
        };
        let Ok(held) = timeout_at(deadline, turn).await else {
            return Err(Error::new(ErrorKind::TimedOut, "the write's turn did not come in time: it waited for earlier writes of the key, for room or for a hook")
                .outcome_is(Outcome::NotApplied));
        };
        if let Ok(result) = timeout_at(deadline, self.tasks.run_to_end(write(held?))).await {
            return result;
        }
        self.recorder.count(Count::Unknown);
        Err(Error::new(ErrorKind::TimedOut, "the backend did not answer in time; the write goes on")
            .outcome_is(Outcome::Unknown))
    }

    /// Collects what a write needs before its turn, for as long as the deadline allows.
    ///
    /// # Errors
    /// At the deadline, [`Outcome::NotApplied`].
    pub(crate) async fn collect<T>(&self, collected: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(deadline) = self.deadline else { return collected.await };
        timeout(deadline, collected).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut, "the value did not arrive in time")
                .outcome_is(Outcome::NotApplied))
        })
    }
}
