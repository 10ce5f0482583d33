//! Write-behind: journal, pending writes, ordered flush.
//!
//! A write is acknowledged when its record is in the journal and readers see it as the pending write of its key. One writer at a
//! time appends to the journal, for all that wait, or a task does. One task flushes, in the journal's order. The order of completion
//! of a flushed write is: the backend has it, the frontend is in step, the pending write is cleared if it is still that one, the journal
//! forgets it. What the backend refuses definitely is parked: taken out of line and kept.
//!
//! | file | |
//! |---|---|
//! | `request`, `append`, `appender` | acknowledging: what waits for the journal, and who appends |
//! | `queue`, `in_flight`, `flusher` | what waits for the backend, what is on its way, and the task that flushes |
//! | `parking`, `parked` | the list of parked writes, and what an operator does with them |
//! | `recovery`, `late` | what an earlier session left; owning the backend, at once or when it answers |
//! | `owner` | flushing under a lease |
//! | `room` | the bounds on what is pending |

mod append;
mod appender;
mod company;
mod flusher;
mod in_flight;
mod late;
mod owner;
mod parked;
mod parking;
mod queue;
mod recovery;
mod request;
mod room;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::batch::{Applied, Atomicity, BatchOutcomes};
use crate::capability::{Durability, Feature};
use crate::clock::Stamp;
use crate::door::Door;
use crate::effect::{Effect, Write, keys_of};
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::frontend::Frontend;
use crate::hooks::{self, Body, Hooks};
use crate::journal::{Journal, Sequence};
use crate::key::Key;
use crate::observe::{Recorder, Stats};
use crate::ownership::{Held, Tolerates};
use crate::parts::Parts;
use crate::plan::Plan;
use crate::slot::{Gate, Glance, Slots};
use crate::store::{closed, precondition_failed};
use crate::sync_primitives::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync_primitives::{Mutex, OnceLock};
use crate::tasks::Tasks;
use crate::tier::Tier;
use crate::turn::Turns;
use crate::version::{Precondition, Version};
use crate::write::{CommitLevel, Deleted, Existed, Receipt, Written};

use appender::Appender;
use in_flight::InFlight;
use parking::{Parking, Why};
use queue::Queue;
use request::Append;
use room::{Room, Taken};

/// The write-behind room.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    plan: Arc<Plan>,
    door: Arc<Door>,
    slots: Arc<Slots>,
    frontend: Arc<Frontend>,
    backend: Arc<Tier>,
    turns: Arc<Turns>,
    stamp: Stamp,
    tasks: Tasks,
    recorder: Arc<Recorder>,
    hooks: Arc<Hooks>,
    journal: Arc<dyn Journal>,
    /// Who holds it appends.
    appender: tokio::sync::Mutex<Appender>,
    /// What is handed over to the task that appends, and what wakes it.
    appends: mpsc::UnboundedSender<Append>,
    handed_over: Notify,
    /// Cancelled when that task has ended: nothing more is appended.
    appends_ended: CancellationToken,
    queue: Mutex<Queue>,
    queued: Notify,
    /// The units that are being flushed.
    in_flight: Mutex<InFlight>,
    flushed: watch::Sender<Flushed>,
    /// Journaled writes that are not in the backend, parked ones included.
    backlog: AtomicU64,
    room: Room,
    parking: Mutex<Parking>,
    /// One writer of the journal's list at a time.
    list_turn: tokio::sync::Mutex<()>,
    lease: OnceLock<Held>,
    /// The journal's identity, where the backend's mark has it.
    id: OnceLock<u128>,
    /// The journal, where the backend was out of reach when the store was opened.
    late: OnceLock<NotLookedUp>,
    /// Why the backend is another store's, once that is known: nothing is flushed to it any more.
    lost: OnceLock<Why>,
    /// Whether an append failed, so that the journal may hold more than was acknowledged.
    poisoned: AtomicBool,
}

/// How far the backend is.
#[derive(Clone, Debug, Default)]
struct Flushed {
    /// Every journaled write before this one is in the backend, or parked.
    before: Sequence,
    /// One past the last journaled write.
    journaled: Sequence,
    /// Whether the flush has halted at a parked write.
    halted: bool,
}

