//! Write-behind: journal, overlay, ordered flush.
//!
//! A write is acknowledged when its record is in the journal and in the overlay of its key. One task appends to
//! the journal, in groups; one task flushes, in the journal's order. The order of completion of a flushed record
//! is: the backend has it, the frontend is in step, the overlay is cleared if it is still that record, the journal
//! forgets it. What the backend refuses for good is parked: taken out of line and kept.

mod append;
mod flusher;
pub(super) mod lease;
mod mark;
mod parking;
mod queue;
mod room;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::lease::Lease;
pub(in crate::tiered) use self::lease::OWNER;

use self::lease::Held;
use self::mark::NotLookedUp;
use self::parking::Parking;
use self::queue::{Queue, Unit};
use self::room::{Room, Taken};
use super::engine::Engine;
use super::settings::{OnOverdue, OnPark, TieredSettings};
use crate::batch::Action;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::{Journal, JournalRecord, Sequence};
use crate::key::Key;
use crate::planted::Plant;
use crate::read::ReadOptions;
use crate::slot::{Gate, Glance, PendingState};
use crate::store::{closed, precondition_failed};
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Existed, Level, Progress, Put, Receipt, Written};

/// The parts of write-behind.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) journal: Arc<dyn Journal>,
    appends: mpsc::UnboundedSender<Append>,
    queue: Mutex<Queue>,
    queued: Notify,
    /// The units that are being flushed.
    in_flight: Mutex<Option<InFlight>>,
    flushed: watch::Sender<Flushed>,
    backlog: AtomicU64,
    room: Room,
    parking: Mutex<Parking>,
    aside_turn: tokio::sync::Mutex<()>,
    /// Whether the flush halts at a parked write.
    halts: bool,
    /// How the backend is to be owned; and the lease, once it is taken.
    wanted: Option<Lease>,
    lease: OnceLock<Held>,
    /// The journal's identity, where the backend's mark has it.
    id: OnceLock<u128>,
    /// The journal, where the backend was out of reach when the store was opened.
    not_looked_up: OnceLock<NotLookedUp>,
    /// Why the backend is another's, once that is known: nothing is flushed to it any more.
    ousted: OnceLock<Error>,
    /// Whether an append failed, so that the journal may hold more than was acknowledged.
    poisoned: AtomicBool,
}

/// Units that were taken out of the queue and are not in the backend yet.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    /// The sequence of their first record.
    first: Sequence,
    /// When the oldest was journaled, by the engine's uptime in milliseconds.
    since: u64,
}

/// How far the backend is.
#[derive(Clone, Debug, Default)]
struct Flushed {
    /// Every journaled record before this one is in the backend, or set aside.
    before: Sequence,
    /// One past the last journaled record.
    journaled: Sequence,
    /// Whether the flush has halted at a parked write.
    halted: bool,
}

/// A request to the task that appends.
#[derive(Debug)]
struct Append {
    records: Vec<(JournalRecord, watch::Sender<Progress>)>,
    room: Arc<Taken>,
    reply: oneshot::Sender<Result<()>>,
}

/// What the owner knows of a key: its version, where a live entry exists.
pub(super) type Current = Option<Version>;

