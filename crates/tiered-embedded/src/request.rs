//! What is asked of the writer.

use tiered_core::adapter::{BatchOutcomes, Checksum};
use tiered_core::{Action, Key, Put, Result};
use tokio::sync::oneshot;

use crate::value::{Loose, Place};

/// What a refused operation does to those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judging {
    /// None of them takes effect.
    Together,
    /// Nothing: it fails alone.
    Alone,
}

/// A part of a value.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) place: Place,
    /// The number of its first chunk.
    pub(crate) first: u32,
    /// Its chunks, sealed.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// What there is of the value before this part, and with it.
    pub(crate) before: Loose,
    pub(crate) after: Loose,
    /// The opening of the engine that has the parts before; `None` for the first part.
    pub(crate) opening: Option<u64>,
}

/// A value all of whose parts were stored.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: Key,
    /// The entry that it becomes; it has no value.
    pub(crate) put: Put,
    pub(crate) place: Place,
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
    pub(crate) loose: Loose,
    /// The opening of the engine that has the parts.
    pub(crate) opening: u64,
}

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// All of these or none, or all but those that are refused.
    Apply(Vec<(Key, Action)>, Judging, oneshot::Sender<Result<BatchOutcomes>>),
    /// Stores a part of a value that no record refers to yet. Its answer is the engine's opening that has it.
    Stage(Part, oneshot::Sender<Result<u64>>),
    /// Makes an entry of the parts, where they are all there.
    Publish(Upload, oneshot::Sender<Result<BatchOutcomes>>),
    /// Sets or removes a mark.
    Mark(String, Option<bytes::Bytes>, oneshot::Sender<Result<()>>),
    /// Removes values that can go. Nobody waits for it.
    Reclaim,
    /// Answers when everything before is on disk.
    Flush(oneshot::Sender<Result<()>>),
    /// As a flush; the writer ends.
    Close(oneshot::Sender<Result<()>>),
}

impl Request {
    /// Whether it puts something.
    pub(crate) fn puts(&self) -> bool {
        match self {
            Self::Apply(operations, ..) => {
                operations.iter().any(|(_, action)| matches!(action, Action::Put(_)))
            }
            Self::Publish(..) => true,
            _ => false,
        }
    }

    /// Whether its commit goes to disk where commits of entries do, or do not.
    pub(crate) fn is_durable(&self, entries: bool) -> bool {
        match self {
            Self::Apply(..) | Self::Publish(..) => entries,
            Self::Stage(..) | Self::Reclaim => false,
            Self::Mark(..) | Self::Flush(_) | Self::Close(_) => true,
        }
    }

    /// How many operations it has.
    pub(crate) fn operations(&self) -> usize {
        let Self::Apply(operations, ..) = self else { return 0 };
        operations.len()
    }

    /// Bytes of its values.
    pub(crate) fn size(&self) -> u64 {
        let operations = match self {
            Self::Apply(operations, ..) => operations,
            Self::Stage(part, _) => return part.chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            _ => return 0,
        };
        let size = |action: &Action| match action {
            Action::Put(put) => put.value.len() as u64,
            Action::Delete(_) => 0,
        };
        operations.iter().map(|(_, action)| size(action)).sum()
    }
}
