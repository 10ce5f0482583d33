//! Interleavings of the slot table and the latch alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shuttle::future::block_on;

use super::latch::Latch;
use super::{Gate, Glance, Pending, Slots};
use crate::effect::Effect;
use crate::key::Key;
use crate::observe::Stats;
use crate::sync_primitives::explored::{abandon, below, coin};
use crate::version::Version;

/// The fast path of a glance: where no key has a slot it looks at nothing else.
pub(crate) fn a_glance_misses_no_state() {
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
            task.await.expect("no task is stopped");
        }
    });
    let mut stats = Stats::default();
    slots.measure(&mut stats);
    assert_eq!(stats.slots, 0);
}

/// All who wait for a latch are woken, also where others go away.
pub(crate) fn a_latch_wakes_all_who_wait() {
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
            task.await.expect("no task is stopped");
        }
    });
}
