//! A tier that is down for a minute under load, in virtual time: what is acknowledged, what waits, what is refused, what
//! is shown meanwhile, and in which order the backend gets it afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::{join, join_all};
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::settings::OnFull;
use tiered_core::{
    Action, CommitLevel, Delete, Durability, Entry, Error, ErrorKind, Event, Feature, Key, ListOptions,
    ListStream, MemoryStore, Outcome, Put, Receipt, Result, Store, StoreExt as _, TieredSettings,
    TieredStore, WritePolicy, ownership,
};
use tiered_journal::{JournalConfig, MemoryFolder};
use tiered_sim::clock::SimClock;
use tokio::time::{Instant, sleep};

const OUTAGE: Duration = Duration::from_mins(1);
const WRITERS: usize = 8;
const KEYS: usize = 4;

/// What each key has.
type State = BTreeMap<String, Bytes>;

/// A tier that outlives its handles, can be down, and remembers every state that it went through.
type Tier = Intercept<Outages, MemoryStore>;

#[derive(Debug)]
struct Outages {
    entries: MemoryStore,
    down: AtomicBool,
    states: Mutex<Vec<State>>,
}

fn tier(durability: Durability, atomic: bool) -> Tier {
    let entries = MemoryStore::new().declaring(|all| {
        let declared = all.named("tier").with_durability(durability);
        if atomic { declared } else { declared.without(Feature::AtomicBatch) }
    });
    let outages =
        Outages { entries: entries.clone(), down: AtomicBool::new(false), states: Mutex::default() };
    Intercept::new(entries, outages)
}

impl Outages {
    fn be_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    fn state(&self) -> State {
        let entries = self.entries.snapshot().into_iter();
        entries.map(|(key, entry)| (key.as_str().to_owned(), entry.into_value())).collect()
    }

    /// A call takes 5 ms, or fails after them.
    async fn reached(&self) -> Result<()> {
        sleep(Duration::from_millis(5)).await;
        if self.down.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "down").outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }

    fn remember(&self) {
        self.states.lock().expect("no panic").push(self.state());
    }
}

#[async_trait]
impl Interceptor for Outages {
    async fn before_read(&self) -> Result<()> {
        self.reached().await
    }
    async fn around_write<T, F>(&self, _inner: &dyn Store, _key: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.reached().await?;
        let written = call.await?;
        self.remember();
        Ok(written)
    }
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        // No entry changes.
        self.reached().await?;
        inner.set_mark(name, value).await
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        if self.down.load(Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Unavailable, "down");
            return Box::pin(futures_util::stream::iter([Err(error)]));
        }
        inner.list(options)
    }
    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        if self.down.load(Ordering::Relaxed) { None } else { inner.peek(key) }
    }
    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        Ok(())
    }
}

/// What was journaled, in order: the acknowledged history.
type History = Arc<Mutex<Vec<(String, Option<Bytes>)>>>;

/// A journal that tells.
#[derive(Debug)]
struct Told<J> {
    inner: J,
    history: History,
}

#[async_trait]
impl<J: Journal> Journal for Told<J> {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        let first = self.inner.append(records).await?;
        let mut history = self.history.lock().expect("no panic");
        history.extend(records.iter().map(|record| {
            let value = match &record.action {
                Action::Put(put) => Some(put.value.clone()),
                Action::Delete(_) => None,
            };
            (record.key.as_str().to_owned(), value)
        }));
        Ok(first)
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.inner.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.inner.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// A stack, what outlives it, and what it acknowledged.
#[derive(Debug)]
struct World {
    front: Tier,
    back: Tier,
    folder: MemoryFolder,
    history: History,
    settings: TieredSettings,
    clock: Arc<SimClock>,
    /// What is acknowledged, by key.
    oracle: Mutex<State>,
    receipts: Mutex<Vec<Receipt>>,
    refused: AtomicU64,
    next: AtomicU64,
}

impl World {
    fn new(atomic: bool, settings: TieredSettings) -> Self {
        Self {
            front: tier(Durability::Volatile, true),
            back: tier(Durability::PowerLoss, atomic),
            folder: MemoryFolder::new(),
            history: History::default(),
            settings,
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            oracle: Mutex::default(),
            receipts: Mutex::default(),
            refused: AtomicU64::new(0),
            next: AtomicU64::new(0),
        }
    }

    async fn open(&self) -> TieredStore {
        let stamp = Stamp::new(Arc::clone(&self.clock) as _, Arc::new(VersionMint::from_entropy()));
        let builder = TieredStore::builder(self.front.clone(), self.back.clone())
            .settings(self.settings.clone())
            .stamp(stamp)
            // The mark of a backend that is down cannot be read.
            .backend_id("the backend");
        let builder = if self.settings.write_policy == WritePolicy::WriteBehind {
            let config = JournalConfig::new("journal").segment_size(64 << 10);
            let inner = config.open_in(self.folder.attach()).expect("opens");
            builder.journal(Told { inner, history: Arc::clone(&self.history) })
        } else {
            builder
        };
        builder.build().await.expect("builds, whatever is down")
    }

