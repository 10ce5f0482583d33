//! One seed from its beginning to its end.

use std::fmt;

use tiered_conformance::{Dice, Fault};
use tiered_core::Stats;

use crate::client::Clients;
use crate::config::{Config, Ending, Sim};
use crate::epoch;
use crate::ranges;
use crate::seam;
use crate::shared;
use crate::transfer;
use crate::world::{Life, World};

/// What a seed did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The same for two runs that did the same.
    pub trace: u64,
    /// Faults that happened, by the order of [`Fault::ALL`].
    pub fired: [u64; Fault::ALL.len()],
    /// Epochs.
    pub epochs: u64,
    /// Those that ended in a crash.
    pub crashes: u64,
    /// Operations that were asked for.
    pub operations: u64,
    /// Blocks of large values that the frontend had, and those that were copied to it.
    pub blocks: [u64; 2],
    /// Tiers that were attached, detached or moved beneath a service.
    pub exchanges: u64,
}

impl Outcome {
    fn add_blocks(&mut self, stats: &Stats) {
        let [hits, fills] = &mut self.blocks;
        *hits += stats.block_hits;
        *fills += stats.block_fills;
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The run.
    pub sim: Sim,
    /// What was wrong.
    pub what: String,
    /// What the seed had chosen.
    pub config: String,
    /// What happened last.
    pub lines: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{}", self.config)?;
        writeln!(f, "seed {}: {}", self.sim.seed, self.what)?;
        write!(
            f,
            "to repeat it: cargo xtask sim --seeds 1 --ops {} --seed {}",
            self.sim.operations, self.sim.seed
        )
    }
}

/// Lines of a violation: enough to see what led to it.
const LINES: usize = 120;

/// Runs one seed.
///
/// # Errors
/// The first promise that was broken.
///
/// # Panics
/// Where the machine gives no runtime.
pub fn run(sim: Sim) -> Result<Outcome, Box<Violation>> {
    #[expect(clippy::expect_used, reason = "without a runtime there is nothing to simulate")]
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a machine that gives a runtime");
    runtime.block_on(simulate(sim))
}

async fn simulate(sim: Sim) -> Result<Outcome, Box<Violation>> {
    let mut dice = Dice::new(sim.seed.wrapping_mul(0xD134_2543_DE82_EF95));
    let config = Config::draw(&mut dice);
    let mut world = World::new(sim, config.clone());
    let clients = Clients::new(config.clone(), dice.roll(), std::sync::Arc::clone(&world.trace));
    let mut outcome = Outcome { operations: sim.operations, ..Outcome::default() };
    let ended = match epochs(sim, &mut world, &clients, &mut dice, &mut outcome).await {
        Ok(()) => transfer::run(&mut dice).await,
        Err(why) => Err(why),
    };
    let ended = match ended {
        Ok(()) => shared::run(sim, &mut dice, &world.trace).await,
        Err(why) => Err(why),
    };
    let ended = match ended {
        Ok(()) => ranges::run(sim, &world.trace).await.map(|stats| outcome.add_blocks(&stats)),
        Err(why) => Err(why),
    };
    let ended = match ended {
        Ok(()) => {
            Box::pin(seam::run(sim, &world.trace)).await.map(|exchanges| outcome.exchanges = exchanges.all())
        }
        Err(why) => Err(why),
    };
    outcome.trace = world.trace.hash();
    ended.map(|()| outcome).map_err(|what| {
        let about = clients.keys.iter().map(tiered_core::Key::as_str).find(|key| what.starts_with(*key));
        let lines = world.trace.about(about.unwrap_or(""), LINES);
        Box::new(Violation { sim, what, config: format!("{config:?}"), lines })
    })
}

async fn epochs(
    sim: Sim,
    world: &mut World,
    clients: &Clients,
    dice: &mut Dice,
    outcome: &mut Outcome,
) -> Result<(), String> {
    if world.config.is_local() {
        let values = world.preload(&clients.keys).await.map_err(|error| error.chain())?;
        clients.begin_with(&values);
    }
    let mut life = epoch::open(world, clients).await?;
    for faults in &life.faults {
        faults.resume();
    }
    let mut left = sim.operations;
    while left > 0 {
        let operations = world.config.epoch.min(left);
        left -= operations;
        let ending = world.config.ending(dice);
        outcome.epochs += 1;
        outcome.crashes += u64::from(ending == Ending::Crash);
        clients.trace.note(&format!("epoch {}: {operations} operations, then {ending:?}", outcome.epochs));
        clients.allow(operations);
        epoch::work(clients, &life, ending).await;
        let (faults, stats) = (life.faults.clone(), life.store.stats());
        let ended = epoch::end(world, clients, life, ending, dice).await;
        // Each life has faults of its own.
        count(&faults, &stats, &ended, outcome, left);
        life = ended?;
    }
    Ok(())
}

/// Adds up the faults of a life that is over, and its blocks.
fn count(
    faults: &[std::sync::Arc<tiered_conformance::Faults>; 2],
    stats: &Stats,
    ended: &Result<Life, String>,
    outcome: &mut Outcome,
    left: u64,
) {
    let goes_on = ended.as_ref().is_ok_and(|life| std::sync::Arc::ptr_eq(&life.faults[0], &faults[0]));
    if goes_on && left > 0 {
        return;
    }
    outcome.add_blocks(stats);
    for (fault, fired) in Fault::ALL.iter().zip(&mut outcome.fired) {
        *fired += faults.iter().map(|faults| faults.fired(*fault)).sum::<u64>();
    }
}
