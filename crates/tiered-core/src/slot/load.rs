//! Loads: one backend read for all readers of a key.

use std::sync::Arc;

use super::latch::Latch;
use crate::error::{Error, ErrorKind};
use crate::read::Lookup;

/// What a load brought: an entry or its absence, or why it failed.
pub(crate) type Answer = Result<Lookup, Arc<Error>>;

/// A load, as its followers see it. The one in a key's slot holds the key's fill token: the revocable right to fill the
/// frontend with the answer.
#[derive(Clone, Debug)]
pub(crate) struct Load(Arc<Latch<Answer>>);

impl Load {
    pub(super) fn new() -> Self {
        Self(Arc::new(Latch::new()))
    }

    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Answer {
        self.0.answered().await.cloned().unwrap_or_else(|| {
            let lost = "the task that read the backend ended without an answer";
            Err(Arc::new(Error::new(ErrorKind::Other, lost)))
        })
    }

    /// Waits until the load has answered, and has filled the frontend or will not.
    pub(crate) async fn ended(self) {
        self.0.ended().await;
    }

    /// Gives the answer; the first one counts.
    pub(super) fn announce(&self, answer: Answer) {
        self.0.answer(answer);
    }

    pub(super) fn end(&self) {
        self.0.end();
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
