//! A write's turn: it waits for room and for its keys' gates, then runs to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::observe::{Count, Recorder};
use crate::parts::Parts;
use crate::sync_primitives::time::{Instant, timeout, timeout_at};
use crate::tasks::Tasks;

/// Gives writes their turn, within the write deadline.
#[derive(Debug)]
pub(crate) struct Turns {
    deadline: Option<Duration>,
    tasks: Tasks,
    recorder: Arc<Recorder>,
}

impl Turns {
    pub(crate) fn new(parts: &Parts) -> Arc<Self> {
        let deadline = parts.plan().settings().write_deadline;
        Arc::new(Self { deadline, tasks: parts.tasks(), recorder: parts.recorder() })
    }

    /// Waits for `turn`, then runs `write` to its end in a task of its own.
    ///
    /// # Errors
    /// At the deadline: [`Outcome::NotApplied`] while the write waits for its turn, [`Outcome::Unknown`] after that,
    /// while the write goes on.
    ///
    /// # Cancel safety
    /// Dropped while the write waits for its turn, it has no effect. After that the write runs to its end.
    pub(crate) async fn take<G, T, W>(
        &self,
        turn: impl Future<Output = Result<G>>,
        write: impl FnOnce(G) -> W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        // One beyond the end of time is none.
        let Some(deadline) = self.deadline.and_then(|deadline| Instant::now().checked_add(deadline)) else {
            return self.tasks.run_to_end(write(turn.await?)).await;
        };
        let Ok(held) = timeout_at(deadline, turn).await else {
            return Err(Error::new(ErrorKind::TimedOut, "earlier writes of the key did not end in time")
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
