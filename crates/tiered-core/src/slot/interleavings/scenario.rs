//! What is explored: a few tasks each, over one or two keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::future::block_on;

use super::model::{Answer, Model, Policy, Trouble, abandon, below, coin};
use crate::Freshness;
use crate::effect::Effect;
use crate::key::Key;
use crate::observe::Stats;
use crate::slot::latch::Latch;
use crate::slot::{Gate, Glance, Pending, Slots};
use crate::version::Version;

/// Runs tasks over a model until all of them have ended, and checks it.
fn play(model: &Arc<Model>, cast: impl FnOnce(&Arc<Model>)) {
    cast(model);
    block_on(model.rest());
}

/// A task of a scenario.
macro_rules! task {
    ($model:expr, |$name:ident| $body:expr) => {{
        let stage: &Arc<Model> = $model;
        let $name = Arc::clone(stage);
        stage.spawn(async move {
            $body;
        });
    }};
}

fn readers(model: &Arc<Model>, count: usize) {
    for _ in 0..count {
        task!(model, |model| {
            model.read(0, Freshness::Cached).await;
            model.read(0, Freshness::Cached).await;
        });
    }
}

fn writers(model: &Arc<Model>, count: usize) {
    for _ in 0..count {
        task!(model, |model| model.write(0, Answer::Given).await);
    }
}

pub(super) fn writers_and_readers() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    if coin() {
        model.warm(0);
    }
    play(&model, |model| {
        writers(model, 2);
        readers(model, 2);
    });
}

pub(super) fn writes_around_and_invalidations() {
    let model = Model::new(1, Policy::Around, Trouble::default());
    play(&model, |model| {
        writers(model, 1);
        task!(model, |model| model.invalidate(0).await);
        readers(model, 2);
    });
}

pub(super) fn fresh_readers_take_the_token_over() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    if coin() {
        model.warm(0);
    }
    play(&model, |model| {
        writers(model, 1);
        readers(model, 1);
        for _ in 0..2 {
            task!(model, |model| model.read(0, Freshness::Authoritative).await);
        }
    });
}

pub(super) fn callers_that_go_away() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    play(&model, |model| {
        writers(model, 1);
        task!(model, |model| abandon(below(4), model.write(0, Answer::Given)).await);
        task!(model, |model| abandon(below(4), model.read(0, Freshness::Cached)).await);
        task!(model, |model| abandon(below(4), model.invalidate(0)).await);
        readers(model, 1);
    });
}

pub(super) fn backend_reads_that_fail() {
    let trouble = Trouble { reads: 2, ..Trouble::default() };
    let model = Model::new(1, Policy::Through, trouble);
    play(&model, |model| {
        readers(model, 3);
        writers(model, 1);
    });
}

pub(super) fn a_frontend_that_fails() {
    let trouble = Trouble { frontend: 2, ..Trouble::default() };
    let model = Model::new(1, Policy::Through, trouble);
    if coin() {
        model.warm(0);
    }
    play(&model, |model| {
        writers(model, 2);
        readers(model, 1);
    });
}

pub(super) fn patience_that_runs_out() {
    let trouble = Trouble { frontend: 1, patience: 2, ..Trouble::default() };
    let model = Model::new(1, Policy::Through, trouble);
    play(&model, |model| {
        readers(model, 2);
        writers(model, 2);
    });
}

pub(super) fn quarantines_past_their_bound() {
    let max_quarantined = usize::try_from(below(2)).ok();
    let trouble = Trouble { frontend: 3, patience: 1, max_quarantined, ..Trouble::default() };
    let model = Model::new(2, Policy::Through, trouble);
    model.warm(0);
    play(&model, |model| {
        for key in 0..2 {
            task!(model, |model| model.write(key, Answer::Given).await);
            task!(model, |model| {
                model.read(key, Freshness::Cached).await;
                model.write(key, Answer::Given).await;
            });
        }
    });
}

pub(super) fn answers_that_are_lost() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    model.warm(0);
    play(&model, |model| {
        task!(model, |model| model.write(0, Answer::Lost).await);
        writers(model, 1);
        readers(model, 2);
    });
}

pub(super) fn writes_behind() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    if coin() {
        model.warm(0);
    }
    play(&model, |model| {
        for _ in 0..2 {
            task!(model, |model| model.write_behind(0).await);
        }
        readers(model, 2);
    });
}

