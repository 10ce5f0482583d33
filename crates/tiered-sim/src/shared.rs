//! A backend that others write as well, and a stack that follows its feed of changes: what the stack may still show.
//!
//! The feed is late, misses changes and says so, repeats changes, names keys that were not written, and ends. Then the stack
//! is closed and opened again. A read may show what stood within `max-stale`, nothing older than the stack's own last write,
//! and nothing older than what the feed has told of. A seed under write-behind has the backend for itself: there the feed
//! tells of the stack's own writes, while newer ones are pending.

pub(crate) mod judge;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_conformance::{Dice, Fault, FaultStore, Faults};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::settings::{MaxStale, OnUnknown};
use tiered_core::{
    Batch, Delete, Error, Feature, Key, MemoryStore, Outcome, Precondition, Put, ReadOptions, Result, Store,
    StoreExt as _, TieredSettings, TieredStore, Version, VolatileJournal, WritePolicy, adapter,
};
use tokio::time::{Instant, sleep};

use self::judge::Judge;
use crate::client::within;
use crate::clock::SimClock;
use crate::config::Sim;
use crate::epoch::PROMPT;
use crate::server::{self, Feed, Server};
use crate::trace::Trace;

/// One seed in so many has a shared backend.
const ONE_IN: u64 = 2;
/// Operations for each so many of the seed's.
const SHARE: u64 = 8;
/// How often a stack is opened.
const LIVES: u64 = 3;
const CLIENTS: usize = 3;
const KEYS: u64 = 3;
/// Longer than anything hangs, lives or backs off.
const REST: Duration = Duration::from_mins(2);
/// Milliseconds: 2020.
const BEGINNING: u64 = 1_577_836_800_000;

/// A seed's choices.
#[derive(Clone, Debug)]
struct Choices {
    settings: TieredSettings,
    max_stale: Duration,
    peeks: bool,
    feed: Feed,
    /// How long a client waits at most before its next operation, in milliseconds.
    think: u64,
    /// The same for others, who write the backend.
    others_think: u64,
}

impl Choices {
    fn draw(dice: &mut Dice) -> Self {
        let policies = [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind];
        let write_policy = dice.pick(&policies).copied().unwrap_or(WritePolicy::WriteThrough);
        let drives = write_policy != WritePolicy::WriteBehind && dice.below(2) == 0;
        // Mostly so long that nothing but the feed keeps a stale entry from being shown.
        let hour = Duration::from_hours(1);
        let max_stale = if dice.below(4) == 0 { Duration::from_millis(100) } else { hour };
        let mut settings = TieredSettings::default();
        settings.write_policy = write_policy;
        settings.on_unknown = if drives { OnUnknown::Retry } else { OnUnknown::Report };
        settings.negative_ttl = (dice.below(2) == 0).then_some(hour);
        settings.max_stale = MaxStale::AtMost(max_stale);
        let lag = Duration::from_millis(1 + dice.below(80));
        Self {
            settings,
            max_stale,
            peeks: dice.below(2) == 0,
            feed: Feed { lag, misses: if dice.below(4) == 0 { 0 } else { 4 }, repeats: 4 },
            think: 1 + dice.below(40),
            others_think: dice.below(400),
        }
    }

    fn is_behind(&self) -> bool {
        self.settings.write_policy == WritePolicy::WriteBehind
    }
}

/// What the clients and the other writer of a seed share.
struct Shared {
    choices: Choices,
    server: Server,
    keys: Vec<Key>,
    judge: Judge,
    trace: Arc<Trace>,
    dice: Mutex<Dice>,
    stamp: Stamp,
    /// Names writes, so that each is known again.
    mint: VersionMint,
    /// Operations that are left in this life.
    left: Mutex<u64>,
}

/// Runs the phase, where the seed has one.
///
/// # Errors
/// What was wrong.
pub(crate) async fn run(sim: Sim, dice: &mut Dice, trace: &Arc<Trace>) -> std::result::Result<(), String> {
    if dice.below(ONE_IN) != 0 {
        return Ok(());
    }
    let shared = Shared::new(sim, dice, Arc::clone(trace))?;
    for life in 0..LIVES {
        *shared.left.lock() = sim.operations / SHARE / LIVES;
        shared.live(life).await.map_err(|why| format!("{why}; {:?}", shared.choices))?;
    }
    Ok(())
}

