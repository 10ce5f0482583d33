//! One case: a stack in a state, a fault, and a call that is dropped; then what must be so.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Fault, FaultStore, Faults, Intercept};
use tiered_core::adapter::{Clock, Note, Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Capabilities, CommitLevel, Feature, Key, MemoryStore, Outcome, Put, Store, StoreExt as _, TieredStore,
    Timestamp, Version, WritePolicy, Written,
};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::call::{Cut, DropAt, Effect, Operation, Said, call};
use crate::valve::{Mode, Valved, ValvedJournal};

/// What is so of the key before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The backend has it.
    Cold,
    /// The frontend has it too.
    Hit,
    /// The frontend has it from another session.
    Doubtful,
    /// Another write is under way.
    Gated,
    /// An acknowledged write waits for the backend.
    Pending,
    /// An acknowledged write was refused by the backend.
    Parked,
    /// The frontend failed to drop it.
    Quarantined,
    Absent,
}

impl State {
    pub(crate) const ALL: [Self; 8] = [
        Self::Cold,
        Self::Hit,
        Self::Doubtful,
        Self::Gated,
        Self::Pending,
        Self::Parked,
        Self::Quarantined,
        Self::Absent,
    ];
}

/// A tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Frontend,
    Backend,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) policy: WritePolicy,
    pub(crate) state: State,
    pub(crate) fault: Option<(Tier, Fault)>,
    pub(crate) operation: Operation,
    pub(crate) polls: usize,
    pub(crate) drop_at: DropAt,
}

/// How a case ended that kept every promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Dropped,
    ByItself,
}

/// How long faults last. Longer than a call hangs, so that some calls meet the end of the faults.
const TROUBLE: Duration = Duration::from_secs(20);
/// After the faults: longer than anything hangs, lives or backs off.
const REST: Duration = Duration::from_mins(1);
/// Longer than any call takes.
const PROMPT: Duration = Duration::from_secs(15);

struct World {
    store: TieredStore,
    front: Intercept<Valved>,
    back: Intercept<Valved>,
    journal: crate::valve::Valve,
    faults: [Arc<Faults>; 2],
    capacity: usize,
    key: Key,
    other: Key,
}

/// What the key may be, from what was done to it.
struct Expected {
    /// What it was before the call.
    before: Option<String>,
    version: Version,
    /// A write that goes on meanwhile.
    rival: Option<JoinHandle<tiered_core::Result<Written>>>,
}

async fn in_time<T, E: Debug>(what: &str, call: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    let ended = timeout(PROMPT, call).await.map_err(|_| format!("{what}: stuck"))?;
    ended.map_err(|error| format!("{what}: {error:?}"))
}

