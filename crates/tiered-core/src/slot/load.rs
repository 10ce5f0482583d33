//! Loads: one backend read for all readers of a key.

use std::ops::Range;
use std::sync::Arc;

use super::latch::Latch;
use crate::error::{Error, ErrorKind};
use crate::read::Read;
use crate::sent::Sent;

/// What a load brought: an entry (a part of one, where the load is of a part) or its absence, or why it failed.
pub(crate) type Answer = Result<Read, Arc<Error>>;

/// A load, as its followers see it. The one in a key's slot holds the key's fill token: the revocable right to fill the
/// frontend with the answer.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    sent: Sent,
    /// The bytes that it reads, where that is not the whole value.
    part: Option<Range<u64>>,
    latch: Arc<Latch<Answer>>,
}

impl Load {
    /// A load of the whole value, or of a part, that is sent no earlier than `sent`.
    pub(super) fn new(sent: Sent, part: Option<Range<u64>>) -> Self {
        Self { sent, part, latch: Arc::new(Latch::new()) }
    }

    /// Since when its answer is validated.
    pub(crate) const fn sent(&self) -> Sent {
        self.sent
    }

    /// The bytes that it reads, where that is not the whole value.
    pub(crate) const fn part(&self) -> Option<&Range<u64>> {
        self.part.as_ref()
    }

    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Answer {
        self.latch.answered().await.cloned().unwrap_or_else(|| {
            let lost = "the task that read the backend ended without an answer";
            Err(Arc::new(Error::new(ErrorKind::Other, lost)))
        })
    }

    /// Waits until the load has answered, and has filled the frontend or will not.
    pub(crate) async fn ended(self) {
        self.latch.ended().await;
    }

    /// Gives the answer; the first one counts.
    pub(super) fn announce(&self, answer: Answer) {
        self.latch.answer(answer);
    }

    pub(super) fn end(&self) {
        self.latch.end();
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.latch, &other.latch)
    }
}
