//! The engine behind a tiered store: what its parts share.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::behind::Behind;
use super::guarantee::Guarantees;
use super::health::{Health, contained};
use super::settings::{FrontendFailure, TieredSettings};
use crate::backoff::Backoff;
use crate::capability::Capabilities;
use crate::claim::{Claim, Claims};
use crate::clock::Stamp;
use crate::entry::{Entry, Metadata, Note, Origin};
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::key::Key;
use crate::observe::{Counters, Event, EventSender, Stats};
use crate::planted::{Plant, Planted};
use crate::policy::{ReadPolicy, WritePolicy};
use crate::slot::{Call, Slots};
use crate::store::{Store, closed};
use crate::sync::SyncReport;
use crate::write::{Delete, Put};

/// What all operations share. Held by the store's handles and by the tasks that outlive a call.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) frontend: Arc<dyn Store>,
    pub(super) backend: Arc<dyn Store>,
    pub(super) settings: TieredSettings,
    pub(super) capabilities: Capabilities,
    pub(super) guarantees: Guarantees,
    pub(super) stamp: Stamp,
    pub(super) slots: Arc<Slots>,
    pub(super) behind: Option<Behind>,
    pub(super) counters: Counters,
    pub(super) events: EventSender,
    pub(super) backend_health: Health,
    pub(super) frontend_health: Health,
    pub(super) runtime: Handle,
    pub(super) planted: Planted,
    /// Entries of the frontend that were validated in another session are in doubt.
    pub(super) session: AtomicU64,
    /// Earlier sessions of this process that ended since others may have written, not since the frontend failed.
    pub(super) in_step: Mutex<VecDeque<u64>>,
    /// How old a validation may be, in milliseconds; `u64::MAX` for any age.
    pub(super) max_stale_millis: u64,
    /// Whether nobody else writes the backend.
    pub(super) alone: bool,
    /// Whether the frontend outlives the process and carries the store's marks.
    pub(super) persistent: bool,
    pub(super) closed: AtomicBool,
    /// Closed, or not the owner of the backend any more: nothing is served.
    pub(super) barred: AtomicBool,
    /// Writes that are past their gate.
    pub(super) busy: Busy,
    /// Calls of `close` that have not ended.
    pub(super) closing: Busy,
    /// Set when the last handle is gone or the store is closed: background tasks end.
    pub(super) leaving: watch::Sender<bool>,
    /// The tiers, lent to this store alone; given back when it is closed, or with the last task that may call them.
    pub(super) borrowed: Arc<Borrowed>,
    /// What the sync on connecting did.
    pub(super) connected: OnceLock<SyncReport>,
    /// What this store lends to others: to stacks above it, and to syncs into it.
    pub(super) claims: Claims,
}

/// Claims on the tiers.
#[derive(Debug)]
pub(super) struct Borrowed(Mutex<Vec<Claim>>);

impl Borrowed {
    pub(super) fn new(claims: Vec<Claim>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(claims)))
    }

    /// Gives the tiers back.
    pub(super) fn give_back(&self) {
        self.0.lock().clear();
    }
}

