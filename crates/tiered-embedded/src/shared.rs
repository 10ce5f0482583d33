//! The open engine, which readers and the writer share, and which is reopened after a failure.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};
use tiered_core::adapter::Stamp;
use tiered_core::adapter::opening::{Held, PlaceId, open_patiently};
use tiered_core::{Durability, Error, ErrorKind, Outcome, Result};

use crate::access::Access;
use crate::bound::{self, Bound, Bounded};
use crate::engine::{Engine, Opening};
use crate::reclaim;
use crate::settings::Settings;
use crate::values::{Removal, Values};

/// How the engine is opened.
pub(crate) type Open = dyn Fn(Opening) -> Result<Box<dyn Engine>> + Send + Sync;

pub(crate) struct Shared {
    /// Where the database is, for the log.
    pub(crate) place: String,
    pub(crate) stamp: Stamp,
    /// Whether every commit goes to disk.
    pub(crate) durable: bool,
    pub(crate) access: Access,
    /// Whether entries may vanish.
    pub(crate) evicts: bool,
    /// What the entries are kept within, if anything.
    pub(crate) bound: Option<Bound>,
    /// The values that no record refers to.
    pub(crate) values: Arc<Values>,
    /// The file or folder that the engine locks, if any.
    path: Option<PathBuf>,
    open: Box<Open>,
    current: RwLock<Current>,
    /// How often it was reopened; it changes only while nobody uses the engine.
    openings: AtomicU64,
    /// Listed for as long as the engine is open; released after it.
    held: Mutex<Option<Held>>,
    closed: AtomicBool,
    /// Whether the engine is unused and permanently closed.
    ended: Mutex<bool>,
    has_ended: Condvar,
}

struct Current {
    /// `None` when closed, or between a failure and the next use.
    engine: Option<Box<dyn Engine>>,
    /// How often it was reopened, so that two failures of one opening close it once.
    reopened: u64,
}

impl Shared {
    /// Opens the engine. If the path is known, waits for a lock that this process is releasing. Blocks.
    pub(crate) fn new(settings: Settings, open: Box<Open>) -> Result<Self> {
        let Settings { place, path, durability, stamp, access, capacity, .. } = settings;
        bound::check(capacity, access).map_err(|error| error.at_place(&place))?;
        let engine = match &path {
            Some(path) => open_patiently(path, || open(Opening::First))?,
            None => open(Opening::First)?,
        };
        let removal = if capacity.is_some() { Removal::AtOnce } else { Removal::Later };
        let values = Values::new(removal);
        let opened = || {
            if access == Access::ReadWrite {
                values.learn(&*engine)?;
                if capacity.is_some() {
                    // They are not counted then.
                    reclaim::all(&*engine, &values)?;
                }
            }
            bound::open(&*engine, capacity, &stamp, &values)
        };
        let Bounded { evicts, bound } = match opened() {
            Ok(bounded) => bounded,
            Err(error) => {
                // The refusal matters more than how the engine ended.
                engine.close().ok();
                return Err(error.at_place(&place));
            }
        };
        let shared = Self {
            place,
            stamp,
            durable: durability == Durability::PowerLoss,
            access,
            evicts,
            bound,
            values: Arc::new(values),
            path,
            open,
            current: RwLock::new(Current { engine: Some(engine), reopened: 0 }),
            openings: AtomicU64::new(0),
            held: Mutex::new(None),
            closed: AtomicBool::new(false),
            ended: Mutex::new(false),
            has_ended: Condvar::new(),
        };
        shared.list_as_held();
        Ok(shared)
    }

    /// Tells later openings in this process that the engine has its place locked.
    fn list_as_held(&self) {
        let place = self.path.as_deref().and_then(|path| PlaceId::of(path).ok());
        *self.held.lock() = place.map(Held::new);
    }

    /// Tells openings in this process that the place becomes free.
    pub(crate) fn leave(&self) {
        if let Some(held) = &*self.held.lock() {
            held.leave();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Refuses new operations from now on; returns false if it did so already.
    pub(crate) fn begin_closing(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        if first {
            self.leave();
        }
        first
    }

    /// Which opening of the engine it is, within a use of it.
    pub(crate) fn opening(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Runs `use_it` on the open engine; reopens it first if a failure has closed it. Blocks.
    pub(crate) fn with_engine<T>(&self, use_it: impl FnOnce(&dyn Engine) -> Result<T>) -> Result<T> {
        self.ensure_open()?;
        let (result, opening) = {
            let current = self.current.read();
            let Some(engine) = current.engine.as_deref() else {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "the database failed or is being closed; try again",
                )
                .outcome_is(Outcome::NotApplied));
            };
            (use_it(engine), current.reopened)
        };
        // After a failed disk operation an engine may refuse every call: the next use reopens it.
        if let Err(error) = &result
            && matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full)
        {
            tracing::warn!(place = %self.place, error = %error.chain(), "the disk failed; the database is closed");
            self.release(Some(opening));
        }
        result
    }

    /// As [`with_engine`](Self::with_engine), but only if it need not wait.
    pub(crate) fn with_idle_engine<T>(&self, use_it: impl FnOnce(&dyn Engine) -> Option<T>) -> Option<T> {
        use_it(self.current.try_read()?.engine.as_deref()?)
    }

    fn ensure_open(&self) -> Result<()> {
        if self.current.read().engine.is_some() {
            return Ok(());
        }
        let mut current = self.current.write();
        if current.engine.is_some() {
            return Ok(());
        }
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the store was closed; open it again")
                .outcome_is(Outcome::NotApplied));
        }
        current.engine =
            Some((self.open)(Opening::Again).map_err(|error| error.outcome_is(Outcome::NotApplied))?);
        current.reopened += 1;
        self.openings.store(current.reopened, Ordering::Release);
        self.values.doubt();
        if let Some(bound) = &self.bound {
            bound.doubt();
        }
        self.list_as_held();
        tracing::warn!(place = %self.place, "the database is open again");
        Ok(())
    }

    /// Closes the current engine, or only the engine of one particular opening.
    pub(crate) fn release(&self, of: Option<u64>) {
        let mut current = self.current.write();
        if of.is_some_and(|opening| opening != current.reopened) {
            return;
        }
        // Under the lock, so that no opening runs while the database is being closed.
        if let Some(engine) = current.engine.take()
            && let Err(error) = engine.close()
        {
            tracing::warn!(place = %self.place, error = %error.chain(), "the database was not closed cleanly");
        }
        // The engine's lock is released now.
        self.held.lock().take();
    }

    /// Closes the engine permanently.
    pub(crate) fn end(&self) {
        self.release(None);
        *self.ended.lock() = true;
        self.has_ended.notify_all();
    }

    /// Waits until the engine is closed permanently; returns false if that takes longer than `patience`. Blocks.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> bool {
        let mut ended = self.ended.lock();
        self.has_ended.wait_while_for(&mut ended, |ended| !*ended, patience);
        *ended
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The engine is still open here only if the call that opened it was dropped.
        self.release(None);
    }
}