pub(super) fn writes_behind_a_frontend_that_fails() {
    let trouble = Trouble { frontend: 2, patience: 1, ..Trouble::default() };
    let model = Model::new(1, Policy::Through, trouble);
    play(&model, |model| {
        for _ in 0..2 {
            task!(model, |model| model.write_behind(0).await);
        }
        readers(model, 1);
        task!(model, |model| model.invalidate(0).await);
    });
}

pub(super) fn batches_of_two_keys() {
    let model = Model::new(2, Policy::Through, Trouble::default());
    play(&model, |model| {
        for keys in [[0, 1], [1, 0]] {
            task!(model, |model| model.write_both(keys).await);
        }
        task!(model, |model| abandon(below(4), model.write_both([0, 1])).await);
        readers(model, 1);
    });
}

pub(super) fn a_flush_waits_for_what_has_begun() {
    let model = Model::new(1, Policy::Through, Trouble::default());
    play(&model, |model| {
        readers(model, 2);
        writers(model, 1);
        task!(model, |model| model.flush().await);
        task!(model, |model| abandon(below(3), model.flush()).await);
    });
}

/// The fast path of a glance: where no key has a slot it looks at nothing else.
pub(super) fn a_glance_misses_no_state() {
    let slots = Slots::new(7);
    let keys = ["a", "b"].map(|name| Key::new(name).expect("valid"));
    // Set for as long as the first key must be seen as gated, or pending. No choices of the scheduler.
    let (gated, pending) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writer = {
        let (slots, key, gated, pending) =
            (Arc::clone(&slots), keys[0].clone(), Arc::clone(&gated), Arc::clone(&pending));
        shuttle::future::spawn(async move {
            let gate = Gate::close(&slots, &key).await;
            gated.store(true, Ordering::Relaxed);
            shuttle::future::yield_now().await;
            let written = Pending::new(1, Effect::Delete(Version::from_u128(1)));
            gated.store(false, Ordering::Relaxed);
            slots.set_pending(&key, written);
            pending.store(true, Ordering::Relaxed);
            drop(gate);
            slots.clear_pending(&key, 0);
            pending.store(false, Ordering::Relaxed);
            slots.clear_pending(&key, 1);
        })
    };
    // Brings the count of slots up and down.
    let other = {
        let (slots, key) = (Arc::clone(&slots), keys[1].clone());
        shuttle::future::spawn(async move {
            for _ in 0..2 {
                drop(Gate::close(&slots, &key).await);
            }
        })
    };
    let reader = {
        let (slots, key) = (Arc::clone(&slots), keys[0].clone());
        shuttle::future::spawn(async move {
            for _ in 0..3 {
                let before = (gated.load(Ordering::Relaxed), pending.load(Ordering::Relaxed));
                let seen = slots.glance(&key);
                let after = (gated.load(Ordering::Relaxed), pending.load(Ordering::Relaxed));
                if before.0 && after.0 {
                    assert!(matches!(seen, Glance::Gated), "a gated key was taken for {seen:?}");
                }
                if before.1 && after.1 {
                    assert!(matches!(seen, Glance::Pending(_)), "a pending key was taken for {seen:?}");
                }
            }
        })
    };
    block_on(async {
        for task in [writer, other, reader] {
            task.await.expect("nobody stops a task");
        }
    });
    let mut stats = Stats::default();
    slots.measure(&mut stats);
    assert_eq!(stats.slots, 0);
}

/// Nobody who waits for a latch is forgotten, whether or not others go away.
pub(super) fn a_latch_wakes_everybody() {
    let latch = Arc::new(Latch::<u64>::new());
    let answers = coin();
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let (for_answer, for_end, gone) = (Arc::clone(&latch), Arc::clone(&latch), Arc::clone(&latch));
        tasks.push(shuttle::future::spawn(async move {
            let answer = for_answer.answered().await.copied();
            assert_eq!(answer, answers.then_some(5), "an answer that was given is seen");
        }));
        tasks.push(shuttle::future::spawn(async move { for_end.ended().await }));
        tasks.push(shuttle::future::spawn(async move {
            abandon(below(3), gone.ended()).await;
        }));
    }
    tasks.push(shuttle::future::spawn(async move {
        if answers {
            latch.answer(5);
            latch.answer(6);
        }
        latch.end();
    }));
    block_on(async {
        for task in tasks {
            task.await.expect("nobody stops a task");
        }
    });
}