/// Counts what closing waits for.
#[derive(Clone, Debug)]
pub(super) struct Busy(Arc<watch::Sender<usize>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Working(Arc<watch::Sender<usize>>);

impl Busy {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn enter(&self) -> Working {
        self.0.send_modify(|count| *count += 1);
        Working(Arc::clone(&self.0))
    }

    /// Waits until nothing is under way.
    pub(super) async fn idle(&self) {
        // The sender is held here, so the wait cannot fail.
        self.0.subscribe().wait_for(|count| *count == 0).await.ok();
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Dropped with the last handle of a store.
#[derive(Debug)]
pub(super) struct Alive {
    leaving: watch::Sender<bool>,
    borrowed: Arc<Borrowed>,
}

impl Alive {
    pub(super) fn new(engine: &Engine) -> Self {
        Self { leaving: engine.leaving.clone(), borrowed: Arc::clone(&engine.borrowed) }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // Whoever builds a store over the same tiers now waits until the last task here has ended.
        for claim in self.borrowed.0.lock().iter() {
            claim.leave();
        }
        self.leaving.send_replace(true);
    }
}

/// A change of the frontend.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Install(Entry),
    Remove,
}

/// How a change of the frontend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Done,
    /// It failed or has not returned: the key is in quarantine.
    Quarantined,
}

impl Engine {
    /// The store that writes go to in the end.
    pub(super) fn home(&self) -> &Arc<dyn Store> {
        match self.settings.write_policy {
            WritePolicy::FrontendOnly => &self.frontend,
            _ => &self.backend,
        }
    }

    pub(super) fn check_open(&self, operation: Operation) -> Result<()> {
        if !self.barred.load(Ordering::Acquire) {
            return Ok(());
        }
        let barred = if self.closed.load(Ordering::Acquire) { None } else { self.fenced() };
        Err(barred.unwrap_or_else(|| closed(operation)).in_tier(self.capabilities.name()))
    }

    pub(super) fn stats(&self) -> Stats {
        let census = self.slots.census();
        Stats {
            slots: census.slots,
            gated: census.gated,
            flights: census.flights,
            pending: census.pending,
            quarantined: self.slots.quarantined() as u64,
            backlog: self.behind.as_ref().map_or(0, Behind::backlog),
            parked: self.behind.as_ref().map_or(0, Behind::parked),
            oldest_pending_millis: self
                .behind
                .as_ref()
                .and_then(Behind::oldest)
                .map_or(0, |since| self.uptime_millis().saturating_sub(since)),
            ..self.counters.read()
        }
    }

    pub(super) fn uptime_millis(&self) -> u64 {
        u64::try_from(self.stamp.clock().uptime().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::Acquire)
    }

    /// Whether entries of this session have every write of this store, be they older than they may be.
    pub(super) fn is_in_step(&self, session: u64) -> bool {
        session == self.session() || self.in_step.lock().contains(&session)
    }

    /// Bookkeeping for a copy of what the backend answered to a request sent at `sent` (uptime).
    pub(super) fn note(session: u64, sent: u64, of: &Metadata) -> Note {
        Note { session, validated: sent, origin: Origin::Backend, validator: of.note.validator.clone() }
    }

    /// Whether an entry of the frontend may be served without asking the backend; `max_stale` in milliseconds.
    pub(super) fn is_fresh(&self, metadata: &Metadata, max_stale: u64) -> bool {
        let note = &metadata.note;
        let max_stale = match note.origin {
            Origin::Absence => max_stale.min(self.settings.negative_ttl_millis.unwrap_or(0)),
            Origin::Backend if self.settings.read_policy == ReadPolicy::FrontendFirst => max_stale,
            Origin::Backend | Origin::Local | Origin::Tombstone => return true,
        };
        if note.session != self.session() {
            return false;
        }
        max_stale == u64::MAX
            || self.uptime_millis().checked_sub(note.validated).is_some_and(|age| age <= max_stale)
    }

    /// Whether the frontend takes this entry at all.
    pub(super) fn fits_frontend(&self, key: &Key, size: u64) -> bool {
        let frontend = self.frontend.capabilities();
        key.len() <= frontend.key_limit()
            && size <= frontend.value_limit().min(self.settings.max_fill.unwrap_or(u64::MAX))
    }

    /// The change that brings the frontend in step with a write of the backend.
    pub(super) fn change_for(&self, key: &Key, entry: Option<&Entry>, sent: u64, session: u64) -> Change {
        match entry {
            Some(entry)
                if self.settings.write_policy != WritePolicy::WriteAround
                    && entry.is_whole()
                    && self.fits_frontend(key, entry.size()) =>
            {
                Change::Install(entry.clone().with_note(Self::note(session, sent, entry.metadata())))
            }
            _ => Change::Remove,
        }
    }

    /// Waits for a call to the frontend that has begun on `key`, then begins one. `None`: patience ran out, and
    /// the key is in quarantine.
    pub(super) async fn begin_call(self: &Arc<Self>, key: &Key) -> Option<Call> {
        let deadline = tokio::time::Instant::now() + self.settings.frontend_patience();
        loop {
            match self.slots.begin_call(key) {
                Ok(call) => return Some(call),
                Err(earlier) => {
                    if tokio::time::timeout_at(deadline, earlier.ended()).await.is_err() {
                        self.quarantine(key);
                        return None;
                    }
                }
            }
        }
    }

    /// Changes the frontend, unless its breaker is open: the key is in quarantine then.
    pub(super) async fn change_frontend(self: &Arc<Self>, key: &Key, change: Change, call: Call) -> Changed {
        if self.frontend_takes_calls() {
            return self.call_frontend(key, change, call).await;
        }
        self.counters.spared.add(1);
        self.quarantine(key);
        Changed::Quarantined
    }

    /// Calls the frontend. The call runs to its end even if nobody waits for it any longer.
    pub(super) async fn call_frontend(self: &Arc<Self>, key: &Key, change: Change, call: Call) -> Changed {
        let (frontend, owned) = (Arc::clone(&self.frontend), key.clone());
        let mut running = Box::pin(async move {
            let result = match change {
                Change::Install(entry) => {
                    contained(&*frontend, frontend.put(&owned, Put::verbatim(&entry))).await.map(drop)
                }
                Change::Remove => {
                    contained(&*frontend, frontend.delete(&owned, Delete::new())).await.map(drop)
                }
            };
            (result, call)
        });
        match tokio::time::timeout(self.settings.frontend_patience(), running.as_mut()).await {
            Ok((Ok(()), _call)) => {
                self.learn_of_frontend(None);
                Changed::Done
            }
            Ok((Err(error), call)) => {
                self.learn_of_frontend(Some(&error));
                tracing::warn!(key = %key, error = %error.chain(), "the frontend failed; the key is quarantined");
                self.quarantine(key);
                self.let_go(std::future::ready((Err(error), call)));
                Changed::Quarantined
            }
            Err(_) => {
                self.learn_of_frontend(Some(&self.frontend_is_late()));
                tracing::warn!(key = %key, "the frontend does not answer; the key is quarantined");
                self.quarantine(key);
                // Whatever it answers, a removal that begins after this decides.
                self.let_go(running);
                Changed::Quarantined
            }
        }
    }

    pub(super) fn frontend_is_late(&self) -> Error {
        Error::new(ErrorKind::TimedOut, "the frontend does not answer")
            .in_tier(self.frontend.capabilities().name())
    }

    /// Holds a call of the frontend that nobody waits for any more: until it has returned and, where it failed, for as
    /// long as it can still take effect. Another call before that could be undone by it.
    fn let_go(self: &Arc<Self>, call: impl Future<Output = (Result<()>, Call)> + Send + 'static) {
        let engine = Arc::clone(self);
        self.runtime.spawn(async move {
            let (result, call) = call.await;
            let unknown = result.is_err_and(|error| error.write_outcome() == Outcome::Unknown);
            if unknown && !engine.planted.has(Plant::FrontendLifetimeIgnored) {
                tokio::time::sleep(engine.frontend.capabilities().lifetime()).await;
            }
            drop(call);
        });
    }

    /// Brings the frontend in step under a closed gate, or quarantines the key.
    pub(super) async fn settle_frontend(self: &Arc<Self>, key: &Key, change: Change) -> Changed {
        if self.slots.is_quarantined(key) {
            return Changed::Quarantined;
        }
        match self.begin_call(key).await {
            Some(call) => self.change_frontend(key, change, call).await,
            None => Changed::Quarantined,
        }
    }

    /// What a failure of the frontend means for a write that the backend has.
    pub(super) fn after_write(&self, changed: Changed) -> Result<()> {
        if changed == Changed::Quarantined && self.settings.frontend_failure == FrontendFailure::Fail {
            return Err(Error::new(ErrorKind::Unavailable, "the backend has the write, the frontend failed")
                .in_tier(self.frontend.capabilities().name())
                .outcome_is(Outcome::Applied));
        }
        Ok(())
    }

    /// Stops hits of `key` until a removal that begins after now has succeeded; past the bound, puts every entry
    /// of the frontend in doubt instead.
    pub(super) fn quarantine(self: &Arc<Self>, key: &Key) {
        self.counters.frontend_errors.add(1);
        if self.planted.has(Plant::FrontendFailureIgnored) {
            return;
        }
        let (begun, count) = self.slots.quarantine(key);
        if !begun {
            return;
        }
        self.events.send(|| Event::Quarantined { key: key.clone() });
        // Without revalidation a new session would be no protection.
        if count > self.settings.max_quarantined && self.settings.read_policy == ReadPolicy::FrontendFirst {
            tracing::warn!(count, "the frontend fails for too many keys; all its entries are in doubt");
            self.begin_session();
            self.slots.release_all();
            return;
        }
        let (engine, key) = (Arc::clone(self), key.clone());
        self.runtime.spawn(async move { engine.repair(&key).await });
    }

    /// Entries validated before this are compared with the backend on their next use, and are not served without: the
    /// frontend may have missed a write.
    pub(super) fn begin_session(&self) {
        self.in_step.lock().clear();
        self.session.store(super::session::fresh_session(&self.stamp), Ordering::Release);
    }

    /// Entries validated before this are compared with the backend on their next use: others may have written.
    pub(super) fn doubt_others(&self) {
        /// Sessions that are remembered: one for each loss of the feed's connection during a long outage.
        const REMEMBERED: usize = 64;
        let mut in_step = self.in_step.lock();
        in_step.push_back(self.session());
        if in_step.len() > REMEMBERED {
            in_step.pop_front();
        }
        self.session.store(super::session::fresh_session(&self.stamp), Ordering::Release);
    }

    /// Retries the removal that ends a quarantine.
    async fn repair(self: Arc<Self>, key: &Key) {
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        while self.slots.is_quarantined(key) {
            let gate = self.slots.close_gate(key).await;
            // Taken before the removal begins: an earlier call must have returned.
            if let Ok(call) = self.slots.begin_call(key) {
                let frontend = Arc::clone(&self.frontend);
                let owned = key.clone();
                let engine = Arc::clone(&self);
                let mut removal = Box::pin(async move {
                    // What is local is not a wrong copy, and has nothing behind it.
                    let result = match engine.is_kept_locally(&owned).await {
                        Ok(true) => Ok(()),
                        Ok(false) => {
                            contained(&*frontend, frontend.delete(&owned, Delete::new())).await.map(drop)
                        }
                        Err(error) => Err(error),
                    };
                    (result, call)
                });
                match tokio::time::timeout(self.settings.frontend_patience(), removal.as_mut()).await {
                    Ok((Ok(()), call)) => {
                        self.learn_of_frontend(None);
                        self.slots.release(key);
                        // Not before: a call that begins while the quarantine stands, and fails, begins none.
                        drop(call);
                        return;
                    }
                    Ok((Err(error), call)) => {
                        self.counters.frontend_errors.add(1);
                        self.learn_of_frontend(Some(&error));
                        self.let_go(std::future::ready((Err(error), call)));
                    }
                    Err(_) => {
                        self.counters.frontend_errors.add(1);
                        self.learn_of_frontend(Some(&self.frontend_is_late()));
                        self.let_go(removal);
                    }
                }
            }
            drop(gate);
            if sleep_unless(&mut leaving, backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Runs `operation` as a task that nothing but its own end stops, and waits for it.
    pub(super) async fn run_to_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let busy = self.busy.enter();
        let task = async move {
            let result = operation.await;
            drop(busy);
            result
        };
        self.runtime.spawn(task).await.unwrap_or_else(|error| {
            let message = if error.is_panic() { "a store panicked" } else { "the runtime shut down" };
            Err(Error::new(ErrorKind::Other, message).with_source(error).outcome_is(Outcome::Unknown))
        })
    }
}

/// Sleeps; `true` at once when the store is being left.
pub(super) async fn sleep_unless(leaving: &mut watch::Receiver<bool>, delay: Duration) -> bool {
    tokio::select! {
        biased;
        left = leaving.wait_for(|left| *left) => left.is_ok() || left.is_err(),
        () = tokio::time::sleep(delay) => false,
    }
}
