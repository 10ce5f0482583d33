//! A sync that follows its source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Change, ChangeStream};
use tiered_core::sync::{FullSync, Refresh, SyncOptions, follow};
use tiered_core::{
    Batch, Delete, Error, ErrorKind, Feature, Key, ListOptions, ListStream, MemoryStore, Put, Result, Store,
    StoreExt as _, Written,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::scripted::key;

/// A source that tells what it is told to, and whose listings are counted, or fail.
#[derive(Debug)]
struct Telling {
    feed: Mutex<Option<mpsc::UnboundedReceiver<Change>>>,
    listings: Mutex<(usize, usize)>,
    fails: Mutex<u32>,
}

#[async_trait]
impl Interceptor for Telling {
    fn changes(&self, _: &dyn Store) -> Option<ChangeStream> {
        let feed = self.feed.lock().take()?;
        Some(Box::pin(stream::unfold(feed, |mut feed| async move { Some((feed.recv().await?, feed)) })))
    }

    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let mut listings = self.listings.lock();
        if options.limit.is_some() {
            listings.1 += 1;
            return inner.list(options);
        }
        listings.0 += 1;
        let mut fails = self.fails.lock();
        if *fails > 0 {
            *fails -= 1;
            return stream::iter([Err(Error::new(ErrorKind::Unavailable, "down"))]).boxed();
        }
        inner.list(options)
    }
}

/// A target that takes nothing for a key.
#[derive(Debug)]
struct Refusing(Mutex<Option<Key>>);

impl Refusing {
    fn check(&self, key: &Key) -> Result<()> {
        if self.0.lock().as_ref() == Some(key) {
            return Err(Error::new(ErrorKind::Unavailable, "not this one"));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Refusing {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.check(key)?;
        inner.put(key, put).await
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        // More can be told while it is under way.
        tokio::time::sleep(Duration::from_millis(2)).await;
        for (key, _) in batch.operations() {
            self.check(key)?;
        }
        inner.apply(batch).await
    }
}

struct Pair {
    source: Arc<Intercept<Telling, MemoryStore>>,
    target: Arc<Intercept<Refusing, MemoryStore>>,
    tells: mpsc::UnboundedSender<Change>,
}

impl Pair {
    fn new() -> Self {
        let (tells, feed) = mpsc::unbounded_channel();
        let inner = MemoryStore::new().declaring(|all| all.with(Feature::Changes));
        let telling =
            Telling { feed: Mutex::new(Some(feed)), listings: Mutex::default(), fails: Mutex::default() };
        Self {
            source: Arc::new(Intercept::new(inner, telling)),
            target: Arc::new(Intercept::new(MemoryStore::new(), Refusing(Mutex::new(None)))),
            tells,
        }
    }

    fn follow(&self) -> JoinHandle<Result<()>> {
        let (source, target) = (Arc::clone(&self.source), Arc::clone(&self.target));
        tokio::runtime::Handle::current().spawn(async move {
            follow(&*source, &*target, &FullSync, &SyncOptions::new().prefix("k")).await
        })
    }

    async fn writes(&self, name: &str, value: &'static str) {
        self.source.inner().put(&key(name), Put::new(value)).await.expect("written");
    }

    fn tells(&self, name: &str) {
        self.tells.send(Change::Key { key: key(name), version: None }).expect("followed");
    }

    /// What the target has, once everything is quiet.
    async fn target_after(&self, time: Duration) -> Vec<(String, String)> {
        tokio::time::sleep(time).await;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let held = self.target.inner().snapshot();
        held.iter().map(|(key, entry)| (key.as_str().to_owned(), text(entry.value()))).collect()
    }

    fn listings(&self) -> (usize, usize) {
        *self.source.listings.lock()
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const SOON: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn what_the_feed_tells_is_brought_in_step_and_nothing_else_is_listed() {
    let pair = Pair::new();
    pair.writes("k1", "1").await;
    pair.writes("other", "1").await;
    let following = pair.follow();
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k1", "1")]));
    pair.writes("k1", "2").await;
    pair.writes("k2", "2").await;
    for name in ["k1", "k2", "k2", "k-never-there", "other"] {
        pair.tells(name);
    }
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k1", "2"), ("k2", "2")]));
    pair.source.inner().delete(&key("k1"), Delete::new()).await.expect("deleted");
    pair.tells("k1");
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k2", "2")]));
    // One listing, and a look at each key that was told of within the prefix.
    assert_eq!(pair.listings(), (1, 4));
    // Something was missed: all is compared.
    pair.writes("k3", "3").await;
    pair.tells.send(Change::Resync).expect("followed");
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k2", "2"), ("k3", "3")]));
    assert_eq!(pair.listings().0, 2);
    // The feed ends when the source is closed.
    pair.writes("k4", "4").await;
    pair.tells("k4");
    let Pair { target, tells, .. } = pair;
    drop(tells);
    following.await.expect("ends").expect("as it should");
    assert!(target.inner().contains("k4").await.expect("looks"), "what was told before is done");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_holds_up_nothing_else() {
    let pair = Pair::new();
    *pair.source.fails.lock() = 1;
    pair.writes("k1", "1").await;
    let _following = pair.follow();
    assert_eq!(pair.target_after(SOON).await, [], "the listing failed");
    assert_eq!(pair.target_after(Duration::from_secs(1)).await, pairs(&[("k1", "1")]));
    *pair.target.0.lock() = Some(key("k1"));
    pair.writes("k1", "2").await;
    pair.tells("k1");
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k1", "1")]));
    pair.writes("k2", "2").await;
    pair.tells("k2");
    assert_eq!(pair.target_after(SOON).await, pairs(&[("k1", "1"), ("k2", "2")]), "at once");
    *pair.target.0.lock() = None;
    assert_eq!(pair.target_after(Duration::from_mins(1)).await, pairs(&[("k1", "2"), ("k2", "2")]));
    assert_eq!(pair.listings().0, 2, "the key alone is looked at again");
}

#[tokio::test(start_paused = true)]
async fn what_failed_has_its_turn_while_the_feed_never_rests() {
    let pair = Pair::new();
    *pair.target.0.lock() = Some(key("k1"));
    pair.writes("k1", "1").await;
    let _following = pair.follow();
    assert_eq!(pair.target_after(SOON).await, [], "refused");
    *pair.target.0.lock() = None;
    for _ in 0..3_000 {
        // In step at each pass, which begins while the one before is under way.
        pair.writes("k2", "2").await;
        pair.tells("k2");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(pair.target.inner().contains("k1").await.expect("looks"), "tried again after a second");
}

#[tokio::test]
async fn more_than_may_fail_ends_it() {
    let pair = Pair::new();
    pair.writes("k1", "1").await;
    *pair.target.0.lock() = Some(key("k1"));
    let options = SyncOptions::new().max_failures(0);
    let ended = follow(&*pair.source, &*pair.target, &Refresh, &options).await.expect_err("ends");
    assert!(ended.to_string().contains("more than 0 entries failed"), "{ended}");
}
