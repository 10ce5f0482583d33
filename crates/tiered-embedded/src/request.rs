//! What is asked of the writer.

use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Action, Key, Result};
use tokio::sync::oneshot;

/// What a refused operation does to those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judging {
    /// None of them takes effect.
    Together,
    /// Nothing: it fails alone.
    Alone,
}

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// All of these or none, or all but those that are refused.
    Apply(Vec<(Key, Action)>, Judging, oneshot::Sender<Result<BatchOutcomes>>),
    /// Sets or removes a mark.
    Mark(String, Option<bytes::Bytes>, oneshot::Sender<Result<()>>),
    /// Answers when everything before is on disk.
    Flush(oneshot::Sender<Result<()>>),
    /// As a flush; the writer ends.
    Close(oneshot::Sender<Result<()>>),
}

impl Request {
    /// Whether it puts something.
    pub(crate) fn puts(&self) -> bool {
        let Self::Apply(operations, ..) = self else { return false };
        operations.iter().any(|(_, action)| matches!(action, Action::Put(_)))
    }

    /// How many operations it has.
    pub(crate) fn operations(&self) -> usize {
        let Self::Apply(operations, ..) = self else { return 0 };
        operations.len()
    }

    /// Bytes of its values.
    pub(crate) fn size(&self) -> u64 {
        let Self::Apply(operations, ..) = self else { return 0 };
        let size = |action: &Action| match action {
            Action::Put(put) => put.value.len() as u64,
            Action::Delete(_) => 0,
        };
        operations.iter().map(|(_, action)| size(action)).sum()
    }
}