impl World {
    async fn new(case: Case) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
        let stamp = Stamp::new(clock, Arc::new(VersionMint::seeded(1)));
        let memory = |change: fn(Capabilities) -> Capabilities| {
            Valved::over(MemoryStore::with_stamp(stamp.clone()).declaring(change))
        };
        let front = if case.operation == Operation::PeekThenLoad {
            memory(|all| all)
        } else {
            // Asked, not looked into, so that every read of it can be interrupted.
            memory(|all| all.without(Feature::Peeks))
        };
        let back = memory(|all| all);
        let faults = [Tier::Frontend, Tier::Backend].map(|tier| {
            let faults = Faults::new(case.polls as u64);
            let faults = match case.fault {
                Some((of, fault)) if of == tier => faults.with(fault, 1),
                _ => faults,
            };
            faults.heal();
            Arc::new(faults)
        });
        let [front_faults, back_faults] = &faults;
        let outer = FaultStore::new("frontend", Arc::new(front.clone()), Arc::clone(front_faults));
        let bottom = FaultStore::new("backend", Arc::new(back.clone()), Arc::clone(back_faults));
        // A permit that leaked is missed at once. A rival holds one of its own.
        let capacity = if case.state == State::Gated { 2 } else { 1 };
        let journal = crate::valve::Valve::new();
        let mut builder = TieredStore::builder(outer, bottom)
            .write_policy(case.policy)
            .max_pending_operations(capacity)
            .close_deadline(Duration::from_mins(2))
            .stamp(stamp.clone());
        if case.policy == WritePolicy::WriteBehind {
            builder = builder.journal(ValvedJournal::new(journal.clone()));
        }
        let store = builder.build().await.expect("builds");
        let key = |text: &str| Key::new(text).expect("valid");
        Self { store, front, back, journal, faults, capacity, key: key("key"), other: key("other") }
    }

    fn heal(&self) {
        for faults in &self.faults {
            faults.heal();
        }
        self.front.valve.set(Mode::Open);
        self.back.valve.set(Mode::Open);
        self.journal.set(Mode::Open);
        for parked in self.store.parked() {
            // It may have been dropped meanwhile.
            self.store.retry_parked(parked.sequence()).ok();
        }
    }

    async fn prepare(&self, case: Case) -> Expected {
        self.back.put(&self.other, Put::new("other")).await.expect("written");
        let mut version = Version::from_u128(7);
        let mut before = None;
        if case.state != State::Absent {
            version = self.back.put(&self.key, Put::new("old")).await.expect("written").version;
            before = Some("old".to_owned());
        }
        let mut rival = None;
        match case.state {
            State::Cold | State::Absent => {}
            State::Hit => {
                self.store.get(&self.key).await.expect("reads");
                self.store.flush().await.expect("flushes");
                assert!(self.front.value(&self.key).is_some(), "filled");
            }
            State::Doubtful => {
                let entry = self.back.store.snapshot().remove(&self.key).expect("there");
                let note = Note::default().with_session(7, 0);
                self.front
                    .put(&self.key, tiered_core::adapter::verbatim(&entry.with_note(note)))
                    .await
                    .expect("written");
            }
            State::Gated => {
                match case.policy {
                    WritePolicy::WriteBehind => self.journal.set(Mode::Shut),
                    WritePolicy::FrontendOnly => self.front.valve.set(Mode::Shut),
                    _ => self.back.valve.set(Mode::Shut),
                }
                let (store, key) = (self.store.clone(), self.key.clone());
                let write = async move { store.put(&key, Put::new("rival")).await };
                rival = Some(tokio::runtime::Handle::current().spawn(write));
                sleep(Duration::from_secs(1)).await;
                assert_eq!(self.store.stats().gated, 1, "the rival is past its gate");
            }
            State::Pending | State::Parked => {
                let mode = if case.state == State::Parked { Mode::Refusing } else { Mode::Shut };
                self.back.valve.set(mode);
                let written = self.store.put(&self.key, Put::new("pending")).await.expect("journaled");
                (version, before) = (written.version, Some("pending".to_owned()));
                sleep(Duration::from_secs(1)).await;
                let parked = self.store.parked().len();
                assert_eq!(parked, usize::from(case.state == State::Parked), "refused");
            }
            State::Quarantined => {
                self.front.valve.set(Mode::Broken);
                self.store.invalidate(&self.key).await.expect_err("the frontend is broken");
                assert_eq!(self.store.stats().quarantined, 1);
            }
        }
        Expected { before, version, rival }
    }

    /// The store is as if nothing had happened.
    async fn at_rest(&self, case: Case) -> Result<(), String> {
        in_time("flush", self.store.flush()).await?;
        let stats = self.store.stats();
        let gauges = [stats.slots, stats.gated, stats.loads, stats.quarantined, stats.backlog, stats.parked];
        if gauges != [0; 6] {
            return Err(format!("not at rest: {stats:?}"));
        }
        let (front, back) = (self.front.value(&self.key), self.back.value(&self.key));
        let agrees = front.is_none() || front == back || case.policy == WritePolicy::FrontendOnly;
        if agrees { Ok(()) } else { Err(format!("the frontend has {front:?}, the backend {back:?}")) }
    }

    async fn read(&self) -> Result<Option<String>, String> {
        let entry = in_time("the next read", self.store.get(&self.key)).await?;
        Ok(entry.map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
    }

    /// As many writes are taken as there is room for.
    async fn has_all_its_room(&self) -> Result<(), String> {
        self.back.valve.set(Mode::Shut);
        for index in 0..self.capacity {
            let key = Key::new(format!("room-{index}")).expect("valid");
            let written = in_time("a write into free room", self.store.put(&key, Put::new("v"))).await?;
            if written.level != CommitLevel::Journaled {
                return Err("a write behind was not journaled".to_owned());
            }
        }
        self.back.valve.set(Mode::Open);
        Ok(())
    }

    /// Closes, after a close that may have been dropped half-way, and looks whether all of it was done.
    async fn is_closed(&self, case: Case, expected: Option<&Expected>) -> Result<(), String> {
        in_time("close", self.store.close()).await?;
        for (tier, name) in [(&self.front, "frontend"), (&self.back, "backend")] {
            if tier.store.get(&self.key).await.is_ok() {
                return Err(format!("closed, but the {name} is open"));
            }
        }
        // What is parked is lost with a volatile journal, and closing said so.
        if let Some(expected) = expected.filter(|_| case.state == State::Pending) {
            let back = self.back.value(&self.key);
            if back != expected.before {
                return Err(format!("closed, but the backend has {back:?}"));
            }
        }
        Ok(())
    }
}

