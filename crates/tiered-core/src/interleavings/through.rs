//! Scenarios of write-through and write-around: a few tasks each, over one or two keys.

use std::sync::Arc;
use std::time::Duration;

use shuttle::future::block_on;

use super::scripted::Trouble;
use super::stage::{Setting, Stage, play, readers};
use crate::policy::{Freshness, WritePolicy};
use crate::settings::{FillTiming, FrontendFailure, OnUnknown};
use crate::sync_primitives::explored::{abandon, below, coin, time};
use crate::tiered::builder::TieredBuilder;

const THROUGH: WritePolicy = WritePolicy::WriteThrough;

fn writers(stage: &Arc<Stage>, count: usize) {
    for _ in 0..count {
        stage.spawn(async |stage| stage.write(0).await);
    }
}

/// Fills of both timings.
fn either_timing(builder: TieredBuilder) -> TieredBuilder {
    if coin() { builder.fill(FillTiming::BeforeAnswer) } else { builder }
}

pub(super) fn writers_and_readers() {
    play(Setting::of(THROUGH), either_timing, |stage| {
        writers(stage, 2);
        readers(stage, 2);
    });
}

pub(super) fn writes_around_and_invalidations() {
    play(
        Setting::of(WritePolicy::WriteAround),
        |builder| builder,
        |stage| {
            writers(stage, 1);
            stage.spawn(async |stage| stage.invalidate(0).await);
            readers(stage, 2);
        },
    );
}

pub(super) fn fresh_readers_take_the_token_over() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            writers(stage, 1);
            readers(stage, 1);
            stage.spawn(async |stage| stage.read(0, Freshness::Authoritative).await);
            stage.spawn(async |stage| {
                stage.head(0).await;
                stage.read(0, Freshness::Authoritative).await;
            });
        },
    );
}

pub(super) fn cached_absences() {
    let setting = Setting::of(THROUGH).empty();
    play(
        setting,
        |builder| builder.negative_ttl(Duration::from_hours(1)),
        |stage| {
            writers(stage, 2);
            readers(stage, 2);
        },
    );
}

pub(super) fn callers_that_go_away() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            writers(stage, 1);
            stage.spawn(async |stage| {
                abandon(below(8), stage.write(0)).await;
            });
            stage.spawn(async |stage| {
                abandon(below(8), stage.read(0, Freshness::Cached)).await;
            });
            stage.spawn(async |stage| {
                abandon(below(8), stage.invalidate(0)).await;
            });
            readers(stage, 1);
        },
    );
}

pub(super) fn backend_reads_that_fail() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            stage.backend_is_in(Trouble::default().unreadable(2));
            readers(stage, 3);
            writers(stage, 1);
        },
    );
}

pub(super) fn a_frontend_that_fails() {
    let failing = if coin() { FrontendFailure::Fail } else { FrontendFailure::Skip };
    play(
        Setting::of(THROUGH),
        |builder| builder.frontend_failure(failing),
        |stage| {
            stage.frontend_is_in(Trouble::default().down(1).lost(2).unreadable(1));
            writers(stage, 2);
            readers(stage, 1);
        },
    );
}

pub(super) fn patience_that_runs_out() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            stage.frontend_is_in(Trouble::default().lost(1));
            time::allow_timeouts(3);
            readers(stage, 2);
            writers(stage, 2);
        },
    );
}

pub(super) fn quarantines_past_their_bound() {
    let bound = usize::try_from(below(2)).expect("small");
    let setting = Setting::of(THROUGH).keys(2);
    play(
        setting,
        |builder| builder.max_quarantined(bound),
        |stage| {
            stage.frontend_is_in(Trouble::default().down(2).lost(2));
            time::allow_timeouts(1);
            for key in 0..2 {
                stage.spawn(async move |stage| stage.write(key).await);
                stage.spawn(async move |stage| {
                    stage.read(key, Freshness::Cached).await;
                    stage.write(key).await;
                    stage.read(key, Freshness::Cached).await;
                });
            }
        },
    );
}

/// Answers of the backend are lost, and the callers are told.
pub(super) fn answers_that_are_lost() {
    let setting = Setting::of(THROUGH);
    let setting = if coin() && coin() { setting.without_late_requests() } else { setting };
    play(
        setting,
        |builder| builder,
        |stage| {
            stage.backend_is_in(Trouble::default().lost(1).down(1));
            writers(stage, 2);
            readers(stage, 2);
        },
    );
}

/// Answers of the backend are lost, and writes are sent again until what became of them is known.
pub(super) fn answers_that_are_found_out() {
    play(
        Setting::of(THROUGH),
        |builder| builder.on_unknown(OnUnknown::Retry),
        |stage| {
            stage.backend_is_in(Trouble::default().lost(2));
            stage.spawn(async |stage| stage.replace(0).await);
            writers(stage, 1);
            readers(stage, 2);
        },
    );
}

pub(super) fn writers_that_compare() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            for _ in 0..2 {
                stage.spawn(async |stage| stage.replace(0).await);
            }
            writers(stage, 1);
            readers(stage, 1);
        },
    );
}

pub(super) fn batches_of_two_keys() {
    let setting = Setting::of(THROUGH).keys(2).atomic_or_not();
    play(
        setting,
        |builder| builder,
        |stage| {
            for keys in [[0, 1], [1, 0]] {
                stage.spawn(async move |stage| stage.apply(keys).await);
            }
            stage.spawn(async |stage| {
                abandon(below(8), stage.apply([0, 1])).await;
            });
            stage.spawn(async |stage| stage.read_many().await);
            readers(stage, 1);
        },
    );
}

pub(super) fn a_flush_waits_for_what_has_begun() {
    play(
        Setting::of(THROUGH),
        |builder| builder,
        |stage| {
            readers(stage, 2);
            writers(stage, 1);
            stage.spawn(async |stage| stage.flush().await);
            stage.spawn(async |stage| {
                abandon(below(6), stage.flush()).await;
            });
        },
    );
}

/// Writes whose deadline may pass: those that are late go on.
pub(super) fn deadlines_that_pass() {
    let in_time = |builder: TieredBuilder| {
        builder.write_deadline(Duration::from_secs(1)).read_timeout(Duration::from_secs(1))
    };
    play(Setting::of(THROUGH), in_time, |stage| {
        time::allow_timeouts(2);
        writers(stage, 2);
        readers(stage, 2);
    });
}

pub(super) fn a_feed_of_changes() {
    let setting = Setting::of(THROUGH).shared();
    play(
        setting,
        |builder| builder,
        |stage| {
            stage.spawn(async |stage| stage.write_elsewhere(0).await);
            writers(stage, 1);
            readers(stage, 2);
        },
    );
}

/// The store is closed under its callers. What was acknowledged stays.
pub(super) fn closing_under_callers() {
    block_on(async {
        let stage = Stage::build(Setting::of(THROUGH), |builder| builder).await;
        stage.backend_is_in(Trouble::default().lost(1));
        writers(&stage, 2);
        readers(&stage, 1);
        for _ in 0..2 {
            stage.spawn(async |stage| stage.close().await);
        }
        stage.reopen().await.end().await;
    });
}
