//! Interleavings of the engine, chosen by shuttle: real stores over tiers in trouble, and an oracle that judges what was seen.
//!
//! | file | |
//! |---|---|
//! | `scripted`, `journal` | tiers and a journal whose calls take time and fail |
//! | `stage` | a store over them, what is done to it, and what must hold when it has come to rest |
//! | `history` | the oracle |
//! | `through`, `behind` | the scenarios |
//!
//! `cargo xtask interleavings` runs them. A failure prints the schedule, which `shuttle::replay` repeats.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, which clippy does not see under this configuration"
)]

mod behind;
mod history;
mod journal;
mod scripted;
mod stage;
mod through;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::slot;
use crate::sync_primitives::explored;

/// Schedules of a run without `TIERED_SCHEDULES`, over all scenarios.
const SCHEDULES: usize = 3_000;

/// Bugs need few changes of who goes on: most need one or two.
const DEPTH: usize = 4;

/// The first seed, so that a run repeats itself; `SHUTTLE_RANDOM_SEED` overrides it.
const SEED: u64 = 0x7163_7265;

/// Stack of a task: a put polls plan, gate, hooks and tiers within one another, more than shuttle's 32 KiB hold.
const STACK: usize = 256 << 10;

fn config() -> Config {
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = STACK;
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
        explored::begin();
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
    ($($($place:ident)::+ => $name:ident),* $(,)?) => {
        const SCENARIOS: usize = [$(stringify!($name)),*].len();

        $(
            #[test]
            fn $name() {
                explore(stringify!($name), schedules(), $($place)::+::$name);
            }
        )*
    };
}

scenarios![
    through => writers_and_readers,
    through => writes_around_and_invalidations,
    through => fresh_readers_take_the_token_over,
    through => cached_absences,
    through => callers_that_go_away,
    through => backend_reads_that_fail,
    through => a_frontend_that_fails,
    through => patience_that_runs_out,
    through => quarantines_past_their_bound,
    through => answers_that_are_lost,
    through => answers_that_are_found_out,
    through => writers_that_compare,
    through => batches_of_two_keys,
    through => a_flush_waits_for_what_has_begun,
    through => deadlines_that_pass,
    through => a_feed_of_changes,
    through => closing_under_callers,
    behind => writes_behind,
    behind => writes_behind_a_frontend_that_fails,
    behind => writes_behind_a_backend_that_fails,
    behind => writers_behind_that_compare,
    behind => batches_behind,
    behind => listings_over_pending_writes,
    behind => refused_writes_are_passed_over,
    behind => refused_writes_halt_the_flush,
    behind => refused_batches,
    behind => a_journal_in_trouble,
    behind => closing_and_opening_again,
    behind => room_for_two_writes,
    slot::interleavings => a_glance_misses_no_state,
    slot::interleavings => a_latch_wakes_all_who_wait,
];

/// Schedules for each scenario.
fn schedules() -> usize {
    let all = std::env::var("TIERED_SCHEDULES").ok().map_or(SCHEDULES, |text| {
        text.parse().unwrap_or_else(|_| panic!("TIERED_SCHEDULES is a number, not {text:?}"))
    });
    all.div_ceil(SCENARIOS)
}