/// Runs a case. Time is virtual.
pub(crate) async fn run(case: Case) -> Result<Ended, String> {
    let world = Arc::new(World::new(case).await);
    let mut expected = world.prepare(case).await;
    for faults in &world.faults {
        faults.resume();
    }
    let (store, version) = (world.store.clone(), expected.version.clone());
    let running = call(case.operation, store, world.key.clone(), world.other.clone(), version);
    let mut cut = Box::pin(timeout(REST * 10, Cut::new(running, case.polls, case.drop_at)));
    let ended = if let Ok(ended) = timeout(TROUBLE, cut.as_mut()).await {
        ended
    } else {
        world.heal();
        cut.await
    };
    let said = ended.map_err(|_| "the call: stuck after the faults are over".to_owned())?;
    world.heal();
    sleep(REST).await;
    // What was parked later, or halted, is in line now.
    world.heal();
    if case.operation == Operation::Close {
        world.is_closed(case, Some(&expected)).await?;
        return Ok(said.map_or(Ended::Dropped, |_| Ended::ByItself));
    }
    let allowed = allowed(case, &world, &mut expected, said.as_ref()).await?;
    let read = world.read().await?;
    if !allowed.contains(&read) {
        return Err(format!("reads {read:?}, which is none of {allowed:?}; the call said {said:?}"));
    }
    world.at_rest(case).await?;
    let again = world.read().await?;
    if again != read {
        return Err(format!("reads {again:?} after {read:?}"));
    }
    in_time("the next write", world.store.put(&world.key, Put::new("next"))).await?;
    let next = world.read().await?;
    if next.as_deref() != Some("next") {
        return Err(format!("reads {next:?} after a write"));
    }
    world.at_rest(case).await?;
    if case.policy == WritePolicy::WriteBehind {
        world.has_all_its_room().await?;
    }
    world.is_closed(case, None).await?;
    Ok(said.map_or(Ended::Dropped, |_| Ended::ByItself))
}

/// What the key may be now.
async fn allowed(
    case: Case,
    world: &World,
    expected: &mut Expected,
    said: Option<&Said>,
) -> Result<Vec<Option<String>>, String> {
    let effect = case.operation.effect();
    let mut allowed = Vec::new();
    let mut replaced = false;
    if let Some(rival) = expected.rival.take() {
        let ended = timeout(PROMPT, rival).await.map_err(|_| "the rival: stuck".to_owned())?;
        let ended = ended.map_err(|error| format!("the rival: {error}"))?;
        let fails = ended.as_ref().is_err_and(|error| error.write_outcome() == Outcome::NotApplied);
        if !fails {
            allowed.push(Some("rival".to_owned()));
        }
        replaced |= ended.is_ok();
    }
    if let Some(Said::Saw(seen)) = said {
        // A read was concurrent with everything but what was there before.
        let known = *seen == expected.before || allowed.contains(seen);
        if !known {
            return Err(format!("the call saw {seen:?}"));
        }
    }
    if effect != Effect::Nothing {
        let own = if let Effect::Writes(value) = effect { Some(value.to_owned()) } else { None };
        match said {
            Some(Said::Failed(Outcome::NotApplied)) => {}
            Some(Said::Done) => {
                if !replaced && !matches!(case.state, State::Gated) {
                    // Nothing else went on.
                    return Ok(vec![own]);
                }
                replaced = true;
                allowed.push(own);
            }
            _ => allowed.push(own),
        }
    }
    // Gives a local write, or a parked one, up: the key is what the backend has.
    let reverts = match case.operation {
        Operation::Invalidate | Operation::Sync | Operation::SyncKeys => {
            case.policy == WritePolicy::FrontendOnly
        }
        Operation::DropParked => true,
        _ => false,
    };
    if reverts {
        allowed.push(world.back.value(&world.key));
    }
    if !replaced {
        allowed.push(expected.before.clone());
    }
    Ok(allowed)
}
