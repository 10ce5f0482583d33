//! Counts the calls that each operation makes of the tiers. Needless calls change no result, so other tests do not notice them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Clock, Reads, Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, ByteStream, Delete, Deleted, Entry, Feature, Key, ListOptions, ListStream, MemoryStore, Metadata,
    Put, Read, ReadOptions, Result, Sharing, Store, StoreExt as _, TieredBuilder, TieredStore, Timestamp,
    VolatileJournal, WritePolicy, Written,
};

/// Counts the calls of a tier by name.
#[derive(Debug, Default)]
struct Calls(Mutex<BTreeMap<&'static str, usize>>);

impl Calls {
    fn count(&self, call: &'static str) {
        *self.0.lock().entry(call).or_default() += 1;
    }

    /// What was counted since the last time, such as `load 2, put 1`.
    fn take(&self) -> String {
        let mut all = String::new();
        for (call, times) in std::mem::take(&mut *self.0.lock()) {
            let comma = if all.is_empty() { "" } else { ", " };
            write!(all, "{comma}{call} {times}").expect("a string takes all");
        }
        if all.is_empty() { "nothing".to_owned() } else { all }
    }
}

#[async_trait]
impl Interceptor for Calls {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.count("load");
        inner.load(key, options).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.count("put");
        inner.put(key, put).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.count("delete");
        inner.delete(key, delete).await
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        self.count("list");
        inner.list(options)
    }
    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        // One that is not for peeking is asked in vain, at no cost.
        if inner.capabilities().has(Feature::Peeks) {
            self.count("peek");
        }
        inner.peek(key)
    }
    async fn head(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Arc<Metadata>>> {
        self.count("head");
        inner.head(key, options).await
    }
    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.count("get_many");
        inner.get_many(keys, options).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.count("apply");
        inner.apply(batch).await
    }
    async fn read_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.count("read_stream");
        inner.read_stream(key, options).await
    }
}

type Tier = Intercept<Calls, MemoryStore>;

/// A stack of counted tiers.
struct Counted {
    store: TieredStore,
    frontend: Tier,
    backend: Tier,
}

impl Counted {
    async fn new(
        frontend: MemoryStore,
        backend: MemoryStore,
        with: impl FnOnce(TieredBuilder) -> TieredBuilder,
    ) -> Self {
        let [frontend, backend] = [frontend, backend].map(|inner| Intercept::new(inner, Calls::default()));
        let store = with(TieredStore::builder(frontend.clone(), backend.clone()));
        let store = store.build().await.expect("builds");
        for number in 0..10 {
            backend.inner().put(&key(number), Put::new("v")).await.expect("writes");
        }
        let counted = Self { store, frontend, backend };
        counted.calls();
        counted
    }

    /// The calls of the frontend and of the backend since the last time.
    fn calls(&self) -> (String, String) {
        (self.frontend.take(), self.backend.take())
    }

    /// Does something, which must ask exactly this of the tiers.
    async fn asks<T>(&self, what: impl Future<Output = Result<T>>, frontend: &str, backend: &str) -> T {
        let done = what.await.expect("succeeds");
        assert_eq!(self.calls(), (frontend.to_owned(), backend.to_owned()));
        done
    }
}

fn key(number: usize) -> Key {
    Key::new(format!("k{number}")).expect("valid")
}

/// A frontend in memory, which answers at once.
fn memory() -> MemoryStore {
    MemoryStore::new().declaring(|all| all.with(Feature::Peeks))
}

/// A frontend that has to be asked, such as a disk.
fn disk() -> MemoryStore {
    MemoryStore::new().declaring(|all| all.without(Feature::Peeks))
}

async fn read_all(store: &TieredStore, keys: std::ops::Range<usize>) -> Result<usize> {
    let keys: Vec<Key> = keys.map(key).collect();
    let mut found = 0;
    for read in store.get_many(&keys, &ReadOptions::new()).await {
        found += usize::from(read?.entry().is_some());
    }
    Ok(found)
}