    fn acknowledged(&self) -> State {
        self.oracle.lock().expect("no panic").clone()
    }

    /// Writes and reads its own keys until `until`; every write is acknowledged, waits, or is refused because there is no room.
    async fn write(&self, store: &TieredStore, writer: usize, until: Instant) {
        while Instant::now() < until {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("w{writer}/k{}", usize::try_from(id / 3).expect("small") % KEYS);
            let key = Key::new(&name).expect("valid");
            let mut value = format!("{id}:").into_bytes();
            value.resize(1_000, b'.');
            let value = Bytes::from(value);
            let deletes = id.is_multiple_of(7);
            let ended = if deletes {
                store.delete(&key, Delete::new()).await.map(|deleted| deleted.receipt)
            } else {
                store.put(&key, Put::new(value.clone())).await.map(|written| written.receipt)
            };
            match ended {
                Ok(receipt) => {
                    self.receipts.lock().expect("no panic").push(receipt);
                    let mut oracle = self.oracle.lock().expect("no panic");
                    if deletes {
                        oracle.remove(&name)
                    } else {
                        oracle.insert(name.clone(), value)
                    };
                }
                Err(error) => {
                    assert_eq!(error.write_outcome(), Outcome::NotApplied, "{}", error.chain());
                    // A delete says whether the key was there, which only the backend may know.
                    let asks = deletes && error.kind() == ErrorKind::Unavailable;
                    assert!(asks || error.kind() == ErrorKind::Full, "{}", error.chain());
                    self.refused.fetch_add(u64::from(!asks), Ordering::Relaxed);
                }
            }
            let expected = self.acknowledged().get(&name).cloned();
            match store.get(&key).await {
                Ok(found) => assert_eq!(found.map(Entry::into_value), expected, "{name}"),
                // Neither pending nor in the frontend: only for what is not there, or was flushed in another life.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain()),
            }
            sleep(Duration::from_millis(100 + 13 * writer as u64)).await;
        }
    }

    /// Everything acknowledged is shown, one by one and in a listing, while the backend takes no writes.
    async fn look(&self, store: &TieredStore) {
        let oracle = self.acknowledged();
        for writer in 0..WRITERS {
            for index in 0..KEYS {
                let name = format!("w{writer}/k{index}");
                let found = store.get(&Key::new(&name).expect("valid")).await.expect("reads");
                assert_eq!(found.map(Entry::into_value), oracle.get(&name).cloned(), "{name}");
            }
        }
        let listed: Vec<String> = store
            .list(ListOptions::new())
            .map_ok(|listed| listed.key.as_str().to_owned())
            .try_collect()
            .await
            .expect("lists");
        assert_eq!(listed, oracle.into_keys().collect::<Vec<_>>());
    }

    /// The load: healthy, an outage of the backend during which `meanwhile` runs, healthy again.
    async fn outage(&self, store: &TieredStore, meanwhile: impl Future<Output = ()>) {
        let begun = Instant::now();
        let until = begun + OUTAGE + Duration::from_secs(10);
        let writers = (0..WRITERS).map(|writer| self.write(store, writer, until));
        let switch = async {
            sleep(Duration::from_secs(5)).await;
            self.back.be_down(true);
            meanwhile.await;
            tokio::time::sleep_until(begun + Duration::from_secs(5) + OUTAGE).await;
            self.back.be_down(false);
        };
        join(join_all(writers), switch).await;
    }

