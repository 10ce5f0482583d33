//! Several tiered stores over one backend that all of them write, most of them strictly: writes, and what each may read.
//!
//! The backend keeps what it went through. Against that is checked that each write took effect at most once and as it was
//! answered, that a conditional write lies on what it was conditional on, that a store sees its own writes at once, and
//! others' within `max-stale`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_conformance::{Dice, Fault, FaultStore, Faults};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::settings::OnUnknown;
use tiered_core::{
    Batch, Delete, Entry, ErrorKind, Feature, Key, MemoryStore, Outcome, Precondition, Put, ReadOptions,
    Result, Store, StoreExt as _, TieredStore, Version, WritePolicy, adapter,
};
use tiered_sim::clock::SimClock;
use tiered_sim::server::{self, Feed, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

const SEEDS: u64 = 300;
const STORES: usize = 2;
const CLIENTS: usize = 3;
const OPERATIONS: usize = 40;
const KEYS: u64 = 2;
const MAX_STALE: Duration = Duration::from_millis(200);
/// Of stores that follow a feed: what they show is bounded by the feed's lag alone.
const MAX_STALE_UNDER_FEED: Duration = Duration::from_mins(1);
/// The feed's lag is less.
const LAG_MILLIS: u64 = 60;

/// Whether the stores of a seed write strictly.
fn drives(seed: u64) -> bool {
    !seed.is_multiple_of(5)
}

/// Whether the backend of a seed has a feed of changes.
fn is_fed(seed: u64) -> bool {
    seed % 3 == 1
}

/// The server of a seed. Some promise less than others.
fn server(stamp: Stamp, seed: u64) -> Server {
    let lacks = [(Feature::UniqueValidators, 3), (Feature::AtomicBatch, 4)];
    let feed = Feed { lag: Duration::from_millis(LAG_MILLIS), misses: 6, repeats: 0 };
    server::server(stamp, seed, is_fed(seed).then_some(feed), |shared| {
        let lacks = lacks.into_iter().filter(|(_, one_in)| seed.is_multiple_of(*one_in));
        lacks.fold(shared, |all, (feature, _)| all.without(feature))
    })
}

/// What a client wrote.
#[derive(Clone, Debug)]
struct Attempt {
    store: usize,
    key: Key,
    id: Version,
    deletes: bool,
    /// What it was conditional on.
    base: Precondition,
    begun: Instant,
    ended: Instant,
    result: Result<(), Outcome>,
}

/// The processes of one seed.
struct World {
    server: Server,
    stores: Vec<TieredStore>,
    dice: Mutex<Dice>,
    attempts: Mutex<Vec<Attempt>>,
    mint: VersionMint,
}

impl World {
    async fn new(seed: u64) -> (Arc<Self>, Vec<Arc<Faults>>) {
        let mint = |part: u64| Arc::new(VersionMint::seeded(seed << 8 | part));
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(1_700_000_000_000));
        let server = server(Stamp::new(Arc::clone(&clock), mint(0)), seed);
        let (mut stores, mut all) = (Vec::new(), Vec::new());
        for store in 1..=STORES as u64 {
            let faults = Faults::new(seed ^ store << 32)
                .request_lifetime(Duration::from_secs(1))
                .hang(Duration::from_secs(3))
                .with(Fault::Slow, 4)
                .with(Fault::ErrorBefore, 12)
                .with(Fault::ErrorAfter, 8)
                .with(Fault::DelayedApply, 8)
                .with(Fault::Hang, 40);
            let of_front = Faults::new(seed ^ store << 40)
                .with(Fault::Slow, 8)
                .with(Fault::ErrorBefore, 20)
                .with(Fault::ErrorAfter, 20);
            let (faults, of_front) = (Arc::new(faults), Arc::new(of_front));
            let stamp = Stamp::new(Arc::clone(&clock), mint(store));
            let front = Arc::new(MemoryStore::with_stamp(stamp.clone()));
            let around = (seed + store).is_multiple_of(3);
            let negative_ttl = Duration::from_millis(if is_fed(seed) { 10_000 } else { 50 });
            let backend = FaultStore::new("server", Arc::new(server.clone()), Arc::clone(&faults)).remote();
            let front = FaultStore::new("frontend", front, Arc::clone(&of_front));
            let builder = TieredStore::builder(front, backend)
                .stamp(stamp)
                .write_policy(if around { WritePolicy::WriteAround } else { WritePolicy::WriteThrough })
                .on_unknown(if drives(seed) { OnUnknown::Retry } else { OnUnknown::Report })
                .negative_ttl(seed.is_multiple_of(2).then_some(negative_ttl))
                .max_stale(if is_fed(seed) { MAX_STALE_UNDER_FEED } else { MAX_STALE });
            faults.heal();
            stores.push(builder.build().await.expect("builds"));
            faults.resume();
            all.extend([faults, of_front]);
        }
        let mint = VersionMint::seeded(seed << 8 | 0xff);
        let dice = Mutex::new(Dice::new(seed));
        (Arc::new(Self { server, stores, dice, attempts: Mutex::default(), mint }), all)
    }

    /// A client of one of the stores.
    async fn client(self: Arc<Self>, store: usize, mut dice: Dice) {
        let handle = self.stores.get(store).expect("one of them").clone();
        for _ in 0..OPERATIONS {
            // Under a feed, so seldom that a change which was not heard of shows.
            let fed = self.server.capabilities().has(Feature::Changes);
            sleep(Duration::from_millis(dice.below(if fed { 400 } else { 30 }))).await;
            let key = Key::new(format!("k{}", dice.below(KEYS))).expect("valid");
            let conditional = dice.below(2) == 0;
            match dice.below(if fed { 30 } else { 12 }) {
                0..4 | 12.. => self.look(&handle, store, &key).await,
                4..7 => self.put(&handle, store, &key, conditional).await,
                7..10 => self.delete(&handle, store, &key, conditional).await,
                _ => {
                    let together = if dice.below(2) == 0 { keys().collect() } else { vec![key] };
                    self.put_all(&handle, store, together, conditional).await;
                }
            }
        }
    }

    /// Reads as a cache does, and judges the answer.
    async fn look(&self, handle: &TieredStore, store: usize, key: &Key) {
        let begun = Instant::now();
        let own = self.latest_of(store, key);
        let Ok(read) = handle.load(key, &ReadOptions::new()).await else { return };
        let seen = read.entry().map(|entry| entry.version().clone());
        let states = self.server.states(key);
        // The state must have been current within `max-stale`, and must not be older than the client's own latest
        // write.
        let oldest = begun.checked_sub(MAX_STALE + Duration::from_millis(1));
        let fits = states.iter().enumerate().any(|(index, state)| {
            let replaced = states.get(index + 1).map(|next| next.since);
            let recent = replaced.is_none_or(|replaced| oldest.is_none_or(|oldest| replaced >= oldest));
            state.version == seen && recent && own.is_none_or(|own| index >= own)
        });
        assert!(fits, "{key}: store {store} shows {seen:?}, own write at {own:?}, of {states:?}");
    }

    /// The state that the latest acknowledged write of a store left, where it left one.
    fn latest_of(&self, store: usize, key: &Key) -> Option<usize> {
        let states = self.server.states(key);
        let attempts = self.attempts.lock();
        let own = attempts.iter().filter(|attempt| attempt.key == *key && attempt.store == store);
        let own = own.filter(|attempt| attempt.result.is_ok());
        own.filter_map(|own| states.iter().position(|state| state.by.as_ref() == Some(&own.id))).max()
    }

    /// What a write is conditional on: what the backend has, what the frontend may still show, or nothing. `None` where it
    /// does not answer.
    async fn base(&self, handle: &TieredStore, key: &Key, conditional: bool) -> Option<Precondition> {
        if !conditional {
            return Some(Precondition::None);
        }
        let cached = self.dice.lock().below(2) == 0;
        let options = if cached { ReadOptions::new() } else { ReadOptions::new().authoritative() };
        let read = handle.load(key, &options).await.ok()?;
        let version = read.entry().map(|entry| entry.version().clone());
        Some(version.map_or(Precondition::Absent, Precondition::Matches))
    }

    async fn put(&self, handle: &TieredStore, store: usize, key: &Key, conditional: bool) {
        let Some(base) = self.base(handle, key, conditional).await else { return };
        let (id, begun) = (self.mint.mint(), Instant::now());
        let put = adapter::with_version(Put::new(id.to_string()), id.clone()).precondition(base.clone());
        let result = handle.put(key, put).await.map(drop);
        if let Err(error) = &result
            && error.kind() == ErrorKind::PreconditionFailed
        {
            self.look_again(handle, key, &base).await;
        }
        self.note(Attempt::new(store, key, id, base, begun, result));
    }

    /// A state that a failed precondition has refuted is not shown again: a client that reads and retries succeeds.
    async fn look_again(&self, handle: &TieredStore, key: &Key, refused: &Precondition) {
        let Ok(read) = handle.load(key, &ReadOptions::new()).await else { return };
        let (Precondition::Matches(refused), Some(shown)) = (refused, read.entry()) else { return };
        assert_ne!(shown.version(), refused, "{key}: a conditional write on a stale copy was refused");
    }

    async fn delete(&self, handle: &TieredStore, store: usize, key: &Key, conditional: bool) {
        let Some(base) = self.base(handle, key, conditional).await else { return };
        let (id, begun) = (self.mint.mint(), Instant::now());
        let delete = adapter::delete_with_version(Delete::new(), id.clone())
            .precondition(base.clone())
            .report_existed();
        let result = handle.delete(key, delete).await.map(drop);
        self.note(Attempt { deletes: true, ..Attempt::new(store, key, id, base, begun, result) });
    }

    async fn put_all(&self, handle: &TieredStore, store: usize, keys: Vec<Key>, conditional: bool) {
        let atomic = self.server.capabilities().has(Feature::AtomicBatch);
        let mut batch = if atomic { Batch::new() } else { Batch::new().best_effort() };
        let mut parts = Vec::new();
        for key in keys {
            let Some(base) = self.base(handle, &key, conditional).await else { return };
            let id = self.mint.mint();
            let put = adapter::with_version(Put::new(id.to_string()), id.clone()).precondition(base.clone());
            batch = batch.put(key.clone(), put);
            parts.push((key, id, base));
        }
        let begun = Instant::now();
        let mut results = match handle.apply(batch).await {
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map(drop)).collect(),
            Err(error) => parts.iter().map(|_| Err(error.clone())).collect::<Vec<_>>(),
        };
        for (key, id, base) in parts.into_iter().rev() {
            let result = results.pop().expect("one for each");
            self.note(Attempt::new(store, &key, id, base, begun, result));
        }
    }

    fn note(&self, attempt: Attempt) {
        self.attempts.lock().push(attempt);
    }

    /// Compares what the clients were told with what the backend went through.
    fn judge(&self) {
        for attempt in self.attempts.lock().iter() {
            let states = self.server.states(&attempt.key);
            let told = || format!("{attempt:?} of {states:?}");
            let pairs = || states.iter().zip(states.iter().skip(1));
            let effects: Vec<_> =
                pairs().filter(|(_, after)| after.by.as_ref() == Some(&attempt.id)).collect();
            assert!(effects.len() <= 1, "twice: {}", told());
            let lies_well = effects.iter().all(|(before, _)| attempt.base.holds(before.version.as_ref()));
            assert!(lies_well, "on something else: {}", told());
            let meanwhile = |at: Instant| attempt.begun <= at && at <= attempt.ended;
            let changed = pairs().any(|(_, after)| meanwhile(after.since));
            let was_absent = states.iter().enumerate().any(|(index, state)| {
                let overlaps = states.get(index + 1).is_none_or(|next| next.since >= attempt.begun);
                state.version.is_none() && state.since <= attempt.ended && overlaps
            });
            let fits = match (attempt.result, &attempt.base) {
                // If another client wrote meanwhile, this write lies beneath that one, or would have.
                (Ok(()), Precondition::None) => {
                    effects.len() == 1 || changed || attempt.deletes && was_absent
                }
                (Ok(()), Precondition::Absent) if attempt.deletes => was_absent,
                (Ok(()), _) => effects.len() == 1,
                (Err(Outcome::NotApplied), _) => effects.is_empty(),
                (Err(_), _) => true,
            };
            assert!(fits, "{}", told());
        }
    }
}

