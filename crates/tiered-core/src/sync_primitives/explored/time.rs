//! Virtual time: it passes when a sleep or a timeout ends. A timeout elapses if the dice say so, and not often.

use std::future::Future;
use std::ops::Add;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Handle, RUN, below, coin, pause};

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(RUN.with(|run| run.now.get()))
    }

    pub(crate) fn checked_add(self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// Since the run began.
    pub(crate) const fn uptime(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// A deadline that passed first.
#[derive(Debug)]
pub(crate) struct Elapsed(());

/// Lets this many timeouts elapse, at moments that the scheduler's dice choose.
pub(crate) fn allow_timeouts(count: usize) {
    RUN.with(|run| run.impatience.set(count));
}

/// Time passes until `moment`, and what was late happens.
fn pass(moment: Instant) {
    loop {
        let due = RUN.with(|run| {
            let mut late = run.late.borrow_mut();
            let first = late.first_entry().filter(|first| first.key().0 <= moment.0);
            first.map(|first| first.remove())
        });
        let Some(happen) = due else { break };
        happen();
    }
    RUN.with(|run| run.now.set(run.now.get().max(moment.0)));
}

pub(crate) async fn sleep(duration: Duration) {
    let until = Instant::now() + duration;
    for _ in 0..=below(2) {
        pause().await;
    }
    pass(until);
}

/// `effect` happens at any moment from now on, before so much time has passed.
pub(crate) fn within(duration: Duration, effect: impl FnOnce() + 'static) {
    let key = RUN.with(|run| {
        let number = run.next.replace(run.next.get() + 1);
        let key = (run.now.get() + duration, number);
        run.late.borrow_mut().insert(key, Box::new(effect));
        key
    });
    drop(Handle(()).spawn(async move {
        for _ in 0..=below(4) {
            pause().await;
        }
        if let Some(happen) = RUN.with(|run| run.late.borrow_mut().remove(&key)) {
            happen();
        }
    }));
}

pub(crate) async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + duration, future).await
}

pub(crate) async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let may_elapse = || RUN.with(|run| run.impatience.get()) > 0;
    let mut polls = (may_elapse() && coin()).then(|| below(4));
    std::future::poll_fn(|context: &mut Context<'_>| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        match &mut polls {
            Some(_) if !may_elapse() => polls = None,
            Some(0) => {
                RUN.with(|run| run.impatience.set(run.impatience.get() - 1));
                pass(deadline);
                return Poll::Ready(Err(Elapsed(())));
            }
            Some(left) => {
                *left -= 1;
                context.waker().wake_by_ref();
            }
            None => {}
        }
        Poll::Pending
    })
    .await
}
