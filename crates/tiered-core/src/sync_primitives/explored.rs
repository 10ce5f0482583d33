//! Locks, time and tasks for shuttle.
//!
//! Time is virtual: it passes when a sleep or a timeout ends, and no sleep is more than a few decisions of the scheduler.
//! A run of a scenario is on one thread, so what belongs to the run is in variables of the thread.

#![allow(
    unreachable_pub,
    reason = "the handle of a runtime is a part of the public face where it is tokio's"
)]

pub(crate) mod time;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll};
use std::time::Duration;

use shuttle::rand::RngCore as _;
use shuttle::sync::MutexGuard;
use shuttle::sync::atomic::{AtomicBool, Ordering};

/// shuttle's lock, with the signatures of `parking_lot`'s.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// std's cell, with a point before each access where the scheduler decides.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    point: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), point: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.point.store(true, Ordering::Release);
        self.value.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.point.load(Ordering::Acquire);
        self.value.get()
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.point.store(true, Ordering::Release);
        self.value.get_or_init(make)
    }
}

/// What belongs to one run of a scenario.
#[derive(Default)]
struct Run {
    now: Cell<Duration>,
    /// Timeouts that may still elapse.
    impatience: Cell<usize>,
    /// Tasks that have not ended.
    tasks: Cell<usize>,
    /// What happens at the latest at these moments.
    late: RefCell<BTreeMap<(Duration, u64), Box<dyn FnOnce()>>>,
    next: Cell<u64>,
}

thread_local! {
    static RUN: Run = Run::default();
}

/// Begins a run.
pub(crate) fn begin() {
    RUN.with(|run| {
        run.now.set(Duration::ZERO);
        run.impatience.set(0);
        run.tasks.set(0);
        run.late.borrow_mut().clear();
        run.next.set(0);
    });
}

/// Tasks that were spawned and have not ended.
pub(crate) fn tasks() -> usize {
    RUN.with(|run| run.tasks.get())
}

pub(crate) fn below(bound: u64) -> u64 {
    shuttle::rand::thread_rng().next_u64() % bound
}

pub(crate) fn coin() -> bool {
    below(2) == 0
}

/// Lets the scheduler decide. At times the task stands back behind all others.
pub(crate) async fn pause() {
    if coin() {
        return shuttle::future::yield_now().await;
    }
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Spawns tasks of the run.
#[derive(Clone, Debug)]
pub struct Handle(());

impl Handle {
    pub(crate) const fn try_current() -> Result<Self, Infallible> {
        Ok(Self(()))
    }

    /// There is one runtime, in which everything is.
    pub(crate) const fn enter(&self) -> Entered {
        Entered(())
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let counted = Counted::new();
        JoinHandle(shuttle::future::spawn(async move {
            let ended = task.await;
            drop(counted);
            ended
        }))
    }
}

/// As the guard of a runtime.
#[derive(Debug)]
pub(crate) struct Entered(());

/// A task that is counted until it has ended.
struct Counted(());

impl Counted {
    fn new() -> Self {
        RUN.with(|run| run.tasks.set(run.tasks.get() + 1));
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUN.with(|run| run.tasks.set(run.tasks.get().saturating_sub(1)));
    }
}

/// Waits for a task. Dropping it leaves the task running.
#[derive(Debug)]
pub struct JoinHandle<T>(shuttle::future::JoinHandle<T>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(JoinError)
    }
}

/// A task that did not end. A panic ends the whole run.
#[derive(Debug)]
pub struct JoinError(shuttle::future::JoinError);

impl JoinError {
    pub(crate) const fn is_panic(&self) -> bool {
        false
    }
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for JoinError {}

/// A call that is dropped when it was polled so often, if it has not ended before.
#[derive(Debug)]
pub(crate) struct Abandoned<F> {
    call: Pin<Box<F>>,
    polls: u64,
}

/// Polls `call` at most `polls` times, then drops it.
pub(crate) fn abandon<F: Future>(polls: u64, call: F) -> Abandoned<F> {
    Abandoned { call: Box::pin(call), polls }
}

impl<F: Future> Future for Abandoned<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let polled = self.call.as_mut().poll(context).map(Some);
        if polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    }
}
