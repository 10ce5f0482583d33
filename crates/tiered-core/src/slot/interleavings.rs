//! Interleavings of slots, gates, loads, fill tokens, calls, latches, quarantines and pending writes, chosen by shuttle.
//!
//! `cargo xtask interleavings` runs them. A failure prints the schedule, which `shuttle::replay` repeats.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, which clippy does not see under this configuration"
)]

mod history;
mod model;
mod scenario;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Schedules of a run without `TIERED_SCHEDULES`, over all scenarios.
const SCHEDULES: usize = 2_000;

/// Bugs need few changes of who goes on: most need one or two, the deepest of the deliberate ones three.
const DEPTH: usize = 4;

/// The first seed, so that a run repeats itself; `SHUTTLE_RANDOM_SEED` overrides it.
const SEED: u64 = 0x7163_7265;

fn config() -> Config {
    let mut config = Config::new();
    config.silence_warnings = true;
    config
}

/// Says which schedule of a scenario failed.
struct Tried(String, Arc<AtomicUsize>);

impl Drop for Tried {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: schedule {} failed", self.0, self.1.load(Ordering::Relaxed));
        }
    }
}

/// Runs a scenario under both schedulers. Prints how many schedules there were, for `cargo xtask`.
fn explore(name: &str, schedules: usize, scenario: fn()) {
    let tried = Tried(name.to_owned(), Arc::default());
    let count = Arc::clone(&tried.1);
    let run = move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario();
    };
    // First what finds most bugs soonest.
    let by_priority = PctScheduler::new_from_seed(SEED, DEPTH, schedules.div_ceil(2));
    let by_priority = Runner::new(by_priority, config()).run(run.clone());
    let random = RandomScheduler::new_from_seed(SEED, schedules / 2);
    let random = Runner::new(random, config()).run(run);
    println!("schedules {} {name}", random + by_priority);
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const SCENARIOS: usize = [$(stringify!($name)),*].len();

        $(
            #[test]
            fn $name() {
                explore(stringify!($name), schedules(), scenario::$name);
            }
        )*
    };
}

scenarios![
    writers_and_readers,
    writes_around_and_invalidations,
    fresh_readers_take_the_token_over,
    callers_that_go_away,
    backend_reads_that_fail,
    a_frontend_that_fails,
    patience_that_runs_out,
    quarantines_past_their_bound,
    answers_that_are_lost,
    writes_behind,
    writes_behind_a_frontend_that_fails,
    batches_of_two_keys,
    a_flush_waits_for_what_has_begun,
    a_glance_misses_no_state,
    a_latch_wakes_everybody,
];

/// Schedules for each scenario.
fn schedules() -> usize {
    let all = std::env::var("TIERED_SCHEDULES").ok().map_or(SCHEDULES, |text| {
        text.parse().unwrap_or_else(|_| panic!("TIERED_SCHEDULES is a number, not {text:?}"))
    });
    all.div_ceil(SCENARIOS)
}
