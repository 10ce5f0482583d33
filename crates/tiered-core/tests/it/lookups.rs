//! How often the tiers are asked for a read, and that a load takes no task of its own before it has to wait.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{Reads, all_failed};
use tiered_core::{
    Entry, Feature, Key, MemoryStore, Put, Read, ReadOptions, Result, Store, StoreExt as _, TieredStore,
};

/// Counts reads.
#[derive(Debug, Default)]
struct Counts {
    peeks: AtomicU64,
    loads: AtomicU64,
    many: AtomicU64,
    /// Whether loads give way once, before they read.
    waits: AtomicBool,
    /// Whether loads panic.
    panics: AtomicBool,
}

type Counted = Intercept<Counts, MemoryStore>;

/// A store in memory.
fn counted() -> Counted {
    Intercept::new(MemoryStore::new(), Counts::default())
}

/// A store that answers nothing at once, as one on a disk.
fn asynchronous() -> Counted {
    Intercept::new(MemoryStore::new().declaring(|all| all.without(Feature::Peeks)), Counts::default())
}

impl Counts {
    /// Peeks, loads and reads of many since the last call.
    fn take(&self) -> (u64, u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.peeks), take(&self.loads), take(&self.many))
    }
}

#[async_trait]
impl Interceptor for Counts {
    async fn before_read(&self) -> Result<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "as planned");
        if self.waits.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        self.peeks.fetch_add(1, Ordering::Relaxed);
        if inner.capabilities().has(Feature::Peeks) { inner.peek(key) } else { None }
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.before_read().await?;
        inner.load(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.many.fetch_add(1, Ordering::Relaxed);
        match self.before_read().await {
            Ok(()) => inner.get_many(keys, options).await,
            Err(error) => all_failed(keys, &error),
        }
    }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("valid")
}

async fn stack(frontend: Counted, backend: Counted) -> TieredStore {
    TieredStore::builder(frontend, backend).build().await.expect("builds")
}

/// Polls once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn values(reads: &Reads) -> Vec<Option<String>> {
    let value = |entry: &Entry| String::from_utf8_lossy(entry.value()).into_owned();
    reads.iter().map(|read| read.as_ref().expect("reads").entry().map(value)).collect()
}

#[tokio::test]
async fn a_hit_is_looked_up_once() {
    for (frontend, once) in [(counted(), (1, 0, 0)), (asynchronous(), (2, 1, 0))] {
        let (front, back) = (frontend.clone(), counted());
        let store = stack(frontend, back.clone()).await;
        store.set("k", "v").await.expect("written");
        front.take();
        back.take();
        store.get("k").await.expect("reads").expect("found");
        // A peek of what is not in memory is no look-up.
        assert_eq!(front.take(), once);
        assert_eq!(back.take(), (0, 0, 0));
    }
}

#[tokio::test]
async fn many_hits_are_looked_up_once_and_an_asynchronous_frontend_is_asked_once() {
    let keys = [key("a"), key("b"), key("c"), key("b")];
    for (frontend, asked) in [(counted(), (3, 0, 0)), (asynchronous(), (3, 0, 1))] {
        let (front, back) = (frontend.clone(), counted());
        let store = stack(frontend, back.clone()).await;
        for key in &keys {
            store.put(key, Put::new(key.as_str().to_owned())).await.expect("written");
        }
        front.take();
        back.take();
        let reads = store.get_many(&keys, &ReadOptions::new()).await;
        assert_eq!(values(&reads), ["a", "b", "c", "b"].map(|value| Some(value.to_owned())));
        assert_eq!(front.take(), asked);
        assert_eq!(back.take(), (0, 0, 0));
        let parts = store.get_many(&keys, &ReadOptions::new().range(0..0)).await;
        assert_eq!(values(&parts), ["", "", "", ""].map(|value| Some(value.to_owned())));
        assert_eq!(front.take(), asked);
        assert_eq!(back.take(), (0, 0, 0));
    }
}

#[tokio::test]
async fn hits_and_misses_take_one_call_of_each_tier() {
    let (front, back) = (asynchronous(), counted());
    let store = stack(front.clone(), back.clone()).await;
    store.set("hit", "1").await.expect("written");
    store.set("miss", "2").await.expect("written");
    store.invalidate(&key("miss")).await.expect("invalidated");
    front.take();
    back.take();
    let keys = [key("miss"), key("none"), key("hit"), key("miss")];
    let reads = store.get_many(&keys, &ReadOptions::new()).await;
    assert_eq!(values(&reads), [Some("2".to_owned()), None, Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(front.take(), (4 - 1, 0, 1));
    assert_eq!(back.take(), (0, 0, 1));
}

/// The runtime does not run, so nothing that was spawned would go on.
#[test]
fn a_miss_that_is_answered_at_once_takes_no_task() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    let (front, back) = (counted(), counted());
    let keys = [key("a"), key("b")];
    let store = runtime.block_on(async {
        for key in &keys {
            back.put(key, Put::new("v")).await.expect("written");
        }
        stack(front.clone(), back.clone()).await
    });
    let _inside = runtime.enter();
    ready(store.get(&keys[0])).expect("at once").expect("reads").expect("found");
    assert!(front.peek(&keys[0]).is_some(), "filled");
    let reads = ready(store.get_many(&keys, &ReadOptions::new())).expect("at once");
    assert!(reads.iter().all(|read| read.as_ref().is_ok_and(|read| read.entry().is_some())));
    assert!(front.peek(&keys[1]).is_some(), "filled");
}

#[tokio::test]
async fn a_load_that_waits_goes_on_without_its_reader() {
    let (front, back) = (counted(), counted());
    let store = stack(front.clone(), back.clone()).await;
    back.put(&key("k"), Put::new("v")).await.expect("written");
    // Building the stack has looked for another owner.
    back.take();
    back.waits.store(true, Ordering::Relaxed);
    let asked = key("k");
    assert!(ready(store.get(&asked)).is_none(), "it waits");
    while front.peek(&asked).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(back.loads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_panic_of_a_backend_is_an_error_of_the_read() {
    let (front, back) = (counted(), counted());
    let store = stack(front, back.clone()).await;
    back.panics.store(true, Ordering::Relaxed);
    store.get("k").await.expect_err("it panicked");
    assert!(store.get_many(&[key("k")], &ReadOptions::new()).await[0].is_err());
    back.panics.store(false, Ordering::Relaxed);
    assert!(store.get("k").await.expect("reads").is_none());
}