impl Attempt {
    fn new(
        store: usize,
        key: &Key,
        id: Version,
        base: Precondition,
        begun: Instant,
        result: Result<()>,
    ) -> Self {
        let (key, result) = (key.clone(), result.map_err(|error| error.write_outcome()));
        Self { store, key, id, deletes: false, base, begun, ended: Instant::now(), result }
    }
}

fn keys() -> impl Iterator<Item = Key> {
    (0..KEYS).map(|index| Key::new(format!("k{index}")).expect("valid"))
}

/// One seed; how many writes ended well, as not applied, and as unknown.
async fn run(seed: u64, fired: &mut HashMap<Fault, u64>) -> [u64; 3] {
    let (world, faults) = World::new(seed).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..STORES * CLIENTS {
        let dice = Dice::new(seed << 8 | client as u64);
        clients.spawn(Arc::clone(&world).client(client % STORES, dice));
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    for faults in &faults {
        faults.heal();
        for fault in Fault::ALL.iter().copied() {
            *fired.entry(fault).or_default() += faults.fired(fault);
        }
    }
    // Requests that are under way still have their effect, and what is closed opens.
    sleep(Duration::from_mins(2)).await;
    world.judge();
    for store in &world.stores {
        assert_eq!(store.stats().slots, 0, "seed {seed}: no key keeps anything");
        for key in keys() {
            let shown = store.get(&key).await.expect("healed").map(Entry::into_value);
            let there = world.server.get(&key).await.expect("read").map(Entry::into_value);
            assert_eq!(shown, there, "seed {seed}: {key}");
        }
    }
    let attempts = world.attempts.lock();
    let count = |outcome: Result<(), Outcome>| {
        attempts.iter().map(|attempt| u64::from(attempt.result == outcome)).sum()
    };
    [count(Ok(())), count(Err(Outcome::NotApplied)), count(Err(Outcome::Unknown))]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    #[expect(
        clippy::print_stdout,
        reason = "for `cargo xtask planted`, and for a person who looks for the cause"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {} failed", self.0);
        }
    }
}

#[test]
fn several_stores_over_one_backend_agree() {
    let (mut fired, mut total) = (HashMap::new(), [0; 3]);
    for seed in 0..SEEDS {
        let _seed = Seed(seed);
        let ended = runtime().block_on(run(seed, &mut fired));
        if drives(seed) {
            for (sum, of_seed) in total.iter_mut().zip(ended) {
                *sum += of_seed;
            }
        }
    }
    let [well, not_applied, unknown] = total;
    assert!(well > 10 * SEEDS && not_applied > SEEDS, "{total:?}");
    // Driven writes end so only if the outcome cannot be determined.
    assert!(unknown * 10 < well, "{total:?}");
    let happen = [Fault::Slow, Fault::ErrorBefore, Fault::ErrorAfter, Fault::DelayedApply, Fault::Hang];
    for fault in happen {
        assert!(fired.get(&fault).is_some_and(|times| *times > SEEDS), "{fault:?}: {fired:?}");
    }
}
