//! Concurrent clients over delaying, failing tiers: every history of a key is linearizable, and at rest the frontend
//! agrees with the backend. With the feature `planted`, deliberate bugs of the engine are shown to be caught.
//!
//! Time is virtual and every choice comes from the seed, so a seed repeats itself.
#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tiered_core::{
    Batch, BatchOutcomes, Capabilities, Delete, Deleted, Durability, Entry, Error, ErrorKind, Feature,
    Journal, JournalRecord, Key, ListOptions, ListStream, MemoryStore, Outcome, Put, Read, ReadOptions,
    Result, Sequence, Store, StoreExt as _, TieredBuilder, TieredStore, VolatileJournal, WritePolicy,
    Written,
};

/// `SplitMix64`, shared: the order of draws is the order of events, which virtual time fixes.
#[derive(Debug)]
struct Dice(AtomicU64);

impl Dice {
    fn below(&self, bound: u64) -> u64 {
        let mut z =
            self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

impl Dice {
    /// Mostly a few milliseconds; now and then so many that other operations come and go meanwhile.
    fn delay(&self) -> Duration {
        let bound = if self.below(4) == 0 { 60 } else { 4 };
        Duration::from_millis(self.below(bound))
    }
}

/// A journal that takes its time.
#[derive(Debug)]
struct SlowJournal(VolatileJournal, Arc<Dice>);

#[async_trait]
impl Journal for SlowJournal {
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        tokio::time::sleep(self.1.delay()).await;
        self.0.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.0.trim(sequence).await
    }
    async fn recover(&self) -> Result<Vec<(Sequence, JournalRecord)>> {
        self.0.recover().await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// A store whose calls take time and fail: before they take effect, or after.
#[derive(Clone, Debug)]
struct Faulty {
    inner: MemoryStore,
    dice: Arc<Dice>,
    healthy: Arc<AtomicBool>,
    /// One call in so many fails.
    rarity: u64,
}

impl Faulty {
    async fn pause(&self) {
        tokio::time::sleep(self.dice.delay()).await;
    }

    async fn fails(&self, outcome: Outcome) -> Result<()> {
        self.pause().await;
        if self.healthy.load(Ordering::Relaxed) || self.dice.below(self.rarity) > 0 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "a fault").outcome_is(outcome))
    }
}

#[async_trait]
impl Store for Faulty {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.fails(Outcome::NotApplied).await?;
        let read = self.inner.load(key, options).await;
        self.pause().await;
        read
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.fails(Outcome::NotApplied).await?;
        let written = self.inner.put(key, put).await?;
        self.fails(Outcome::Unknown).await?;
        Ok(written)
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.fails(Outcome::NotApplied).await?;
        let deleted = self.inner.delete(key, delete).await?;
        self.fails(Outcome::Unknown).await?;
        Ok(deleted)
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        self.inner.peek(key)
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.fails(Outcome::NotApplied).await?;
        let outcomes = self.inner.apply(batch).await?;
        self.fails(Outcome::Unknown).await?;
        Ok(outcomes)
    }
}

/// What an operation did to the key: 0 stands for absent.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Read(u64),
    Write(u64),
    /// A put that was acknowledged to have found the key absent.
    Create(u64),
    Delete(bool),
    /// A delete whose answer was lost.
    Erase,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    begun: u64,
    /// `u64::MAX`: the outcome is unknown, and it may take effect at any time or never.
    ended: u64,
    effect: Effect,
}

impl Effect {
    /// The state after it, if it is possible in `state`.
    fn apply(self, state: u64) -> Option<u64> {
        match self {
            Self::Read(seen) => (seen == state).then_some(state),
            Self::Write(value) => Some(value),
            Self::Create(value) => (state == 0).then_some(value),
            Self::Delete(existed) => (existed == (state != 0)).then_some(0),
            Self::Erase => Some(0),
        }
    }
}

/// Whether some order of the events that keeps real time explains all answers (Wing and Gong, with memory).
fn is_linearizable(history: &[Event]) -> bool {
    fn search(history: &[Event], done: u64, state: u64, seen: &mut HashSet<(u64, u64)>) -> bool {
        let left = || history.iter().enumerate().filter(move |(index, _)| done & (1 << index) == 0);
        if left().all(|(_, event)| event.ended == u64::MAX) {
            return true;
        }
        if !seen.insert((done, state)) {
            return false;
        }
        let first_end = left().map(|(_, event)| event.ended).min().unwrap_or(u64::MAX);
        left().filter(|(_, event)| event.begun <= first_end).any(|(index, event)| {
            event.effect.apply(state).is_some_and(|next| search(history, done | (1 << index), next, seen))
        })
    }
    assert!(history.len() < 64, "a history has at most 63 events");
    search(history, 0, 0, &mut HashSet::new())
}

