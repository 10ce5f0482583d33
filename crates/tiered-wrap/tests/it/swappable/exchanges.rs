//! What an exchange waits for, and what goes on across it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::Scope;
use tiered_core::sync::{PopulateMissing, SyncOptions};
use tiered_core::{
    ErrorKind, Feature, ListOptions, MemoryStore, Put, ReadOptions, Store, StoreExt as _, TieredStore,
    VolatileJournal, WritePolicy, ownership,
};
use tiered_wrap::Swappable;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::{attach, detach, held, key};

/// Long enough for whatever could go on to go on; the clock is the test's.
const A_WHILE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_frontend_is_attached_warms_up_and_is_detached_again() {
    let backend = MemoryStore::new();
    let store = Swappable::new(backend.clone());
    for index in 0..100 {
        store.set(format!("k{index:03}").as_str(), index.to_string()).await.expect("stored");
    }
    let stack = attach(&store).await.expect("attached");
    let warmed = stack.sync(&PopulateMissing, &SyncOptions::new()).await.expect("warms up");
    assert_eq!(warmed.copied, 100);
    for index in 0..100 {
        let read = store.get(format!("k{index:03}").as_str()).await.expect("reads").expect("is there");
        assert_eq!(read.value(), &index.to_string());
    }
    assert_eq!((stack.stats().hits, stack.stats().misses), (100, 0));
    store.set("k000", "new").await.expect("stored");
    let left = detach(&store, stack.clone()).await.expect("detached");
    assert_eq!(left.get("k000").await.expect("reads").expect("is there").value(), "new");
    assert_eq!(backend.keys("").await.expect("lists").len(), 100);
    assert!(stack.get("k000").await.is_err_and(|error| error.kind() == ErrorKind::Closed));
}

#[tokio::test]
async fn what_is_pending_is_in_the_backend_once_its_stack_is_detached() {
    let backend = MemoryStore::new();
    let store = Swappable::declaring(backend.clone(), |all| all).expect("declares what it has");
    let build = |backend| {
        TieredStore::builder(MemoryStore::new(), backend)
            .write_policy(WritePolicy::WriteBehind)
            .journal(VolatileJournal::new())
            .build()
    };
    let stack = store.swap(build).await.expect("attached");
    for index in 0..500 {
        store.set(format!("k{index}").as_str(), "v").await.expect("stored");
    }
    detach(&store, stack).await.expect("detached");
    assert_eq!(backend.keys("").await.expect("lists").len(), 500);
}

