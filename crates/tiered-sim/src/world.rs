//! The tiers of a seed: what outlives a process, and how a process opens it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tiered_conformance::{Dice, FaultStore, Faults};
use tiered_core::adapter::journal::Journal;
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::ownership::Lease;
use tiered_core::{
    Entry, Events, Feature, Key, MemoryStore, Put, Result, Store, TieredStore, VolatileJournal, WritePolicy,
    adapter,
};
use tiered_journal::{JournalConfig, MemoryFolder};
use tiered_redb::{Executor, RedbConfig};

use crate::careless::Careless;
use crate::client::{Told, version_of};
use crate::clock::SimClock;
use crate::config::{Back, Config, Front, Journaling, Sim};
use crate::disk::Disk;
use crate::history::Value;
use crate::journal::SlowJournal;
use crate::trace::Trace;
use crate::value;

/// Milliseconds: 2020.
const BEGINNING: u64 = 1_577_836_800_000;

/// What outlives a process.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) trace: Arc<Trace>,
    sim: Sim,
    stamp: Stamp,
    front: Disk,
    back: Disk,
    journal: MemoryFolder,
    server: MemoryStore,
    /// What the backend of a local cache had in the beginning.
    preloaded: BTreeMap<Key, Entry>,
    lives: u64,
}

/// A stack that is open.
pub(crate) struct Life {
    pub(crate) store: TieredStore,
    /// The tiers, past their faults.
    pub(crate) front: Arc<dyn Store>,
    pub(crate) back: Arc<dyn Store>,
    /// Those of the frontends, and of the backend.
    pub(crate) faults: [Arc<Faults>; 2],
    /// Whether the journal refuses everything.
    pub(crate) journal_failed: Arc<AtomicBool>,
    /// Whether the frontend began empty, so that all it holds is of this life.
    pub(crate) began_empty: bool,
    /// What the store told of itself, and is about to tell.
    pub(crate) told: Mutex<(Told, Events)>,
}

impl World {
    pub(crate) fn new(sim: Sim, config: Config) -> Self {
        let clock = Arc::new(SimClock::new(BEGINNING));
        let versions = Arc::new(VersionMint::seeded(sim.seed));
        let stamp = Stamp::new(Arc::clone(&clock) as Arc<dyn Clock>, versions);
        let server = MemoryStore::with_stamp(stamp.clone()).declaring(|all| match config.back {
            Back::OneByOne => all.without(Feature::AtomicBatch).named("server"),
            _ => all.named("server"),
        });
        let (front, back) = (Disk::default(), Disk::default());
        Self {
            config,
            clock,
            trace: Arc::new(Trace::new(sim.show)),
            sim,
            stamp,
            front,
            back,
            journal: MemoryFolder::new(),
            server,
            preloaded: BTreeMap::new(),
            lives: 0,
        }
    }

    /// Whether a request that is in flight when its process dies can take effect.
    pub(crate) fn outlives_processes(&self) -> bool {
        !self.config.leased
    }

    /// The next process has a journal of its own.
    pub(crate) fn change_journal(&mut self) {
        self.journal = MemoryFolder::new();
    }

    /// Whether the backend of a local cache is not as it was.
    pub(crate) fn is_touched(&self) -> bool {
        self.config.is_local() && self.server.snapshot() != self.preloaded
    }

    /// Fills the backend of a local cache; the value of each key, 0 for none.
    pub(crate) async fn preload(&mut self, keys: &[Key]) -> Result<Vec<Value>> {
        /// Beyond the values that clients write.
        const FIRST: Value = 1 << 40;
        let mut values = Vec::new();
        for (number, key) in (FIRST..).zip(keys) {
            let present = number % 2 == 0;
            if present {
                let put = adapter::with_version(Put::new(value::encode(number)), version_of(number));
                self.server.put(key, put).await?;
            }
            values.push(if present { number } else { 0 });
        }
        self.preloaded = self.server.snapshot();
        Ok(values)
    }

    /// Takes the power away from the disks.
    pub(crate) fn crash(&self, dice: &mut Dice) {
        self.front.crash(dice);
        self.back.crash(dice);
        self.journal.crash(|| dice.below(2) == 0);
    }

    /// The journal of this life.
    fn journal(&self, failed: &Arc<AtomicBool>) -> Result<Arc<dyn Journal>> {
        let inner: Arc<dyn Journal> = match self.config.journaling {
            Journaling::Volatile => Arc::new(VolatileJournal::new()),
            Journaling::Durable { .. } => {
                self.journal.heal();
                if self.config.opening_fails {
                    self.trouble_journal();
                }
                let config = JournalConfig::new("journal").segment_size(64 << 10);
                Arc::new(config.open_in(Careless::over(self.journal.attach(), self.sim.careless))?)
            }
        };
        Ok(Arc::new(SlowJournal::new(inner, self.sim.seed, Arc::clone(failed))))
    }

    /// Begins the faults of the journal's disk.
    fn trouble_journal(&self) {
        let Journaling::Durable { rarity } = self.config.journaling else { return };
        let mut dice = Dice::new(self.sim.seed.wrapping_add(self.lives << 32));
        let trace = Arc::clone(&self.trace);
        self.journal.set_faults(move |call| {
            let fails = rarity > 0 && matches!(call, "write" | "sync" | "create") && dice.below(rarity) == 0;
            fails.then(|| {
                trace.note(&format!("  journal {call}: error"));
                // A full disk and a failing disk have different errors.
                if dice.below(2) == 0 { io::ErrorKind::StorageFull } else { io::ErrorKind::Other }
            })
        });
    }

