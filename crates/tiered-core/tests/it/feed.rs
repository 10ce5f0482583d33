//! A backend that tells what others write.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::{Change, ChangeStream};
use tiered_core::settings::MaxStale;
use tiered_core::{
    Delete, Feature, Key, MemoryStore, Put, Read, ReadOptions, ReadPolicy, Result, Store, StoreExt as _,
    TieredStore, Version, WritePolicy,
};
use tokio::sync::{Semaphore, mpsc};

/// A memory store that announces what it is told to, and whose reads can be held up.
type Announcing = Intercept<Announcements, MemoryStore>;

#[derive(Debug)]
struct Announcements {
    feed: Mutex<Option<mpsc::UnboundedReceiver<Change>>>,
    /// A permit for each read after its answer was taken.
    reads: Semaphore,
}

#[async_trait]
impl Interceptor for Announcements {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let read = inner.load(key, options).await;
        self.reads.acquire().await.expect("open").forget();
        read
    }
    fn changes(&self, _inner: &dyn Store) -> Option<ChangeStream> {
        let feed = self.feed.lock().take()?;
        Some(Box::pin(stream::unfold(feed, |mut feed| async move {
            let change = feed.recv().await?;
            assert!(
                !matches!(&change, Change::Key { key, .. } if key.as_str() == "panics"),
                "as a test said"
            );
            Some((change, feed))
        })))
    }
}

struct Stack {
    store: TieredStore,
    front: MemoryStore,
    back: Arc<Announcing>,
    others: mpsc::UnboundedSender<Change>,
}

async fn stack(write: WritePolicy, read: ReadPolicy) -> Stack {
    let (others, feed) = mpsc::unbounded_channel();
    let front = MemoryStore::new();
    let inner = MemoryStore::new().declaring(|capabilities| {
        capabilities
            .with(Feature::Changes)
            .without(Feature::AtomicBatch)
            .without(Feature::KeepsMarks)
            .without(Feature::Peeks)
    });
    let announcements =
        Announcements { feed: Mutex::new(Some(feed)), reads: Semaphore::new(Semaphore::MAX_PERMITS) };
    let back = Arc::new(Intercept::new(inner, announcements));
    let builder = TieredStore::builder(front.clone(), Arc::clone(&back));
    let builder = builder.write_policy(write).read_policy(read).max_stale(MaxStale::Unlimited);
    Stack { store: builder.build().await.expect("builds"), front, back, others }
}

fn key() -> Key {
    Key::new("k").expect("valid")
}

async fn value(store: &TieredStore) -> String {
    let entry = store.get(&key()).await.expect("reads").expect("there");
    String::from_utf8(entry.value().to_vec()).expect("text")
}

/// Waits until what was told is done.
async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(done(), "in time");
}

impl Stack {
    /// Another process writes, and the backend tells.
    async fn others_write(&self, value: &'static str) -> Version {
        let version = self.back.inner().put(&key(), Put::new(value)).await.expect("written").version;
        self.others.send(Change::Key { key: key(), version: Some(version.clone()) }).expect("followed");
        version
    }
}

#[tokio::test]
async fn a_change_by_another_process_is_removed_from_the_frontend() {
    let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
    stack.store.put(&key(), Put::new("ours")).await.expect("written");
    stack.others_write("theirs").await;
    until(|| stack.store.stats().invalidations == 1).await;
    assert_eq!(value(&stack.store).await, "theirs");
    stack.back.inner().delete(&key(), Delete::new()).await.expect("deleted");
    stack.others.send(Change::Key { key: key(), version: None }).expect("followed");
    until(|| stack.store.stats().invalidations == 2).await;
    assert!(stack.store.get(&key()).await.expect("reads").is_none());
    assert_eq!(stack.store.stats().slots, 0, "idle keys have no state");
}

#[tokio::test]
async fn a_change_that_names_the_stores_own_write_removes_nothing() {
    let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
    let version = stack.store.put(&key(), Put::new("ours")).await.expect("written").version;
    stack.others.send(Change::Key { key: key(), version: Some(version) }).expect("followed");
    // The next change shows that the first was worked off.
    stack.others.send(Change::Resync).expect("followed");
    until(|| stack.store.stats().resyncs == 1).await;
    assert_eq!(stack.front.snapshot().len(), 1);
    assert_eq!(stack.store.stats().invalidations, 0);
}

#[tokio::test]
async fn a_gap_in_the_feed_makes_every_entry_unverified() {
    let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
    stack.store.put(&key(), Put::new("ours")).await.expect("written");
    stack.back.inner().put(&key(), Put::new("theirs")).await.expect("written");
    assert_eq!(value(&stack.store).await, "ours", "no change was announced");
    stack.others.send(Change::Resync).expect("followed");
    until(|| stack.store.stats().resyncs == 1).await;
    assert_eq!(value(&stack.store).await, "theirs");
    let reads = stack.store.stats().backend_reads;
    assert_eq!(value(&stack.store).await, "theirs");
    assert_eq!(stack.store.stats().backend_reads, reads, "compared once");
}

