//! A tier in trouble: the reference store, with points in every call where the scheduler decides, and with failures that
//! its dice choose.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedReceiver;

use super::history::{History, Id, Value};
use crate::batch::{Action, Applied, Batch, BatchOutcomes};
use crate::capability::{Capabilities, Feature};
use crate::claim::{Claim, Scope};
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream};
use crate::memory::MemoryStore;
use crate::read::{Read, ReadOptions};
use crate::store::{Change, ChangeStream, Store, closed};
use crate::sync_primitives::explored::{below, coin, pause, time};
use crate::write::{Delete, Deleted, Put, Written};

/// How long a request can live after its answer was lost.
pub(super) const LIFETIME: Duration = Duration::from_millis(1);

/// What goes wrong, and how often at most, so that a schedule ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    down: usize,
    unreadable: usize,
    lost: usize,
}

impl Trouble {
    /// So many writes fail and have no effect.
    pub(super) fn down(self, down: usize) -> Self {
        Self { down, ..self }
    }

    /// So many reads fail.
    pub(super) fn unreadable(self, unreadable: usize) -> Self {
        Self { unreadable, ..self }
    }

    /// The answers of so many writes are lost: they take effect at once, later or never.
    pub(super) fn lost(self, lost: usize) -> Self {
        Self { lost, ..self }
    }
}

/// What a tier is to its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A cache: one call at a time changes a key.
    Frontend,
    /// What it has is what the store has.
    Backend,
    /// It follows the journal.
    Follower,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Without effect.
    Failed,
    /// The answer is lost; the effect is at once, later or never.
    Lost(Effect),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Now,
    Later,
    Never,
}

/// What both the calls of a tier and its late effects reach.
#[derive(Debug)]
struct Inner {
    store: MemoryStore,
    role: Role,
    keys: Vec<Key>,
    history: Arc<History>,
    /// Calls that change a key and can still take effect.
    calls: Mutex<BTreeMap<Key, usize>>,
    /// Writes that are refused for as long as they are named here.
    refuses: Mutex<BTreeSet<Id>>,
}

/// A tier in trouble.
#[derive(Debug)]
pub(super) struct Scripted {
    inner: Arc<Inner>,
    down: AtomicUsize,
    unreadable: AtomicUsize,
    lost: AtomicUsize,
    feed: Mutex<Option<UnboundedReceiver<Change>>>,
    /// Changes of the feed that the store has not heard to the end.
    untold: Arc<AtomicUsize>,
    closed: AtomicBool,
}

/// Takes one of what is left of a kind of trouble, or not, as the scheduler's dice say.
pub(super) fn strikes(left: &AtomicUsize) -> bool {
    let strikes = left.load(Ordering::Relaxed) > 0 && coin();
    if strikes {
        left.fetch_sub(1, Ordering::Relaxed);
    }
    strikes
}

/// Time passes in a call.
pub(super) async fn linger() {
    for _ in 0..below(2) {
        pause().await;
    }
}

/// The write of an action, by what it is called.
pub(super) fn id_of(action: &Action) -> Id {
    let version = match action {
        Action::Put(put) => put.version(),
        Action::Delete(delete) => delete.id(),
    };
    number(version.and_then(crate::Version::as_u128))
}

fn number(id: Option<u128>) -> Id {
    id.and_then(|id| Id::try_from(id).ok()).expect("writes of a scenario are numbered")
}

/// The write that stored an entry.
pub(super) fn id_in(metadata: &Metadata) -> Id {
    number(metadata.version.as_u128())
}

impl Inner {
    /// The number of a key; `None` for one that is not the scenario's.
    fn place(&self, key: &Key) -> Option<usize> {
        self.keys.iter().position(|known| known == key)
    }

    fn value(&self, key: &Key) -> Value {
        let loaded = self.store.load(key, &ReadOptions::new()).now_or_never().expect("memory does not wait");
        loaded.ok()?.entry().map(|entry| id_in(entry.metadata()))
    }

