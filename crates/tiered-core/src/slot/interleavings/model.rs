//! A tiered store in miniature: the engine's steps over the real slots, with a cell for each tier and key.
//!
//! The steps are those of `frontend`, `reader`, `writer/through` and `write_behind`; where they change, this follows.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use shuttle::future::JoinHandle;
use shuttle::rand::RngCore as _;
use tokio::sync::oneshot;

use super::history::{FIRST, History, Id};
use crate::attributes::Attributes;
use crate::effect::Effect;
use crate::entry::{Checksum, Entry, Metadata, Note};
use crate::error::{Error, ErrorKind};
use crate::journal::Sequence;
use crate::key::Key;
use crate::observe::Stats;
use crate::read::{Lookup, Read};
use crate::sent::Sent;
use crate::slot::latch::Latch;
use crate::slot::{Call, Gate, Glance, Joined, Joining, Leader, Pending, Slots};
use crate::sync_primitives::Mutex;
use crate::sync_primitives::atomic::{AtomicU64, Ordering as Order};
use crate::version::Version;
use crate::{Freshness, Timestamp};

/// What goes wrong, and how often at most, so that a schedule ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// Calls of the frontend that fail, with the effect at once, later or never.
    pub(super) frontend: usize,
    /// Times that patience with an earlier call of the frontend runs out.
    pub(super) patience: usize,
    /// Reads of the backend that fail, or whose task ends without an answer.
    pub(super) reads: usize,
    /// Keys in quarantine beyond which a new session begins.
    pub(super) max_quarantined: Option<usize>,
}

/// What a write leaves in the frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Through,
    Around,
}

/// How a write of the backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Given,
    /// It takes effect later, or never.
    Lost,
}

/// An entry of the frontend: a write, and the session in which it was compared with the backend.
type Copied = Option<(Id, u64)>;

#[derive(Debug)]
struct Cells {
    key: Key,
    frontend: Mutex<Copied>,
    backend: Mutex<Id>,
    /// Calls of the frontend under way.
    calls: AtomicUsize,
}

#[derive(Debug, Default)]
struct Journal {
    next: Sequence,
    queue: VecDeque<(usize, Sequence, Id)>,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) slots: Arc<Slots>,
    pub(super) history: History,
    policy: Policy,
    keys: Vec<Cells>,
    session: AtomicU64,
    journal: Mutex<Journal>,
    flush_turn: tokio::sync::Mutex<()>,
    frontend_trouble: AtomicUsize,
    impatience: AtomicUsize,
    read_trouble: AtomicUsize,
    max_quarantined: usize,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

/// A call of the frontend that is counted.
struct Counted {
    model: Arc<Model>,
    key: usize,
    // Until it is dropped, after the count.
    _call: Call,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.model.keys[self.key].calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one of what is left of a kind of trouble, or not, as the scheduler's dice say.
fn strikes(left: &AtomicUsize) -> bool {
    let strikes = left.load(Ordering::Relaxed) > 0 && coin();
    if strikes {
        left.fetch_sub(1, Ordering::Relaxed);
    }
    strikes
}

pub(super) fn coin() -> bool {
    below(2) == 0
}

pub(super) fn below(bound: u64) -> u64 {
    shuttle::rand::thread_rng().next_u64() % bound
}

/// Lets the scheduler decide.
async fn pause() {
    shuttle::future::yield_now().await;
}

impl Model {
    pub(super) fn new(keys: usize, policy: Policy, trouble: Trouble) -> Arc<Self> {
        let cells = |index: usize| Cells {
            key: Key::new(format!("key-{index}")).expect("valid"),
            frontend: Mutex::new(None),
            backend: Mutex::new(FIRST),
            calls: AtomicUsize::new(0),
        };
        Arc::new(Self {
            slots: Slots::new(7),
            history: History::new(keys),
            policy,
            keys: (0..keys).map(cells).collect(),
            session: AtomicU64::new(1),
            journal: Mutex::new(Journal::default()),
            flush_turn: tokio::sync::Mutex::new(()),
            frontend_trouble: AtomicUsize::new(trouble.frontend),
            impatience: AtomicUsize::new(trouble.patience),
            read_trouble: AtomicUsize::new(trouble.reads),
            max_quarantined: trouble.max_quarantined.unwrap_or(usize::MAX),
            tasks: parking_lot::Mutex::default(),
        })
    }

