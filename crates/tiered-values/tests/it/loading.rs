//! `get_with`: one load for many readers, whichever of them goes away.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Context;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tiered_conformance::{Fault, FaultStore, Faults};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{MemoryStore, Store as _, StoreExt as _, Timestamp};
use tiered_values::{BoxError, Error, Json, Loaded, Typed};
use tokio::sync::{Notify, oneshot};

fn typed() -> Typed<u32> {
    Typed::new(MemoryStore::new(), Json).expect("valid")
}

/// A loader that counts its calls, and answers when it is told to.
#[derive(Clone, Default)]
struct Source {
    calls: Arc<AtomicU32>,
    go: Arc<Notify>,
}

impl Source {
    fn load(
        &self,
        value: u32,
    ) -> impl FnOnce() -> futures_util::future::BoxFuture<'static, Result<Loaded<u32>, BoxError>> + use<>
    {
        let source = self.clone();
        move || {
            source.calls.fetch_add(1, Ordering::SeqCst);
            async move {
                source.go.notified().await;
                Ok(Loaded::value(value))
            }
            .boxed()
        }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Polls once; the future must not be ready.
fn begin<F: Future>(future: std::pin::Pin<&mut F>) {
    let waker = futures_util::task::noop_waker();
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending(), "it waits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_share_one_load_on_every_stack() {
    for stack in crate::stacks::all().await {
        let typed = Typed::<u32>::new(stack.store.clone(), Json).expect("valid");
        let calls = Arc::new(AtomicU32::new(0));
        let readers = (0..20).map(|_| {
            let (typed, calls) = (typed.clone(), calls.clone());
            tokio::runtime::Handle::current().spawn(async move {
                let loader = move || async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, BoxError>(Some(7))
                };
                typed.get_with("k", loader).await
            })
        });
        for answer in join_all(readers).await {
            assert_eq!(answer.expect("no panic").expect("loaded"), Some(7), "{}", stack.name);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1, "{}", stack.name);
        assert_eq!(typed.get("k").await.expect("stored"), Some(7), "{}", stack.name);
        stack.close().await;
    }
}

#[tokio::test]
async fn a_leader_that_is_dropped_hands_its_load_on() {
    let (typed, source) = (typed(), Source::default());
    let mut leader = Box::pin(typed.get_with("k", source.load(1)));
    begin(leader.as_mut());
    let mut followers: Vec<_> = (0..3).map(|_| Box::pin(typed.get_with("k", source.load(2)))).collect();
    for follower in &mut followers {
        begin(follower.as_mut());
    }
    drop(leader);
    drop(followers.swap_remove(0));
    source.go.notify_one();
    for answer in join_all(followers).await {
        assert_eq!(answer.expect("loaded"), Some(1));
    }
    assert_eq!(source.calls(), 1);
    assert_eq!((typed.stats().loads, typed.stats().followers), (1, 3));
}

#[tokio::test]
async fn a_load_that_all_readers_left_is_begun_anew_by_the_next() {
    let (typed, source) = (typed(), Source::default());
    let mut leader = Box::pin(typed.get_with("k", source.load(1)));
    begin(leader.as_mut());
    drop(leader);
    source.go.notify_one();
    assert_eq!(typed.get_with("k", source.load(2)).await.expect("loaded"), Some(2));
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn a_loader_that_fails_or_panics_is_an_error_for_all_who_wait_and_the_next_loads_again() {
    let typed = typed();
    for panics in [false, true] {
        let (tell, told) = oneshot::channel::<()>();
        let source = move || async move {
            told.await.ok();
            assert!(!panics, "the loader broke");
            Err::<Option<u32>, _>(BoxError::from("the source is away"))
        };
        let mut leader = Box::pin(typed.get_with("k", source));
        begin(leader.as_mut());
        let never = || pending::<Result<Option<u32>, BoxError>>();
        let mut follower = Box::pin(typed.get_with("k", never));
        begin(follower.as_mut());
        tell.send(()).expect("awaited");
        for answer in [follower.await, leader.await] {
            let error = answer.expect_err("the load failed");
            assert!(matches!(error, Error::Load { .. }) && error.is_retryable(), "{error}");
            let chain = tiered_core::Error::from(error).chain();
            assert!(chain.contains(if panics { "the loader broke" } else { "away" }), "{chain}");
        }
    }
    assert_eq!(typed.get_with("k", || async { Ok::<_, BoxError>(Some(5)) }).await.expect("loaded"), Some(5));
}

#[tokio::test]
async fn a_load_never_replaces_a_newer_write() {
    let store = Arc::new(MemoryStore::new());
    let (mine, other) = (
        Typed::<u32>::new(store.clone(), Json).expect("valid"),
        Typed::<u32>::new(store.clone(), Json).expect("valid"),
    );
    let source = Source::default();
    // By another handle: the write is the answer.
    let mut reader = Box::pin(mine.get_with("k", source.load(1)));
    begin(reader.as_mut());
    other.put("k", &2).await.expect("written");
    source.go.notify_one();
    assert_eq!(reader.await.expect("loaded"), Some(2));
    // By this one.
    mine.remove("k").await.expect("removed");
    let mut reader = Box::pin(mine.get_with("k", source.load(1)));
    begin(reader.as_mut());
    mine.put("k", &3).await.expect("written");
    source.go.notify_one();
    reader.await.expect("loaded");
    assert_eq!(mine.get("k").await.expect("read"), Some(3));
}

/// The source was changed, and its owner invalidates: what was read before must not be stored after.
#[tokio::test]
async fn a_load_that_began_before_a_removal_stores_nothing_and_is_not_joined() {
    let (typed, source) = (typed(), Source::default());
    let mut old = Box::pin(typed.get_with("k", source.load(1)));
    begin(old.as_mut());
    typed.remove("k").await.expect("removed");
    let mut new = Box::pin(typed.get_with("k", source.load(2)));
    begin(new.as_mut());
    source.go.notify_one();
    source.go.notify_one();
    source.go.notify_waiters();
    let (old, new) = futures_util::join!(old, new);
    assert_eq!((old.expect("loaded"), new.expect("loaded")), (Some(1), Some(2)));
    assert_eq!(source.calls(), 2);
    assert_eq!(typed.get("k").await.expect("read"), Some(2));
}

/// A removal waits for a load that stores already, and carries it on where its reader does not.
#[tokio::test(start_paused = true)]
async fn a_removal_comes_after_a_load_that_stores_already() {
    let memory = Arc::new(MemoryStore::new());
    let store = FaultStore::new("slow", memory.clone(), Arc::new(Faults::new(1).with(Fault::Slow, 1)));
    let typed = Typed::<u32>::new(store, Json).expect("valid");
    let (mut loading, mut storing) = (0, 0);
    for steps in 0..12 {
        let called = Arc::new(AtomicU32::new(0));
        let of_loader = called.clone();
        let loader = move || async move {
            of_loader.store(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            of_loader.store(2, Ordering::SeqCst);
            Ok::<_, BoxError>(Some(1))
        };
        let mut reader = Box::pin(typed.get_with("k", loader));
        let mut is_done = false;
        for _ in 0..steps {
            // Each poll comes after all timers: the load is one await further.
            tokio::time::sleep(Duration::from_secs(2)).await;
            let waker = futures_util::task::noop_waker();
            is_done = reader.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            if is_done {
                break;
            }
        }
        let stage = called.load(Ordering::SeqCst);
        typed.remove("k").await.expect("removed");
        if is_done || stage > 0 {
            if !is_done {
                assert_eq!(reader.await.expect("loaded"), Some(1));
                (loading, storing) = (loading + u32::from(stage == 1), storing + u32::from(stage == 2));
            }
            assert_eq!(memory.get("k").await.expect("read"), None, "{steps} steps, stage {stage}");
        }
        memory.delete(&"k".parse().expect("valid"), tiered_core::Delete::new()).await.expect("deleted");
    }
    assert!(loading > 0 && storing > 0, "{loading} {storing}");
}

#[tokio::test]
async fn a_negative_answer_is_remembered_for_its_time_and_forgotten_at_a_write() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let build = Typed::<u32>::builder(MemoryStore::new(), Json).clock(clock.clone());
    let typed = build.build().expect("valid");
    let calls = Arc::new(AtomicU32::new(0));
    let ask = async || {
        let calls = calls.clone();
        let loader = move || async move {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok::<_, BoxError>(Loaded::absent().remembered_for(Duration::from_secs(10)))
        };
        typed.get_with("k", loader).await.expect("loaded")
    };
    assert_eq!((ask().await, ask().await), (None, None));
    assert_eq!((calls.load(Ordering::SeqCst), typed.stats().absent), (1, 1));
    clock.advance(Duration::from_secs(10));
    ask().await;
    assert_eq!(calls.load(Ordering::SeqCst), 2, "the time is over");
    // A write of the handle is seen, and after its removal the source is asked again.
    typed.put("k", &1).await.expect("written");
    assert_eq!(ask().await, Some(1));
    typed.remove("k").await.expect("removed");
    ask().await;
    assert_eq!(calls.load(Ordering::SeqCst), 3, "the write made it forget");
}

#[tokio::test]
async fn an_absence_that_was_found_before_a_write_is_not_remembered_after_it() {
    let typed = typed();
    let go = Arc::new(Notify::new());
    let awaited = go.clone();
    let absent = move || async move {
        awaited.notified().await;
        Ok::<_, BoxError>(Loaded::absent().remembered_for(Duration::from_hours(1)))
    };
    let mut reader = Box::pin(typed.get_with("k", absent));
    begin(reader.as_mut());
    typed.put("k", &1).await.expect("written");
    typed.remove("k").await.expect("removed");
    go.notify_one();
    assert_eq!(reader.await.expect("loaded"), None);
    let answer = typed.get_with("k", || async { Ok::<_, BoxError>(Some(2)) }).await;
    assert_eq!(answer.expect("loaded"), Some(2), "the source was asked");
}

#[tokio::test]
async fn what_others_write_is_seen_although_an_absence_is_remembered() {
    let store = Arc::new(MemoryStore::new());
    let typed = Typed::<u32>::new(store.clone(), Json).expect("valid");
    let absent = || async { Ok::<_, BoxError>(Loaded::absent().remembered_for(Duration::from_hours(1))) };
    assert_eq!(typed.get_with("k", absent).await.expect("loaded"), None);
    Typed::<u32>::new(store, Json).expect("valid").put("k", &4).await.expect("written");
    assert_eq!(typed.get_with("k", absent).await.expect("read"), Some(4));
}

#[tokio::test]
async fn a_value_expires_as_its_loader_says_or_as_the_handle_does() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
    let store = Arc::new(MemoryStore::with_stamp(stamp));
    let by_value = |value: &u32| tiered_core::Expiry::After(Duration::from_secs(u64::from(*value)));
    let typed = Typed::<u32>::builder(store.clone(), Json).expiry(by_value).build().expect("valid");
    let load = async |key: &'static str, loaded: Loaded<u32>| {
        typed.get_with(key, move || async move { Ok::<_, BoxError>(loaded) }).await.expect("loaded");
    };
    load("loader", Loaded::value(10).expires_in(Duration::from_secs(2))).await;
    load("handle", Loaded::value(5)).await;
    typed.put("put", &3).await.expect("written");
    let live = async || {
        let reads = typed.get_many(["loader", "handle", "put"]).await;
        reads.into_iter().map(|read| read.expect("read").is_some()).collect::<Vec<_>>()
    };
    assert_eq!(live().await, [true, true, true]);
    clock.advance(Duration::from_secs(2));
    assert_eq!(live().await, [false, true, true]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(live().await, [false, true, false]);
    clock.advance(Duration::from_secs(2));
    assert_eq!(live().await, [false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn readers_are_answered_although_the_store_does_not_take_the_value() {
    let faults = Arc::new(Faults::new(1).with(Fault::Refuse, 1));
    let store = FaultStore::new("full", MemoryStore::new(), faults);
    let typed = Typed::<u32>::new(store, Json).expect("valid");
    let load = || async { Ok::<_, BoxError>(Some(1)) };
    assert_eq!(typed.get_with("k", load).await.expect("answered"), Some(1));
    assert_eq!(typed.stats().not_stored, 1);
}

/// Dropped at every await: the next caller is answered, and no load hangs.
#[tokio::test(start_paused = true)]
async fn readers_dropped_at_any_point_leave_nothing_behind() {
    let store = FaultStore::new("slow", MemoryStore::new(), Arc::new(Faults::new(1)));
    let typed = Typed::<u32>::new(store, Json).expect("valid");
    for polls in 0..15 {
        let key = format!("k{polls}");
        let load = || async {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(Some(1))
        };
        {
            let mut reader = pin!(typed.get_with(&key, load));
            for _ in 0..polls {
                let waker = futures_util::task::noop_waker();
                if reader.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        assert_eq!(typed.get_with(&key, load).await.expect("answered"), Some(1), "{polls} polls");
    }
}