    /// Carries a batch out, at one moment.
    fn carry_out(&self, batch: Batch) -> Result<BatchOutcomes> {
        let names: Vec<(Key, Id)> = match self.role {
            Role::Frontend => Vec::new(),
            Role::Backend | Role::Follower => {
                batch.operations().iter().map(|(key, action)| (key.clone(), id_of(action))).collect()
            }
        };
        let outcomes = self.store.apply(batch).now_or_never().expect("memory does not wait")?;
        for ((key, id), outcome) in names.iter().zip(&outcomes) {
            let Some(place) = self.place(key).filter(|_| outcome.is_ok()) else { continue };
            match self.role {
                Role::Frontend => {}
                Role::Backend => self.history.effect(place, *id),
                Role::Follower => self.history.flushed(place, *id),
            }
        }
        if self.role == Role::Follower && self.store.capabilities().has(Feature::AtomicBatch) {
            let values: Vec<Value> = self.keys.iter().map(|key| self.value(key)).collect();
            if !self.history.is_prefix(&values) {
                self.history.fault(format!("the backend has no prefix of the journal: {values:?}"));
            }
        }
        Ok(outcomes)
    }
}

/// A call that changes keys, for as long as it can take effect.
struct Call {
    inner: Arc<Inner>,
    keys: Vec<Key>,
    ended: bool,
}

impl Call {
    fn begin(inner: &Arc<Inner>, batch: &Batch) -> Self {
        let keys: Vec<Key> = batch.operations().iter().map(|(key, _)| key.clone()).collect();
        let mut calls = inner.calls.lock();
        for key in &keys {
            let count = calls.entry(key.clone()).or_default();
            *count += 1;
            if inner.role == Role::Frontend && *count > 1 {
                inner.history.fault("a call of the frontend begins while another one can change its key");
            }
        }
        drop(calls);
        Self { inner: Arc::clone(inner), keys, ended: false }
    }

    fn end(mut self) {
        self.ended = true;
        let mut calls = self.inner.calls.lock();
        for key in &self.keys {
            *calls.get_mut(key).expect("it has begun") -= 1;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.history.fault("a call that changes a tier is dropped half-way");
        }
    }
}

