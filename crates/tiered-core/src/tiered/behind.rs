//! Write-behind: journal, overlay, ordered flush.
//!
//! A write is acknowledged when its record is in the journal and in the overlay of its key. One task appends to
//! the journal, in groups; one task flushes, in the journal's order. The order of completion of a flushed record
//! is: the backend has it, the frontend is in step, the overlay is cleared if it is still that record, the journal
//! forgets it.

mod append;
mod flusher;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::engine::Engine;
use super::settings::{OnFull, TieredSettings};
use crate::batch::Action;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::journal::{Journal, JournalRecord, Sequence};
use crate::key::Key;
use crate::planted::Plant;
use crate::read::ReadOptions;
use crate::slot::{Gate, Glance, PendingState};
use crate::store::precondition_failed;
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Level, Progress, Put, Receipt, Written};

/// The parts of write-behind.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) journal: Arc<dyn Journal>,
    appends: mpsc::UnboundedSender<Append>,
    queue: Mutex<VecDeque<Group>>,
    queued: Notify,
    flushed: watch::Sender<Flushed>,
    backlog: AtomicU64,
    room: Room,
}

/// How far the backend is.
#[derive(Clone, Debug, Default)]
struct Flushed {
    /// Every journaled record before this one is in the backend.
    before: Sequence,
    /// One past the last journaled record.
    journaled: Sequence,
    /// Why the backend refuses the next one, where it does.
    refused: Option<Arc<Error>>,
}

/// Records that were appended together and are flushed together.
type Group = Vec<Queued>;

#[derive(Debug)]
struct Queued {
    sequence: Sequence,
    record: JournalRecord,
    progress: watch::Sender<Progress>,
    _room: Option<Arc<Taken>>,
}

/// A request to the task that appends.
#[derive(Debug)]
struct Append {
    records: Vec<(JournalRecord, watch::Sender<Progress>)>,
    room: Arc<Taken>,
    reply: oneshot::Sender<Result<()>>,
}

/// The bounds on pending writes.
#[derive(Debug)]
struct Room {
    operations: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
    max_operations: u32,
    max_kibibytes: u32,
    on_full: OnFull,
}

/// A part of the bounds, given back when its records are flushed.
#[derive(Debug)]
struct Taken {
    _operations: OwnedSemaphorePermit,
    _kibibytes: OwnedSemaphorePermit,
}

impl Room {
    fn new(settings: &TieredSettings) -> Self {
        let limit = |wanted: u64| u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        let max_operations = limit(settings.max_pending_operations as u64);
        let max_kibibytes = limit(settings.max_pending_bytes / 1024);
        Self {
            operations: Arc::new(Semaphore::new(max_operations as usize)),
            kibibytes: Arc::new(Semaphore::new(max_kibibytes as usize)),
            max_operations,
            max_kibibytes,
            on_full: settings.on_full,
        }
    }

    /// Takes room for so many operations and bytes; more than all there is counts as all there is.
    async fn take(&self, operations: usize, bytes: u64) -> Result<Arc<Taken>> {
        let operations = u32::try_from(operations).unwrap_or(u32::MAX).min(self.max_operations);
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.max_kibibytes);
        let full = || {
            Error::new(ErrorKind::Full, "too many writes wait for the backend; try again later, or raise max-pending-operations and max-pending-bytes")
                .outcome_is(Outcome::NotApplied)
        };
        let (operations_left, kibibytes_left) = (Arc::clone(&self.operations), Arc::clone(&self.kibibytes));
        let taken = match self.on_full {
            OnFull::Block => (
                operations_left.acquire_many_owned(operations).await.map_err(|_| full())?,
                kibibytes_left.acquire_many_owned(kibibytes).await.map_err(|_| full())?,
            ),
            OnFull::Fail => (
                operations_left.try_acquire_many_owned(operations).map_err(|_| full())?,
                kibibytes_left.try_acquire_many_owned(kibibytes).map_err(|_| full())?,
            ),
        };
        Ok(Arc::new(Taken { _operations: taken.0, _kibibytes: taken.1 }))
    }
}

/// What the owner knows of a key: its version, where a live entry exists.
pub(super) type Current = Option<Version>;

impl Behind {
    /// The parts, and the receiving end for [`Engine::append_loop`].
    pub(super) fn new(journal: Arc<dyn Journal>, settings: &TieredSettings) -> (Self, AppendQueue) {
        let (appends, receiver) = mpsc::unbounded_channel();
        let behind = Self {
            journal,
            appends,
            queue: Mutex::default(),
            queued: Notify::new(),
            flushed: watch::Sender::new(Flushed::default()),
            backlog: AtomicU64::new(0),
            room: Room::new(settings),
        };
        (behind, AppendQueue(receiver))
    }