/// A journal that was not looked up in the backend's mark yet, since the backend was out of reach.
#[derive(Clone, Copy, Debug)]
struct NotLookedUp {
    journal: u128,
    tolerates: Tolerates,
}

/// What the owner knows of a key: its version, where a live entry exists.
type Current = Option<Version>;

impl WriteBehind {
    pub(crate) fn new(
        parts: &Parts,
        door: Arc<Door>,
        frontend: Arc<Frontend>,
        backend: Arc<Tier>,
        turns: Arc<Turns>,
        journal: Arc<dyn Journal>,
    ) -> Arc<Self> {
        let (appends, requests) = mpsc::unbounded_channel();
        let plan = parts.plan();
        let room = Room::new(plan.settings());
        Arc::new(Self {
            plan,
            door,
            slots: parts.slots(),
            frontend,
            backend,
            turns,
            stamp: parts.stamp(),
            tasks: parts.tasks(),
            recorder: parts.recorder(),
            hooks: parts.hooks(),
            journal,
            appender: tokio::sync::Mutex::new(Appender::new(requests)),
            appends,
            handed_over: Notify::new(),
            appends_ended: CancellationToken::new(),
            queue: Mutex::default(),
            queued: Notify::new(),
            in_flight: Mutex::default(),
            flushed: watch::Sender::new(Flushed::default()),
            backlog: AtomicU64::new(0),
            room,
            parking: Mutex::default(),
            list_turn: tokio::sync::Mutex::new(()),
            lease: OnceLock::new(),
            id: OnceLock::new(),
            late: OnceLock::new(),
            lost: OnceLock::new(),
            poisoned: AtomicBool::new(false),
        })
    }

    /// Starts the task that appends and the task that flushes.
    pub(crate) fn start(self: &Arc<Self>) {
        self.tasks.spawn(Arc::clone(self).append_loop());
        self.tasks.spawn(Arc::clone(self).flush_loop());
    }

    /// Journals one write. Acknowledged when the record is durable and readers see it.
    pub(crate) async fn write(self: &Arc<Self>, write: Write) -> Result<Applied> {
        let bytes = write.size() + write.key().len() as u64;
        let (key, operation) = (write.key().clone(), write.operation());
        let watched = self.hooks.watch(&write, Body::AtHand);
        let turn = async {
            let room = self.take_room(1, bytes).await?;
            let gate = Gate::close(&self.slots, &key).await;
            Ok((gate, room, watched.before(|key| self.frontend.at_hand(key)).await?))
        };
        let behind = Arc::clone(self);
        self.turns
            .take(operation, turn, |(gate, room, watched)| async move {
                let ended = behind.journal_one(&write, room).await;
                watched.after(&ended).await;
                drop(gate);
                if let Ok(applied) = &ended {
                    behind.recorder.took_effect(write.key(), applied);
                }
                ended
            })
            .await
    }

    /// Judges a write, whose key is gated, and journals it.
    async fn journal_one(&self, write: &Write, room: Arc<Taken>) -> Result<Applied> {
        let existed = self.decide(write).await?;
        let mut receipts = self.journal(vec![write.clone()], room).await?;
        let receipt = receipts.pop().unwrap_or_else(Receipt::committed);
        Ok(journaled(write, existed, receipt))
    }

