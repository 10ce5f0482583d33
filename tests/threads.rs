//! Linearizability on real threads over real engines: what the simulation cannot show, whose tasks take turns.
//!
//! Tasks on several threads read and write a few keys of a stack whose frontend evicts all the time. Each key's history
//! goes through the simulation's checker, and the next round begins at what was read back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tiered::journal::JournalConfig;
use tiered::{
    Create, Delete, Entry, ErrorKind, Key, Put, ReadOptions, Store, StoreExt as _, TieredStore, WritePolicy,
};
use tiered_conformance::Dice;
use tiered_sim::checker::{MAX_EVENTS, is_linearizable};
use tiered_sim::history::{Effect, Event, Value};

const TASKS: usize = 6;
const KEYS: usize = 4;
/// Of one task in one round: all of them on one key would still be a history that the checker takes.
const OPERATIONS: usize = MAX_EVENTS / TASKS - 1;
const ROUNDS: u64 = 60;
/// What a value takes: a frontend of 4 KiB keeps three of four.
const SIZE: usize = 1 << 10;

fn key(index: usize) -> Key {
    Key::new(format!("key-{index}")).expect("valid")
}

fn encode(value: Value) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes.splice(..8, value.to_le_bytes());
    bytes
}

fn decode(entry: Option<&Entry>) -> Value {
    let bytes = entry.map(|entry| entry.value().get(..8).expect("whole"));
    bytes.map_or(0, |bytes| Value::from_le_bytes(bytes.try_into().expect("eight")))
}

/// What all tasks share.
struct Round {
    store: TieredStore,
    clock: AtomicU64,
    values: AtomicU64,
}

impl Round {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// One operation; what it did, if anything is known of it.
    async fn operate(&self, key: &Key, dice: &mut Dice) -> Option<Effect> {
        let fresh = || self.values.fetch_add(1, Ordering::Relaxed);
        let refused = |error: tiered::Error, effect| {
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{}", error.chain());
            Some(effect)
        };
        match dice.below(10) {
            0..5 => Some(Effect::Read(decode(self.store.get(key).await.expect("reads").as_ref()))),
            5..7 => {
                let value = fresh();
                self.store.put(key, Put::new(encode(value))).await.expect("written");
                Some(Effect::Write(value))
            }
            7 => {
                let deleted = self.store.delete(key, Delete::new()).await.expect("deleted");
                Some(Effect::deleted(deleted.existed))
            }
            8 => {
                let value = fresh();
                match self.store.put(key, Put::new(encode(value)).if_absent()).await {
                    Ok(_) => Some(Effect::Swap(0, value)),
                    Err(error) => refused(error, Effect::Present),
                }
            }
            _ => {
                let seen = self.store.get(key).await.expect("reads")?;
                let (old, new) = (decode(Some(&seen)), fresh());
                match self.store.put(key, Put::new(encode(new)).if_version(seen.version().clone())).await {
                    Ok(_) => Some(Effect::Swap(old, new)),
                    Err(error) => refused(error, Effect::Unlike(old)),
                }
            }
        }
    }
}

async fn check(store: TieredStore, name: &str) {
    let round = Arc::new(Round { store, clock: AtomicU64::new(1), values: AtomicU64::new(1) });
    let mut initial = [0; KEYS];
    for number in 0..ROUNDS {
        let runtime = tokio::runtime::Handle::current();
        let tasks = (0..TASKS).map(|task| {
            let (round, mut dice) = (Arc::clone(&round), Dice::new(number << 8 | task as u64));
            runtime.spawn(async move {
                let mut events = Vec::with_capacity(OPERATIONS);
                for _ in 0..OPERATIONS {
                    let index = usize::try_from(dice.below(KEYS as u64)).expect("small");
                    let begun = round.tick();
                    if let Some(effect) = round.operate(&key(index), &mut dice).await {
                        events.push((index, Event { begun, ended: round.tick(), effect }));
                    }
                }
                events
            })
        });
        let mut histories: [Vec<Event>; KEYS] = Default::default();
        for task in tasks.collect::<Vec<_>>() {
            for (index, event) in task.await.expect("no panic") {
                histories.get_mut(index).expect("a key").push(event);
            }
        }
        for (index, (history, initial)) in histories.iter_mut().zip(&mut initial).enumerate() {
            let begun = round.tick();
            let read =
                round.store.load(&key(index), &ReadOptions::new().authoritative()).await.expect("reads");
            let last = decode(read.entry());
            history.push(Event { begun, ended: round.tick(), effect: Effect::Read(last) });
            assert!(is_linearizable(*initial, history), "{name}, round {number}, key {index}: {history:?}");
            *initial = last;
        }
    }
    let stats = round.store.stats();
    assert!(stats.hits > 0 && stats.fills > 0, "{name}: the frontend takes part: {stats:?}");
    round.store.close().await.expect("closes");
}

async fn stack(backend: &str, folder: &Path, write_policy: WritePolicy) -> TieredStore {
    let frontend = tiered::open("moka:?capacity=4KiB", Create::IfAbsent).await.expect("opens");
    let url = format!("{backend}:{}", folder.join("backend").display());
    let backend = tiered::open(&url, Create::IfAbsent).await.expect("opens");
    let builder = TieredStore::builder(frontend, backend).write_policy(write_policy);
    let builder = if write_policy == WritePolicy::WriteBehind {
        builder.journal(JournalConfig::new(folder.join("journal")).open().await.expect("opens"))
    } else {
        builder
    };
    builder.build().await.expect("builds")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_policy_is_linearizable_on_real_threads() {
    let engines = ["redb", "rocksdb"].iter().filter(|name| **name == "redb" || cfg!(feature = "rocksdb"));
    for backend in engines {
        for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
            let folder = tempfile::tempdir().expect("a folder");
            let store = stack(backend, folder.path(), policy).await;
            check(store, &format!("moka/{backend} {policy}")).await;
        }
    }
}