    /// Journaled records that are not in the backend.
    pub(super) fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Waits until everything journaled before is in the backend.
    pub(super) async fn drained(&self) -> Result<()> {
        let mut flushed = self.flushed.subscribe();
        let target = flushed.borrow().journaled;
        let reached = flushed
            .wait_for(|flushed| flushed.before >= target || flushed.refused.is_some())
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the store went away"))?;
        if reached.before >= target {
            return Ok(());
        }
        match &reached.refused {
            Some(error) => Err(error.duplicate()),
            None => Ok(()),
        }
    }
}

/// The receiving end of the requests to append.
#[derive(Debug)]
pub(super) struct AppendQueue(mpsc::UnboundedReceiver<Append>);

impl Engine {
    fn behind(&self) -> Result<&Behind> {
        // `build` refuses write-behind without a journal.
        self.behind.as_ref().ok_or_else(|| Error::new(ErrorKind::Config, "write-behind needs a journal"))
    }

    pub(super) async fn put_behind(
        self: &Arc<Self>,
        key: &Key,
        entry: Entry,
        precondition: Precondition,
    ) -> Result<Written> {
        let room = self.behind()?.room.take(1, entry.size() + key.len() as u64).await?;
        let gate = self.slots.close_gate(key).await;
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.answer_in_time(async move {
            if precondition != Precondition::None {
                engine.decide(&owned, &precondition).await?;
            }
            let version = entry.version().clone();
            let record = JournalRecord { key: owned, action: Action::Put(Put::copy_of(&entry)) };
            let mut receipts = engine.journal(vec![gate], vec![record], room).await?;
            let receipt = receipts.pop().unwrap_or_else(Receipt::committed);
            Ok(Written { version, level: Level::Journaled, receipt })
        })
        .await
    }

    pub(super) async fn delete_behind(self: &Arc<Self>, key: &Key, delete: Delete) -> Result<Deleted> {
        let room = self.behind()?.room.take(1, key.len() as u64).await?;
        let gate = self.slots.close_gate(key).await;
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.answer_in_time(async move {
            let current = engine.decide(&owned, &delete.precondition).await?;
            let delete = Delete { precondition: Precondition::None, ..delete };
            let record = JournalRecord { key: owned, action: Action::Delete(delete) };
            let mut receipts = engine.journal(vec![gate], vec![record], room).await?;
            let receipt = receipts.pop().unwrap_or_else(Receipt::committed);
            Ok(Deleted { existed: current.is_some(), level: Level::Journaled, receipt })
        })
        .await
    }

    /// Takes room for a batch.
    pub(super) async fn room_for(&self, operations: usize, bytes: u64) -> Result<BatchRoom> {
        Ok(BatchRoom(self.behind()?.room.take(operations, bytes).await?))
    }

    /// Journals a batch whose preconditions have been decided, as one group.
    pub(super) async fn journal_batch(
        &self,
        gates: Vec<Gate>,
        records: Vec<JournalRecord>,
        room: BatchRoom,
    ) -> Result<Vec<Receipt>> {
        self.journal(gates, records, room.0).await
    }

    /// Judges a precondition under a closed gate: against the pending write, else the backend.
    pub(super) async fn decide(&self, key: &Key, precondition: &Precondition) -> Result<Current> {
        let current = match self.slots.glance(key) {
            Glance::Pending(_) if self.planted.has(Plant::ConditionalBypassesJournal) => None,
            Glance::Pending(PendingState::Written(entry)) => {
                Some(entry.metadata().is_live(self.stamp.now()).then(|| entry.version().clone()))
            }
            Glance::Pending(PendingState::Deleted) => Some(None),
            Glance::Clear | Glance::Gated | Glance::Quarantined => None,
        };
        let current = if let Some(current) = current {
            current
        } else {
            let head = self.backend.head(key, &ReadOptions::new().authoritative()).await;
            let head = head.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
            head.map(|metadata| metadata.version.clone())
        };
        if precondition.holds(current.as_ref()) { Ok(current) } else { Err(precondition_failed(key)) }
    }

    /// Hands records to the task that appends and waits until they are durable and visible.
    async fn journal(
        &self,
        gates: Vec<Gate>,
        records: Vec<JournalRecord>,
        room: Arc<Taken>,
    ) -> Result<Vec<Receipt>> {
        let (reply, answer) = oneshot::channel();
        let (records, receipts) = records
            .into_iter()
            .map(|record| {
                let (progress, receiver) = watch::channel(Progress::Journaled);
                ((record, progress), Receipt::pending(receiver))
            })
            .unzip();
        let gone = || crate::store::closed(crate::Operation::Put);
        self.behind()?.appends.send(Append { records, room, reply }).map_err(|_| gone())?;
        if !self.planted.has(Plant::AcknowledgeBeforeDurable) {
            answer.await.map_err(|_| gone())??;
        }
        // The overlay is in place: the keys may be read again.
        drop(gates);
        Ok(receipts)
    }
}

/// Room taken for a batch.
#[derive(Debug)]
pub(super) struct BatchRoom(Arc<Taken>);
