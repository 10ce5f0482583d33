//! Writes that may still take effect, and the keys that were written while data moves.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Error, Key, Outcome, Result, Store};
use tokio::time::Instant;

/// Keys that are noted while data moves. With more of them everything is compared again.
const NOTED: usize = 1_000_000;

/// The writes that have passed through.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Until when one of them may take effect although it has ended.
    late_until: Mutex<Option<Instant>>,
    noted: Mutex<Option<Noted>>,
}

/// What was written since data moves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    These(HashSet<Key>),
    TooMany,
}

/// A write that is under way. Dropped before it has ended it may take effect later.
pub(super) struct Write<'w> {
    writes: &'w Writes,
    lifetime: Duration,
    is_definite: bool,
}

impl Writes {
    /// Begins a write of these keys in `store`.
    pub(super) fn begin<'w, 'k>(
        &'w self,
        store: &Arc<dyn Store>,
        keys: impl IntoIterator<Item = &'k Key>,
    ) -> Write<'w> {
        if let Some(noted) = &mut *self.noted.lock() {
            noted.add(keys);
        }
        let lifetime = store.capabilities().request_lifetime();
        Write { writes: self, lifetime, is_definite: false }
    }

    /// How long one that has ended may still take effect.
    pub(super) fn late_for(&self) -> Duration {
        let until = *self.late_until.lock();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Notes the keys of writes that begin from now on. Dropping what it returns ends that.
    pub(super) fn note(&self) -> Noting<'_> {
        *self.noted.lock() = Some(Noted::none());
        Noting(self)
    }
}

impl Write<'_> {
    /// The write has ended like this.
    pub(super) fn ended<T>(mut self, result: Result<T>) -> Result<T> {
        self.is_definite = !result.as_ref().is_err_and(is_open);
        result
    }

    /// The batch has ended like this.
    pub(super) fn all_ended(mut self, outcomes: Result<BatchOutcomes>) -> Result<BatchOutcomes> {
        self.is_definite = match &outcomes {
            Ok(outcomes) => !outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(is_open)),
            Err(error) => !is_open(error),
        };
        outcomes
    }
}

fn is_open(error: &Error) -> bool {
    error.write_outcome() == Outcome::Unknown
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        if !self.is_definite {
            let until = Some(Instant::now() + self.lifetime);
            let mut late = self.writes.late_until.lock();
            *late = until.max(*late);
        }
    }
}

/// Keys are noted until this is dropped.
pub(super) struct Noting<'w>(&'w Writes);

impl Noting<'_> {
    /// What was written since the last call.
    pub(super) fn take(&self) -> Noted {
        self.0.noted.lock().replace(Noted::none()).unwrap_or_else(Noted::none)
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        *self.0.noted.lock() = None;
    }
}

impl Noted {
    fn none() -> Self {
        Self::These(HashSet::new())
    }

    fn add<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) {
        let Self::These(these) = self else { return };
        these.extend(keys.into_iter().cloned());
        if these.len() > NOTED {
            *self = Self::TooMany;
        }
    }
}
