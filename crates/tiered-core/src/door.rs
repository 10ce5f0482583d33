//! Whether a tiered store is open, and why it is not.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::hooks::{Hook, HookHandle, Hooks};
use crate::store::closed;
use crate::sync_primitives::OnceLock;
use crate::sync_primitives::atomic::{AtomicBool, AtomicU8, Ordering};

/// No call passes.
const SHUT: u8 = 1;

/// The store has had a hook: a call may come from one.
const HOOKED: u8 = 2;

/// The door of a store: every public call passes it.
#[derive(Debug)]
pub(crate) struct Door {
    /// Name of the store, for errors.
    name: String,
    /// Of [`SHUT`] and [`HOOKED`]. Nothing in it: a call passes without a further look.
    state: AtomicU8,
    closed: AtomicBool,
    hooks: Arc<Hooks>,
    /// Why the store does not own its backend any more.
    lost: OnceLock<Error>,
}

impl Door {
    pub(crate) fn new(name: &str, hooks: Arc<Hooks>) -> Self {
        Self {
            name: name.to_owned(),
            state: AtomicU8::new(if hooks.is_empty() { 0 } else { HOOKED }),
            hooks,
            closed: AtomicBool::new(false),
            lost: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) & SHUT == 0
    }

    /// Adds a hook. From now on calls are looked at.
    pub(crate) fn add_hook(&self, hook: Box<dyn Hook>) -> HookHandle {
        self.state.fetch_or(HOOKED, Ordering::AcqRel);
        self.hooks.add(hook)
    }

    /// Refuses a call where the store is closed, or does not own its backend any more, or that comes from one of its hooks.
    #[inline]
    pub(crate) fn check(&self, operation: Operation) -> Result<()> {
        if self.state.load(Ordering::Acquire) == 0 { Ok(()) } else { self.look(operation) }
    }

    /// As [`check`](Self::check), for a write that holds closing up: either this refuses it, or closing waits for it.
    pub(crate) fn enter(&self, operation: Operation) -> Result<()> {
        // A change of the state, though none: so it comes before or after the one that shuts the store.
        if self.state.fetch_or(0, Ordering::AcqRel) == 0 { Ok(()) } else { self.look(operation) }
    }

    #[cold]
    fn look(&self, operation: Operation) -> Result<()> {
        self.refuse_hooks(operation)?;
        if self.is_open() {
            return Ok(());
        }
        let error = match self.lost.get().filter(|_| !self.closed.load(Ordering::Acquire)) {
            Some(lost) => lost.clone().during(operation),
            None => closed(operation),
        };
        Err(error.in_tier(&self.name))
    }

    /// Refuses a call that comes from a hook of the store: it could wait for the write that the hook belongs to.
    pub(crate) fn refuse_hooks(&self, operation: Operation) -> Result<()> {
        if !self.hooks.is_caller() {
            return Ok(());
        }
        let message = "a hook may not call its store, which waits for the hook; hand the work to a task";
        let error = Error::new(ErrorKind::Unsupported, message).during(operation);
        Err(error.in_tier(&self.name).outcome_is(Outcome::NotApplied))
    }

    /// Closes the store. Breaks where it was closed already.
    pub(crate) fn close(&self) -> std::ops::ControlFlow<()> {
        let was_closed = self.closed.swap(true, Ordering::AcqRel);
        self.state.fetch_or(SHUT, Ordering::AcqRel);
        if was_closed { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }

    /// Opens it again, after [`close`](Self::close): the store is as before.
    pub(crate) fn reopen(&self) {
        self.closed.store(false, Ordering::Release);
        self.state.fetch_and(!SHUT, Ordering::AcqRel);
        // One that does not own its backend any more stays shut, whichever of the two came first.
        if self.lost.get().is_some() {
            self.state.fetch_or(SHUT, Ordering::AcqRel);
        }
    }

    /// Shuts out every call: the backend belongs to another store. The first reason counts.
    pub(crate) fn lose(&self, why: Error) {
        self.lost.set(why.outcome_is(Outcome::NotApplied)).ok();
        self.state.fetch_or(SHUT, Ordering::AcqRel);
    }
}