impl Shared {
    fn new(sim: Sim, dice: &mut Dice, trace: Arc<Trace>) -> std::result::Result<Self, String> {
        let choices = Choices::draw(dice);
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(BEGINNING));
        let mut mint = || VersionMint::seeded(dice.roll());
        let (of_server, of_stack, of_clients) = (mint(), mint(), mint());
        let stamp = Stamp::new(Arc::clone(&clock), Arc::new(of_server));
        let lacks = dice.below(2) == 0;
        let server = server::server(stamp, dice.roll(), Some(choices.feed), |all| {
            if lacks { all.without(Feature::AtomicBatch) } else { all }
        });
        let keys: Result<Vec<Key>> = (0..KEYS).map(|number| Key::new(format!("shared-{number}"))).collect();
        let keys = keys.map_err(|error| error.chain())?;
        let judge = Judge::new(server.clone(), choices.max_stale, choices.is_behind());
        trace.note(&format!("a shared backend of seed {}", sim.seed));
        Ok(Self {
            choices,
            server,
            keys,
            judge,
            trace,
            dice: Mutex::new(Dice::new(dice.roll())),
            stamp: Stamp::new(clock, Arc::new(of_stack)),
            mint: of_clients,
            left: Mutex::default(),
        })
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    fn faults(&self, of_frontend: bool) -> Arc<Faults> {
        let trace = Arc::clone(&self.trace);
        let faults = Faults::new(self.below(u64::MAX))
            .request_lifetime(Duration::from_millis(300))
            .hang(Duration::from_secs(3))
            .observed(move |call| {
                let fault = call.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
                let end = if call.ok { "ok" } else { "error" };
                trace.note(&format!("  {} {} {}{fault}: {end}", call.store, call.operation, call.key));
            })
            .with(Fault::Slow, 3)
            .with(Fault::ErrorBefore, 20)
            .with(Fault::ErrorAfter, 20)
            .with(Fault::ErrorApplied, 20);
        let faults =
            if of_frontend { faults } else { faults.with(Fault::DelayedApply, 20).with(Fault::Hang, 60) };
        faults.heal();
        Arc::new(faults)
    }

    async fn open(&self, faults: &[Arc<Faults>; 2]) -> Result<TieredStore> {
        let [of_front, of_back] = faults;
        let front = MemoryStore::with_stamp(self.stamp.clone())
            .declaring(|all| if self.choices.peeks { all } else { all.without(Feature::Peeks) });
        let front = FaultStore::new("frontend", Arc::new(front), Arc::clone(of_front));
        let back = FaultStore::new("server", Arc::new(self.server.clone()), Arc::clone(of_back)).remote();
        let builder = TieredStore::builder(front, back)
            .stamp(self.stamp.clone())
            .settings(self.choices.settings.clone());
        if self.choices.is_behind() {
            let builder = builder.journal(VolatileJournal::new()).declare_sole_writer();
            return builder.build().await;
        }
        builder.build().await
    }

    /// The stack is opened, used while others write, brought to rest, and closed.
    async fn live(&self, life: u64) -> std::result::Result<(), String> {
        let failed = |what: &'static str| move |error: Error| format!("shared: {what}: {}", error.chain());
        let faults = [self.faults(true), self.faults(false)];
        self.judge.everything_is_told();
        let store = self.open(&faults).await.map_err(failed("opening"))?;
        self.trace.note(&format!("shared: life {life}"));
        for faults in &faults {
            faults.resume();
        }
        let working = futures_util::future::join_all((0..CLIENTS).map(|client| self.client(&store, client)));
        let meddling = async {
            futures_util::future::join(self.others(), self.feed()).await;
            // The clients go on without them.
            std::future::pending::<()>().await;
        };
        let work = async {
            tokio::select! {
                biased;
                _ = working => {}
                () = meddling => {}
            }
        };
        within(PROMPT, "shared: the clients' work", work).await?;
        for faults in &faults {
            faults.heal();
        }
        self.judge.verdict()?;
        sleep(REST).await;
        self.at_rest(&store).await?;
        within(PROMPT, "shared: closing", store.close()).await?.map_err(failed("closing"))?;
        self.server.end_feeds();
        Ok(())
    }

    async fn at_rest(&self, store: &TieredStore) -> std::result::Result<(), String> {
        let failed = |error: Error| format!("shared: at rest: {}", error.chain());
        within(PROMPT, "shared: flushing", store.flush()).await?.map_err(failed)?;
        let stats = store.stats();
        if (stats.slots, stats.backlog, stats.quarantined) != (0, 0, 0) {
            return Err(format!("shared: at rest there is {stats:?}"));
        }
        for key in &self.keys {
            let begun = self.judge.begin(key);
            let shown = store.get(key).await.map_err(failed)?.map(|entry| entry.version().clone());
            self.judge.saw(key, begun, shown.as_ref());
        }
        self.judge.verdict()
    }

