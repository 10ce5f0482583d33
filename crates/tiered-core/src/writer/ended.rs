//! How a write ended at the backend.

use std::collections::BTreeMap;

use crate::batch::{Applied, BatchOutcomes};
use crate::error::Result;
use crate::key::Key;

/// What may be left of a write at the backend, beside its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// What the outcome of the answer says.
    AsAnswered,
    /// Nothing: no attempt of unknown outcome can take effect any more.
    Nothing,
    /// The write took effect, or did not; either way the write of another process came after it.
    Overtaken,
    /// An attempt may be under way that no version keeps from taking effect, so the key stays closed.
    Attempt,
}

/// How one write ended.
#[derive(Debug)]
pub(super) struct Ended {
    result: Result<Applied>,
    leftover: Leftover,
}

impl Ended {
    pub(super) const fn new(result: Result<Applied>, leftover: Leftover) -> Self {
        Self { result, leftover }
    }

    /// The answer, where the write took effect.
    pub(super) fn applied(&self) -> Option<&Applied> {
        self.result.as_ref().ok()
    }

    pub(super) const fn result(&self) -> &Result<Applied> {
        &self.result
    }

    pub(super) fn into_parts(self) -> (Result<Applied>, Leftover) {
        (self.result, self.leftover)
    }
}

/// How a batch ended.
#[derive(Debug)]
pub(super) struct EndedBatch {
    result: Result<BatchOutcomes>,
    /// By key; the others are as the batch.
    leftovers: BTreeMap<Key, Leftover>,
    leftover: Leftover,
}

impl EndedBatch {
    /// A batch that was sent once, or whose answer says all.
    pub(super) const fn as_answered(result: Result<BatchOutcomes>) -> Self {
        Self { result, leftovers: BTreeMap::new(), leftover: Leftover::AsAnswered }
    }

    /// The same, but for what is left of single keys.
    #[must_use]
    pub(super) fn but(mut self, keys: impl IntoIterator<Item = Key>, leftover: Leftover) -> Self {
        self.leftovers.extend(keys.into_iter().map(|key| (key, leftover)));
        self
    }

    /// The same, with nothing left of the other keys.
    #[must_use]
    pub(super) fn settled(self) -> Self {
        Self { leftover: Leftover::Nothing, ..self }
    }

    /// The same, with other outcomes.
    #[must_use]
    pub(super) fn map(self, outcomes: impl FnOnce(Result<BatchOutcomes>) -> BatchOutcomes) -> Self {
        Self { result: Ok(outcomes(self.result)), ..self }
    }

    /// Whether an attempt may be under way that no version keeps from taking effect.
    pub(super) fn leaves_attempts(&self) -> bool {
        self.leftovers.values().any(|leftover| *leftover == Leftover::Attempt)
    }

    pub(super) fn leftover(&self, key: &Key) -> Leftover {
        self.leftovers.get(key).copied().unwrap_or(self.leftover)
    }

    pub(super) const fn result(&self) -> &Result<BatchOutcomes> {
        &self.result
    }

    pub(super) fn into_result(self) -> Result<BatchOutcomes> {
        self.result
    }
}