#[tokio::test(start_paused = true)]
async fn calls_that_begin_during_an_exchange_are_answered_by_the_new_store() {
    let store = Swappable::new(MemoryStore::new());
    let (begun, has_begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move {
            let exchanged = store.swap(|backend| async move {
                begun.send(()).expect("waited for");
                may_go_on.await.expect("sent");
                TieredStore::builder(MemoryStore::new(), backend).build().await
            });
            exchanged.await
        }
    });
    has_begun.await.expect("sent");
    let write = Handle::current().spawn({
        let store = store.clone();
        async move { store.set("a", "1").await }
    });
    sleep(A_WHILE).await;
    assert!(!write.is_finished(), "the write waits");
    go_on.send(()).expect("waited for");
    let stack = exchange.await.expect("runs").expect("exchanged");
    write.await.expect("runs").expect("stored");
    assert_eq!(stack.stats().puts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_waits_for_the_calls_under_way() {
    let memory = held();
    let store = Swappable::new(memory.clone());
    let write = Handle::current().spawn({
        let store = store.clone();
        async move { store.set("a", "1").await }
    });
    sleep(A_WHILE).await;
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    assert!(!exchange.is_finished(), "the write is under way");
    memory.0.add_permits(100);
    write.await.expect("runs").expect("stored");
    exchange.await.expect("runs").expect("attached");
}

#[tokio::test(start_paused = true)]
async fn an_exchange_waits_for_what_a_dropped_write_may_still_do() {
    const LIFETIME: Duration = Duration::from_secs(20);
    let memory = held();
    let store = Swappable::declaring(memory, |all| all.with_request_lifetime(LIFETIME)).expect("declares");
    assert!(timeout(A_WHILE, store.set("a", "1")).await.is_err(), "it waits");
    // The lifetime is that of the store inside, which promises none after a call.
    let begun = Instant::now();
    attach(&store).await.expect("attached");
    assert!(begun.elapsed() < Duration::from_secs(1));

    let slow =
        MemoryStore::new().declaring(|all| all.with_request_lifetime(LIFETIME).without(Feature::Peeks));
    let slow = tiered_conformance::Intercept::new(slow, super::Held(tokio::sync::Semaphore::new(0)));
    let store = Swappable::new(slow);
    assert!(timeout(A_WHILE, store.set("a", "1")).await.is_err(), "it waits");
    let begun = Instant::now();
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    assert!(store.get("a").await.expect("reads on").is_none());
    exchange.await.expect("runs").expect("attached");
    assert!(begun.elapsed() >= LIFETIME, "{:?}", begun.elapsed());
}

/// A stack carries a write out although its caller left, for as long as its backend takes.
#[tokio::test(start_paused = true)]
async fn an_exchange_waits_for_what_a_stack_inside_still_carries_out() {
    let memory = held();
    memory.0.add_permits(1);
    let inside = TieredStore::builder(MemoryStore::new(), memory.clone()).build().await.expect("builds");
    let store = Swappable::new(inside);
    store.set("a", "old").await.expect("stored");
    assert!(timeout(A_WHILE, store.set("a", "new")).await.is_err(), "it waits");
    // An exchange that gives up does not forget it.
    let store = store.patience(A_WHILE);
    assert_eq!(attach(&store).await.expect_err("still under way").kind(), ErrorKind::TimedOut);
    let store = store.patience(Duration::from_mins(1));
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    assert!(!exchange.is_finished(), "the write is under way");
    memory.0.add_permits(100);
    exchange.await.expect("runs").expect("attached");
    assert_eq!(store.get("a").await.expect("reads").expect("is there").value(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_copied_into_another_does_not_wait_for_an_exchange_that_waits_for_it() {
    let store = Swappable::new(MemoryStore::new());
    store.set("a", "12345").await.expect("stored");
    let (_, body) =
        store.read_stream(&key("a"), &ReadOptions::new()).await.expect("reads").expect("is there");
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    let copied = timeout(A_WHILE, store.put_stream(&key("b"), Put::new(Bytes::new()), body)).await;
    copied.expect("in time").expect("stored");
    exchange.await.expect("runs").expect("attached");
    assert_eq!(store.get("b").await.expect("reads").expect("is there").value(), "12345");
}

#[tokio::test(start_paused = true)]
async fn streams_are_waited_for_and_calls_go_on_meanwhile() {
    let store = Swappable::new(MemoryStore::new()).patience(Duration::from_mins(1));
    store.set("a", "12345").await.expect("stored");
    let (_, body) =
        store.read_stream(&key("a"), &ReadOptions::new()).await.expect("reads").expect("is there");
    let error = attach(&store).await.expect_err("the body is still read");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    store.set("b", "2").await.expect("stored");
    assert!(!exchange.is_finished());
    let parts: Vec<Bytes> = body.map(|part| part.expect("reads")).collect().await;
    assert_eq!(parts.concat(), b"12345");
    exchange.await.expect("runs").expect("attached");
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_waited_for() {
    let store = Swappable::new(MemoryStore::new());
    let (part, mut parts) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = stream::poll_fn(move |context| parts.poll_recv(context)).map(Ok);
    let upload = Handle::current().spawn({
        let store = store.clone();
        async move { store.put_stream(&key("a"), Put::new(Bytes::new()), Box::pin(body)).await }
    });
    part.send("1".into()).await.expect("read");
    sleep(A_WHILE).await;
    let exchange = Handle::current().spawn({
        let store = store.clone();
        async move { attach(&store).await }
    });
    sleep(A_WHILE).await;
    part.send("2".into()).await.expect("read");
    assert!(!exchange.is_finished());
    drop(part);
    upload.await.expect("runs").expect("stored");
    exchange.await.expect("runs").expect("attached");
    assert_eq!(store.get("a").await.expect("reads").expect("is there").value(), "12");
}

#[tokio::test]
async fn a_listing_goes_on_at_the_new_store_behind_the_last_key() {
    let store = Swappable::new(MemoryStore::new());
    let keys: Vec<_> = (0..1_000).map(|index| key(&format!("k{index:04}"))).collect();
    for key in &keys {
        store.put(key, Put::new("v")).await.expect("stored");
    }
    let mut stacks = Vec::new();
    let mut listed = Vec::new();
    let mut listing = store.list(ListOptions::new().prefix("k").limit(900));
    while let Some(next) = listing.next().await {
        listed.push(next.expect("lists").key);
        if listed.len() % 100 == 50 {
            match stacks.pop() {
                Some(stack) => drop(detach(&store, stack).await.expect("detached")),
                None => stacks.push(attach(&store).await.expect("attached")),
            }
        }
    }
    assert_eq!(listed, keys[..900]);
}

#[tokio::test]
async fn claims_stand_across_exchanges() {
    let (memory, next) = (MemoryStore::new(), MemoryStore::new());
    let is_free = async |store: &MemoryStore| store.claim(&Scope::Whole).await.is_ok();
    let store = Swappable::new(memory.clone());
    let first = store.claim(&Scope::prefix("a/")).await.expect("free");
    let second = store.claim(&Scope::prefix("b/")).await.expect("free");
    assert!(!is_free(&memory).await);
    let stack = attach(&store).await.expect("attached, although the store inside was claimed");
    assert!(!is_free(&memory).await);
    detach(&store, stack).await.expect("detached");
    assert!(!is_free(&memory).await);
    drop(first);
    store.move_to(next.clone(), &tiered_wrap::MoveOptions::new()).await.expect("moved");
    assert!(is_free(&memory).await);
    assert!(!is_free(&next).await);
    assert!(store.claim(&Scope::prefix("b/1")).await.is_err());
    drop(second);
    assert!(is_free(&next).await);
}

#[tokio::test]
async fn a_stack_keeps_its_backend_across_exchanges() {
    let seam = Swappable::new(MemoryStore::new());
    let service = TieredStore::builder(MemoryStore::new(), seam.clone()).build().await.expect("builds");
    service.set("a", "1").await.expect("stored");
    let middle = attach(&seam).await.expect("attached");
    service.set("a", "2").await.expect("stored");
    assert_eq!(middle.stats().puts, 1);
    assert_eq!(service.get("a").await.expect("reads").expect("is there").value(), "2");
    let id = ownership::ensure_id(&service).await.expect("marks");
    detach(&seam, middle).await.expect("detached");
    assert_eq!(ownership::id(&service).await.expect("marks"), id);
    service.close().await.expect("closes");
}

#[tokio::test]
async fn an_exchange_that_nobody_waits_for_goes_on() {
    let store = Swappable::new(MemoryStore::new());
    store.set("a", "1").await.expect("stored");
    let swap = store.swap(|backend| async move {
        tokio::task::yield_now().await;
        TieredStore::builder(MemoryStore::new(), backend).build().await
    });
    futures_util::future::select(Box::pin(swap), Box::pin(tokio::task::yield_now())).await;
    let read = timeout(A_WHILE, store.get("a")).await.expect("no exchange is left half-way");
    assert_eq!(read.expect("reads").expect("is there").value(), "1");
    let exchanged = async {
        while store.inside().capabilities().name() != "memory/memory" {
            tokio::task::yield_now().await;
        }
    };
    timeout(A_WHILE, exchanged).await.expect("it goes on to its end");
}
