//! What clients do, and what they note of it.

mod batch;
mod events;
mod listing;

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tiered_conformance::Dice;
use tiered_core::sync::{FullSync, PopulateMissing, Refresh, SyncOptions, SyncStrategy};
use tiered_core::{
    Delete, Entry, Error, ErrorKind, Key, Lookup, Metadata, Outcome, Precondition, Put, Read, ReadOptions,
    Result, Store, StoreExt as _, TieredStore, Version, adapter,
};

use crate::checker::MAX_EVENTS;
use crate::config::Config;
use crate::history::{Effect, Event, History, Value};
use crate::oracle;
use crate::trace::Trace;
use crate::value;

pub(crate) use events::Told;
pub(crate) use events::version_of;
use events::{Answers, value_of};

/// Writes of unknown outcome that a key may have in an epoch: each doubles the checker's work.
const MAX_OPEN: usize = 8;

/// The first of the numbers that stand for reads of ranges.
const RANGES: u64 = 18;

/// Longer than a run: entries expire by jumps of the clock only.
pub(crate) const TTL: Duration = Duration::from_hours(24 * 365);

/// What the clients of a run share.
pub(crate) struct Clients {
    pub(crate) keys: Vec<Key>,
    pub(crate) histories: Mutex<Vec<History>>,
    pub(crate) config: Config,
    pub(crate) trace: Arc<Trace>,
    dice: Mutex<Dice>,
    /// Logical time: the order of beginnings and ends.
    time: AtomicU64,
    values: AtomicU64,
    /// Operations that are left in this epoch.
    left: AtomicU64,
    /// Versions under which values were seen, for conditional writes.
    versions: Mutex<HashMap<(usize, Value), Version>>,
    /// How puts of this life ended.
    answers: Mutex<Answers>,
    /// What a client found wrong at once.
    wrong: Mutex<Option<String>>,
}

/// An operation that began.
struct Begun {
    key: usize,
    event: usize,
}

/// The name of a key, in their order: every other one begins with the one before it.
fn name(index: u64) -> String {
    let even = index - index % 2;
    if even == index { format!("key-{even}") } else { format!("key-{even}/{index}") }
}

