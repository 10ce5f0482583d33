//! `cargo xtask sim`: runs seeds, and says what they met.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool speaks on the terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use parking_lot::Mutex;
use tiered_conformance::Fault;
use tiered_sim::{Careless, Outcome, Sim, run};

/// Simulates the tiering engine under faults, crashes and virtual time.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Operations of each seed.
    #[arg(long, default_value_t = 2_000)]
    ops: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Gives the journal a deliberate bug, which the simulation must catch.
    #[arg(long)]
    careless: Option<Careless>,
    /// Runs no seed a second time.
    #[arg(long)]
    once: bool,
    /// Prints every call of every seed.
    #[arg(long)]
    trace: bool,
}

/// Every so-many-th seed of a long run is run twice and must do the same; of a short run, each.
const TWICE: u64 = 5;
/// So many seeds at most are a short run.
const SHORT: u64 = 200;

/// In percent of the seeds, if there are enough of them: a fault that never fires tests nothing.
const COVERAGE: u64 = 5;

/// Blocks of large values that the frontends of a seed must have for its readers, on average.
const BLOCKS: u64 = 20;

/// Tiers that must be attached, detached or moved beneath the service of a seed, on average.
const EXCHANGES: u64 = 10;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match simulate(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` for each number below `count`, on all cores, until one of them answers.
fn first<T: Send>(count: u64, work: impl Fn(u64) -> Option<T> + Sync) -> Option<(u64, T)> {
    let next = AtomicU64::new(0);
    let found: Mutex<Option<(u64, T)>> = Mutex::new(None);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || found.lock().as_ref().is_some_and(|(first, _)| *first < number) {
                        return;
                    }
                    if let Some(answer) = work(number) {
                        let mut found = found.lock();
                        if found.as_ref().is_none_or(|(first, _)| *first > number) {
                            *found = Some((number, answer));
                        }
                    }
                }
            });
        }
    });
    found.into_inner()
}

fn simulate(arguments: &Arguments) -> Result<(), String> {
    let met = Mutex::new([0_u64; Fault::ALL.len()]);
    let sum = Mutex::new(Outcome::default());
    let twice = if arguments.seeds <= SHORT { 1 } else { TWICE };
    let violation = first(arguments.seeds, |number| {
        let sim = Sim {
            seed: arguments.seed + number,
            operations: arguments.ops,
            careless: arguments.careless,
            show: arguments.trace,
        };
        let outcome = match run(sim) {
            Ok(outcome) => outcome,
            Err(violation) => return Some(violation.to_string()),
        };
        if !arguments.once && number % twice == 0 && !run(sim).is_ok_and(|again| again.trace == outcome.trace)
        {
            return Some(format!("seed {}: the second run did something else than the first", sim.seed));
        }
        let mut sum = sum.lock();
        sum.epochs += outcome.epochs;
        sum.crashes += outcome.crashes;
        sum.exchanges += outcome.exchanges;
        for (sum, blocks) in sum.blocks.iter_mut().zip(outcome.blocks) {
            *sum += blocks;
        }
        for ((met, sum), fired) in met.lock().iter_mut().zip(&mut sum.fired).zip(outcome.fired) {
            *met += u64::from(fired > 0);
            *sum += fired;
        }
        None
    });
    if let Some((_, violation)) = violation {
        return Err(violation);
    }
    let (met, sum) = (met.into_inner(), sum.into_inner());
    println!("{:<14} {:>10}  seeds that met it", "fault", "times");
    for ((fault, met), fired) in Fault::ALL.iter().zip(met).zip(sum.fired) {
        let share = met * 100 / arguments.seeds.max(1);
        println!("{:<14} {fired:>10}  {share} %", format!("{fault:?}"));
        if arguments.seeds >= 100 && share < COVERAGE {
            return Err(format!("{fault:?} happened in {share} % of the seeds; {COVERAGE} % is the least"));
        }
    }
    let [hits, fills] = sum.blocks;
    println!("blocks of large values: {hits} found, {fills} copied to the frontend");
    println!("beneath a service: {} tiers attached, detached or moved", sum.exchanges);
    if arguments.seeds >= 100 && sum.exchanges < EXCHANGES * arguments.seeds {
        return Err(format!(
            "{} tiers were exchanged beneath a service; {EXCHANGES} for each seed is the least",
            sum.exchanges
        ));
    }
    if arguments.seeds >= 100 && hits < BLOCKS * arguments.seeds {
        return Err(format!("{hits} blocks were found; {BLOCKS} for each seed is the least"));
    }
    println!(
        "{} seeds of {} operations, {} epochs, {} crashes; {}: 0 violations",
        arguments.seeds,
        arguments.ops,
        sum.epochs,
        sum.crashes,
        match twice {
            _ if arguments.once => "each once".to_owned(),
            1 => "every seed twice, with the same trace".to_owned(),
            twice => format!("every {twice}th seed twice, with the same trace"),
        },
    );
    Ok(())
}
