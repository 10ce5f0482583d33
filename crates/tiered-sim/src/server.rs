//! A server that several processes write. It keeps every state of each key, and its feed reports changes late, twice or
//! not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use parking_lot::Mutex;
use tiered_conformance::{Dice, Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Change, ChangeStream, Stamp};
use tiered_core::{
    Action, Batch, Capabilities, Delete, Deleted, Feature, Key, MemoryStore, Put, Result, Sharing, Store,
    Version, Written, adapter,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a key was from a moment on.
#[derive(Clone, Debug)]
pub struct State {
    /// From when.
    pub since: Instant,
    /// When the feeds that were open report it, or announce a missed change.
    pub told: Option<Instant>,
    /// What it was; none where it was absent.
    pub version: Option<Version>,
    /// The write that made it so, a delete included.
    pub by: Option<Version>,
}

/// How the server's feed of changes behaves.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// A change is reported within this time, or a missed change is announced.
    pub lag: Duration,
    /// One change in this many is missed; 0: none.
    pub misses: u64,
    /// One change in this many is reported a second time; 0: none.
    pub repeats: u64,
}

/// A memory store that several processes write, and that keeps every state of every key. Clones are the same server.
pub type Server = Intercept<Books, MemoryStore>;

/// What a [`Server`] notes of every write, and the feed that tells of them.
#[derive(Debug)]
pub struct Books {
    entries: MemoryStore,
    begun: Instant,
    states: Mutex<HashMap<Key, Vec<State>>>,
    feed: Option<Feed>,
    lines: Mutex<Vec<Arc<Line>>>,
    dice: Mutex<Dice>,
}

/// The changes that one reader of the feed has not received yet.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Ordered by delivery time, then by arrival.
    changes: BTreeMap<(Instant, u64), Change>,
    number: u64,
    ended: bool,
}

impl Line {
    fn push(&self, at: Instant, change: Change) {
        let mut waiting = self.waiting.lock();
        waiting.number += 1;
        let number = waiting.number;
        waiting.changes.insert((at, number), change);
        drop(waiting);
        self.changed.notify_one();
    }

    /// The next change, when it is due; `None` where the feed has ended.
    async fn next(&self) -> Option<Change> {
        loop {
            let due = {
                let mut waiting = self.waiting.lock();
                if waiting.ended {
                    return None;
                }
                match waiting.changes.first_entry() {
                    Some(first) if first.key().0 <= Instant::now() => return Some(first.remove()),
                    first => first.map(|first| first.key().0),
                }
            };
            let Some(due) = due else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = sleep_until(due) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// An empty server. `declares` says what it promises; it has a feed where `feed` describes one.
pub fn server(
    stamp: Stamp,
    seed: u64,
    feed: Option<Feed>,
    declares: impl FnOnce(Capabilities) -> Capabilities,
) -> Server {
    let entries = MemoryStore::with_stamp(stamp);
    let inner = entries.clone().declaring(|all| {
        // A client has nothing of the server's in memory.
        let shared = all.named("server").without(Feature::Peeks).with_sharing(Sharing::Shared);
        let all = declares(shared);
        if feed.is_some() { all.with(Feature::Changes) } else { all }
    });
    let books = Books {
        entries,
        begun: Instant::now(),
        states: Mutex::default(),
        feed,
        lines: Mutex::default(),
        dice: Mutex::new(Dice::new(seed)),
    };
    Intercept::new(inner, books)
}

impl Books {
    /// All states of a key; the last one is current.
    pub fn states(&self, key: &Key) -> Vec<State> {
        self.states.lock().get(key).cloned().unwrap_or_else(|| vec![self.first()])
    }

    /// Reports a key that was not written: a feed is a hint.
    pub fn hint(&self, key: &Key, version: Option<&Version>) {
        for line in self.lines.lock().iter() {
            line.push(Instant::now(), Change::Key { key: key.clone(), version: version.cloned() });
        }
    }

    /// Ends the open feeds. Changes that they have not delivered are lost.
    pub fn end_feeds(&self) {
        for line in self.lines.lock().drain(..) {
            line.waiting.lock().ended = true;
            line.changed.notify_one();
        }
        let now = Instant::now();
        for state in self.states.lock().values_mut().flatten() {
            state.told = state.told.filter(|told| *told <= now);
        }
    }

    fn first(&self) -> State {
        State { since: self.begun, told: None, version: None, by: None }
    }

    /// Notes what `key` is now. Nothing happens between an effect and this: the store inside never waits.
    fn note(&self, key: &Key, by: Option<Version>) {
        let version = self.entries.peek(key).map(|entry| entry.version().clone());
        let mut all = self.states.lock();
        let states = all.entry(key.clone()).or_insert_with(|| vec![self.first()]);
        if states.last().is_none_or(|last| last.version != version) {
            let told = self.tell(key, version.as_ref());
            states.push(State { since: Instant::now(), told, version, by });
        }
    }

    /// Reports a change late, or drops it and announces later that one was missed.
    fn tell(&self, key: &Key, version: Option<&Version>) -> Option<Instant> {
        let feed = self.feed?;
        let lines = self.lines.lock();
        let now = Instant::now();
        let mut dice = self.dice.lock();
        let mut happens = |one_in: u64| one_in > 0 && dice.below(one_in) == 0;
        let (missed, repeated) = (happens(feed.misses), happens(feed.repeats));
        let change = Change::Key { key: key.clone(), version: version.cloned() };
        let lag = u64::try_from(feed.lag.as_millis()).unwrap_or(u64::MAX);
        // What is missed is noticed last.
        let told = if missed { now + feed.lag } else { now + Duration::from_millis(dice.below(lag)) };
        for line in lines.iter() {
            line.push(told, if missed { Change::Resync } else { change.clone() });
            if repeated {
                line.push(now + feed.lag, change.clone());
            }
        }
        (!lines.is_empty()).then_some(told)
    }
}

#[async_trait]
impl Interceptor for Books {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        let by = adapter::version_of(&put).cloned();
        let written = inner.put(key, put).await;
        self.note(key, by);
        written
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        let by = adapter::version_of_delete(&delete).cloned();
        let deleted = inner.delete(key, delete).await;
        self.note(key, by);
        deleted
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let by = |action: &Action| match action {
            Action::Put(put) => adapter::version_of(put).cloned(),
            Action::Delete(delete) => adapter::version_of_delete(delete).cloned(),
        };
        let writes: Vec<_> =
            batch.operations().iter().map(|(key, action)| (key.clone(), by(action))).collect();
        let outcomes = inner.apply(batch).await;
        for (key, by) in writes {
            self.note(&key, by);
        }
        outcomes
    }
    fn changes(&self, _inner: &dyn Store) -> Option<ChangeStream> {
        self.feed?;
        let line = Arc::new(Line::default());
        self.lines.lock().push(Arc::clone(&line));
        Some(Box::pin(stream::unfold(line, |line| async move {
            let change = line.next().await?;
            Some((change, line))
        })))
    }
    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        // The server goes on when a handle closes.
        Ok(())
    }
}