impl Scripted {
    pub(super) fn new(store: MemoryStore, role: Role, keys: &[Key], history: &Arc<History>) -> Self {
        let inner = Inner {
            store,
            role,
            keys: keys.to_vec(),
            history: Arc::clone(history),
            calls: Mutex::default(),
            refuses: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            down: AtomicUsize::new(0),
            unreadable: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            feed: Mutex::default(),
            untold: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Tells of changes by this feed.
    pub(super) fn told_by(self, feed: UnboundedReceiver<Change>) -> Self {
        *self.feed.lock() = Some(feed);
        self
    }

    /// A change is told from now on.
    pub(super) fn tells(&self) {
        self.untold.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the store has heard of every change.
    pub(super) fn has_told_all(&self) -> bool {
        self.untold.load(Ordering::Relaxed) == 0
    }

    /// A put of another process.
    pub(super) fn put_past(&self, key: &Key, put: Put) {
        self.inner.carry_out(Batch::new().put(key.clone(), put)).expect("memory takes it");
    }

    /// From now on so much goes wrong.
    pub(super) fn is_in(&self, trouble: Trouble) {
        self.down.store(trouble.down, Ordering::Relaxed);
        self.unreadable.store(trouble.unreadable, Ordering::Relaxed);
        self.lost.store(trouble.lost, Ordering::Relaxed);
    }

    /// Refuses a write from now on, or takes it.
    pub(super) fn refuse(&self, id: Id, refuse: bool) {
        let mut refuses = self.inner.refuses.lock();
        if refuse {
            refuses.insert(id);
        } else {
            refuses.remove(&id);
        }
    }

    /// What it has of a key, past all trouble.
    pub(super) fn value(&self, key: &Key) -> Value {
        self.inner.value(key)
    }

    fn fate(&self) -> Fate {
        if strikes(&self.lost) {
            return Fate::Lost(match below(3) {
                0 => Effect::Now,
                1 => Effect::Later,
                _ => Effect::Never,
            });
        }
        if strikes(&self.down) { Fate::Failed } else { Fate::Answered }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) { Err(closed(Operation::Load)) } else { Ok(()) }
    }

    fn unavailable(&self, outcome: Outcome) -> Error {
        Error::new(ErrorKind::Unavailable, "in trouble")
            .in_tier(self.capabilities().name())
            .outcome_is(outcome)
    }

    /// The error of an operation that is refused.
    fn refusal(&self, batch: &Batch) -> Option<Error> {
        if self.inner.role == Role::Frontend {
            return None;
        }
        let refuses = self.inner.refuses.lock();
        let (key, action) = batch.operations().iter().find(|(_, action)| refuses.contains(&id_of(action)))?;
        self.inner.history.refused(id_of(action));
        let refusal = Error::new(ErrorKind::InvalidInput, "refused").outcome_is(Outcome::NotApplied);
        // Not every store can tell which operation it was.
        Some(if coin() { refusal.for_key(key) } else { refusal })
    }

    /// Sends operations that take effect together.
    async fn send(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.check_open()?;
        let mut call = Some(Call::begin(&self.inner, &batch));
        linger().await;
        let refusal = self.refusal(&batch);
        let ended = match (self.fate(), refusal) {
            (Fate::Failed, _) => Err(self.unavailable(Outcome::NotApplied)),
            (Fate::Answered, Some(refusal)) => Err(refusal),
            (Fate::Answered, None) => self.inner.carry_out(batch),
            (Fate::Lost(Effect::Never), _) | (Fate::Lost(_), Some(_)) => {
                Err(self.unavailable(Outcome::Unknown))
            }
            (Fate::Lost(Effect::Later), None) if !self.capabilities().request_lifetime().is_zero() => {
                self.live_on(batch, call.take());
                Err(self.unavailable(Outcome::Unknown))
            }
            (Fate::Lost(Effect::Now | Effect::Later), None) => {
                // Its answer is lost.
                self.inner.carry_out(batch).ok();
                Err(self.unavailable(Outcome::Unknown))
            }
        };
        linger().await;
        if let Some(call) = call {
            call.end();
        }
        ended
    }

    /// A request lives on after its answer was lost.
    fn live_on(&self, batch: Batch, call: Option<Call>) {
        let inner = Arc::clone(&self.inner);
        time::within(self.capabilities().request_lifetime(), move || {
            inner.carry_out(batch).ok();
            if let Some(call) = call {
                call.end();
            }
        });
    }

    async fn one(&self, key: &Key, action: Action) -> Result<Applied> {
        let mut batch = Batch::new().best_effort();
        batch.push(key.clone(), action);
        let outcomes = self.send(batch).await?;
        outcomes.into_iter().next().expect("one outcome for each operation")
    }
}

#[async_trait]
impl Store for Scripted {
    fn capabilities(&self) -> &Capabilities {
        self.inner.store.capabilities()
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open()?;
        linger().await;
        if strikes(&self.unreadable) {
            return Err(self.unavailable(Outcome::NotApplied));
        }
        let read = self.inner.store.load(key, options).await;
        linger().await;
        read
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        match self.one(key, Action::Put(put)).await? {
            Applied::Put(written) => Ok(written),
            Applied::Delete(_) => Err(Error::new(ErrorKind::Other, "a put was answered as a delete")),
        }
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        match self.one(key, Action::Delete(delete)).await? {
            Applied::Delete(deleted) => Ok(deleted),
            Applied::Put(_) => Err(Error::new(ErrorKind::Other, "a delete was answered as a put")),
        }
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        if self.capabilities().has(Feature::AtomicBatch) {
            return self.send(batch).await;
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for (key, action) in batch.into_operations() {
            outcomes.push(self.one(&key, action).await);
        }
        Ok(outcomes)
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let listing = self.inner.store.list(options).then(|listed| async {
            pause().await;
            listed
        });
        Box::pin(listing)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.inner.store.peek(key)
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.inner.store.peek_hidden(key)
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.inner.store.claim(scope).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        let feed = self.feed.lock().take()?;
        let untold = Arc::clone(&self.untold);
        // The store asks for the next change when it has heard the one before.
        Some(Box::pin(stream::unfold((feed, 0), move |(mut feed, heard)| {
            let untold = Arc::clone(&untold);
            async move {
                untold.fetch_sub(heard, Ordering::Relaxed);
                Some((feed.recv().await?, (feed, 1)))
            }
        })))
    }

    async fn mark(&self, name: &str) -> Result<Option<bytes::Bytes>> {
        self.inner.store.mark(name).await
    }

    async fn set_mark(&self, name: &str, value: Option<bytes::Bytes>) -> Result<()> {
        self.inner.store.set_mark(name, value).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.store.mark_names(prefix).await
    }

    async fn close(&self) -> Result<()> {
        linger().await;
        // What it has stays for those who open it again.
        self.closed.store(true, Ordering::Relaxed);
        Ok(())
    }
}
