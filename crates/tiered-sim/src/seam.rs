//! Tiers that come and go beneath a service while clients use it: a stack is attached and detached at a seam, and the data move to
//! another backend.
//!
//! Each seed has this phase, by dice of its own. The clients are those of the epochs, and so is what judges them: the history of
//! every key is linearizable across exchanges, and at rest all tiers agree. A backend that the data have left is not written any
//! more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use parking_lot::Mutex;
use tiered_conformance::{Dice, Fault, FaultStore, Faults};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::{
    Entry, Error, ErrorKind, Feature, Key, MemoryStore, Result, Store, TieredSettings, TieredStore,
    VolatileJournal, WritePolicy,
};
use tiered_wrap::{MoveOptions, Swappable};
use tokio::time::sleep;

use crate::client::{self, Clients, within};
use crate::clock::SimClock;
use crate::config::{Config, Sim};
use crate::epoch::{PROMPT, raw};
use crate::trace::Trace;

/// Operations for each so many of the seed's.
const SHARE: u64 = 4;
/// Operations between two moments of rest, at most.
const EPOCH: u64 = 150;
/// Longer than anything hangs, lives or backs off.
const REST: Duration = Duration::from_mins(2);
/// Longer than clients work: a call that never ends is noticed.
const ENDURANCE: Duration = Duration::from_hours(10);
/// Milliseconds: 2020.
const BEGINNING: u64 = 1_577_836_800_000;

type Checked<T> = std::result::Result<T, String>;

/// How many exchanges of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchanges {
    pub(crate) attached: u64,
    pub(crate) detached: u64,
    pub(crate) moved: u64,
    /// Those that failed, which must change nothing.
    pub(crate) failed: u64,
}

impl Exchanges {
    /// Those that were carried out.
    pub(crate) const fn all(self) -> u64 {
        self.attached + self.detached + self.moved
    }
}

/// What is inside the seam.
struct Place {
    /// The backend beneath everything.
    backend: MemoryStore,
    /// The stack over it, if one is attached, and its frontend.
    attached: Option<(TieredStore, MemoryStore)>,
    /// Where a move that failed was going to.
    target: Option<MemoryStore>,
    /// Backends that the data have left, with what they held then.
    left: Vec<(MemoryStore, BTreeMap<Key, Entry>)>,
    exchanges: Exchanges,
}

struct World {
    clients: Clients,
    seam: Swappable,
    /// What is over the seam, and its frontend.
    service: TieredStore,
    front: MemoryStore,
    place: Mutex<Place>,
    dice: Mutex<Dice>,
    stamp: Stamp,
    of_fronts: Arc<Faults>,
    of_backends: Arc<Faults>,
    trace: Arc<Trace>,
}

/// Runs the phase; what was exchanged.
///
/// # Errors
/// What was wrong.
pub(crate) async fn run(sim: Sim, trace: &Arc<Trace>) -> Checked<Exchanges> {
    let mut dice = Dice::new(sim.seed.wrapping_mul(0x9FB2_1C65_1E98_DF25).wrapping_add(32));
    let config = choose(&mut dice);
    trace.note(&format!("a seam of seed {}", sim.seed));
    let world = World::open(config, &mut dice, Arc::clone(trace)).await.map_err(|error| error.chain())?;
    let lived = Box::pin(world.live(sim.operations / SHARE)).await;
    lived.map_err(|why| format!("{why}; over a seam: {:?}", world.clients.config))
}

/// What the service is, as an epoch's stack, but for what needs a backend of its own.
fn choose(dice: &mut Dice) -> Config {
    let mut config = Config::draw(dice);
    if config.is_local() {
        config.settings.write_policy = WritePolicy::WriteThrough;
    }
    config.settings.block_size = None;
    (config.blocks, config.expiring, config.leased) = (false, false, false);
    config
}

fn faults(config: &Config, seed: u64, chosen: &[(Fault, u64)], trace: &Arc<Trace>) -> Arc<Faults> {
    /// What is refused is parked, and what is damaged stops a move: both until somebody looks after it.
    const LEFT_OUT: [Fault; 2] = [Fault::Refuse, Fault::Corrupt];
    let trace = Arc::clone(trace);
    let faults =
        Faults::new(seed).request_lifetime(config.request_lifetime).hang(config.hang).observed(move |call| {
            let fault = call.fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
            let end = if call.ok { "ok" } else { "error" };
            trace.note(&format!("  {} {} {}{fault}: {end}", call.store, call.operation, call.key));
        });
    let wanted = chosen.iter().filter(|(fault, _)| !LEFT_OUT.contains(fault));
    let faults = wanted.fold(faults, |faults, (fault, rarity)| faults.with(*fault, *rarity));
    faults.heal();
    Arc::new(faults)
}