    /// Journals a batch as one group: the writes whose preconditions hold; where batches are atomic and not judged per item,
    /// all or none.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        writes: Vec<Write>,
        atomicity: Atomicity,
    ) -> Result<BatchOutcomes> {
        let atomic = self.plan.capabilities().has(Feature::AtomicBatch) && atomicity != Atomicity::PerItem;
        let (operations, bytes) = (writes.len(), writes.iter().map(Write::size).sum());
        let watching = self.hooks.watching();
        let turn = async {
            let room = self.take_room(operations, bytes).await?;
            let gates = Gate::close_all(&self.slots, keys_of(&writes)).await;
            Ok((gates, room, watching.admit(writes, atomicity, |key| self.frontend.at_hand(key)).await?))
        };
        let behind = Arc::clone(self);
        self.turns
            .take(Operation::Apply, turn, |(gates, room, admitted)| async move {
                let (writes, watched, refused) = admitted.into_parts();
                let ended = behind.journal_all(&writes, atomic, room).await;
                hooks::after_all(watched, &ended).await;
                drop(gates);
                let outcomes = ended?;
                for (write, outcome) in writes.iter().zip(&outcomes) {
                    if let Ok(applied) = outcome {
                        behind.recorder.took_effect(write.key(), applied);
                    }
                }
                Ok(refused.among(outcomes))
            })
            .await
    }

    /// Judges writes, whose keys are gated, and journals those that hold: `atomic`, all or none.
    async fn journal_all(&self, writes: &[Write], atomic: bool, room: Arc<Taken>) -> Result<BatchOutcomes> {
        let mut decided = Vec::with_capacity(writes.len());
        for write in writes {
            decided.push(self.decide(write).await);
        }
        if atomic {
            decided = decided.into_iter().map(|held| held.map(Ok)).collect::<Result<_>>()?;
        }
        self.journal_decided(writes, decided, room).await
    }

    async fn journal_decided(
        &self,
        writes: &[Write],
        decided: Vec<Result<Existed>>,
        room: Arc<Taken>,
    ) -> Result<BatchOutcomes> {
        // Of several on a key the last one wins: the others never take effect, whatever becomes of it.
        let mut winners: Vec<&Write> = Vec::new();
        let mut known = HashSet::new();
        for (write, held) in writes.iter().zip(&decided).rev() {
            if held.is_ok() && known.insert(write.key()) {
                winners.push(write);
            }
        }
        winners.reverse();
        let receipts = if winners.is_empty() {
            Vec::new()
        } else {
            self.journal(winners.iter().map(|write| (*write).clone()).collect(), room).await?
        };
        let receipts: HashMap<&Key, Receipt> =
            winners.iter().map(|write| write.key()).zip(receipts).collect();
        let answers = writes.iter().zip(decided).map(|(write, held)| {
            let existed = held?;
            let receipt = receipts.get(write.key()).cloned().unwrap_or_else(Receipt::committed);
            Ok(journaled(write, existed, receipt))
        });
        Ok(answers.collect())
    }

    /// Takes room for operations, once none that waits for the backend is overdue.
    async fn take_room(&self, operations: usize, bytes: u64) -> Result<Arc<Taken>> {
        self.until_none_is_overdue().await?;
        self.room.take(operations, bytes).await
    }

    /// Judges a write under a closed gate; for a delete, whether the entry exists. The backend is asked only where the
    /// answer matters.
    async fn decide(&self, write: &Write) -> Result<Existed> {
        if *write.precondition() == Precondition::None && !write.reports_existed() {
            if write.is_put() {
                return Ok(Existed::Unknown);
            }
            let pending = self.version_pending(write.key());
            return Ok(pending.map_or(Existed::Unknown, |current| current.is_some().into()));
        }
        Ok(self.current_if(write.key(), write.precondition()).await?.is_some().into())
    }

    /// What the key has now, by its pending write, else by the backend; an error where `precondition` does not hold.
    async fn current_if(&self, key: &Key, precondition: &Precondition) -> Result<Current> {
        let current = match self.version_pending(key) {
            Some(current) => current,
            None => match self.backend.version(key).await {
                Ok(current) => current,
                Err(error)
                    if error.kind() == ErrorKind::Corrupt && *precondition == Precondition::Damaged =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.outcome_is(Outcome::NotApplied)),
            },
        };
        if precondition.holds(current.as_ref()) { Ok(current) } else { Err(precondition_failed(key)) }
    }

    /// What the pending write of a key leaves there; `None` where none is pending.
    fn version_pending(&self, key: &Key) -> Option<Current> {
        match self.slots.glance(key) {
            Glance::Pending(Effect::Put(entry)) => {
                Some(entry.metadata().is_live(self.stamp.now()).then(|| entry.version().clone()))
            }
            Glance::Pending(Effect::Delete(_)) => Some(None),
            Glance::Clear | Glance::Gated | Glance::Quarantined => None,
        }
    }

    /// Appends writes, or hands them over, and waits until they are durable and visible. Their keys may be read then, also
    /// while their gates are closed: a pending write answers.
    async fn journal(&self, writes: Vec<Write>, room: Arc<Taken>) -> Result<Vec<Receipt>> {
        let (append, receipts, answer) = Append::new(writes, room);
        self.take_turn_or_hand_over(append).await?;
        // Without an answer who had the writes has ended before it had one.
        let gone = || Err(closed(Operation::Put).outcome_is(Outcome::Unknown));
        answer.wait().await.unwrap_or_else(gone)?;
        Ok(receipts)
    }

    /// Waits until everything journaled before is in the backend.
    ///
    /// # Errors
    /// Where some of it is parked.
    pub(crate) async fn drained(&self) -> Result<()> {
        let mut flushed = self.flushed.subscribe();
        let target = flushed.borrow().journaled;
        flushed
            .wait_for(|flushed| flushed.before >= target || flushed.halted)
            .await
            .map_err(|_| Error::new(ErrorKind::Closed, "the store went away"))?;
        self.parking.lock().refusal_before(target).map_or(Ok(()), Err)
    }

    /// Fills in the gauges.
    pub(crate) fn measure(&self, stats: &mut Stats) {
        stats.backlog = self.backlog();
        stats.parked = self.parking.lock().count();
        stats.oldest_pending = self.oldest().map_or(Duration::ZERO, |since| self.stamp.since(since));
    }

    fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// When the oldest write that waits for the backend, and is not parked, was journaled.
    fn oldest(&self) -> Option<u64> {
        let queued = self.queue.lock().oldest();
        let in_flight = self.in_flight.lock().since();
        in_flight.into_iter().chain(queued).min()
    }

    /// The first write that waits for the backend, or is on its way there, or has just reached it.
    fn first_waiting(&self) -> Option<Sequence> {
        let queue = self.queue.lock();
        let in_flight = self.in_flight.lock().first();
        in_flight.into_iter().chain(queue.first()).min()
    }

    /// Says how far the backend is. Whatever takes writes out of line or puts them back calls it afterwards. Under the lock
    /// of what is parked, so that what is put back in line meanwhile is not passed over.
    fn move_barrier(&self) {
        let parking = self.parking.lock();
        let halted = self.plan.halts_when_parked() && parking.holds_up();
        let queue = self.queue.lock();
        let in_flight = self.in_flight.lock().first();
        self.flushed.send_modify(|flushed| {
            let waiting = in_flight.into_iter().chain(queue.first()).min();
            flushed.before = waiting.unwrap_or(flushed.journaled);
            flushed.halted = halted;
        });
    }

    /// Ends the session, after the loops have been told to end: gives up what owning the backend takes where nothing waits
    /// for it, and closes the journal. `drained` says how waiting for the flush ended; `None` at the deadline.
    ///
    /// # Errors
    /// That of the flush; those of the journal; and where acknowledged writes are lost with a volatile one.
    pub(crate) async fn close(&self, drained: Option<Result<()>>) -> Result<()> {
        if drained.is_some() {
            // No write is under way.
            self.appends_ended.cancelled().await;
        }
        // Else a write may yet be appended and acknowledged.
        let is_complete = self.appends_ended.is_cancelled();
        let rest = self.backlog();
        let mut result = drained.unwrap_or(Ok(()));
        if rest > 0 && self.journal.durability() == Durability::Volatile {
            let message = format!(
                "{rest} acknowledged writes did not reach the backend in time and are lost: the journal is volatile"
            );
            let lost = Error::new(ErrorKind::Unavailable, message);
            result = Err(match result {
                Ok(()) => lost,
                Err(error) => lost.with_source(error),
            });
        } else if rest > 0 {
            tracing::warn!(
                rest,
                "closed with writes in the journal; they are flushed when the store is opened again"
            );
        } else if is_complete {
            self.release_lease().await;
        }
        let is_sound = is_complete && rest == 0 && !self.poisoned.load(Ordering::Relaxed);
        let is_empty = is_sound && self.trim().await;
        let journal = self.id.get().copied().filter(|_| is_empty);
        let closed = self.journal.close().await;
        if let (Ok(()), Some(journal)) = (&closed, journal) {
            self.leave_mark(journal).await;
        }
        result.and(closed)
    }
}

fn journaled(write: &Write, existed: Existed, receipt: Receipt) -> Applied {
    let level = CommitLevel::Journaled;
    match write.effect() {
        Effect::Put(entry) => Applied::Put(Written { version: entry.version().clone(), level, receipt }),
        Effect::Delete(_) => Applied::Delete(Deleted { existed, level, receipt }),
    }
}