#[tokio::test]
async fn reads_ask_no_more_of_the_tiers_than_they_need() {
    let stack = Counted::new(memory(), MemoryStore::new(), |all| all).await;
    // A peek that finds nothing says nothing: the entry may be hidden.
    stack.asks(stack.store.get("k0"), "load 1, peek 2, put 1", "load 1").await;
    stack.asks(stack.store.get("k0"), "peek 1", "nothing").await;
    stack.asks(stack.store.get("absent"), "load 1, peek 2", "load 1").await;
    let all = stack.asks(read_all(&stack.store, 0..10), "get_many 1, peek 10, put 9", "get_many 1").await;
    assert_eq!(all, 10);
    stack.asks(read_all(&stack.store, 0..10), "peek 10", "nothing").await;
    let list = async { stack.store.list(ListOptions::new()).try_collect::<Vec<_>>().await };
    assert_eq!(stack.asks(list, "nothing", "list 1").await.len(), 10);
}

#[tokio::test]
async fn reads_ask_a_disk_once() {
    let stack = Counted::new(disk(), MemoryStore::new(), |all| all).await;
    stack.asks(stack.store.get("k0"), "load 1, put 1", "load 1").await;
    stack.asks(stack.store.get("k0"), "load 1", "nothing").await;
    let all = stack.asks(read_all(&stack.store, 0..10), "get_many 1, put 9", "get_many 1").await;
    assert_eq!(all, 10);
    stack.asks(read_all(&stack.store, 0..10), "get_many 1", "nothing").await;
}

#[tokio::test]
async fn a_doubtful_hit_is_compared_by_version_and_moves_no_value() {
    let shared = MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stale = |all: TieredBuilder| {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        all.max_stale(Duration::from_secs(1)).stamp(Stamp::new(clock, Arc::new(VersionMint::seeded(1))))
    };
    let stack = Counted::new(memory(), shared, stale).await;
    stack.asks(stack.store.get("k0"), "load 1, peek 2, put 1", "load 1").await;
    stack.asks(stack.store.get("k0"), "peek 1", "nothing").await;
    clock.advance(Duration::from_secs(2));
    stack.asks(stack.store.get("k0"), "peek 2, put 1", "load 1").await;
}

#[tokio::test]
async fn writes_ask_each_tier_once() {
    let stack = Counted::new(memory(), MemoryStore::new(), |all| all).await;
    stack.asks(stack.store.put(&key(0), Put::new("w")), "put 1", "put 1").await;
    stack.asks(stack.store.delete(&key(0), Delete::new()), "delete 1", "delete 1").await;
    let batch = (0..5).fold(Batch::new(), |batch, number| batch.put(key(number), Put::new("w")));
    stack.asks(stack.store.apply(batch), "put 5", "apply 1").await;
    let around = |all: TieredBuilder| all.write_policy(WritePolicy::WriteAround);
    let stack = Counted::new(memory(), MemoryStore::new(), around).await;
    stack.asks(stack.store.put(&key(0), Put::new("w")), "delete 1", "put 1").await;
}

#[tokio::test]
async fn writes_behind_ask_the_backend_once_for_all_that_wait() {
    let behind = |all: TieredBuilder| {
        all.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new()).max_pending_operations(100)
    };
    let stack = Counted::new(memory(), MemoryStore::new(), behind).await;
    for number in 0..3 {
        // Without giving way, so that the flush has not begun.
        stack.store.put(&key(number), Put::new("w")).await.expect("there is room");
    }
    stack.store.flush().await.expect("drains");
    let (frontend, backend) = stack.calls();
    assert_eq!(frontend, "put 3");
    let flushes: usize =
        backend.strip_prefix("apply ").and_then(|times| times.parse().ok()).expect("only that");
    assert!((1..=3).contains(&flushes), "{backend}");
}
