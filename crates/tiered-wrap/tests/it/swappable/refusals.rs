//! Exchanges that are refused, and leave everything as it was.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::Scope;
use tiered_core::{
    Durability, Error, ErrorKind, Feature, MemoryStore, Result, Sharing, Store, StoreExt as _, TieredStore,
    ownership,
};
use tiered_wrap::Swappable;
use tokio::runtime::Handle;

use super::{attach, detach};

/// The store is as before, and claimed as before.
async fn is_as_before(store: &Swappable, memory: &MemoryStore) {
    assert_eq!(store.inside().capabilities().name(), "memory");
    assert!(memory.claim(&Scope::Whole).await.is_err(), "still claimed");
    store.set("a", "2").await.expect("calls go on");
    assert_eq!(memory.get("a").await.expect("reads").expect("is there").value(), "2");
}

#[tokio::test]
async fn an_exchange_that_fails_leaves_the_store_inside() {
    let memory = MemoryStore::new();
    let store = Swappable::new(memory.clone());
    let _claim = store.claim(&Scope::Whole).await.expect("free");
    let failed: Result<Arc<dyn Store>> =
        store.swap(|_| async { Err(Error::new(ErrorKind::Unavailable, "not today")) }).await;
    assert_eq!(failed.expect_err("refused").kind(), ErrorKind::Unavailable);
    is_as_before(&store, &memory).await;

    let panicked: Result<Arc<dyn Store>> = store.swap(|_| async { panic!("not this way") }).await;
    assert_eq!(panicked.expect_err("contained").kind(), ErrorKind::Other);
    is_as_before(&store, &memory).await;
}

#[tokio::test]
async fn a_store_that_lacks_something_is_refused_and_told_apart() {
    let memory = MemoryStore::new();
    let store = Swappable::new(memory.clone());
    let _claim = store.claim(&Scope::Whole).await.expect("free");
    let lacking: [(&str, MemoryStore); 7] = [
        ("ConditionalPut", MemoryStore::new().declaring(|all| all.without(Feature::ConditionalPut))),
        ("not Evicts", MemoryStore::new().declaring(|all| all.with(Feature::Evicts))),
        ("not RepeatsVersions", MemoryStore::new().declaring(|all| all.with(Feature::RepeatsVersions))),
        ("sharing", MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared))),
        ("max_key", MemoryStore::new().declaring(|all| all.with_max_key(100))),
        ("max_value", MemoryStore::new().declaring(|all| all.with_max_value(100))),
        (
            "request_lifetime",
            MemoryStore::new().declaring(|all| all.with_request_lifetime(Duration::from_secs(1))),
        ),
    ];
    for (what, less) in lacking {
        let error = store.swap(|_| async { Ok(less) }).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Config, "{what}");
        assert!(error.to_string().contains(what), "{error}");
        is_as_before(&store, &memory).await;
    }
}

#[tokio::test]
async fn less_can_be_declared_from_the_start_and_not_more() {
    let lasting = MemoryStore::new().declaring(|all| all.with_durability(Durability::PowerLoss));
    let store = Swappable::declaring(lasting, |all| {
        all.with_durability(Durability::Volatile).without(Feature::ConditionalPut)
    })
    .expect("declares less");
    let less = MemoryStore::new().declaring(|all| all.without(Feature::ConditionalPut));
    store.swap(|_| async { Ok(less) }).await.expect("has all that is declared");
    let more = Swappable::declaring(MemoryStore::new(), |all| all.with_durability(Durability::PowerLoss));
    assert_eq!(more.expect_err("declares more").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn another_store_by_its_id_is_refused() {
    let (memory, other) = (MemoryStore::new(), MemoryStore::new());
    ownership::ensure_id(&memory).await.expect("marks");
    let store = Swappable::new(memory.clone());
    let _claim = store.claim(&Scope::Whole).await.expect("free");
    let stranger = other.clone();
    let error = store.swap(|_| async { Ok(stranger) }).await.expect_err("has no id");
    assert!(error.to_string().contains("move_to"), "{error}");
    ownership::ensure_id(&other).await.expect("marks");
    assert_eq!(store.swap(|_| async { Ok(other) }).await.expect_err("another id").kind(), ErrorKind::Config);
    is_as_before(&store, &memory).await;
}

#[tokio::test]
async fn a_stack_that_cannot_be_detached_stays() {
    let memory = MemoryStore::new();
    let store = Swappable::new(memory.clone());
    let stack = store
        .swap(|backend| {
            let builder = TieredStore::builder(MemoryStore::new(), backend);
            builder.settings(tiered_core::TieredSettings::default()).build()
        })
        .await
        .expect("attached");
    // Someone else takes it apart: it is closed, and the second one learns so.
    stack.detach().await.expect("detached");
    assert_eq!(detach(&store, stack).await.expect_err("closed").kind(), ErrorKind::Closed);
    // It is closed inside as well; another exchange brings the seam back.
    store.swap(|_| async move { Ok(memory) }).await.expect("exchanged");
    store.set("a", "1").await.expect("stored");
}

#[tokio::test]
async fn a_stack_whose_backend_may_not_stand_in_is_not_detached() {
    let backend = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    let stack = TieredStore::builder(MemoryStore::new(), backend).build().await.expect("builds");
    let store = Swappable::new(stack.clone());
    let error = store.detach(&stack).await.expect_err("the stack answers peeks");
    assert!(error.to_string().contains("Peeks"), "{error}");
    store.set("a", "1").await.expect("the stack is open");
}

#[tokio::test]
async fn a_store_that_was_closed_is_not_exchanged() {
    let store = Swappable::new(MemoryStore::new());
    store.close().await.expect("closes");
    let other = MemoryStore::new();
    assert_eq!(store.swap(|_| async { Ok(other) }).await.expect_err("closed").kind(), ErrorKind::Closed);
    assert!(store.set("a", "1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn one_exchange_at_a_time() {
    let store = Swappable::new(MemoryStore::new());
    let slow = Handle::current().spawn({
        let store = store.clone();
        async move {
            let slowly = store.swap(|backend| async move {
                tokio::time::sleep(Duration::from_secs(10)).await;
                Ok(backend)
            });
            slowly.await
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(attach(&store).await.expect_err("one is under way").kind(), ErrorKind::Locked);
    slow.await.expect("runs").expect("exchanged");
    attach(&store).await.expect("attached");
}
