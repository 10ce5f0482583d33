//! Calls that are dropped at any await: the store and the handle stay usable, and nothing takes effect twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tiered_conformance::{FaultStore, Faults};
use tiered_core::{MemoryStore, TieredStore};
use tiered_values::{Log, Postcard, Typed};

use crate::logs::{contents, log_of};

/// Polls at most so often, with all timers run out in between. Returns whether it was dropped before its end.
async fn dropped_after<F: Future>(polls: u32, mut call: Pin<Box<F>>) -> bool {
    for _ in 0..polls {
        let waker = futures_util::task::noop_waker();
        if call.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return false;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    true
}

/// A stack whose calls take time.
async fn slow(memory: &Arc<MemoryStore>) -> TieredStore {
    let backend = FaultStore::new("slow", memory.clone(), Arc::new(Faults::new(1)));
    TieredStore::builder(MemoryStore::new(), backend).build().await.expect("builds")
}

#[tokio::test(start_paused = true)]
async fn an_append_dropped_at_any_await_leaves_the_log_as_before_or_with_the_element_once() {
    let (mut before, mut with) = (0, 0);
    for elements in [0, 2, 3] {
        for polls in 0.. {
            let memory = Arc::new(MemoryStore::new());
            let log: Log = log_of(slow(&memory).await, 3);
            for number in 0..elements {
                log.append(number.to_string()).await.expect("appended");
            }
            let is_dropped = dropped_after(polls, Box::pin(log.append("new"))).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let found = contents(memory.clone()).await.len() as u64;
            assert!(
                found == elements || found == elements + 1,
                "{elements} elements, {polls} polls: {found}"
            );
            if is_dropped {
                (before, with) = (before + u32::from(found == elements), with + u32::from(found > elements));
            }
            assert_eq!(log.append("next").await.expect("the handle goes on"), found);
            assert_eq!(contents(memory).await.len() as u64, found + 1);
            if !is_dropped {
                break;
            }
        }
    }
    assert!(before > 5 && with > 0, "{before} {with}");
}

#[tokio::test(start_paused = true)]
async fn an_update_dropped_at_any_await_takes_effect_once_or_not() {
    let (mut before, mut with) = (0, 0);
    for polls in 0.. {
        let memory = Arc::new(MemoryStore::new());
        let typed = Typed::<u32>::new(slow(&memory).await, Postcard).expect("valid");
        typed.put("n", &1).await.expect("written");
        let is_dropped = dropped_after(polls, Box::pin(typed.update("n", |old| old.unwrap_or(&0) + 1))).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let found = typed.get("n").await.expect("read").expect("there");
        assert!(found == 1 || found == 2, "{polls} polls: {found}");
        if is_dropped {
            (before, with) = (before + u32::from(found == 1), with + u32::from(found == 2));
        }
        let (old, _) = typed.update("n", |old| old.unwrap_or(&0) + 10).await.expect("the handle goes on");
        assert_eq!(old, Some(found));
        if !is_dropped {
            break;
        }
    }
    assert!(before > 0 && with > 0, "{before} {with}");
}
