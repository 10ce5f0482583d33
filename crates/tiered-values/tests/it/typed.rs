//! Typed values: what is written is read, updates lose nothing and take effect once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tiered_conformance::{Fault, FaultStore, Faults, Intercept, Interceptor};
use tiered_core::{Key, MemoryStore, Outcome, Put, Result, Store, StoreExt as _, Written};
use tiered_values::{Error, Json, MessagePack, Postcard, Typed, TypedKey, ordered};

use crate::stacks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_stand_for_nothing_are_values() {
    for stack in stacks::all().await {
        let values = Typed::<Value>::new(stack.store.clone(), Json).expect("valid");
        for (key, value) in [("null", Value::Null), ("false", Value::Bool(false)), ("empty", "".into())] {
            assert_eq!(values.get(key).await.expect("read"), None, "{}", stack.name);
            values.put(key, &value).await.expect("written");
            assert_eq!(values.get(key).await.expect("read"), Some(value.clone()), "{}", stack.name);
            assert_eq!(values.get_authoritative(key).await.expect("read"), Some(value.clone()));
            let loaded = values.get_with(key, || async { Ok::<_, Error>(Some(Value::from(1))) }).await;
            assert_eq!(loaded.expect("read"), Some(value.clone()), "{}", stack.name);
            assert!(!values.create(key, &Value::from(1)).await.expect("refused"));
            let (old, _) =
                values.update(key, |old| old.cloned().unwrap_or_else(|| 1.into())).await.expect("written");
            assert_eq!(old, Some(value), "{}", stack.name);
        }
        let units = Typed::<()>::new(stack.store.clone(), Postcard).expect("valid");
        units.put("unit", &()).await.expect("written");
        assert_eq!(units.get("unit").await.expect("read"), Some(()), "no byte at all is a value");
        stack.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_concurrent_update_is_lost_on_any_stack() {
    for stack in stacks::all().await {
        let counts = Typed::<u32>::new(stack.store.clone(), Postcard).expect("valid");
        let tasks = (0..5).map(|_| {
            let counts = counts.clone();
            tokio::runtime::Handle::current().spawn(async move {
                for _ in 0..20 {
                    counts.update("n", |old| old.unwrap_or(&0) + 1).await.expect("updated");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!(counts.get("n").await.expect("read"), Some(100), "{}", stack.name);
        assert_eq!(counts.get_authoritative("n").await.expect("read"), Some(100), "{}", stack.name);
        stack.close().await;
    }
}

/// Lets another writer come first, a number of times.
#[derive(Debug)]
struct Rival(AtomicU32);

#[async_trait]
impl Interceptor for Rival {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        let left = self.0.load(Ordering::Relaxed);
        if left > 0 {
            self.0.store(left - 1, Ordering::Relaxed);
            let rivals =
                inner.load(key, &tiered_core::ReadOptions::new()).await?.into_entry().expect("there");
            inner.put(key, Put::replacing(&rivals, rivals.value().clone())).await?;
        }
        inner.put(key, put).await
    }
}

#[tokio::test]
async fn an_update_that_never_comes_first_tells_its_attempts() {
    for (rivals, succeeds) in [(0, true), (2, true), (3, false)] {
        let memory = Arc::new(MemoryStore::new());
        Typed::<u32>::new(memory.clone(), Json).expect("valid").put("n", &1).await.expect("written");
        let store = Intercept::new(memory, Rival(AtomicU32::new(rivals)));
        let attempts = NonZeroU32::new(3).expect("not zero");
        let typed = Typed::<u32>::builder(store, Json).max_attempts(attempts).build().expect("valid");
        let mut calls = 0;
        let updated = typed
            .update("n", |old| {
                calls += 1;
                old.unwrap_or(&0) + 1
            })
            .await;
        assert_eq!(calls, rivals.min(2) + 1);
        match updated {
            Ok(updated) => assert_eq!((succeeds, updated), (true, (Some(1), 2))),
            Err(error) => {
                assert!(matches!(error, Error::Contended { attempts: 3, .. }) && !succeeds, "{error}");
                assert_eq!((error.write_outcome(), error.is_retryable()), (Outcome::NotApplied, true));
            }
        }
    }
}

/// Each fault, on every write and on some, by one writer: what is acknowledged has taken effect once, what is refused has not.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_never_applies_an_update_twice() {
    for fault in [Fault::ErrorAfter, Fault::DelayedApply, Fault::Duplicate, Fault::ErrorBefore, Fault::Hang] {
        for (seed, rarity) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
            let faults = Faults::new(seed).with(fault, rarity).request_lifetime(Duration::from_millis(50));
            let memory = Arc::new(MemoryStore::new());
            let clean = Typed::<u64>::new(memory.clone(), Postcard).expect("valid");
            clean.put("n", &0).await.expect("written");
            let faults = Arc::new(faults.hang(Duration::from_millis(100)));
            let store = FaultStore::new("faulty", memory, Arc::clone(&faults));
            let typed = Typed::<u64>::new(store, Postcard).expect("valid");
            let (mut least, mut most) = (0, 0);
            for _ in 0..20 {
                match typed.update("n", |old| old.unwrap_or(&0) + 1).await {
                    Ok(_) => (least, most) = (least + 1, most + 1),
                    Err(error) if error.write_outcome() == Outcome::NotApplied => {}
                    Err(_) => most += 1,
                }
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            let found = clean.get("n").await.expect("read").expect("there");
            assert!((least..=most).contains(&found), "{fault:?}: {found} of {least}..={most}");
            if matches!(fault, Fault::ErrorAfter | Fault::Duplicate) {
                assert_eq!(found, 20, "one writer finds out about each lost answer: {fault:?}");
            }
        }
    }
}

/// Two writers, some answers lost.
#[tokio::test(start_paused = true)]
async fn an_update_whose_answer_is_lost_and_overtaken_is_unknown_and_not_repeated() {
    for seed in 0..20 {
        let faults = Faults::new(seed).with(Fault::ErrorAfter, 3).with(Fault::DelayedApply, 5);
        let faults = Arc::new(faults.request_lifetime(Duration::from_millis(50)));
        let memory = Arc::new(MemoryStore::new());
        let clean = Typed::<u64>::new(memory.clone(), Postcard).expect("valid");
        let store = FaultStore::new("faulty", memory, faults);
        let typed = Typed::<u64>::new(store, Postcard).expect("valid");
        let writer = || {
            let typed = typed.clone();
            async move {
                let (mut applied, mut unknown) = (0, 0);
                for _ in 0..10 {
                    match typed.update("n", |old| old.unwrap_or(&0) + 1).await {
                        Ok(_) => applied += 1,
                        Err(error) if error.write_outcome() == Outcome::Unknown => unknown += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                (applied, unknown)
            }
        };
        let (one, other, third) = futures_util::join!(writer(), writer(), writer());
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (applied, unknown) = (one.0 + other.0 + third.0, one.1 + other.1 + third.1);
        let found = clean.get("n").await.expect("read").unwrap_or(0);
        assert!(
            (applied..=applied + unknown).contains(&found),
            "{found} of {applied} and {unknown}, seed {seed}"
        );
    }
}

#[tokio::test]
async fn get_many_answers_each_key_for_itself() {
    let store = Arc::new(MemoryStore::new());
    let values = Typed::<u32>::new(store.clone(), MessagePack).expect("valid");
    values.put("a", &1).await.expect("written");
    store.set("foreign", "x").await.expect("written");
    let answers = values.get_many(["a", "", "foreign", "absent", "a"]).await;
    assert_eq!(answers[0].as_ref().ok(), Some(&Some(1)));
    assert!(matches!(answers[1], Err(Error::Store(_))), "no key");
    assert!(matches!(answers[2], Err(Error::Format { .. })));
    assert_eq!(answers[3].as_ref().ok(), Some(&None));
    assert_eq!(answers[4].as_ref().ok(), Some(&Some(1)));
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Event {
    at: i64,
    id: Vec<u8>,
}

impl TypedKey for Event {
    const PREFIX: &'static str = "events/";
    fn text(&self) -> String {
        format!("{}/{}", ordered::from_i64(self.at), ordered::from_bytes(&self.id))
    }
    fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('/')?;
        Some(Self { at: ordered::to_i64(at)?, id: ordered::to_bytes(id)? })
    }
}

#[tokio::test]
async fn typed_keys_are_listed_in_the_order_of_what_they_stand_for() {
    let store = Arc::new(MemoryStore::new());
    let events = Typed::<u32>::new(store.clone(), Json).expect("valid").keyed::<Event>();
    let mut all: Vec<Event> = [(5, "b"), (-1, ""), (5, "a"), (i64::MIN, "x"), (i64::MAX, "y"), (0, "\u{ff}")]
        .map(|(at, id)| Event { at, id: id.into() })
        .to_vec();
    for event in &all {
        events.put(event, &7).await.expect("written");
    }
    all.sort_by(|a, b| a.partial_cmp(b).expect("ordered"));
    assert_eq!(events.keys().await.expect("listed"), all);
    assert_eq!(events.get(&all[0]).await.expect("read"), Some(7));
    store.set("events/other", "x").await.expect("written");
    events.keys().await.expect_err("a key of another kind");
}
