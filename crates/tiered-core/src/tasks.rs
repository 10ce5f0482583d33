//! The tasks of one tiered store: where they run, which of them closing waits for, when all of them end, and the tiers
//! that are lent to the store until then.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::claim::Claim;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::hooks;
use crate::sync_primitives::{Handle, Mutex, time};

/// Spawns the tasks of a store. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    runtime: Handle,
    /// The tiers, lent to this store alone. Every room holds the tasks, and every task a room: so they are given back with
    /// the last task that may call them, or when the store is closed.
    lent: Arc<Mutex<Vec<Claim>>>,
    /// Writes that are past their gate.
    under_way: TaskTracker,
    /// Cancelled when the last handle is dropped or the store has drained: the loops end.
    leaving: CancellationToken,
}

impl Tasks {
    /// Tasks in `runtime` of a store to which the tiers are lent.
    pub(crate) fn new(runtime: Handle, lent: Vec<Claim>) -> Self {
        let lent = Arc::new(Mutex::new(lent));
        Self { runtime, lent, under_way: TaskTracker::new(), leaving: CancellationToken::new() }
    }

    /// Runs `task` to its end in the store's runtime. Closing does not wait for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs `task` to its end. It is polled once here and now; only what has to wait goes on in a task of the store's runtime.
    /// Closing does not wait for it.
    ///
    /// The caller is no part of it: a panic is that of a task, and a hook's caller does not make it a call of the hook.
    pub(crate) fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut task = Box::pin(task);
        match hooks::outside(|| self.poll(task.as_mut())) {
            Ok(Poll::Ready(())) => {}
            Ok(Poll::Pending) => self.spawn(task),
            Err(panic) => self.spawn(async move { resume_unwind(panic) }),
        }
    }

    /// Polls a task of the store's runtime once, here and now.
    fn poll<F: Future>(&self, task: Pin<&mut F>) -> std::thread::Result<Poll<F::Output>> {
        let _runtime = self.runtime.enter();
        // A task polls it again, so that it needs no waker yet.
        catch_unwind(AssertUnwindSafe(|| task.poll(&mut Context::from_waker(Waker::noop()))))
    }

    /// Runs `operation` to its end, and waits for it. It is polled once here and now, which is all that memory takes; only what
    /// has to wait goes on in a task of the store's runtime, so that nothing but its own end stops it. Closing waits for it as
    /// well.
    ///
    /// # Cancel safety
    /// Dropping this leaves the task running.
    pub(crate) fn run_to_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        // Boxed at once: it is kilobytes, and whatever is around it would move all of them.
        let (operation, held) = (Box::pin(operation), self.hold());
        async move {
            let mut task = Box::pin(hooks::inherited(async move {
                let result = operation.await;
                drop(held);
                result
            }));
            match self.poll(task.as_mut()) {
                Ok(Poll::Ready(result)) => result,
                Ok(Poll::Pending) => self.spawned(task).await,
                Err(panic) => self.spawned(async move { resume_unwind(panic) }).await,
            }
        }
    }

    /// Runs `task` in a task that only its own end stops, and waits for it. Closing does not wait for it.
    pub(crate) async fn join<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.spawned(hooks::inherited(task)).await
    }

    async fn spawned<T: Send + 'static>(
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

    /// Lets calls hold closing up again, after [`idle`](Self::idle).
    pub(crate) fn go_on(&self) {
        self.under_way.reopen();
    }

    /// Ends the loops.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Ends the loops, and says that the tiers are about to be given back: a store that is built over them waits a moment.
    pub(crate) fn abandon(&self) {
        for claim in self.lent.lock().iter() {
            claim.leave();
        }
        self.leave();
    }

    /// Gives the tiers back, which are closed.
    pub(crate) fn give_back(&self) {
        self.lent.lock().clear();
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
            () = time::sleep(delay) => ControlFlow::Continue(()),
        }
    }
}