    /// Ends the faults of the journal's disk.
    pub(crate) fn heal_journal(&self) {
        self.journal.heal();
    }

    async fn redb(&self, name: &str, disk: &Disk, capacity: Option<u64>) -> Result<Arc<dyn Store>> {
        let process = disk.process();
        let config =
            RedbConfig::new(name).cache(1 << 20).stamp(self.stamp.clone()).executor(Executor::Inline);
        let config = capacity.into_iter().fold(config, RedbConfig::capacity);
        Ok(Arc::new(config.open_on(move || process.attach()).await?))
    }

    fn faults(&self, salt: u64, rates: &[(tiered_conformance::Fault, u64)]) -> Arc<Faults> {
        let trace = Arc::clone(&self.trace);
        let seed = self.sim.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.lives * 16 + salt);
        let faults = Faults::new(seed)
            .request_lifetime(self.config.request_lifetime)
            .hang(self.config.hang)
            .observed(move |call| {
                let fault = call.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
                let end = if call.ok { "ok" } else { "error" };
                trace.note(&format!("  {} {} {}{fault}: {end}", call.store, call.operation, call.key));
            });
        Arc::new(rates.iter().fold(faults, |faults, (fault, rarity)| faults.with(*fault, *rarity)))
    }

    async fn bare_backend(&self) -> Result<Arc<dyn Store>> {
        Ok(match self.config.back {
            Back::Redb => self.redb("back", &self.back, None).await?,
            // Each life is a process of its own: the claims of a process end with it.
            Back::Atomic | Back::OneByOne => Arc::new(self.server.in_another_process()),
        })
    }

    /// The backend alone, without faults, as another process opens it.
    pub(crate) async fn backend(&self) -> Result<Arc<dyn Store>> {
        let store =
            FaultStore::new("backend", self.bare_backend().await?, Arc::new(Faults::new(self.sim.seed)));
        Ok(Arc::new(if self.config.back == Back::Redb { store } else { store.remote() }))
    }

    /// A store that writes the backend at once, and knows of no journal.
    pub(crate) async fn without_journal(&self, back: &Arc<dyn Store>) -> Result<TieredStore> {
        let front = Arc::new(MemoryStore::with_stamp(self.stamp.clone()));
        TieredStore::builder(front, Arc::clone(back)).stamp(self.stamp.clone()).build().await
    }

    /// Whether the stack has a journal that outlives the process.
    pub(crate) fn has_journal(&self) -> bool {
        self.config.settings.write_policy == WritePolicy::WriteBehind
            && self.config.journaling != Journaling::Volatile
    }

    /// Opens the stack over what there is. Its faults begin when they are resumed.
    pub(crate) async fn open(&mut self, usurps: bool) -> Result<Life> {
        self.lives += 1;
        let began_empty = self.lives == 1 || self.config.front != Front::Redb;
        let memory = |peeks: bool| {
            let memory = MemoryStore::with_stamp(self.stamp.clone());
            // Gone with the process: marks would say otherwise.
            memory.declaring(|all| {
                let all = all.without(Feature::KeepsMarks);
                if peeks { all } else { all.without(Feature::Peeks) }
            })
        };
        let front: Arc<dyn Store> = match self.config.front {
            Front::Peeking => Arc::new(memory(true)),
            Front::Asked => Arc::new(memory(false)),
            Front::Redb => self.redb("front", &self.front, self.config.front_capacity).await?,
        };
        let back = self.bare_backend().await?;
        let faults = [self.faults(1, &self.config.front_faults), self.faults(2, &self.config.back_faults)];
        if !self.config.opening_fails {
            for faults in &faults {
                faults.heal();
            }
        }
        let [front_faults, back_faults] = &faults;
        let outer = FaultStore::new("frontend", Arc::clone(&front), Arc::clone(front_faults));
        let bottom = FaultStore::new("backend", Arc::clone(&back), Arc::clone(back_faults));
        let bottom = if self.config.back == Back::Redb { bottom } else { bottom.remote() };
        let mut under: Arc<dyn Store> = Arc::new(bottom);
        if self.config.middle {
            let middle = FaultStore::new("middle", Arc::new(memory(true)), Arc::clone(front_faults));
            let inner = TieredStore::builder(middle, under).stamp(self.stamp.clone());
            // What the journal of the stack above holds is in the lowest backend's mark.
            let inner = inner.beneath_journal();
            under = Arc::new(inner.build().await?);
        }
        let journal_failed = Arc::new(AtomicBool::new(false));
        let mut builder = TieredStore::builder(outer, under)
            .settings(self.config.settings.clone())
            .stamp(self.stamp.clone())
            .backend_id("simulated");
        if self.config.settings.write_policy == WritePolicy::WriteBehind {
            builder = builder.journal(self.journal(&journal_failed)?);
            if self.config.leased {
                let durable = self.config.journaling != Journaling::Volatile;
                let lease = if durable && !usurps { Lease::Acquire } else { Lease::TakeOver };
                builder = builder.lease(lease);
            }
        }
        let events = builder.subscribe();
        let store = builder.build().await?;
        for faults in &faults {
            faults.heal();
        }
        self.trouble_journal();
        let told = Mutex::new((Told::default(), events));
        Ok(Life { store, front, back, faults, journal_failed, began_empty, told })
    }
}
