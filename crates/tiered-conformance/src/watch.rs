//! Time that no runtime keeps: a store that blocks a thread must not stop the clock that watches it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

/// Completes after a time, counted by a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
struct Alarm {
    rung: oneshot::Receiver<()>,
    _keep: mpsc::Sender<()>,
}

impl Alarm {
    fn after(limit: Duration) -> Self {
        let (keep, dropped) = mpsc::channel::<()>();
        let (bell, rung) = oneshot::channel();
        std::thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Nothing listens where the alarm was dropped just now.
                bell.send(()).ok();
            }
        });
        Self { rung, _keep: keep }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.rung).poll(context).map(drop)
    }
}

/// The result of `future`, or `None` when it has not ended within `limit`. The limit holds only where polling `future`
/// returns; what may block goes on a thread of its own.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    // Started at the first wait: most calls end without one.
    let mut alarm = None;
    poll_fn(|context| {
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::after(limit));
        Pin::new(alarm).poll(context).map(|()| None)
    })
    .await
}

/// Completes after `time`.
pub(crate) async fn pause(time: Duration) {
    Alarm::after(time).await;
}