/// Seeds of a correct engine; a longer run is a larger number.
const SEEDS: u64 = 1_000;
/// Keys, clients, and operations of each client: many on few keys, so that they meet.
const KEYS: u64 = 3;
const CLIENTS: u64 = 6;
const ROUNDS: u64 = 25;
/// Events of one key at most, the last read left out: the checker's set is a 64-bit word.
const MAX_EVENTS: u64 = 60;

/// Runs one seed; what is wrong with it, if anything.
fn simulate(seed: u64, change: impl Fn(TieredBuilder) -> TieredBuilder) -> std::result::Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("builds");
    runtime.block_on(async move {
        let dice = Arc::new(Dice(AtomicU64::new(seed.wrapping_mul(0xD134_2543_DE82_EF95))));
        let healthy = Arc::new(AtomicBool::new(false));
        let policies = [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind];
        let policy = policies[usize::try_from(dice.below(3)).expect("small")];
        // Each seed draws its own mix: a bug that one mix hides another shows.
        let kinds = if dice.below(2) == 0 { 10 } else { 12 };
        let (peeks, atomic) = (dice.below(2) == 0, dice.below(2) == 0);
        let faulty = |rarity: u64, missing: &[Feature]| Faulty {
            inner: MemoryStore::new().declaring(|all| {
                let all = all.without(Feature::KeepsMarks);
                missing.iter().fold(all, |all, feature| all.without(*feature))
            }),
            dice: Arc::clone(&dice),
            healthy: Arc::clone(&healthy),
            rarity,
        };
        // Faults make outcomes open, and open outcomes excuse much: some seeds have none.
        let failing = dice.below(3) > 0;
        let rarity = |most: u64| if failing { most / 4 + dice.below(most) } else { u64::MAX };
        let front = faulty(rarity(30), if peeks { &[] } else { &[Feature::Peeks] });
        let back = faulty(rarity(40), if atomic { &[] } else { &[Feature::AtomicBatch] });
        let mut builder =
            TieredStore::builder(Arc::new(front.clone()), Arc::new(back.clone())).write_policy(policy);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(Arc::new(SlowJournal(VolatileJournal::new(), Arc::clone(&dice))));
        }
        let store = change(builder).build().await.expect("builds");
        let keys: Vec<Key> = (0..KEYS).map(|index| Key::new(format!("k{index}")).expect("valid")).collect();
        let histories = Arc::new(Mutex::new(vec![Vec::new(); keys.len()]));
        let begun = Arc::new(Mutex::new(vec![0; keys.len()]));
        let clock = Arc::new(AtomicU64::new(1));
        let clients = (0..CLIENTS).map(|client| {
            let (store, keys, dice, begun) =
                (store.clone(), keys.clone(), Arc::clone(&dice), Arc::clone(&begun));
            let (histories, clock) = (Arc::clone(&histories), Arc::clone(&clock));
            async move {
                for round in 0..ROUNDS {
                    tokio::time::sleep(Duration::from_millis(dice.below(6))).await;
                    let which = usize::try_from(dice.below(KEYS)).expect("small");
                    let room = {
                        let mut begun = begun.lock().expect("whole");
                        begun[which] += 1;
                        begun[which] <= MAX_EVENTS
                    };
                    if !room {
                        continue;
                    }
                    let value = 1 + client * 1000 + round;
                    let begun = clock.fetch_add(1, Ordering::Relaxed);
                    let (effect, ambiguous) = act(&store, &keys[which], &dice, kinds, value).await;
                    let ended = clock.fetch_add(1, Ordering::Relaxed);
                    if let Some(effect) = effect {
                        let ended = if ambiguous { u64::MAX } else { ended };
                        histories.lock().expect("whole")[which].push(Event { begun, ended, effect });
                    }
                }
            }
        });
        futures_util::future::join_all(clients).await;
        healthy.store(true, Ordering::Relaxed);
        // Longer than any back-off and any patience with the frontend.
        tokio::time::sleep(Duration::from_mins(2)).await;
        store.flush().await.map_err(|error| format!("flush: {}", error.chain()))?;
        let histories = std::mem::take(&mut *histories.lock().expect("whole"));
        for (key, mut history) in keys.iter().zip(histories) {
            let begun = clock.fetch_add(1, Ordering::Relaxed);
            let (front, back) = (front.inner.peek_raw(key).await, back.inner.peek_raw(key).await);
            history.push(Event { begun, ended: begun, effect: Effect::Read(value_of(back.as_ref())) });
            if !is_linearizable(&history) {
                return Err(format!("{policy}: {key} is not linearizable: {history:?}"));
            }
            if front.is_some() && front != back {
                return Err(format!("{policy}: at rest the frontend has {front:?}, the backend {back:?}"));
            }
        }
        let stats = store.stats();
        if (stats.slots, stats.backlog) != (0, 0) {
            return Err(format!("{policy}: at rest there is {stats:?}"));
        }
        Ok(())
    })
}