#[tokio::test]
async fn a_read_that_began_before_a_change_does_not_fill_the_old_value() {
    let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
    stack.back.inner().put(&key(), Put::new("old")).await.expect("written");
    stack.back.reads.forget_permits(Semaphore::MAX_PERMITS);
    let store = stack.store.clone();
    let reading = tokio::runtime::Handle::current().spawn(async move { value(&store).await });
    until(|| stack.store.stats().loads == 1).await;
    stack.others_write("new").await;
    until(|| stack.store.stats().loads == 0).await;
    stack.back.reads.add_permits(2);
    assert_eq!(reading.await.expect("reads"), "old", "it was there when the read began");
    assert!(stack.front.snapshot().is_empty(), "and is not kept");
    assert_eq!(value(&stack.store).await, "new");
}

#[tokio::test]
async fn a_read_after_a_gap_follows_no_load_of_before_it() {
    let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
    stack.back.inner().put(&key(), Put::new("before")).await.expect("written");
    stack.back.reads.forget_permits(Semaphore::MAX_PERMITS);
    let early = tokio::runtime::Handle::current().spawn({
        let store = stack.store.clone();
        async move { value(&store).await }
    });
    until(|| stack.store.stats().backend_reads == 1).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let follower = tokio::runtime::Handle::current().spawn({
        let store = stack.store.clone();
        async move { store.load(&key(), &ReadOptions::new()).await.expect("reads") }
    });
    until(|| stack.store.stats().joined == 1).await;
    stack.back.inner().put(&key(), Put::new("after")).await.expect("written");
    stack.others.send(Change::Resync).expect("followed");
    until(|| stack.store.stats().resyncs == 1).await;
    let late = tokio::runtime::Handle::current().spawn({
        let store = stack.store.clone();
        async move { value(&store).await }
    });
    until(|| stack.store.stats().backend_reads == 2).await;
    stack.back.reads.add_permits(2);
    assert_eq!(early.await.expect("ran"), "before");
    let follower = follower.await.expect("ran");
    assert!(follower.age >= Duration::from_millis(4), "{:?}: it joined later", follower.age);
    follower.into_entry().expect("there");
    assert_eq!(late.await.expect("ran"), "after");
    // The earlier load, which lost the fill token, filled nothing.
    stack.back.reads.add_permits(Semaphore::MAX_PERMITS / 2);
    assert_eq!(value(&stack.store).await, "after");
    assert_eq!(stack.store.stats().slots, 0);
}

#[tokio::test]
async fn local_writes_survive_the_feed_and_frontend_only_reads_do_not_follow_it() {
    let stack = stack(WritePolicy::FrontendOnly, ReadPolicy::FrontendFirst).await;
    stack.store.put(&key(), Put::new("local")).await.expect("written");
    stack.others_write("theirs").await;
    stack.others.send(Change::Resync).expect("followed");
    until(|| stack.store.stats().resyncs == 1).await;
    assert_eq!(value(&stack.store).await, "local");
    let alone = self::stack(WritePolicy::WriteThrough, ReadPolicy::FrontendOnly).await;
    assert!(alone.back.feed.lock().is_some(), "the feed was not taken");
}

/// What it would have told is not known: every entry is compared with the backend.
#[tokio::test]
async fn no_stale_hit_follows_a_feed_that_ends_or_panics() {
    for panics in [false, true] {
        let stack = stack(WritePolicy::WriteThrough, ReadPolicy::FrontendFirst).await;
        stack.store.put(&key(), Put::new("ours")).await.expect("written");
        stack.back.inner().put(&key(), Put::new("theirs")).await.expect("another process writes");
        if panics {
            let key = Key::new("panics").expect("valid");
            stack.others.send(Change::Key { key, version: None }).expect("followed");
        } else {
            drop(stack.others);
        }
        let noticed = async {
            while stack.store.get(&key()).await.expect("reads").expect("there").value() == "ours" {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), noticed).await.expect("the entry is compared");
    }
}

/// What the frontend remembers as absent leaves it when others write the key.
#[tokio::test]
async fn a_remembered_absence_ends_when_another_process_writes_the_key() {
    let (others, feed) = mpsc::unbounded_channel();
    let inner = MemoryStore::new().declaring(|capabilities| {
        capabilities
            .with(Feature::Changes)
            .without(Feature::AtomicBatch)
            .without(Feature::KeepsMarks)
            .without(Feature::Peeks)
    });
    let announcements =
        Announcements { feed: Mutex::new(Some(feed)), reads: Semaphore::new(Semaphore::MAX_PERMITS) };
    let back = Arc::new(Intercept::new(inner, announcements));
    let front = MemoryStore::new();
    let store = TieredStore::builder(front.clone(), Arc::clone(&back))
        .negative_ttl(Duration::from_hours(1))
        .max_stale(MaxStale::Unlimited)
        .build()
        .await
        .expect("builds");
    assert!(store.get(&key()).await.expect("reads").is_none());
    store.flush().await.expect("the note is there");
    assert!(store.get(&key()).await.expect("reads").is_none());
    assert_eq!(store.stats().absence_hits, 1);
    let stack = Stack { store, front, back, others };
    stack.others_write("theirs").await;
    until(|| stack.store.stats().invalidations == 1).await;
    assert_eq!(value(&stack.store).await, "theirs");
}
