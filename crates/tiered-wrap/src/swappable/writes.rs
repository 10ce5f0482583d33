//! Writes that may still take effect, and the keys that were written while data moves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{Error, Key, Outcome, Result, Store};
use tokio::time::Instant;

use super::calls::Quiet;

/// Keys that are noted while data moves. With more of them everything is compared again.
const NOTED: usize = 1_000_000;

/// The writes that have passed through.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Until when one of them may take effect although it has ended.
    late_until: Mutex<Option<Instant>>,
    /// Whether one has ended that the store inside may still be carrying out.
    unsettled: AtomicBool,
    /// Whether keys are noted.
    moving: AtomicBool,
    noted: Mutex<Noted>,
}

/// Keys that were written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    These(HashSet<Key>),
    TooMany,
}

/// What was written since data moves.
#[derive(Debug, Default)]
struct Noted {
    /// By writes that have ended. One that is under way may take effect after its key was copied.
    ended: Written,
    /// By writes that have ended and may take effect yet.
    open: Written,
}

/// A write that is under way. Dropped before it has ended it may take effect later.
pub(super) struct Write<'w> {
    writes: &'w Writes,
    /// Empty where no data move.
    keys: Vec<Key>,
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
        // Data begin to move while no write is under way, so that this stays as it is until the write has ended.
        let keys = if self.moving.load(Ordering::Acquire) {
            keys.into_iter().cloned().collect()
        } else {
            Vec::new()
        };
        let lifetime = store.capabilities().request_lifetime();
        Write { writes: self, keys, lifetime, is_definite: false }
    }

    /// Whether the store inside may be carrying out a write that has ended here. It forgets that.
    pub(super) fn take_unsettled(&self) -> bool {
        self.unsettled.swap(false, Ordering::AcqRel)
    }

    /// Undoes [`take_unsettled`](Self::take_unsettled).
    pub(super) fn unsettle(&self) {
        self.unsettled.store(true, Ordering::Release);
    }

    /// Whether no write that has ended can take effect any more.
    pub(super) fn are_settled(&self) -> bool {
        self.late_for().is_zero() && !self.unsettled.load(Ordering::Acquire)
    }

    /// How long one that has ended may still take effect.
    pub(super) fn late_for(&self) -> Duration {
        let until = *self.late_until.lock();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Notes the keys of writes that begin from now on, while none is under way. Dropping what it returns ends that.
    pub(super) fn note(&self, _: &Quiet) -> Noting<'_> {
        *self.noted.lock() = Noted::default();
        self.moving.store(true, Ordering::Release);
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
        if !self.keys.is_empty() {
            let keys = std::mem::take(&mut self.keys);
            let mut noted = self.writes.noted.lock();
            if !self.is_definite {
                noted.open.add(keys.iter().cloned());
            }
            noted.ended.add(keys);
        }
        if !self.is_definite {
            self.writes.unsettle();
            let until = Some(Instant::now() + self.lifetime);
            let mut late = self.writes.late_until.lock();
            *late = until.max(*late);
        }
    }
}

/// Keys are noted until this is dropped.
pub(super) struct Noting<'w>(&'w Writes);

impl Noting<'_> {
    /// What was written by writes that have ended since the last call.
    pub(super) fn take(&self) -> Written {
        std::mem::take(&mut self.0.noted.lock().ended)
    }

    /// All that is left, once no write can take effect any more.
    pub(super) fn take_all(&self, _: &Quiet) -> Written {
        let Noted { mut ended, open } = std::mem::take(&mut *self.0.noted.lock());
        match open {
            Written::These(open) => ended.add(open),
            Written::TooMany => ended = Written::TooMany,
        }
        ended
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.0.moving.store(false, Ordering::Release);
        *self.0.noted.lock() = Noted::default();
    }
}

impl Default for Written {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Written {
    fn add(&mut self, keys: impl IntoIterator<Item = Key>) {
        let Self::These(these) = self else { return };
        these.extend(keys);
        if these.len() > NOTED {
            *self = Self::TooMany;
        }
    }
}