    /// The backlog drains, receipts resolve, both tiers agree with what was acknowledged, and the order was kept.
    async fn check(&self, store: &TieredStore, atomic: bool) {
        assert!(store.parked().is_empty(), "an outage parks nothing");
        tokio::time::timeout(Duration::from_secs(30), store.flush()).await.expect("in time").expect("drains");
        let receipts = std::mem::take(&mut *self.receipts.lock().expect("no panic"));
        for receipt in receipts {
            let resolved = receipt.durable(CommitLevel::Committed);
            tokio::time::timeout(Duration::from_secs(1), resolved).await.expect("resolves").expect("flushed");
        }
        assert_eq!((store.stats().backlog, store.stats().oldest_pending), (0, Duration::ZERO));
        assert_eq!(self.back.state(), self.acknowledged());
        self.look(store).await;
        if self.settings.write_policy == WritePolicy::WriteBehind {
            let states = self.back.states.lock().expect("no panic").clone();
            let history = self.history.lock().expect("no panic").clone();
            let judge = if atomic { prefixes } else { prefixes_by_key };
            judge(&states, &history).expect("in order");
        }
    }
}

/// Each state is the outcome of a prefix of the history, none shorter than the one before.
fn prefixes(states: &[State], history: &[(String, Option<Bytes>)]) -> Result<(), String> {
    let (mut reached, mut rest) = (State::new(), history.iter());
    for (index, state) in states.iter().enumerate() {
        while reached != *state {
            let next = rest.next();
            let (key, value) =
                next.ok_or(format!("state {index} is no prefix of the history, or goes back"))?;
            match value {
                Some(value) => reached.insert(key.clone(), value.clone()),
                None => reached.remove(key),
            };
        }
    }
    Ok(())
}

/// Each key goes through values of its history alone, in order.
fn prefixes_by_key(states: &[State], history: &[(String, Option<Bytes>)]) -> Result<(), String> {
    let mut keys: Vec<&String> = history.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let mut rest = history.iter().filter(|(of, _)| of == key).map(|(_, value)| value.as_ref());
        let mut reached = None;
        for (index, state) in states.iter().enumerate() {
            while reached != state.get(key) {
                reached = rest.next().ok_or(format!("{key} goes back in state {index}"))?;
            }
        }
    }
    Ok(())
}

fn behind(change: impl FnOnce(&mut TieredSettings)) -> TieredSettings {
    let mut settings = TieredSettings::default();
    settings.write_policy = WritePolicy::WriteBehind;
    settings.max_pending_age = Some(Duration::from_secs(10));
    change(&mut settings);
    settings
}

/// So many operations or KiB may wait: fewer than a minute's load is.
const BOUND: u16 = 100;