/// A stack of this policy. Its journal is in memory: a durable one counts the stacks beneath it, which then stay.
async fn stack(
    front: FaultStore,
    back: Arc<dyn Store>,
    stamp: Stamp,
    settings: TieredSettings,
) -> Result<TieredStore> {
    let is_behind = settings.write_policy == WritePolicy::WriteBehind;
    let builder = TieredStore::builder(front, back).stamp(stamp).settings(settings);
    let builder = if is_behind { builder.journal(VolatileJournal::new()) } else { builder };
    builder.build().await
}

impl World {
    async fn open(config: Config, dice: &mut Dice, trace: Arc<Trace>) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(BEGINNING));
        let stamp = Stamp::new(clock, Arc::new(VersionMint::seeded(dice.roll())));
        let of_fronts = faults(&config, dice.roll(), &config.front_faults, &trace);
        let of_backends = faults(&config, dice.roll(), &config.back_faults, &trace);
        let backend = backend(&stamp);
        let seam =
            Swappable::new(FaultStore::new("backend", backend.clone(), Arc::clone(&of_backends)).remote());
        let front = MemoryStore::with_stamp(stamp.clone());
        let faulty = FaultStore::new("frontend", front.clone(), Arc::clone(&of_fronts));
        let service: Arc<dyn Store> = Arc::new(seam.clone());
        let service = stack(faulty, service, stamp.clone(), config.settings.clone()).await?;
        let exchanges = Exchanges::default();
        let place = Place { backend, attached: None, target: None, left: Vec::new(), exchanges };
        Ok(Self {
            clients: Clients::new(config, dice.roll(), Arc::clone(&trace)),
            seam,
            service,
            front,
            place: Mutex::new(place),
            dice: Mutex::new(Dice::new(dice.roll())),
            stamp,
            of_fronts,
            of_backends,
            trace,
        })
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    /// Clients work and tiers come and go, until all is at rest; again and again.
    async fn live(&self, operations: u64) -> Checked<Exchanges> {
        let mut left = operations;
        while left > 0 {
            let some = EPOCH.min(left);
            left -= some;
            self.clients.allow(some);
            self.of_fronts.resume();
            self.of_backends.resume();
            Box::pin(within(ENDURANCE, "over a seam: the clients' work", self.work())).await??;
            self.clients.wrong().map_or(Ok(()), Err)?;
            self.of_fronts.heal();
            self.of_backends.heal();
            sleep(REST).await;
            self.at_rest().await?;
        }
        let failed = |error: Error| format!("closing the service over a seam: {}", error.chain());
        within(PROMPT, "closing the service over a seam", self.service.close()).await?.map_err(failed)?;
        Ok(self.place.lock().exchanges)
    }

    async fn work(&self) -> Checked<()> {
        let is_over = AtomicBool::new(false);
        let working = async {
            client::work(&self.clients, &self.service).await;
            is_over.store(true, Ordering::Relaxed);
        };
        let exchanging = async {
            while !is_over.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(self.below(60))).await;
                self.exchange().await?;
            }
            Ok(())
        };
        join(working, exchanging).await.1
    }

    async fn exchange(&self) -> Checked<()> {
        let attached = self.place.lock().attached.as_ref().map(|(stack, _)| stack.clone());
        let (what, done) = match (attached, self.below(3)) {
            (_, 0) => ("moving", self.move_on().await),
            (None, _) => ("attaching", self.attach().await),
            (Some(stack), _) => ("detaching", self.detach(&stack).await),
        };
        let Err(error) = done else { return Ok(()) };
        self.trace.note(&format!("seam: {what}: {}", error.chain()));
        self.place.lock().exchanges.failed += 1;
        // All stores have what is declared, hold the same, and are claimed by this service alone.
        match error.kind() {
            ErrorKind::Config | ErrorKind::Locked | ErrorKind::Unsupported | ErrorKind::Closed => {
                Err(format!("{what} beneath a service: {}", error.chain()))
            }
            _ => Ok(()),
        }
    }

    async fn attach(&self) -> Result<()> {
        let policies = [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind];
        let mut settings = TieredSettings::default();
        settings.write_policy =
            self.dice.lock().pick(&policies).copied().unwrap_or(WritePolicy::WriteThrough);
        let front = MemoryStore::with_stamp(self.stamp.clone());
        let faulty = FaultStore::new("attached", front.clone(), Arc::clone(&self.of_fronts));
        let (stamp, policy) = (self.stamp.clone(), settings.write_policy);
        let attached = self.seam.swap(|inside| stack(faulty, inside, stamp, settings)).await?;
        self.trace.note(&format!("seam: a stack is attached, {policy:?}"));
        let mut place = self.place.lock();
        place.attached = Some((attached, front));
        place.exchanges.attached += 1;
        Ok(())
    }

    async fn detach(&self, stack: &TieredStore) -> Result<()> {
        self.seam.detach(stack).await?;
        self.trace.note("seam: the stack is detached");
        let mut place = self.place.lock();
        place.attached = None;
        place.exchanges.detached += 1;
        Ok(())
    }

    /// Moves the data to another backend, which is that of a move that failed, now and then.
    async fn move_on(&self) -> Result<()> {
        let begun = self.place.lock().target.take().filter(|_| self.below(2) == 0);
        let goes_on = begun.is_some();
        let target = begun.unwrap_or_else(|| backend(&self.stamp));
        let faulty = FaultStore::new("next backend", target.clone(), Arc::clone(&self.of_backends)).remote();
        let batch = usize::try_from(1 + self.below(4)).unwrap_or(1);
        let moved = self.seam.move_to(faulty, &MoveOptions::new().batch(batch)).await;
        match moved {
            Ok(_) => {}
            // The id of the store before may have changed at the very end of a move that failed. Then the target is not known again.
            Err(error) if goes_on && error.kind() == ErrorKind::Config => {
                return Err(Error::new(ErrorKind::Unavailable, "the move begins anew").with_source(error));
            }
            Err(error) => {
                self.place.lock().target = Some(target);
                return Err(error);
            }
        }
        self.trace.note("seam: the data have moved");
        let attached = self.place.lock().attached.take();
        if let Some((stack, _)) = attached {
            // It is not inside any more. What it acknowledged has moved; it may still bring it to where it was.
            stack.close().await.ok();
            // What it has sent arrives.
            sleep(self.clients.config.request_lifetime + self.clients.config.hang).await;
        }
        let mut place = self.place.lock();
        place.exchanges.moved += 1;
        let before = std::mem::replace(&mut place.backend, target);
        let held = before.snapshot();
        place.left.push((before, held));
        Ok(())
    }

    /// What must be so once faults have ended: nothing is pending, the backend explains what clients saw, and all tiers agree with
    /// it.
    async fn at_rest(&self) -> Checked<()> {
        self.trace.note("seam: at rest");
        let failed = |error: Error| format!("over a seam, at rest: {}", error.chain());
        within(PROMPT, "flushing over a seam", self.service.flush()).await?.map_err(failed)?;
        let (backend, attached) = {
            let place = self.place.lock();
            (place.backend.clone(), place.attached.clone())
        };
        if let Some((stack, _)) = &attached {
            within(PROMPT, "flushing beneath a seam", stack.flush()).await?.map_err(failed)?;
        }
        for stack in attached.iter().map(|(stack, _)| stack).chain([&self.service]) {
            let stats = stack.stats();
            if (stats.slots, stats.backlog, stats.quarantined) != (0, 0, 0) {
                return Err(format!("over a seam, at rest there is {stats:?}"));
            }
        }
        for (index, key) in self.clients.keys.iter().enumerate() {
            let back = raw(&backend, key).await?;
            self.clients.settle(index, back.as_ref()).map_err(|why| format!("{key}: {why}"))?;
            for stack in attached.iter().map(|(stack, _)| stack).chain([&self.service]) {
                let answer = within(PROMPT, "a read over a seam", raw(stack, key)).await??;
                if answer != back {
                    return Err(format!("{key}: over a seam a read is {answer:?}, the backend has {back:?}"));
                }
                // That read has compared what the frontend has, whatever it was before.
                within(PROMPT, "flushing after a read", stack.flush()).await?.map_err(failed)?;
            }
            for front in attached.iter().map(|(_, front)| front).chain([&self.front]) {
                let held = raw(front, key).await?;
                if held.is_some() && held != back {
                    return Err(format!("{key}: over a seam a frontend has {held:?}, the backend {back:?}"));
                }
            }
        }
        for (left, held) in &self.place.lock().left {
            if left.snapshot() != *held {
                return Err("a backend was written after its data had moved".to_owned());
            }
        }
        Ok(())
    }
}

/// An empty backend. What it holds is not in this process's memory, as it were.
fn backend(stamp: &Stamp) -> MemoryStore {
    MemoryStore::with_stamp(stamp.clone()).declaring(|all| all.without(Feature::Peeks))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A phase without exchanges tests nothing.
    #[test]
    fn tiers_come_and_go_often() {
        let mut all = Exchanges::default();
        for seed in 0..20 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            let some = runtime.expect("a runtime").block_on(async {
                let sim = Sim { seed, operations: 2_000, careless: None, show: false };
                Box::pin(run(sim, &Arc::new(Trace::new(false))))
                    .await
                    .unwrap_or_else(|why| panic!("seed {seed}: {why}"))
            });
            all.attached += some.attached;
            all.detached += some.detached;
            all.moved += some.moved;
            all.failed += some.failed;
        }
        assert!(all.attached > 200 && all.detached > 100 && all.moved > 100 && all.failed > 20, "{all:?}");
    }
}
