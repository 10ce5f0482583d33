//! `suite!`: one test per case.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::factory::Factory;
use crate::report::{Ending, Report};
use crate::run::{RunOptions, run_shared};

/// The variable whose number seeds the random cases, to repeat a failure.
const SEED: &str = "TIERED_CONFORMANCE_SEED";

/// How long a runtime may take to end its tasks, once a case is over.
const LEAVING: Duration = Duration::from_secs(15);

/// Makes one test per case in the module where it stands.
///
/// The argument is an expression that gives a [`Factory`](crate::Factory); it is evaluated once for each test,
/// inside of a tokio runtime of two workers, and may `.await`. A failing test names the clause, says what was
/// expected and what was seen, and how to repeat it. A test that hangs is ended from outside.
///
/// What a store does not declare is checked to be refused. Nothing is skipped: a case that needs what the factory does
/// not give (a place, a clock, a largest value that can be tried) fails and says so. A case that cannot run is pinned
/// with its reason, `skips: [case = "reason", …]`, and becomes an ignored test.
///
/// # Examples
/// ```
/// # mod conformance {
/// use std::sync::Arc;
/// use async_trait::async_trait;
/// use tiered_conformance::{Factory, Place};
/// use tiered_core::{Capabilities, MemoryStore, Result, Store, Timestamp};
/// use tiered_core::adapter::{Stamp, VersionMint};
/// use tiered_core::testing::ManualClock;
///
/// /// Gives stores on a manual clock, and places of their own.
/// struct Memory(Arc<ManualClock>);
///
/// impl Memory {
///     fn store(&self) -> MemoryStore {
///         let stamp = Stamp::new(self.0.clone(), Arc::new(VersionMint::from_entropy()));
///         MemoryStore::with_stamp(stamp).declaring(|capabilities| capabilities.with_max_value(1 << 20))
///     }
/// }
///
/// struct Room(MemoryStore);
///
/// #[async_trait]
/// impl Place for Room {
///     async fn open(&self) -> Result<Arc<dyn Store>> {
///         Ok(Arc::new(self.0.clone()))
///     }
/// }
///
/// #[async_trait]
/// impl Factory for Memory {
///     async fn open(&self) -> Result<Arc<dyn Store>> {
///         Ok(Arc::new(self.store()))
///     }
///     async fn place(&self) -> Option<Arc<dyn Place>> {
///         Some(Arc::new(Room(self.store())))
///     }
///     fn clock(&self) -> Option<Arc<ManualClock>> {
///         Some(self.0.clone())
///     }
/// }
///
/// tiered_conformance::suite!(
///     Memory(Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)))),
///     skips: [life_locked = "memory locks nothing"]
/// );
/// # }
/// ```
#[macro_export]
macro_rules! suite {
    ($factory:expr $(, skips: [$($skip:ident = $reason:literal),* $(,)?])? $(,)?) => {
        $crate::__suite! { ($) ($factory) $($($skip = $reason,)*)? }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __suite {
    (($dollar:tt) ($factory:expr) $($skip:ident = $reason:literal,)*) => {
        // Stands here alone, so that a wrong type is one error and not one for each case.
        #[allow(clippy::unused_async, reason = "the expression need not await anything")]
        async fn __tiered_factory() -> ::std::sync::Arc<dyn $crate::Factory> {
            $crate::share($factory)
        }

        $(const _: () = assert!(
            $crate::is_case(::core::stringify!($skip)),
            ::core::concat!("there is no case to skip of the name ", ::core::stringify!($skip))
        );)*

        macro_rules! __tiered_case {
            $(($skip) => {
                #[test]
                #[ignore = $reason]
                fn $skip() {
                    $crate::prove(::core::stringify!($skip), __tiered_factory);
                }
            };)*
            ($dollar name:ident) => {
                #[test]
                fn $dollar name() {
                    $crate::prove(::core::stringify!($dollar name), __tiered_factory);
                }
            };
        }

        $crate::__catalogue! { tests (__tiered_case) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($case:ident) $($name:ident)*) => {
        $($case! { $name })*
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
            read_whole read_absent read_sizes read_key_longest read_key_shortest read_head
            read_checksum
            put_replace put_visible put_empty put_version put_version_own put_version_token
            put_versions_differ
            put_metadata put_attributes put_note put_copy put_stamped put_max_key put_max_value
            delete_existing delete_absent delete_then_put delete_neighbours
            range_half_open range_clamped range_at_end range_beyond range_absent range_empty_value
            range_metadata range_chunks
            ranges_of_one_version ranges_conditional race_ranges
            read_keys read_unless_unchanged read_unless_changed
            read_if_version read_if_version_changed read_if_version_race read_many read_many_range
            read_many_independent read_peek
            put_if_absent put_if_absent_present put_if_absent_deleted put_if_matches put_if_matches_stale
            put_if_matches_absent put_retry delete_if_matches delete_if_matches_stale delete_if_absent
            put_same_value put_values_one_bit_apart put_versions_similar put_max_key_in_bytes
            read_keys_similar
            list_order list_none list_prefix list_after list_limit list_combined list_pages list_current
            list_interleaved list_sizes list_metadata list_values list_dropped
            batch_empty batch_applies batch_last_operation_wins batch_last_conditional
            batch_preconditions_see_state_before batch_atomic
            batch_atomic_failure batch_atomic_limits batch_outcomes batch_per_item
            batch_per_item_twice batch_per_item_limits batch_large
            batch_metadata batch_versions batch_delete_conditions batch_dropped race_batch_and_put
            list_above_page_sizes read_many_above_page_sizes batch_above_page_sizes
            expiry_past expiry_after expiry_boundary expiry_reads expiry_listed expiry_put_absent
            expiry_put_matches expiry_delete expiry_replaced expiry_batch
            put_times_to_the_millisecond delete_removes_metadata expiry_to_the_millisecond
            expiry_removes_metadata expiry_delete_conditions
            expiry_batch_conditions
            tombstone_hidden tombstone_shown tombstone_absent tombstone_deleted
            marks_round_trip marks_names marks_hidden marks_limits
            claim_overlap claim_disjoint claim_released
            read_stream read_stream_range stream_put stream_put_empty stream_put_metadata stream_put_failing
            stream_put_dropped stream_put_limit stream_put_conditional
            stream_put_parts stream_put_hidden_until_complete stream_put_condition_at_end stream_read_replaced
            stream_put_expiry
            stream_put_expired
            stream_put_large stream_put_large_broken stream_puts_together
            race_create race_replace race_counter race_delete race_batches race_values race_versions
            race_acknowledged_visible race_peek race_list race_reads
            life_flush life_close life_close_busy life_reopen life_reopen_marks life_locked cancel_reads
            cancel_writes capabilities_stable
            reopen_delete reopen_expiry reopen_tombstones reopen_versions reopen_conditions
            handles_read handles_list handles_conditions handles_race changes_announced
            close_keeps_acknowledged close_drops_refused
            model_sequence model_listing
            tier_range_first tier_deleted_everywhere tier_absent_then_written tier_same_hot_and_cold
            tier_update_cold tier_list_counts tier_write_order tier_empty_value tier_batch_order
            tier_cold_reads
            tier_cold_update
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __names {
    (() $($name:ident)*) => { [$(::core::stringify!($name)),*] };
}

/// Whether there is a case of this name.
#[doc(hidden)]
pub const fn is_case(name: &str) -> bool {
    let mut rest: &[&str] = &crate::__catalogue!(names);
    while let [first, others @ ..] = rest {
        if equal(first.as_bytes(), name.as_bytes()) {
            return true;
        }
        rest = others;
    }
    false
}

const fn equal(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, ones @ ..], [b, others @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (ones, others);
    }
    one.is_empty() && other.is_empty()
}

/// Any factory, as one type.
#[doc(hidden)]
pub fn share(factory: impl Factory) -> Arc<dyn Factory> {
    Arc::new(factory)
}

/// Runs one case as a test.
///
/// # Panics
/// When the case fails, is skipped, or hangs.
#[doc(hidden)]
pub fn prove<Fut: Future<Output = Arc<dyn Factory>>>(
    name: &'static str,
    factory: impl FnOnce() -> Fut + Send + 'static,
) {
    prove_within(RunOptions::new().deadline, name, factory);
}

/// Runs one case as a test, on a thread of its own: the test ends whatever the store does to that.
#[doc(hidden)]
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub fn prove_within<Fut: Future<Output = Arc<dyn Factory>>>(
    deadline: Duration,
    name: &'static str,
    factory: impl FnOnce() -> Fut + Send + 'static,
) {
    let (tell, told) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => panic!("no tokio runtime for the case {name}: {error}"),
        };
        let mut options = RunOptions::new().only([name]).deadline(deadline);
        if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
            options = options.seed(seed);
        }
        let factory = runtime.block_on(factory());
        tell.send(None).ok();
        let report = runtime.block_on(run_shared(factory, options));
        tell.send(Some(report)).ok();
        runtime.shutdown_timeout(LEAVING);
    });
    // Building the factory; then opening, the case and the removal, which the run watches itself.
    let mut patience = deadline;
    let report = loop {
        match told.recv_timeout(patience) {
            Ok(None) => patience = deadline.saturating_mul(3).saturating_add(3 * LEAVING),
            Ok(Some(report)) => break report,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("{name} did not end within {} s", patience.as_secs_f64())
            }
            // The thread panicked: that is the reason to tell.
            Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
                Ok(()) => panic!("{name} ended without a word"),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    };
    judge(name, &report);
    // What the factory holds is removed when it is dropped.
    let left = told.recv_timeout(2 * LEAVING) != Err(mpsc::RecvTimeoutError::Timeout);
    assert!(left, "{name}: the factory or the runtime did not end within {} s", 2 * LEAVING.as_secs());
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn judge(name: &str, report: &Report) {
    let (store, seed) = (&report.store, report.seed);
    match report.case(name).map(|case| &case.ending) {
        Some(Ending::Passed | Ending::Refused(_)) => {}
        Some(Ending::Failed(why)) => panic!("{name} of {store}: {why}\nto repeat it: {SEED}={seed}"),
        Some(Ending::Skipped(why)) => panic!(
            "{name} of {store} cannot run: {why}; let the factory give it, or pin the case: skips: [{name} = \"why\"]"
        ),
        None => panic!("there is no case named {name}"),
    }
}