/// The store's own view, past capabilities and delays.
trait PeekRaw {
    async fn peek_raw(&self, key: &Key) -> Option<Entry>;
}

impl PeekRaw for MemoryStore {
    async fn peek_raw(&self, key: &Key) -> Option<Entry> {
        self.load(key, &ReadOptions::new()).await.ok().and_then(Read::into_entry)
    }
}

fn value_of(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| String::from_utf8_lossy(entry.value()).parse().expect("a number"))
}

/// One operation: what it did, as far as is known, and whether its outcome is open.
async fn act(store: &TieredStore, key: &Key, dice: &Dice, kinds: u64, value: u64) -> (Option<Effect>, bool) {
    let written = |result: Result<Written>, effect: Effect| match result {
        Ok(_) => (Some(effect), false),
        Err(error) if error.write_outcome() == Outcome::NotApplied => (None, false),
        Err(error) => (Some(effect), error.write_outcome() == Outcome::Unknown),
    };
    match dice.below(kinds) {
        10 | 11 => {
            // Whether it succeeds or not: the key's value stays, and the next read is a miss.
            store.invalidate(key).await.ok();
            (None, false)
        }
        0..=4 => match store.get(key).await {
            Ok(entry) => (Some(Effect::Read(value_of(entry.as_ref()))), false),
            Err(_) => (None, false),
        },
        5 | 6 => written(store.put(key, Put::new(value.to_string())).await, Effect::Write(value)),
        7 => written(store.put(key, Put::new(value.to_string()).if_absent()).await, Effect::Create(value)),
        8 => match store.keys(key.as_str()).await {
            // A listing tells presence alone: absence is a read of nothing.
            Ok(keys) if keys.is_empty() => (Some(Effect::Read(0)), false),
            _ => (None, false),
        },
        _ => match store.delete(key, Delete::new()).await {
            Ok(deleted) => (Some(Effect::Delete(deleted.existed)), false),
            Err(error) if error.write_outcome() == Outcome::NotApplied => (None, false),
            Err(_) => (Some(Effect::Erase), true),
        },
    }
}

#[test]
fn the_checker_tells_right_from_wrong() {
    let event = |begun, ended, effect| Event { begun, ended, effect };
    let write = event(1, 2, Effect::Write(7));
    assert!(is_linearizable(&[write, event(3, 4, Effect::Read(7))]));
    assert!(!is_linearizable(&[write, event(3, 4, Effect::Read(0))]), "a lost write");
    assert!(is_linearizable(&[
        event(1, 9, Effect::Write(7)),
        event(3, 4, Effect::Read(0)),
        event(5, 6, Effect::Read(7))
    ]));
    let new_then_old =
        [event(1, 9, Effect::Write(7)), event(3, 4, Effect::Read(7)), event(5, 6, Effect::Read(0))];
    assert!(!is_linearizable(&new_then_old));
    assert!(is_linearizable(&[event(1, u64::MAX, Effect::Write(7)), event(3, 4, Effect::Read(0))]));
    assert!(!is_linearizable(&[event(1, 2, Effect::Delete(true))]));
}

#[test]
fn histories_are_linearizable_and_tiers_agree_at_rest() {
    for seed in 0..SEEDS {
        if let Err(why) = simulate(seed, |builder| builder) {
            panic!("seed {seed}: {why}");
        }
    }
}

/// Each deliberate bug is noticed within 100 seeds, or the test above proves nothing.
#[cfg(feature = "planted")]
#[test]
fn deliberate_bugs_are_caught() {
    let missed: Vec<_> = tiered_core::Plant::ALL
        .into_iter()
        .filter(|plant| (0..100).all(|seed| simulate(seed, |builder| builder.plant(*plant)).is_ok()))
        .collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
