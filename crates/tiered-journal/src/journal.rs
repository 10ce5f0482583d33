//! The journal's implementation of the engine's trait.

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::adapter::opening::{self, Held};
use tiered_core::adapter::{VersionMint, closed};
use tiered_core::{Durability, Error, ErrorKind, Operation, Outcome, Result};

use crate::config::JournalConfig;
use crate::folder::Folder;
use crate::format::MAX_BACKEND;
use crate::log::{Log, failed};
use crate::recovery::scan;
use crate::report::Report;
use crate::segment;

/// Where blocking calls run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executor {
    /// On the runtime's threads for blocking work.
    Threads,
    /// In the caller's poll.
    Inline,
}

/// A journal in a folder on local disk. See the [crate's documentation](crate).
///
/// Dropping it without [`close`](Journal::close) is like a crash: the next owner recovers what was not trimmed.
pub struct FileJournal {
    state: Arc<Mutex<State>>,
    place: String,
    durability: Durability,
    executor: Executor,
    /// The folder's place in this process, while the folder is locked.
    held: Weak<Held>,
}

#[derive(Debug)]
enum State {
    /// Not read yet.
    Opened {
        folder: Arc<dyn Folder>,
        segment_size: u64,
    },
    Recovered {
        log: Box<Log>,
        report: Report,
    },
    Closed,
}

impl FileJournal {
    pub(crate) fn new(
        folder: Arc<dyn Folder>,
        config: &JournalConfig,
        executor: Executor,
        held: Weak<Held>,
    ) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::Opened { folder, segment_size: config.segment_size })),
            place: config.path.display().to_string(),
            durability: config.durability,
            executor,
            held,
        }
    }

    /// What was found when it was recovered; `None` before.
    pub fn report(&self) -> Option<Report> {
        match &*self.state.lock() {
            State::Recovered { report, .. } => Some(report.clone()),
            State::Opened { .. } | State::Closed => None,
        }
    }

    /// Runs `work` on a thread that may block. It runs to its end even if the call is dropped.
    async fn run<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = Arc::clone(&self.state);
        let ended = match (self.executor, opening::runtime()) {
            (Executor::Inline, _) => work(&mut state.lock()),
            (Executor::Threads, Err(error)) => Err(error.outcome_is(Outcome::NotApplied)),
            (Executor::Threads, Ok(runtime)) => {
                let ended = runtime.spawn_blocking(move || work(&mut state.lock())).await;
                ended.unwrap_or_else(|error| {
                    Err(Error::new(ErrorKind::Other, "the runtime shut down, or the journal panicked")
                        .with_source(error)
                        .outcome_is(Outcome::Unknown))
                })
            }
        };
        ended.map_err(|error| error.at_place(&self.place).during(operation).in_tier("journal"))
    }

    async fn with_log<T: Send + 'static>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut Log) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let run = self.run(operation, move |state| match state {
            State::Recovered { log, .. } => work(log),
            State::Opened { .. } => Err(Error::new(
                ErrorKind::InvalidInput,
                "the journal is not recovered yet; build a store with it first",
            )
            .outcome_is(Outcome::NotApplied)),
            State::Closed => Err(closed(operation).outcome_is(Outcome::NotApplied)),
        });
        run.await
    }
}

impl FileJournal {
    /// Tells openings in this process that the folder becomes free.
    fn leave(&self) {
        if let Some(held) = self.held.upgrade() {
            held.leave();
        }
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl Journal for FileJournal {
    fn durability(&self) -> Durability {
        self.durability
    }

    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        let records = records.to_vec();
        self.with_log(Operation::Put, move |log| log.append(&records)).await
    }

    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.with_log(Operation::Flush, move |log| log.trim(sequence.saturating_add(1))).await
    }

    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        let aside = aside.clone();
        self.with_log(Operation::Flush, move |log| log.set_aside(&aside)).await
    }

    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        let (backend, durability) = (backend.to_vec(), self.durability);
        let recovered = self.run(Operation::Open, move |state| {
            let State::Opened { folder, segment_size } = state else {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the journal is already recovered; open it again",
                ));
            };
            let (log, report, recovered) = recover(folder, *segment_size, durability, backend)?;
            *state = State::Recovered { log: Box::new(log), report };
            Ok(recovered)
        });
        recovered.await
    }

    async fn note_marked(&self) -> Result<()> {
        self.with_log(Operation::Open, Log::note_marked).await
    }

    async fn close(&self) -> Result<()> {
        self.leave();
        self.run(Operation::Close, |state| match std::mem::replace(state, State::Closed) {
            State::Recovered { mut log, .. } => log.close(),
            State::Opened { .. } | State::Closed => Ok(()),
        })
        .await
    }
}

/// Reads the files, makes the valid part durable, cuts off a torn end, and binds a new journal to its backend.
fn recover(
    folder: &Arc<dyn Folder>,
    segment_size: u64,
    durability: Durability,
    backend: Vec<u8>,
) -> Result<(Log, Report, Recovered)> {
    if backend.len() > MAX_BACKEND {
        return Err(Error::new(
            ErrorKind::Config,
            "the backend's identity has more than 256 bytes; give a shorter one",
        ));
    }
    let found = scan(folder.as_ref())?;
    if let Some((_, bound)) = &found.bound
        && *bound != backend
    {
        let message = format!(
            "the journal belongs to the backend {}, not to {}; use its own backend, or another folder",
            String::from_utf8_lossy(bound),
            String::from_utf8_lossy(&backend)
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    let unwritable = |error: std::io::Error| failed("the journal cannot be repaired", &error);
    for unfinished in &found.unfinished {
        folder.remove(unfinished).map_err(unwritable)?;
    }
    if let Some(last) = &found.last {
        let name = segment::name(last.segment);
        if last.cut_bytes > 0 {
            tracing::warn!(
                segment = name,
                at = last.good.len(),
                bytes = last.cut_bytes,
                "the end of the journal is torn or damaged and is cut off"
            );
        }
        segment::repair(folder.as_ref(), &name, &last.good, last.cut_bytes).map_err(unwritable)?;
    }
    let report = Report::of(&found);
    let fresh = || VersionMint::from_entropy().mint().as_u128().unwrap_or_default();
    let is_new = found.bound.is_none();
    let mut log = Log {
        folder: Arc::clone(folder),
        durability,
        segment_size,
        journal: found.bound.as_ref().map_or_else(fresh, |(journal, _)| *journal),
        backend,
        marked: is_new || found.recovered.marked,
        finished: found.segments.into(),
        current: None,
        next: found.next,
        trimmed: found.trimmed,
        trimmed_on_disk: found.trimmed,
        poison: None,
        buffer: Vec::new(),
        owns_reserve: found.owns_reserve,
    };
    if is_new {
        // The journal's id and its backend must be durable before a caller relies on the journal.
        log.begin()?;
    }
    log.reserve();
    let mut recovered = found.recovered;
    (recovered.journal, recovered.marked) = (log.journal, log.marked);
    Ok((log, report, recovered))
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal")
            .field("place", &self.place)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
