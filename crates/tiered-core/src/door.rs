//! Whether a tiered store is open, and why it is not.

use crate::error::{Error, Operation, Outcome, Result};
use crate::store::closed;
use crate::sync_primitives::OnceLock;
use crate::sync_primitives::atomic::{AtomicBool, Ordering};

/// The door of a store: every public call passes it.
#[derive(Debug)]
pub(crate) struct Door {
    /// Name of the store, for errors.
    name: String,
    shut: AtomicBool,
    closed: AtomicBool,
    /// Why the store does not own its backend any more.
    lost: OnceLock<Error>,
}

impl Door {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shut: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        !self.shut.load(Ordering::Acquire)
    }

    /// Refuses a call where the store is closed, or does not own its backend any more.
    pub(crate) fn check(&self, operation: Operation) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let error = match self.lost.get().filter(|_| !self.closed.load(Ordering::Acquire)) {
            Some(lost) => lost.clone().during(operation),
            None => closed(operation),
        };
        Err(error.in_tier(&self.name))
    }

    /// Closes the store. Breaks where it was closed already.
    pub(crate) fn close(&self) -> std::ops::ControlFlow<()> {
        let was_closed = self.closed.swap(true, Ordering::AcqRel);
        self.shut.store(true, Ordering::Release);
        if was_closed { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }

    /// Shuts out every call: the backend belongs to another store. The first reason counts.
    pub(crate) fn lose(&self, why: Error) {
        self.lost.set(why.outcome_is(Outcome::NotApplied)).ok();
        self.shut.store(true, Ordering::Release);
    }
}
