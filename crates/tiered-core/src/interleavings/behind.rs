//! Scenarios of write-behind.

use shuttle::future::block_on;

use super::scripted::Trouble;
use super::stage::{Setting, Stage, play, readers};
use crate::policy::WritePolicy;
use crate::settings::OnPark;
use crate::sync_primitives::explored::{abandon, below, coin, time};

const BEHIND: WritePolicy = WritePolicy::WriteBehind;

/// One or two keys under write-behind.
fn keys(keys: usize) -> Setting {
    Setting::of(BEHIND).keys(keys)
}

pub(super) fn writes_behind() {
    play(
        keys(1),
        |builder| builder,
        |stage| {
            stage.spawn(async |stage| stage.write(0).await);
            stage.spawn(async |stage| stage.put_and_follow(0).await);
            readers(stage, 2);
        },
    );
}

pub(super) fn writes_behind_a_frontend_that_fails() {
    play(
        keys(1),
        |builder| builder,
        |stage| {
            stage.frontend_is_in(Trouble::default().lost(2).down(1));
            time::allow_timeouts(1);
            for _ in 0..2 {
                stage.spawn(async |stage| stage.write(0).await);
            }
            readers(stage, 1);
            stage.spawn(async |stage| stage.invalidate(0).await);
        },
    );
}

pub(super) fn writes_behind_a_backend_that_fails() {
    let setting = keys(2).atomic_or_not();
    play(
        setting,
        |builder| builder,
        |stage| {
            stage.backend_is_in(Trouble::default().lost(2).down(1).unreadable(1));
            for key in [0, 1, 0] {
                stage.spawn(async move |stage| stage.write(key).await);
            }
            readers(stage, 1);
            stage.spawn(async |stage| stage.flush().await);
        },
    );
}

pub(super) fn writers_behind_that_compare() {
    play(
        keys(1),
        |builder| builder,
        |stage| {
            for _ in 0..2 {
                stage.spawn(async |stage| stage.replace(0).await);
            }
            stage.spawn(async |stage| stage.write(0).await);
            readers(stage, 1);
        },
    );
}

pub(super) fn batches_behind() {
    play(
        keys(2),
        |builder| builder,
        |stage| {
            for keys in [[0, 1], [1, 0]] {
                stage.spawn(async move |stage| stage.apply(keys).await);
            }
            stage.spawn(async |stage| {
                abandon(below(8), stage.write(0)).await;
            });
            stage.spawn(async |stage| stage.read_many().await);
            stage.spawn(async |stage| stage.flush().await);
        },
    );
}

pub(super) fn listings_over_pending_writes() {
    play(
        keys(2),
        |builder| builder,
        |stage| {
            for key in 0..2 {
                stage.spawn(async move |stage| {
                    stage.write(key).await;
                    stage.write(key).await;
                });
            }
            stage.spawn(async |stage| {
                stage.list().await;
                stage.list().await;
            });
        },
    );
}

/// The backend refuses writes of both kinds, which an operator retries or drops while others write.
fn parking(on_park: OnPark) {
    let setting = keys(2).atomic_or_not();
    play(
        setting,
        |builder| builder.on_park(on_park),
        |stage| {
            stage.spawn(async |stage| {
                stage.put_refused(0).await;
                stage.write(0).await;
            });
            stage.spawn(async |stage| {
                stage.write(1).await;
                stage.delete_refused(0).await;
            });
            stage.spawn(async |stage| {
                for _ in 0..2 {
                    stage.decide_soon().await;
                }
            });
            readers(stage, 1);
        },
    );
}

pub(super) fn refused_writes_are_passed_over() {
    parking(OnPark::Skip);
}

pub(super) fn refused_writes_halt_the_flush() {
    parking(OnPark::Halt);
}

/// Batches of which the backend refuses a part.
pub(super) fn refused_batches() {
    let setting = keys(2).atomic_or_not();
    let on_park = if coin() { OnPark::Skip } else { OnPark::Halt };
    play(
        setting,
        |builder| builder.on_park(on_park),
        |stage| {
            stage.spawn(async |stage| stage.apply_refused([0, 1]).await);
            stage.spawn(async |stage| stage.write(1).await);
            stage.spawn(async |stage| {
                for _ in 0..2 {
                    stage.decide_soon().await;
                }
            });
            readers(stage, 1);
        },
    );
}

/// The journal is full, and does not write its list or forget its records.
pub(super) fn a_journal_in_trouble() {
    play(
        keys(1),
        |builder| builder,
        |stage| {
            stage.journal_is_in_trouble(1, 2);
            stage.spawn(async |stage| stage.put_refused(0).await);
            stage.spawn(async |stage| stage.write(0).await);
            stage.spawn(async |stage| stage.decide_soon().await);
            readers(stage, 1);
        },
    );
}

/// The store is left while writes wait for the backend, and opened again.
pub(super) fn closing_and_opening_again() {
    block_on(async {
        let setting = keys(2).atomic_or_not();
        let stage = Stage::build(setting, |builder| builder).await;
        stage.backend_is_in(Trouble::default().lost(1).down(1));
        time::allow_timeouts(1);
        stage.spawn(async |stage| stage.put_refused(0).await);
        stage.spawn(async |stage| stage.apply([0, 1]).await);
        stage.spawn(async |stage| stage.decide_soon().await);
        if coin() {
            stage.spawn(async |stage| stage.close().await);
        }
        let stage = stage.reopen().await;
        stage.spawn(async |stage| stage.write(0).await);
        readers(&stage, 1);
        stage.end().await;
    });
}

/// There is room for two pending writes. A caller that goes away gives its room back.
pub(super) fn room_for_two_writes() {
    play(
        keys(2),
        |builder| builder.max_pending_operations(2),
        |stage| {
            stage.spawn(async |stage| stage.write(0).await);
            stage.spawn(async |stage| {
                abandon(below(8), stage.write(0)).await;
            });
            stage.spawn(async |stage| stage.apply([0, 1]).await);
            readers(stage, 1);
        },
    );
}
