//! Dropping what the frontend has by prefix: nothing of it comes back, and nothing else is touched.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{
    Delete, Feature, Key, MemoryStore, Read, ReadOptions, Result, Store, StoreExt as _, TieredStore,
    WritePolicy,
};
use tokio::sync::{Notify, Semaphore};

use crate::scripted::{key, scripted};

#[tokio::test(start_paused = true)]
async fn a_prefix_is_dropped_and_the_rest_stays() {
    let frontend = MemoryStore::new();
    let builder = TieredStore::builder(frontend.clone(), MemoryStore::new());
    let store = builder.build().await.expect("it fits");
    for number in 0..100 {
        store.set(format!("a/{number}"), "1").await.expect("set");
        store.set(format!("b/{number}"), "1").await.expect("set");
    }
    assert_eq!(store.invalidate_prefix("a/").await.expect("dropped"), 100);
    assert_eq!(frontend.keys("").await.expect("keys").len(), 100);
    assert!(store.get("a/7").await.expect("get").is_some(), "the backend has it");
    store.flush().await.expect("filled");
    assert_eq!(store.invalidate_all().await.expect("dropped"), 101);
    assert_eq!(store.stats().invalidations, 201);
    assert_eq!(store.invalidate_prefix("no such keys").await.expect("nothing to do"), 0);
}

#[tokio::test(start_paused = true)]
async fn notes_of_absence_are_dropped_as_well() {
    let backend = scripted();
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone());
    let store = builder.negative_ttl(Duration::from_hours(1)).build().await.expect("it fits");
    assert!(store.get("a/1").await.expect("get").is_none());
    store.flush().await.expect("the note is kept");
    let reads = backend.reads();
    assert!(store.get("a/1").await.expect("get").is_none());
    assert_eq!(backend.reads(), reads, "the note answers");
    store.invalidate_prefix("a/").await.expect("dropped");
    assert!(store.get("a/1").await.expect("get").is_none());
    assert_eq!(backend.reads(), reads + 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_to_the_frontend_alone_stays() {
    let backend = MemoryStore::new();
    for name in ["a/copied", "a/deleted"] {
        backend.set(name, "1").await.expect("set");
    }
    let builder = TieredStore::builder(MemoryStore::new(), backend).write_policy(WritePolicy::FrontendOnly);
    let store = builder.build().await.expect("it fits");
    store.get("a/copied").await.expect("get");
    store.flush().await.expect("filled");
    store.set("a/written", "2").await.expect("set");
    store.delete(&key("a/deleted"), Delete::new()).await.expect("delete");
    assert_eq!(store.invalidate_all().await.expect("dropped"), 1, "the copy");
    assert_eq!(store.get("a/written").await.expect("get").expect("there").value(), "2");
    assert!(store.get("a/deleted").await.expect("get").is_none());
}

/// A backend that has read and does not answer until it is let go.
#[derive(Clone, Debug)]
struct Late {
    read: Arc<Notify>,
    go: Arc<Semaphore>,
}

#[async_trait]
impl Interceptor for Late {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let read = inner.load(key, options).await;
        if key.as_str() != "a/1" {
            return read;
        }
        self.read.notify_one();
        self.go.acquire().await.expect("open").forget();
        read
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_under_way_brings_nothing_back() {
    let late = Late { read: Arc::default(), go: Arc::new(Semaphore::new(0)) };
    // Without peeking, so that every read waits.
    let inner = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    inner.set("a/1", "old").await.expect("set");
    let backend = Intercept::new(inner.clone(), late.clone());
    let store = TieredStore::builder(MemoryStore::new(), backend).build().await.expect("it fits");
    let mut reader = Box::pin(store.get("a/1"));
    assert!((&mut reader).now_or_never().is_none());
    late.read.notified().await;
    // Another program has written past this store, so an operator calls for an invalidation.
    inner.set("a/1", "new").await.expect("set");
    assert_eq!(store.invalidate_prefix("a/").await.expect("dropped"), 0, "nothing is listed yet");
    late.go.add_permits(10);
    reader.await.expect("either answer is right").expect("there");
    store.flush().await.expect("no fill is under way");
    assert_eq!(store.get("a/1").await.expect("get").expect("there").value(), "new");
}
