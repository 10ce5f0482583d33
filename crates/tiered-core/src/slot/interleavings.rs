//! Interleavings of slots, gates, flights, leases, calls, latches, quarantines and the overlay, chosen by shuttle.
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

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::planted::Planted;

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

/// Runs a scenario under both schedulers. Prints how many schedules there were, for `cargo xtask`.
fn explore(name: &str, schedules: usize, scenario: fn(Planted)) {
    let run = move || scenario(Planted::default());
    let random = RandomScheduler::new_from_seed(SEED, schedules.div_ceil(2));
    let random = Runner::new(random, config()).run(run);
    let by_priority = PctScheduler::new_from_seed(SEED, DEPTH, schedules / 2);
    let by_priority = Runner::new(by_priority, config()).run(run);
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
    fresh_readers_take_the_lease_over,
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

/// Deliberate bugs are found: without that, finding none would prove nothing.
#[cfg(feature = "planted")]
mod planted {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    use shuttle::{FailurePersistence, Runner};

    use super::{DEPTH, SEED, config, scenario};
    use crate::planted::{Plant, Planted};

    /// Schedules of each scheduler within which a bug must be found.
    const BOUND: usize = 20_000;

    fn find(plant: Plant, scenario: fn(Planted)) {
        let (tried, mut quiet) = (Arc::new(AtomicUsize::new(0)), config());
        quiet.failure_persistence = FailurePersistence::None;
        let count = Arc::clone(&tried);
        let run = move || {
            count.fetch_add(1, Ordering::Relaxed);
            scenario(Planted::new(plant));
        };
        let by_priority = PctScheduler::new_from_seed(SEED, DEPTH, BOUND);
        let random = RandomScheduler::new_from_seed(SEED, BOUND);
        let found = catch_unwind(AssertUnwindSafe(|| {
            Runner::new(by_priority, quiet.clone()).run(run.clone());
            Runner::new(random, quiet).run(run);
        }))
        .is_err();
        let tried = tried.load(Ordering::Relaxed);
        assert!(found, "{plant:?} was not found in {tried} schedules");
        println!("planted {plant:?}: found by schedule {tried}");
    }

    macro_rules! bugs {
        ($($name:ident: $plant:ident in $scenario:ident),* $(,)?) => {
            $(
                #[test]
                fn $name() {
                    find(Plant::$plant, scenario::$scenario);
                }
            )*
        };
    }

    bugs![
        follower_joins_old_flight: FollowerJoinsOldFlight in writers_and_readers,
        fill_ignores_lease: FillIgnoresLease in writers_and_readers,
        install_not_waited_for: InstallNotWaitedFor in writers_and_readers,
        gated_key_serves_hits: GatedKeyServesHits in fresh_readers_take_the_lease_over,
        unknown_reopened_at_once: UnknownReopenedAtOnce in answers_that_are_lost,
        frontend_failure_ignored: FrontendFailureIgnored in a_frontend_that_fails,
        frontend_lifetime_ignored: FrontendLifetimeIgnored in a_frontend_that_fails,
        pending_cleared_before_frontend: PendingClearedBeforeFrontend in writes_behind,
        pending_cleared_though_superseded: PendingClearedThoughSuperseded in writes_behind,
    ];
}