impl Behind {
    /// The parts, and the receiving end for [`Engine::append_loop`]. `atomic` says whether the backend's batches are.
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        settings: &TieredSettings,
        atomic: bool,
        wanted: Option<Lease>,
    ) -> (Self, AppendQueue) {
        let (appends, receiver) = mpsc::unbounded_channel();
        let behind = Self {
            journal,
            appends,
            queue: Mutex::default(),
            queued: Notify::new(),
            in_flight: Mutex::default(),
            flushed: watch::Sender::new(Flushed::default()),
            backlog: AtomicU64::new(0),
            room: Room::new(settings),
            parking: Mutex::default(),
            aside_turn: tokio::sync::Mutex::new(()),
            halts: match settings.on_park {
                OnPark::Auto => atomic,
                OnPark::Halt => true,
                OnPark::Skip => false,
            },
            wanted,
            lease: OnceLock::new(),
            id: OnceLock::new(),
            not_looked_up: OnceLock::new(),
            ousted: OnceLock::new(),
            poisoned: AtomicBool::new(false),
        };
        (behind, AppendQueue(receiver))
    }

    /// Journaled records that are not in the backend.
    pub(super) fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Journaled records that the backend refused.
    pub(super) fn parked(&self) -> u64 {
        self.parking.lock().count()
    }

    /// When the oldest record that waits for the backend, and is not parked, was journaled.
    pub(super) fn oldest(&self) -> Option<u64> {
        let queued = self.queue.lock().oldest();
        let in_flight = self.in_flight.lock().map(|units| units.since);
        in_flight.into_iter().chain(queued).min()
    }

    /// The journal that is to leave the backend's mark, once it is closed: it has nothing any more.
    pub(super) fn emptied(&self) -> Option<u128> {
        let empty = self.backlog() == 0 && !self.poisoned.load(Ordering::Relaxed);
        self.id.get().copied().filter(|_| empty)
    }

    /// Queues units that were journaled, `journaled` being one past the last of them. Both at once: were a unit flushed
    /// before it counts as journaled, the barrier would stay behind it.
    fn enqueue(&self, units: Vec<Unit>, journaled: Sequence) {
        let mut queue = self.queue.lock();
        for unit in units {
            queue.push(unit);
        }
        self.flushed.send_modify(|flushed| flushed.journaled = journaled);
    }

    /// Waits until everything journaled before is in the backend.
    pub(super) async fn drained(&self) -> Result<()> {
        let mut flushed = self.flushed.subscribe();
        let target = flushed.borrow().journaled;
        flushed
            .wait_for(|flushed| flushed.before >= target || flushed.halted)
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the store went away"))?;
        self.parking.lock().refusal_before(target).map_or(Ok(()), Err)
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
        let bytes = entry.size() + key.len() as u64;
        let turn = async {
            let room = self.room(1, bytes).await?;
            let leaks = self.planted.has(Plant::RoomLeaksOnCancel);
            let leak = leaks.then(|| std::mem::ManuallyDrop::new(Arc::clone(&room)));
            let gate = self.gate(key).await;
            drop(leak.map(std::mem::ManuallyDrop::into_inner));
            Ok((gate?, room))
        };
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.in_turn(turn, |(gate, room)| async move {
            if precondition != Precondition::None {
                engine.decide(&owned, &precondition).await?;
            }
            let version = entry.version().clone();
            let record =
                JournalRecord { key: owned, action: Action::Put(Put::verbatim(&entry)), continues: false };
            let mut receipts = engine.journal(vec![gate], vec![record], room).await?;
            let receipt = receipts.pop().unwrap_or_else(Receipt::committed);
            Ok(Written { version, level: Level::Journaled, receipt })
        })
        .await
    }

    pub(super) async fn delete_behind(self: &Arc<Self>, key: &Key, delete: Delete) -> Result<Deleted> {
        let turn = async {
            let room = self.room(1, key.len() as u64).await?;
            Ok((self.gate(key).await?, room))
        };
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.in_turn(turn, |(gate, room)| async move {
            let existed = engine.decide_delete(&owned, &delete).await?;
            let delete = Delete { precondition: Precondition::None, reports: false, ..delete };
            let record = JournalRecord { key: owned, action: Action::Delete(delete), continues: false };
            let mut receipts = engine.journal(vec![gate], vec![record], room).await?;
            let receipt = receipts.pop().unwrap_or_else(Receipt::committed);
            Ok(Deleted { existed, level: Level::Journaled, receipt })
        })
        .await
    }

    /// Takes room for operations, once none that waits for the backend is overdue.
    async fn room(&self, operations: usize, bytes: u64) -> Result<Arc<Taken>> {
        let behind = self.behind()?;
        self.until_none_is_overdue(behind).await?;
        behind.room.take(operations, bytes).await
    }

    /// Keeps a new write from being acknowledged while the oldest pending one is older than it may be, where that is wanted.
    async fn until_none_is_overdue(&self, behind: &Behind) -> Result<()> {
        if self.settings.on_overdue == OnOverdue::Alarm {
            return Ok(());
        }
        let (mut flushed, mut leaving) = (behind.flushed.subscribe(), self.leaving.subscribe());
        while self.overdue(behind).is_some() {
            self.sound_alarm(behind);
            if self.settings.on_overdue == OnOverdue::Fail {
                let message = "writes have waited for the backend for longer than max-pending-age; try again when it has them";
                return Err(Error::new(ErrorKind::Full, message).outcome_is(Outcome::NotApplied));
            }
            tokio::select! {
                biased;
                _ = leaving.wait_for(|left| *left) => return Err(closed(Operation::Put)),
                // The sender is held here.
                _ = flushed.changed() => {}
            }
        }
        Ok(())
    }

    /// Takes room for a batch.
    pub(super) async fn room_for(&self, operations: usize, bytes: u64) -> Result<BatchRoom> {
        Ok(BatchRoom(self.room(operations, bytes).await?))
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

    /// Judges a delete under a closed gate. The backend is asked only where the answer matters.
    pub(super) async fn decide_delete(&self, key: &Key, delete: &Delete) -> Result<Existed> {
        if delete.precondition == Precondition::None && !delete.reports_existed() {
            let pending = self.version_pending(key);
            return Ok(pending.map_or(Existed::Unknown, |current| current.is_some().into()));
        }
        Ok(self.decide(key, &delete.precondition).await?.is_some().into())
    }

    /// Judges a precondition under a closed gate: against the pending write, else the backend.
    pub(super) async fn decide(&self, key: &Key, precondition: &Precondition) -> Result<Current> {
        let current = if let Some(current) = self.version_pending(key) {
            current
        } else {
            let options = ReadOptions::new().authoritative();
            match self.ask_backend(self.backend.head(key, &options)).await {
                Ok(head) => head.map(|metadata| metadata.version.clone()),
                Err(error)
                    if error.kind() == ErrorKind::Corrupt && *precondition == Precondition::Damaged =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.outcome_is(Outcome::NotApplied)),
            }
        };
        if precondition.holds(current.as_ref()) { Ok(current) } else { Err(precondition_failed(key)) }
    }

    /// What the pending write of a key leaves there; `None` where none is pending.
    fn version_pending(&self, key: &Key) -> Option<Current> {
        match self.slots.glance(key) {
            Glance::Pending(_) if self.planted.has(Plant::ConditionalBypassesJournal) => None,
            Glance::Pending(PendingState::Written(entry)) => {
                Some(entry.metadata().is_live(self.stamp.now()).then(|| entry.version().clone()))
            }
            Glance::Pending(PendingState::Deleted) => Some(None),
            Glance::Clear | Glance::Gated | Glance::Quarantined => None,
        }
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
            // Whoever appends has gone away after it had the records.
            answer.await.map_err(|_| gone().outcome_is(Outcome::Unknown))??;
        }
        // The overlay is in place: the keys may be read again.
        drop(gates);
        Ok(receipts)
    }
}

/// Room taken for a batch.
#[derive(Debug)]
pub(super) struct BatchRoom(Arc<Taken>);
