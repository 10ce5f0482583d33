//! `suite!`: one test per case.

use std::sync::Arc;

use crate::factory::Factory;
use crate::report::Ending;
use crate::run::{RunOptions, run_shared};

/// The variable whose number seeds the random cases, to repeat a failure.
const SEED: &str = "TIERED_CONFORMANCE_SEED";

/// Makes one test per case in the module where it stands.
///
/// The argument is an expression that gives a [`Factory`](crate::Factory); it is evaluated once for each test,
/// inside of a tokio runtime of two workers, and may `.await`. A failing test names the clause, says what was
/// expected and what was seen, and how to repeat it.
///
/// With `skips: ["case", …]` exactly those cases must be skipped, and any other skip fails: a test that quietly
/// stops running proves nothing. Refusals as specified are no skips.
///
/// # Examples
/// ```
/// # mod conformance {
/// use std::sync::Arc;
/// use tiered_core::{MemoryStore, Store};
///
/// tiered_conformance::suite!(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> });
/// # }
/// ```
#[macro_export]
macro_rules! suite {
    ($factory:expr $(,)?) => {
        $crate::__catalogue! { tests (async { $factory }, None) }
    };
    ($factory:expr, skips: [$($skip:literal),* $(,)?] $(,)?) => {
        $crate::__catalogue! { tests (async { $factory }, Some(&[$($skip),*])) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($factory:expr, $skips:expr) $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::prove(::core::stringify!($name), $skips, $factory);
            }
        )*
    };
}

/// The names of all cases: [`cases`](crate::cases) in the form that a macro can expand. A test compares the two.
#[doc(hidden)]
#[macro_export]
macro_rules! __catalogue {
    (tests $arguments:tt) => {
        $crate::__catalogue! { @give __tests $arguments }
    };
    (names) => {
        $crate::__catalogue! { @give __names () }
    };
    (@give $to:ident $arguments:tt) => {
        $crate::$to! { $arguments
            read_whole read_absent read_sizes read_keys read_key_longest read_key_shortest
            read_unless_unchanged read_unless_changed read_head read_many read_many_range read_stream
            read_stream_range read_peek
            range_half_open range_clamped range_at_end range_beyond range_absent range_empty_value
            range_metadata range_chunks
            put_replace put_visible put_empty put_version put_version_own put_version_token
            put_versions_differ put_metadata put_attributes put_note put_copy put_stamped put_key_limit
            put_value_limit
            put_if_absent put_if_absent_present put_if_absent_deleted put_if_matches put_if_matches_stale
            put_if_matches_absent put_retry delete_if_matches delete_if_matches_stale delete_if_absent
            delete_existing delete_absent delete_then_put delete_neighbours
            stream_put stream_put_empty stream_put_metadata stream_put_failing stream_put_dropped
            stream_put_limit stream_put_conditional
            batch_empty batch_applies batch_last batch_last_conditional batch_judged batch_atomic
            batch_atomic_failure batch_atomic_limits batch_outcomes batch_large
            list_order list_none list_prefix list_after list_limit list_combined list_pages list_current
            list_sizes list_metadata list_dropped
            expiry_past expiry_after expiry_boundary expiry_reads expiry_listed expiry_put_absent
            expiry_put_matches expiry_delete expiry_replaced expiry_batch
            tombstone_hidden tombstone_shown tombstone_absent tombstone_deleted
            marks_round_trip marks_hidden marks_limits
            race_create race_replace race_counter race_delete race_batches race_values race_versions
            race_visible race_list race_reads
            life_flush life_close life_close_busy life_reopen life_reopen_marks life_locked cancel_reads
            cancel_writes capabilities_stable
            model_sequence model_listing
            tier_range_first tier_deleted_everywhere tier_absent_then_written tier_same_hot_and_cold
            tier_update_cold tier_list_counts tier_write_order tier_empty_value tier_batch_order tier_cold
            tier_cold_update
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    (() $($name:ident)*) => { [$(::core::stringify!($name)),*] };
}

/// Runs one case as a test.
///
/// # Panics
/// When the case fails, or is skipped where that was not pinned, or is not where it was.
#[doc(hidden)]
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn prove<F: Factory>(name: &str, skips: Option<&[&str]>, factory: impl Future<Output = F>) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no tokio runtime for the case {name}: {error}"),
    };
    let report = runtime.block_on(async {
        let mut options = RunOptions::new().only([name]);
        if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
            options = options.seed(seed);
        }
        run_shared(Arc::new(factory.await), options).await
    });
    for skip in skips.unwrap_or_default() {
        assert!(crate::cases().any(|case| case.name == *skip), "there is no case {skip} to skip");
    }
    let pinned = skips.is_some_and(|skips| skips.contains(&name));
    let seed = report.seed;
    match report.case(name).map(|case| &case.ending) {
        Some(Ending::Failed(why)) => {
            panic!("{name} of {}: {why}\nto repeat it: {SEED}={seed}", report.store)
        }
        Some(Ending::Skipped(why)) if skips.is_some() && !pinned => {
            panic!("{name} of {} was skipped and is not on the list of skips: {why}", report.store)
        }
        Some(Ending::Passed | Ending::Refused(_)) if pinned => {
            panic!("{name} of {} is on the list of skips, but runs: take it off", report.store)
        }
        Some(_) => {}
        None => panic!("there is no case named {name}"),
    }
}