impl Clients {
    pub(crate) fn new(config: Config, seed: u64, trace: Arc<Trace>) -> Self {
        let keys: Vec<Key> = (0..config.keys).filter_map(|index| Key::new(name(index)).ok()).collect();
        Self {
            histories: Mutex::new(vec![History::default(); keys.len()]),
            keys,
            config,
            trace,
            dice: Mutex::new(Dice::new(seed)),
            time: AtomicU64::new(1),
            values: AtomicU64::new(1),
            left: AtomicU64::new(0),
            versions: Mutex::default(),
            answers: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// The backend had these values before anything was done.
    pub(crate) fn begin_with(&self, values: &[Value]) {
        for (history, value) in self.histories.lock().iter_mut().zip(values) {
            history.restart(*value);
        }
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    pub(crate) fn tick(&self) -> u64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn allow(&self, operations: u64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    /// What a client found wrong, if anything.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.wrong.lock().clone()
    }

    pub(crate) fn fault(&self, key: usize, what: &str) {
        let name = self.keys.get(key).map_or("?", Key::as_str);
        self.wrong.lock().get_or_insert_with(|| format!("{name}: {what}"));
    }

    fn begin(&self, key: usize, effect: Effect) -> Begun {
        let begun = self.tick();
        let event = self.histories.lock().get_mut(key).map_or(0, |history| history.begin(begun, effect));
        Begun { key, event }
    }

    #[expect(clippy::needless_pass_by_value, reason = "an operation ends once")]
    fn end(&self, begun: Begun, effect: Effect) {
        let ended = self.tick();
        let judged = {
            let mut histories = self.histories.lock();
            let Some(history) = histories.get_mut(begun.key) else { return };
            history.end(begun.event, ended, effect);
            let known = history.known();
            let own = known.iter().find(|event| event.ended == ended);
            own.map_or(Ok(()), |own| oracle::judge(history.initial, &known, own))
        };
        if let Err(why) = judged {
            self.fault(begun.key, &why);
        }
    }

    /// Notes that an operation of unknown outcome may have had this effect.
    fn leave_open(&self, begun: &Begun, effect: Effect) {
        if let Some(history) = self.histories.lock().get_mut(begun.key) {
            history.end(begun.event, Event::OPEN, effect);
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "an operation ends once")]
    fn forget(&self, begun: Begun) {
        if let Some(history) = self.histories.lock().get_mut(begun.key) {
            history.forget(begun.event);
        }
    }

    /// Ends a write that failed: `refused` is what a failed precondition tells of the state.
    fn end_failed(&self, begun: Begun, error: &Error, certain: Effect, refused: Option<Effect>) {
        if error.write_outcome() == Outcome::NotApplied {
            self.refused(certain);
        }
        match (error.write_outcome(), refused) {
            (Outcome::NotApplied, Some(refused)) if error.kind() == ErrorKind::PreconditionFailed => {
                self.end(begun, refused);
            }
            (Outcome::NotApplied, _) => self.forget(begun),
            (Outcome::Applied, _) => self.end(begun, certain),
            (Outcome::Unknown, _) => {}
        }
    }

    /// Ends a read of an entry.
    pub(crate) fn end_read(&self, key: usize, begun: Option<u64>, entry: Option<&Entry>) -> Option<Value> {
        let seen = match entry.map(value::decode).transpose() {
            Ok(seen) => seen.unwrap_or(0),
            Err(why) => {
                self.fault(key, &why);
                return None;
            }
        };
        if let (Some(entry), true) = (entry, seen != 0) {
            self.versions.lock().insert((key, seen), entry.version().clone());
        }
        if let Some(begun) = begun {
            let event = self.histories.lock().get_mut(key).map_or(0, |h| h.begin(begun, Effect::Read(seen)));
            self.end(Begun { key, event }, Effect::Read(seen));
        }
        Some(seen)
    }

    pub(crate) fn next_value(&self) -> Value {
        let number = self.values.fetch_add(1, Ordering::Relaxed);
        // Those are large.
        if self.config.blocks { number * value::LARGE } else { number }
    }

    /// A client's work for an epoch.
    pub(crate) async fn work(&self, store: &TieredStore) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.below(self.config.think))).await;
            let left = self.left.load(Ordering::Relaxed);
            if left == 0 || self.wrong.lock().is_some() {
                return;
            }
            self.left.store(left - 1, Ordering::Relaxed);
            let key = usize::try_from(self.below(self.keys.len() as u64)).unwrap_or(0);
            let (full, careful) = {
                let histories = self.histories.lock();
                // A batch or a listing adds one to each, and readers of ranges up to nine to one.
                let most = if self.config.blocks { 9 } else { 2 };
                let full = histories.iter().any(|h| {
                    h.len() + most * usize::try_from(self.config.clients).unwrap_or(0) + 2 > MAX_EVENTS
                });
                (full, histories.iter().any(|history| history.open() >= MAX_OPEN + 2))
            };
            if full {
                return;
            }
            let cancelled = self.config.cancel > 0 && self.below(self.config.cancel) == 0;
            let operation = self.operate(store, key, careful);
            if cancelled {
                // Dropped wherever it then is.
                let patience = Duration::from_millis(self.below(20));
                if tokio::time::timeout(patience, operation).await.is_err() {
                    self.trace.note(&format!("a call on key-{key} was dropped"));
                }
            } else {
                operation.await;
            }
        }
    }

    async fn operate(&self, store: &TieredStore, key: usize, careful: bool) {
        let Some(name) = self.keys.get(key) else { return };
        let kind = self.below(if careful { 50 } else { 100 });
        // Blocks are of one version: they are found only where a value is read more often than it is written.
        let kind = if self.config.blocks && self.below(2) == 0 { RANGES } else { kind };
        self.trace.note(&format!("{kind} on {name}"));
        match kind {
            0..RANGES => self.read(store, key, name).await,
            RANGES..30 if self.config.blocks => self.read_ranges(store, key, name).await,
            RANGES..30 => self.read(store, key, name).await,
            30..34 => self.read_many(store).await,
            34..36 => {
                let beginning = 0..16 + self.below(4_000);
                self.read_range(store, key, name, vec![beginning]).await;
            }
            36..43 => self.list(store).await,
            // It would take what only a local cache has.
            43..46 if self.config.is_local() => self.read(store, key, name).await,
            43..46 => drop(store.invalidate(name).await),
            46..48 => self.synchronise(store).await,
            48..50 => self.head(store, key, name).await,
            50..66 => self.put(store, key, name).await,
            66..73 => self.create(store, key, name).await,
            73..81 => self.replace(store, key, name).await,
            81..92 => self.delete(store, key, name).await,
            _ => self.batch(store).await,
        }
    }

    async fn read(&self, store: &TieredStore, key: usize, name: &Key) {
        let begun = self.tick();
        if self.below(4) == 0 {
            if let Some(entry) = store.peek(name) {
                self.end_read(key, Some(begun), Some(&entry));
            }
            return;
        }
        let options =
            if self.below(6) == 0 { ReadOptions::new().authoritative() } else { ReadOptions::new() };
        let read = if self.below(3) == 0 {
            store.load(name, &options).await.map(Read::into_entry)
        } else {
            store.get(name).await
        };
        if let Ok(entry) = read {
            self.end_read(key, Some(begun), entry.as_ref());
        }
    }

    async fn read_many(&self, store: &TieredStore) {
        let begun: Vec<u64> = self.keys.iter().map(|_| self.tick()).collect();
        let reads = store.get_many(&self.keys, &ReadOptions::new()).await;
        for ((key, begun), read) in begun.into_iter().enumerate().zip(reads) {
            if let Ok(read) = read {
                self.end_read(key, Some(begun), read.into_entry().as_ref());
            }
        }
    }

    /// Several readers at the same time, each of some ranges one after the other: the first leave blocks, which the others find.
    async fn read_ranges(&self, store: &TieredStore, key: usize, name: &Key) {
        let reader = || async {
            for _ in 0..=self.below(3) {
                let ranges = (0..=self.below(3)).map(|_| self.some_range()).collect();
                self.read_range(store, key, name, ranges).await;
            }
        };
        let readers: Vec<_> = (0..=self.below(3)).map(|_| reader()).collect();
        futures_util::future::join_all(readers).await;
    }

    async fn read_range(&self, store: &TieredStore, key: usize, name: &Key, ranges: Vec<Range<u64>>) {
        let begun = self.tick();
        let read = if let [range] = ranges.as_slice() {
            let read = store.load(name, &ReadOptions::new().range(range.clone())).await;
            read.map(|read| {
                read.into_entry().map(|entry| (Arc::clone(entry.metadata()), vec![entry.into_value()]))
            })
        } else {
            let read = store.get_ranges(name, &ranges, &ReadOptions::new()).await;
            read.map(|read| match read.lookup {
                Lookup::Found(slices) => Some((slices.metadata, slices.values)),
                Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
            })
        };
        if let Ok(found) = read {
            self.end_read_of_parts(key, begun, &ranges, found);
        }
    }

    /// Often the beginning, or all there is.
    fn some_range(&self) -> Range<u64> {
        let start = if self.below(3) == 0 { 0 } else { self.below(2_800) };
        let len = if self.below(4) == 0 { 200_000 } else { 1 + self.below(1_500) };
        start..start + len
    }

    /// I14: ends a read of parts, all of which must be of the one version that the answer names.
    fn end_read_of_parts(
        &self,
        key: usize,
        begun: u64,
        ranges: &[Range<u64>],
        found: Option<(Arc<Metadata>, Vec<Bytes>)>,
    ) {
        let mut seen = 0;
        if let Some((metadata, parts)) = found {
            let Some(number) = value_of(&metadata.version) else {
                return self.fault(key, &format!("the version {} was never written", metadata.version));
            };
            seen = number;
            for (range, part) in ranges.iter().zip(&parts) {
                if let Err(why) = value::judge_part(number, part, metadata.size, range) {
                    return self.fault(key, &why);
                }
            }
        }
        let event = self.histories.lock().get_mut(key).map_or(0, |h| h.begin(begun, Effect::Read(seen)));
        self.end(Begun { key, event }, Effect::Read(seen));
    }

    async fn head(&self, store: &TieredStore, key: usize, name: &Key) {
        let begun = self.begin(key, Effect::Present);
        match store.head(name, &ReadOptions::new()).await {
            Ok(Some(_)) => self.end(begun, Effect::Present),
            Ok(None) => self.end(begun, Effect::Read(0)),
            Err(_) => self.forget(begun),
        }
    }

    /// Changes no value, whether it succeeds or not.
    async fn synchronise(&self, store: &TieredStore) {
        if self.below(2) == 0 {
            let some: Vec<Key> = self.keys.iter().filter(|_| self.below(2) == 0).cloned().collect();
            return drop(store.sync_keys(&some, &SyncOptions::new()).await);
        }
        let strategies: [&dyn SyncStrategy; 3] = [&PopulateMissing, &FullSync, &Refresh];
        let chosen = usize::try_from(self.below(3)).ok().and_then(|index| strategies.get(index).copied());
        if let Some(strategy) = chosen {
            drop(store.sync(strategy, &SyncOptions::new()).await);
        }
    }

    /// A delete, of which every other one asks whether the key existed.
    fn new_delete(&self) -> Delete {
        if self.below(2) == 0 { Delete::new().report_existed() } else { Delete::new() }
    }

    fn new_put(&self, value: Value) -> Put {
        let put = adapter::with_version(Put::new(value::encode(value)), version_of(value));
        if self.config.expiring && self.below(3) == 0 { put.expires_in(TTL) } else { put }
    }

    async fn put(&self, store: &TieredStore, key: usize, name: &Key) {
        let value = self.next_value();
        let begun = self.begin(key, Effect::Write(value));
        match store.put(name, self.new_put(value)).await {
            Ok(written) => {
                self.versions.lock().insert((key, value), written.version);
                self.acknowledged(Effect::Write(value));
                self.end(begun, Effect::Write(value));
            }
            Err(error) => self.end_failed(begun, &error, Effect::Write(value), None),
        }
    }

    async fn create(&self, store: &TieredStore, key: usize, name: &Key) {
        let value = self.next_value();
        let effect = Effect::Swap(0, value);
        let begun = self.begin(key, effect);
        match store.put(name, self.new_put(value).if_absent()).await {
            Ok(_) => {
                self.acknowledged(effect);
                self.end(begun, effect);
            }
            Err(error) => self.end_failed(begun, &error, effect, Some(Effect::Present)),
        }
    }

    /// The latest value of a key that was seen, and its version.
    fn seen_of(&self, key: usize) -> Option<(Value, Version)> {
        let versions = self.versions.lock();
        let seen = versions.iter().filter(|((of, _), _)| *of == key);
        seen.max_by_key(|((_, value), _)| *value).map(|((_, value), version)| (*value, version.clone()))
    }

    /// A put or a delete of what was seen before.
    async fn replace(&self, store: &TieredStore, key: usize, name: &Key) {
        let Some((seen, version)) = self.seen_of(key) else { return self.put(store, key, name).await };
        let deletes = self.below(3) == 0;
        let value = if deletes { 0 } else { self.next_value() };
        let effect = Effect::Swap(seen, value);
        let begun = self.begin(key, effect);
        let result: Result<()> = if deletes {
            store.delete(name, Delete::new().precondition(Precondition::Matches(version))).await.map(drop)
        } else {
            store.put(name, self.new_put(value).precondition(Precondition::Matches(version))).await.map(drop)
        };
        match result {
            Ok(()) => {
                self.acknowledged(effect);
                self.end(begun, effect);
            }
            Err(error) => self.end_failed(begun, &error, effect, Some(Effect::Unlike(seen))),
        }
    }

    async fn delete(&self, store: &TieredStore, key: usize, name: &Key) {
        let begun = self.begin(key, Effect::Erase);
        match store.delete(name, self.new_delete()).await {
            Ok(deleted) => self.end(begun, Effect::deleted(deleted.existed)),
            Err(error) => self.end_failed(begun, &error, Effect::Erase, None),
        }
    }

    /// Notes what the backend has, which ends the epoch; what is wrong with the epoch, if anything.
    pub(crate) fn settle(&self, key: usize, entry: Option<&Entry>) -> std::result::Result<(), String> {
        let Some(seen) = self.end_read(key, Some(self.tick()), entry) else {
            return Err(self.wrong().unwrap_or_default());
        };
        self.settle_seen(key, seen)
    }

    /// The same for a value that is not in the backend, but kept for it.
    pub(crate) fn settle_kept(&self, key: usize, bytes: &bytes::Bytes) -> std::result::Result<(), String> {
        let seen = value::decode_bytes(bytes, true)?;
        let begun = self.begin(key, Effect::Read(seen));
        self.end(begun, Effect::Read(seen));
        self.settle_seen(key, seen)
    }

    fn settle_seen(&self, key: usize, seen: Value) -> std::result::Result<(), String> {
        let mut histories = self.histories.lock();
        let Some(history) = histories.get_mut(key) else { return Ok(()) };
        let known = history.known();
        if !crate::checker::is_linearizable(history.initial, &known) {
            let mut lines: Vec<String> = known.iter().map(describe).collect();
            lines.insert(0, format!("not linearizable, beginning with {}:", history.initial));
            return Err(lines.join("\n    "));
        }
        history.restart(seen);
        Ok(())
    }
}

impl Clients {
    /// Notes what a key has after the clock has moved.
    pub(crate) fn now_has(&self, key: usize, entry: Option<&Entry>) -> std::result::Result<(), String> {
        let seen = entry.map(value::decode).transpose()?.unwrap_or(0);
        if let Some(history) = self.histories.lock().get_mut(key) {
            history.restart(seen);
        }
        Ok(())
    }
}

fn describe(event: &Event) -> String {
    let end = if event.is_open() { "?".to_owned() } else { event.ended.to_string() };
    format!("{:>6} .. {end:<6} {:?}", event.begun, event.effect)
}

/// Runs all clients until the epoch's operations are done.
pub(crate) async fn work(clients: &Clients, store: &TieredStore) {
    let working = (0..clients.config.clients).map(|_| clients.work(store));
    futures_util::future::join_all(working).await;
}

/// So that a future is not forgotten in silence.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> std::result::Result<T, String> {
    tokio::time::timeout(limit, work).await.map_err(|_| format!("{what} has not ended after {limit:?}"))
}