#[tokio::test(start_paused = true)]
async fn a_minute_without_the_backend_loses_nothing() {
    for (by_operations, on_full, atomic) in [
        (true, OnFull::Block, true),
        (true, OnFull::Fail, true),
        (false, OnFull::Block, true),
        (false, OnFull::Fail, true),
        (true, OnFull::Block, false),
        (false, OnFull::Fail, false),
    ] {
        let what = format!("by operations: {by_operations}, {on_full:?}, atomic: {atomic}");
        let world = World::new(
            atomic,
            behind(|settings| {
                settings.on_full = on_full;
                if by_operations {
                    settings.max_pending_operations = BOUND.into();
                } else {
                    settings.max_pending_bytes = u64::from(BOUND) << 10;
                }
            }),
        );
        let store = world.open().await;
        let meanwhile = async {
            let before = world.acknowledged();
            sleep(Duration::from_secs(30)).await;
            assert_ne!(before, world.acknowledged(), "writes go on: {what}");
            // Nothing has reached the backend for a while, and the journal is full.
            let (full, states) = (store.stats(), world.back.states.lock().expect("no panic").len());
            let nearly = u64::from(BOUND) - 1;
            assert!((nearly..=nearly + WRITERS as u64).contains(&full.backlog), "{full:?}: {what}");
            assert!(full.oldest_pending > Duration::from_secs(25), "{full:?}: {what}");
            sleep(Duration::from_secs(20)).await;
            assert_eq!(store.stats().backlog, full.backlog, "{what}");
            assert_eq!(world.back.states.lock().expect("no panic").len(), states, "{what}");
            assert_eq!(world.refused.load(Ordering::Relaxed) > 0, on_full == OnFull::Fail, "{what}");
        };
        world.outage(&store, meanwhile).await;
        assert!(store.stats().flush_retries >= 12, "{what}");
        world.check(&store, atomic).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_backlog_raises_the_alarm_and_reads_see_pending_writes() {
    let world = World::new(true, behind(|_| ()));
    let store = world.open().await;
    let mut events = store.subscribe();
    let until = Instant::now() + Duration::from_secs(5);
    join_all((0..WRITERS).map(|writer| world.write(&store, writer, until))).await;
    store.flush().await.expect("drains");
    // The backend refuses to write, and still lists: what waits lies over it.
    let back = world.back.clone();
    let writes = async {
        back.be_down(true);
        let until = Instant::now() + Duration::from_secs(20);
        join_all((0..WRITERS).map(|writer| world.write(&store, writer, until))).await;
    };
    let alarm = async {
        loop {
            if let Event::Overdue { age } = events.next().await.expect("the store is open") {
                return age;
            }
        }
    };
    let (age, ()) = join(alarm, writes).await;
    assert!(age >= Duration::from_secs(10) && age < Duration::from_secs(16), "{age:?}");
    let error =
        store.list(ListOptions::new()).try_collect::<Vec<_>>().await.expect_err("the backend is down");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    back.be_down(false);
    // At once, before anything of it is flushed.
    assert!(store.stats().backlog > 100);
    world.look(&store).await;
    world.check(&store, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_reopened_during_an_outage_loses_nothing() {
    for atomic in [true, false] {
        let world = World::new(atomic, behind(|_| ()));
        let store = world.open().await;
        let seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
        let until = seconds(5);
        join_all((0..WRITERS).map(|writer| world.write(&store, writer, until))).await;
        world.back.be_down(true);
        let mut store = store;
        let mut backlog = 0;
        for life in 0..3 {
            let until = seconds(15);
            join_all((0..WRITERS).map(|writer| world.write(&store, writer, until))).await;
            assert!(store.stats().backlog > backlog, "life {life}");
            backlog = store.stats().backlog;
            drop(store);
            world.receipts.lock().expect("no panic").clear();
            // Its tasks notice.
            sleep(Duration::from_secs(6)).await;
            store = world.open().await;
            assert!(store.stats().backlog >= backlog, "life {life}: what was acknowledged waits");
            assert!(store.parked().is_empty());
        }
        world.back.be_down(false);
        let until = seconds(5);
        join_all((0..WRITERS).map(|writer| world.write(&store, writer, until))).await;
        world.check(&store, atomic).await;
    }
}

/// A person gives the journal up while the process is down, and the next one begins while the backend is.
#[tokio::test(start_paused = true)]
async fn nothing_is_flushed_before_the_backends_mark_is_read() {
    for gives_up in [true, false] {
        let world = World::new(true, behind(|_| ()));
        let store = world.open().await;
        world.back.be_down(true);
        let key = Key::new("k").expect("valid");
        store.put(&key, Put::new("journaled")).await.expect("acknowledged");
        drop(store);
        sleep(Duration::from_secs(6)).await;
        world.back.be_down(false);
        let journals = ownership::journals(&world.back).await.expect("reads");
        assert_eq!(journals.len(), 1);
        for journal in journals.iter().filter(|_| gives_up) {
            ownership::abandon(&world.back, *journal).await.expect("abandoned");
        }
        world.back.be_down(true);
        let store = world.open().await;
        let shown = store.get(&key).await.expect("pending").map(Entry::into_value);
        assert_eq!(shown.expect("there"), "journaled");
        sleep(Duration::from_mins(1)).await;
        world.back.be_down(false);
        sleep(Duration::from_mins(5)).await;
        assert_eq!(store.flush().await.is_err(), gives_up);
        assert_eq!(store.parked().len(), usize::from(gives_up));
        assert_eq!(world.back.state().contains_key("k"), !gives_up, "it waits for a person");
        assert_eq!(
            ownership::journals(&world.back).await.expect("reads"),
            journals,
            "it owns the backend again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_without_the_frontend_loses_nothing() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteBehind, WritePolicy::WriteAround] {
        let world = World::new(true, behind(|settings| settings.write_policy = policy));
        let store = world.open().await;
        let begun = Instant::now();
        let until = begun + OUTAGE + Duration::from_secs(10);
        let writers = (0..WRITERS).map(|writer| world.write(&store, writer, until));
        let switch = async {
            sleep(Duration::from_secs(5)).await;
            world.front.be_down(true);
            sleep(OUTAGE).await;
            assert!(store.stats().frontend_errors > 0, "{policy}");
            world.front.be_down(false);
        };
        let errors = join(join_all(writers), switch);
        errors.await;
        assert_eq!(world.refused.load(Ordering::Relaxed), 0, "{policy}: every write succeeds");
        world.check(&store, true).await;
        // The quarantines end, and hits come back.
        sleep(Duration::from_secs(10)).await;
        let stats = store.stats();
        assert_eq!((stats.quarantined, stats.slots), (0, 0), "{policy}");
        world.look(&store).await;
        let before = store.stats().hits;
        world.look(&store).await;
        assert!(store.stats().hits >= before + world.acknowledged().len() as u64, "{policy}");
        for (key, value) in world.front.state() {
            assert_eq!(Some(&value), world.acknowledged().get(&key), "{policy}: {key} is stale");
        }
    }
}

fn told(values: &[u8]) -> Vec<State> {
    values.iter().map(|value| State::from([("k".to_owned(), Bytes::copy_from_slice(&[*value]))])).collect()
}

#[test]
fn a_backend_that_returns_to_an_older_value_is_not_a_prefix() {
    let history: Vec<(String, Option<Bytes>)> =
        (1..=3).map(|value| ("k".to_owned(), Some(Bytes::copy_from_slice(&[value])))).collect();
    for judge in [prefixes, prefixes_by_key] {
        judge(&told(&[1, 3, 3]), &history).expect("skipping one");
        for wrong in [[2, 1, 3], [1, 2, 4]] {
            judge(&told(&wrong), &history).expect_err("it goes back, or is no part of it");
        }
    }
}
