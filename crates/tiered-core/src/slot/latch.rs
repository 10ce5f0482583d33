//! Something that ends once, perhaps with an answer before. Those who wait are woken in the order they came.

use std::pin::pin;

use tokio::sync::Notify;

use crate::sync_primitives::OnceLock;
use crate::sync_primitives::atomic::{AtomicBool, Ordering};

/// A latch. tokio's `watch` would do, but wakes in random order: neither fair nor repeatable.
#[derive(Debug)]
pub(crate) struct Latch<T = ()> {
    answer: OnceLock<T>,
    over: AtomicBool,
    changed: Notify,
}

impl<T: Send + Sync> Latch<T> {
    pub(crate) fn new() -> Self {
        Self { answer: OnceLock::new(), over: AtomicBool::new(false), changed: Notify::new() }
    }

    /// Gives the answer; the first one counts.
    pub(crate) fn answer(&self, answer: T) {
        if self.answer.set(answer).is_ok() {
            self.changed.notify_waiters();
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits for the answer; `None` when it ended without one.
    pub(crate) async fn answered(&self) -> Option<&T> {
        self.wait(|| self.answer.get().is_some()).await;
        self.answer.get()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        self.wait(|| false).await;
    }

    async fn wait(&self, enough: impl Fn() -> bool + Send) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking: what happens from now on is not missed.
            changed.as_mut().enable();
            if enough() || self.over.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}
