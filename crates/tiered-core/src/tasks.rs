//! The tasks of one tiered store: where they run, which of them closing waits for, and when all of them end.

use std::future::Future;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{Error, ErrorKind, Outcome, Result};

/// Spawns the tasks of a store. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    /// Writes that are past their gate, and calls of `close`.
    under_way: TaskTracker,
    /// Cancelled when the last handle is dropped or the store has drained: the loops end.
    leaving: CancellationToken,
}

impl Tasks {
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, under_way: TaskTracker::new(), leaving: CancellationToken::new() }
    }

    /// Runs `task` to its end in the store's runtime. Closing does not wait for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs `operation` in a task that only its own end stops, and waits for it. Closing waits for it as well.
    ///
    /// # Cancel safety
    /// Dropping this leaves the task running.
    pub(crate) async fn run_to_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let held = self.hold();
        self.join(async move {
            let result = operation.await;
            drop(held);
            result
        })
        .await
    }

    /// As [`run_to_end`](Self::run_to_end), for a task that closing does not wait for.
    pub(crate) async fn join<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(task).await.unwrap_or_else(|error| {
            let message = if error.is_panic() { "a store panicked" } else { "the runtime shut down" };
            Err(Error::new(ErrorKind::Other, message).with_source(error).outcome_is(Outcome::Unknown))
        })
    }

    /// Keeps closing waiting until the token is dropped.
    pub(crate) fn hold(&self) -> TaskTrackerToken {
        self.under_way.token()
    }

    /// Waits until nothing holds closing up.
    pub(crate) async fn idle(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Ends the loops.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    pub(crate) fn are_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Waits until the loops are to end.
    pub(crate) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Sleeps; breaks at once when the loops are to end.
    pub(crate) async fn sleep(&self, delay: Duration) -> ControlFlow<()> {
        tokio::select! {
            biased;
            () = self.leaving.cancelled() => ControlFlow::Break(()),
            () = tokio::time::sleep(delay) => ControlFlow::Continue(()),
        }
    }
}