    /// Others write the backend, unless it is the stack's alone.
    async fn others(&self) {
        if self.choices.is_behind() {
            return;
        }
        loop {
            // Time goes on, whatever the choice is.
            sleep(Duration::from_millis(5 + self.below(self.choices.others_think))).await;
            let Some(key) = self.dice.lock().pick(&self.keys).cloned() else { return };
            let id = self.mint.mint();
            self.trace.note(&format!("shared: others write {key} as {id}"));
            // The server itself does not fail.
            if self.below(3) == 0 {
                let delete = adapter::delete_with_version(Delete::new(), id);
                self.server.delete(&key, delete).await.ok();
            } else {
                let put = adapter::with_version(Put::new(id.to_string()), id);
                self.server.put(&key, put).await.ok();
            }
        }
    }

    /// The feed tells of what was not written, and ends in one life of two.
    async fn feed(&self) {
        let ends = (self.below(2) == 0).then(|| Instant::now() + Duration::from_millis(self.below(3_000)));
        loop {
            sleep(Duration::from_millis(1 + self.below(60))).await;
            if ends.is_some_and(|ends| Instant::now() >= ends) {
                self.trace.note("shared: the feed ends");
                self.server.end_feeds();
                self.judge.everything_is_told();
                return;
            }
            let Some(key) = self.dice.lock().pick(&self.keys).cloned() else { return };
            let states = self.server.states(&key);
            let version = self.dice.lock().pick(&states).and_then(|state| state.version.clone());
            self.server.hint(&key, version.as_ref());
        }
    }

    async fn client(&self, store: &TieredStore, client: usize) {
        loop {
            sleep(Duration::from_millis(self.below(self.choices.think))).await;
            {
                let mut left = self.left.lock();
                if *left == 0 || self.judge.verdict().is_err() {
                    return;
                }
                *left -= 1;
            }
            // Under write-behind each key has one client: what it is, is known exactly.
            let own: Vec<&Key> = if self.choices.is_behind() {
                self.keys.iter().skip(client).step_by(CLIENTS).collect()
            } else {
                self.keys.iter().collect()
            };
            let Some(key) = self.dice.lock().pick(&own).map(|key| (*key).clone()) else { return };
            match self.below(20) {
                0..12 => self.read(store, &key).await,
                12..15 => self.put(store, &key, Precondition::None).await,
                15 => {
                    let seen = self.server.states(&key).pop().and_then(|state| state.version);
                    self.put(store, &key, seen.map_or(Precondition::Absent, Precondition::Matches)).await;
                }
                16..18 => self.delete(store, &key).await,
                18 => self.batch(store, &key).await,
                _ => drop(store.invalidate(&key).await),
            }
        }
    }

    async fn read(&self, store: &TieredStore, key: &Key) {
        let begun = self.judge.begin(key);
        let version = match self.below(4) {
            0 => match store.peek(key) {
                Some(entry) => Some(entry.version().clone()),
                None => return,
            },
            1 => match store.get_many(std::slice::from_ref(key), &ReadOptions::new()).await.pop() {
                Some(Ok(read)) => read.into_entry().map(|entry| entry.version().clone()),
                Some(Err(_)) | None => return,
            },
            2 => match store.head(key, &ReadOptions::new()).await {
                Ok(head) => head.map(|metadata| metadata.version.clone()),
                Err(_) => return,
            },
            _ => match store.get(key).await {
                Ok(entry) => entry.map(|entry| entry.version().clone()),
                Err(_) => return,
            },
        };
        self.trace.note(&format!("shared: {key} is read as {version:?}"));
        self.judge.saw(key, begun, version.as_ref());
    }

    async fn put(&self, store: &TieredStore, key: &Key, precondition: Precondition) {
        let id = self.mint.mint();
        let put = adapter::with_version(Put::new(id.to_string()), id.clone()).precondition(precondition);
        let result = store.put(key, put).await.map(drop);
        self.wrote(key, id.clone(), Some(id), &result);
    }

    async fn delete(&self, store: &TieredStore, key: &Key) {
        let id = self.mint.mint();
        let delete = adapter::delete_with_version(Delete::new(), id.clone());
        let result = store.delete(key, delete).await.map(drop);
        self.wrote(key, id, None, &result);
    }

    async fn batch(&self, store: &TieredStore, key: &Key) {
        let id = self.mint.mint();
        let put = adapter::with_version(Put::new(id.to_string()), id.clone());
        let result = match store.apply(Batch::new().best_effort().put(key.clone(), put)).await {
            Ok(outcomes) => outcomes.into_iter().try_for_each(|outcome| outcome.map(drop)),
            Err(error) => Err(error),
        };
        self.wrote(key, id.clone(), Some(id), &result);
    }

    fn wrote(&self, key: &Key, id: Version, leaves: Option<Version>, result: &Result<()>) {
        let outcome = match result {
            Ok(()) => Outcome::Applied,
            Err(error) => error.write_outcome(),
        };
        self.trace.note(&format!("shared: {key} is written as {id}: {outcome:?}"));
        self.judge.wrote(key, id, leaves, outcome);
    }
}
