//! How long the frontend is waited for.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::sync_primitives::time;

/// What a call answers within so long; `None` where it has not. What it answers at once takes no timer.
pub(super) async fn within<T>(patience: Duration, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let at_once = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
    match at_once {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => time::timeout(patience, call).await.ok(),
    }
}