    pub(super) fn key(&self, key: usize) -> &Key {
        &self.keys[key].key
    }

    /// Begins with an entry in the frontend.
    pub(super) fn warm(self: &Arc<Self>, key: usize) {
        *self.keys[key].frontend.lock() = Some((FIRST, 1));
    }

    /// A task that nothing but its own end stops.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = shuttle::future::spawn(task);
        self.tasks.lock().push(handle);
    }

    /// Runs a task to its end; the answer is for who still waits.
    async fn run_to_end<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let (reply, answer) = oneshot::channel();
        self.spawn(async move { drop(reply.send(task.await)) });
        answer.await.expect("the task runs to its end")
    }

    /// Waits for every task, then looks whether each key is at rest and every promise was kept.
    pub(super) async fn rest(&self) {
        loop {
            let Some(next) = self.tasks.lock().pop() else { break };
            next.await.expect("nobody stops a task");
        }
        self.history.verdict().unwrap_or_else(|why| panic!("{why}"));
        for (index, cells) in self.keys.iter().enumerate() {
            assert_eq!(cells.calls.load(Ordering::Relaxed), 0, "a call of the frontend is under way");
            let (frontend, backend) = (*cells.frontend.lock(), *cells.backend.lock());
            assert_eq!(backend, self.history.latest(index), "the backend has not the latest write");
            let trusted = frontend.filter(|(_, session)| *session == self.session.load(Order::Acquire));
            assert!(
                trusted.is_none_or(|(id, _)| id == backend),
                "the frontend is stale: {trusted:?}, {backend}"
            );
        }
        let mut stats = Stats::default();
        self.slots.measure(&mut stats);
        assert_eq!((stats.slots, stats.gated, stats.loads, stats.pending), (0, 0, 0, 0));
        assert_eq!(self.slots.occupied(), 0, "slots are counted that are not there");
        assert_eq!(self.slots.quarantined(), 0, "quarantines are counted that are over");
    }

    fn backend_read(&self, key: usize) -> Id {
        *self.keys[key].backend.lock()
    }

    fn backend_write(&self, key: usize, id: Id) {
        let mut backend = self.keys[key].backend.lock();
        *backend = id;
        self.history.effect(key, id);
    }

    pub(super) async fn read(self: &Arc<Self>, key: usize, freshness: Freshness) {
        let begun = self.history.tick();
        if let Some(id) = self.look(key, freshness).await {
            self.history.read(key, id, begun);
        }
    }

    async fn look(self: &Arc<Self>, index: usize, freshness: Freshness) -> Option<Id> {
        let key = self.key(index);
        loop {
            match self.slots.glance(key) {
                Glance::Pending(Effect::Put(entry)) => return Some(id_of(&entry)),
                Glance::Pending(Effect::Delete(_)) => return None,
                Glance::Gated => return Some(self.backend_read(index)),
                Glance::Clear | Glance::Quarantined => {}
            }
            if freshness == Freshness::Cached && !self.slots.is_quarantined(key) {
                let found = *self.keys[index].frontend.lock();
                if let Some((id, session)) = found
                    && session == self.session.load(Order::Acquire)
                {
                    return Some(id);
                }
            }
            let begun = self.history.tick();
            let sent = Sent::new(1, 0);
            let joining = match freshness {
                Freshness::Cached => Joining::SentSince(sent),
                Freshness::MaxStale(_) | Freshness::Authoritative => Joining::OnlyNew,
            };
            let load = match Joined::load_of(&self.slots, key, sent, joining) {
                Joined::LookAgain => continue,
                Joined::Following(load) => load,
                Joined::Leading(load, leader) => {
                    self.history.revoked(index, begun);
                    let model = Arc::clone(self);
                    self.spawn(async move { model.lead(leader, index).await });
                    load
                }
            };
            return match load.answer().await {
                Ok(read) => read.into_entry().map(|entry| id_of(&entry)),
                Err(_) => None,
            };
        }
    }

    async fn lead(self: Arc<Self>, leader: Leader, index: usize) {
        let given = self.history.tick();
        let session = self.session.load(Order::Acquire);
        if strikes(&self.read_trouble) {
            if coin() {
                leader.announce(Err(Arc::new(Error::new(ErrorKind::Unavailable, "down"))));
            }
            return;
        }
        let id = self.backend_read(index);
        leader.announce(Ok(Read::from_store(Lookup::Found(entry(id)))));
        let asked = self.history.tick();
        let call = leader.begin_fill().map(|call| self.counted(index, call));
        let Some(call) = call else { return };
        self.history.fill(index, given, asked);
        self.change(index, Some((id, session)), call);
    }

    pub(super) async fn close_gate(&self, index: usize) -> Gate {
        let begun = self.history.tick();
        let gate = Gate::close(&self.slots, self.key(index)).await;
        self.history.revoked(index, begun);
        gate
    }

    pub(super) async fn write(self: &Arc<Self>, index: usize, answer: Answer) {
        let id = self.history.begin_write(index);
        let gate = self.close_gate(index).await;
        let model = Arc::clone(self);
        self.run_to_end(async move { model.write_under(gate, index, id, answer).await }).await;
    }

    /// One write of several keys, in whichever order they are named.
    pub(super) async fn write_both(self: &Arc<Self>, keys: [usize; 2]) {
        let ids = keys.map(|index| (index, self.history.begin_write(index)));
        let names = keys.map(|index| self.key(index).clone());
        let gates = Gate::close_all(&self.slots, names.to_vec()).await;
        let model = Arc::clone(self);
        let write = async move {
            let mut calls = Vec::new();
            let mut sorted = ids;
            sorted.sort_unstable();
            for (index, _) in sorted {
                calls.push((index, model.reserve_for_write(index).await));
            }
            for (index, id) in ids {
                model.backend_write(index, id);
            }
            let session = model.session.load(Order::Acquire);
            for (index, call) in calls {
                let id = ids.iter().find(|(of, _)| *of == index).map(|(_, id)| (*id, session));
                model.update(index, id, call);
            }
            drop(gates);
            for (index, id) in ids {
                model.history.end_write(index, id);
            }
        };
        self.run_to_end(write).await;
    }

    async fn write_under(self: Arc<Self>, gate: Gate, index: usize, id: Id, answer: Answer) {
        let call = self.reserve_for_write(index).await;
        let session = self.session.load(Order::Acquire);
        if answer == Answer::Lost {
            let (model, landed) = (Arc::clone(&self), Arc::new(Latch::<()>::new()));
            let request = Arc::clone(&landed);
            self.spawn(async move {
                pause().await;
                if coin() {
                    model.backend_write(index, id);
                }
                request.end();
            });
            let model = Arc::clone(&self);
            self.spawn(async move {
                // The lifetime of a request is over when it has landed or never will.
                landed.ended().await;
                model.update(index, None, call);
                drop(gate);
            });
            return;
        }
        self.backend_write(index, id);
        let copy = (self.policy == Policy::Through).then_some((id, session));
        self.update(index, copy, call);
        drop(gate);
        self.history.end_write(index, id);
    }

    pub(super) async fn write_behind(self: &Arc<Self>, index: usize) {
        let id = self.history.begin_write(index);
        let gate = self.close_gate(index).await;
        let model = Arc::clone(self);
        let write = async move {
            {
                let mut journal = model.journal.lock();
                let sequence = journal.next;
                journal.next += 1;
                model.history.effect(index, id);
                let pending = Pending::new(sequence, Effect::Put(entry(id)));
                model.slots.set_pending(model.key(index), pending);
                journal.queue.push_back((index, sequence, id));
            }
            drop(gate);
            model.history.end_write(index, id);
            let flusher = Arc::clone(&model);
            model.spawn(async move { flusher.flush_next().await });
        };
        self.run_to_end(write).await;
    }

    async fn flush_next(self: Arc<Self>) {
        let _turn = self.flush_turn.lock().await;
        let next = self.journal.lock().queue.pop_front();
        let (index, sequence, id) = next.expect("one flush for each record");
        let key = self.key(index);
        let session = self.session.load(Order::Acquire);
        *self.keys[index].backend.lock() = id;
        if self.slots.is_latest(key, sequence) {
            let call = self.reserve_for_write(index).await;
            self.update(index, Some((id, session)), call);
        }
        self.slots.clear_pending(key, sequence);
    }

    pub(super) async fn invalidate(self: &Arc<Self>, index: usize) {
        let gate = self.close_gate(index).await;
        let model = Arc::clone(self);
        let removal = async move {
            let call = model.reserve(index).await;
            model.update(index, None, call);
            drop(gate);
        };
        self.run_to_end(removal).await;
    }

    /// Waits for what is under way.
    pub(super) async fn flush(&self) {
        self.slots.settled().await;
    }

    fn counted(self: &Arc<Self>, index: usize, call: Call) -> Counted {
        if self.keys[index].calls.fetch_add(1, Ordering::Relaxed) > 0 {
            self.history.fault("two calls of the frontend at a time");
        }
        Counted { model: Arc::clone(self), key: index, _call: call }
    }

    async fn reserve(self: &Arc<Self>, index: usize) -> Option<Counted> {
        loop {
            match Call::begin(&self.slots, self.key(index)) {
                Ok(call) => return Some(self.counted(index, call)),
                Err(_) if strikes(&self.impatience) => {
                    self.quarantine(index);
                    return None;
                }
                Err(earlier) => earlier.ended().await,
            }
        }
    }

    async fn reserve_for_write(self: &Arc<Self>, index: usize) -> Option<Counted> {
        if self.slots.is_quarantined(self.key(index)) { None } else { self.reserve(index).await }
    }

    fn update(self: &Arc<Self>, index: usize, copy: Copied, call: Option<Counted>) {
        if let Some(call) = call {
            self.change(index, copy, call);
        }
    }

    fn change(self: &Arc<Self>, index: usize, copy: Copied, call: Counted) {
        if !strikes(&self.frontend_trouble) {
            *self.keys[index].frontend.lock() = copy;
            return;
        }
        self.quarantine(index);
        let model = Arc::clone(self);
        self.spawn(async move {
            pause().await;
            if coin() {
                *model.keys[index].frontend.lock() = copy;
            }
            drop(call);
        });
    }

    fn quarantine(self: &Arc<Self>, index: usize) {
        let Some(count) = self.slots.quarantine(self.key(index)) else { return };
        if count > self.max_quarantined {
            self.session.fetch_add(1, Order::AcqRel);
            self.slots.release_all();
            return;
        }
        let model = Arc::clone(self);
        self.spawn(async move { model.repair(index).await });
    }

    async fn repair(self: Arc<Self>, index: usize) {
        let key = self.key(index);
        while self.slots.is_quarantined(key) {
            let gate = self.close_gate(index).await;
            match Call::begin(&self.slots, key) {
                Ok(call) => {
                    let call = self.counted(index, call);
                    *self.keys[index].frontend.lock() = None;
                    self.slots.release(key);
                    drop(call);
                    return;
                }
                Err(earlier) => {
                    drop(gate);
                    earlier.ended().await;
                }
            }
        }
    }
}

fn entry(id: Id) -> Entry {
    let value = Bytes::copy_from_slice(&id.to_le_bytes());
    let metadata = Metadata {
        version: Version::from_u128(u128::from(id)),
        modified: Timestamp::from_millis(0),
        expires_at: None,
        attributes: Attributes::new(),
        size: value.len() as u64,
        checksum: Some(Checksum::from_u32(0)),
        note: Note::default(),
    };
    Entry::from_parts(value, Arc::new(metadata))
}

fn id_of(entry: &Entry) -> Id {
    let id = entry.version().as_u128().expect("an id");
    Id::try_from(id).expect("an id")
}

/// A call that is dropped when it was polled so often, if it has not ended before.
pub(super) struct Abandoned<F> {
    call: Pin<Box<F>>,
    polls: u64,
}

/// Polls `call` at most `polls` times, then drops it.
pub(super) fn abandon<F: Future>(polls: u64, call: F) -> Abandoned<F> {
    Abandoned { call: Box::pin(call), polls }
}

impl<F: Future> Future for Abandoned<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let polled = self.call.as_mut().poll(context).map(Some);
        if polled.is_pending() {
            context.waker().wake_by_ref();
        }
        polled
    }
}
