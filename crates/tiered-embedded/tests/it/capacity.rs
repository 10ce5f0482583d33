//! A store with a capacity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::Clock;
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, Delete, ErrorKind, Feature, Key, ListOptions, Put, ReadOptions, Result, Store, StoreExt as _,
    Timestamp,
};
use tiered_embedded::{Access, EmbeddedStore, Executor, Settings, Table};

use super::engine::Disk;
use super::{key, settings};

const CAPACITY: u64 = 256 << 10;

/// A store over maps with a capacity, or without.
struct Bounded {
    disk: Arc<Disk>,
    clock: Arc<ManualClock>,
    store: EmbeddedStore,
}

async fn open_with(disk: &Arc<Disk>, settings: Settings) -> Result<EmbeddedStore> {
    let disk = Arc::clone(disk);
    EmbeddedStore::open(settings, move |opening| disk.open(opening)).await
}

impl Bounded {
    async fn new(capacity: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let disk = Arc::new(Disk::default());
        let store = open_with(&disk, settings(&clock).capacity(capacity)).await.expect("opens");
        Self { disk, clock, store }
    }

    async fn put(&self, name: &str, put: Put) {
        self.store.put(&key(name), put).await.expect("written");
    }

    async fn has(&self, name: &str) -> bool {
        self.store.get(name).await.expect("reads").is_some()
    }

    fn bytes(&self) -> u64 {
        self.store.usage().expect("it has a capacity").bytes
    }

    async fn keys(&self) -> usize {
        self.store.list(ListOptions::new()).count().await
    }

    /// Closes it and opens it again.
    async fn reopen(mut self, capacity: u64) -> Self {
        self.store.close().await.expect("closes");
        self.store = open_with(&self.disk, settings(&self.clock).capacity(capacity)).await.expect("opens");
        self
    }
}

struct Room(Arc<Disk>, Arc<ManualClock>);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(open_with(&self.0, settings(&self.1).capacity(CAPACITY)).await?))
    }
}

#[async_trait::async_trait]
impl Factory for Bounded {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(Arc::default(), Arc::clone(&self.clock))))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! Entries vanish meanwhile: the suite writes more than there is room for.
    tiered_conformance::suite!(super::Bounded::new(super::CAPACITY).await);
}

#[tokio::test]
async fn each_commit_leaves_the_store_within_its_capacity() {
    let bounded = Bounded::new(CAPACITY).await;
    let store = &bounded.store;
    let largest = usize::try_from(store.capabilities().max_value()).expect("small");
    assert_eq!(largest, 64 << 10, "a quarter");
    let refused = store.put(&key("k"), Put::new(vec![0; largest + 1])).await.expect_err("too large");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    let writers = (0..8_usize).map(|writer| async move {
        for round in 0..60_usize {
            let name = key(&format!("{writer}/{round}"));
            let size = [10, 900, 5_000, 30_000, largest][(writer + round) % 5];
            if round % 7 == writer % 7 {
                let part = size.div_ceil(4);
                let parts: Vec<_> = vec![0; size].chunks(part).map(|part| Ok(part.to_vec().into())).collect();
                store.put_stream(&name, Put::new(""), Box::pin(stream::iter(parts))).await.expect("written");
            } else if round % 11 == 0 {
                let batch = (0..10).fold(Batch::new(), |batch, number| {
                    batch.put(key(&format!("{writer}/{round}/{number}")), vec![1; size / 10])
                });
                store.apply(batch).await.expect("written");
            } else {
                store.put(&name, Put::new(vec![0; size])).await.expect("written");
            }
            assert!(store.usage().expect("it has a capacity").bytes <= CAPACITY);
        }
    });
    join_all(writers).await;
    let most = bounded.disk.largest.load(Ordering::Relaxed);
    assert!(most <= CAPACITY, "{most} bytes after a commit");
    assert!(most > CAPACITY * 8 / 10, "{most} bytes: it is used");
    let usage = store.usage().expect("it has a capacity");
    assert_eq!(usage.entries, bounded.keys().await as u64);
    assert!(usage.evictions > 100 && usage.evicted_bytes > 10 * CAPACITY, "{usage:?}");
}

#[tokio::test]
async fn the_count_is_what_a_new_count_finds() {
    let mut bounded = Bounded::new(CAPACITY).await;
    for round in 0..40_u64 {
        for number in 0..20_u64 {
            let mixed = (round * 20 + number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let name = format!("k{}", mixed % 70);
            match mixed % 5 {
                0 => drop(bounded.store.delete(&key(&name), Delete::new()).await.expect("deleted")),
                1 => {
                    let put = Put::new(vec![3; 2_000]).expires_in(Duration::from_secs(1 + mixed % 3));
                    bounded.put(&name, put).await;
                }
                kind => bounded.put(&name, Put::new(vec![0; 7_000 * (usize::from(kind == 2)) + 90])).await,
            }
        }
        bounded.clock.advance(Duration::from_secs(1));
        if round % 13 == 4 {
            // Half of what was asked for is on the disk, or nothing.
            bounded.disk.failures.store(1, Ordering::Relaxed);
            bounded.store.put(&key("lost"), Put::new("v")).await.expect_err("the disk fails");
            bounded.put("found", Put::new("v")).await;
        }
        let (before, entries) = (bounded.bytes(), bounded.disk.pairs(Table::Meta) as u64);
        assert_eq!(bounded.store.usage().expect("it has a capacity").entries, entries);
        bounded = bounded.reopen(CAPACITY).await;
        assert_eq!(bounded.bytes(), before, "round {round}");
    }
}

#[tokio::test]
async fn what_is_used_stays_while_a_scan_passes() {
    let bounded = Bounded::new(CAPACITY).await;
    for number in 0..100 {
        bounded.put(&format!("hot/{number}"), Put::new(vec![0; 1_000])).await;
    }
    let hot: Vec<Key> = (0..100).map(|number| key(&format!("hot/{number}"))).collect();
    for number in 0..2_000 {
        bounded.put(&format!("scanned/{number}"), Put::new(vec![0; 1_000])).await;
        if number % 100 == 0 {
            bounded.store.get_many(&hot[..50], &ReadOptions::new()).await;
            for key in &hot[50..] {
                bounded.store.get_range(key, 0..10).await.expect("reads").expect("it is used");
            }
        }
    }
    for key in &hot {
        assert!(bounded.store.contains(key).await.expect("reads"), "{key}");
    }
}

#[tokio::test]
async fn what_has_expired_leaves_before_anything_else() {
    let bounded = Bounded::new(CAPACITY).await;
    for number in 0..200 {
        bounded.put(&format!("kept/{number:03}"), Put::new(vec![0; 400])).await;
    }
    // The sweep looks at two records of those that sort first with each put.
    for number in 0..200 {
        let put = Put::new(vec![0; 500]).expires_in(Duration::from_mins(1));
        bounded.put(&format!("short/{number}"), put).await;
    }
    bounded.clock.advance(Duration::from_secs(61));
    let mut room = CAPACITY + 20_000 - bounded.bytes();
    for number in 0.. {
        bounded.put(&format!("zz/{number}"), Put::new(vec![0; 40_000])).await;
        let Some(left) = room.checked_sub(40_000) else { break };
        room = left;
    }
    let usage = bounded.store.usage().expect("it has a capacity");
    assert!(usage.expired > 0, "{usage:?}");
    assert_eq!(usage.evictions, 0, "{usage:?}");
    assert!(bounded.has("kept/000").await);
}

/// One writer for each key, readers, and evictions all the time: a read has the last value or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_never_brings_an_older_value_and_never_removes_a_newer_one() {
    let bounded = Bounded::new(40_000).await;
    let mut present = 0;
    let tasks = (0..4_u32).map(|writer| {
        let store = bounded.store.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let (name, mut present) = (key(&format!("busy/{writer}")), 0);
            for round in 0..300_u32 {
                let value = format!("{round:08}{}", "x".repeat(round as usize % 1_200));
                store.put(&name, Put::new(value.clone())).await.expect("written");
                store
                    .put(&key(&format!("{writer}/{round}")), Put::new(vec![0; 1_500]))
                    .await
                    .expect("written");
                if let Some(entry) = store.get(&name).await.expect("reads") {
                    assert_eq!(entry.value(), value.as_str());
                    present += 1;
                }
            }
            present
        })
    });
    for task in join_all(tasks).await {
        present += task.expect("no panic");
    }
    assert!(present > 600, "what is written and used all the time stays mostly: {present}");
    assert!(bounded.store.usage().expect("it has a capacity").evictions > 500);
}

#[tokio::test]
async fn a_value_that_leaves_while_it_is_streamed_is_whole_or_an_error() {
    let bounded = Bounded::new(16 << 20).await;
    bounded.put("film", Put::new(vec![7; 4 << 20])).await;
    let (_, mut parts) =
        bounded.store.read_stream(&key("film"), &ReadOptions::new()).await.expect("reads").expect("found");
    let first = parts.next().await.expect("a part").expect("reads");
    for number in 0..40 {
        // Used as well, so that they do not leave first.
        bounded.put(&format!("other/{number}"), Put::new(vec![0; 1 << 20])).await;
        bounded.has(&format!("other/{number}")).await;
    }
    assert!(!bounded.store.contains("film").await.expect("reads"), "it has left");
    let mut read = first.len();
    loop {
        match parts.next().await.expect("an end") {
            Ok(part) => read += part.len(),
            Err(error) => {
                assert!(error.is_retryable(), "{}", error.chain());
                break;
            }
        }
    }
    assert!(read < 4 << 20);
}

#[tokio::test]
async fn a_smaller_capacity_is_kept_from_the_opening_on() {
    let bounded = Bounded::new(1 << 20).await;
    for number in 0..3_000 {
        bounded.put(&format!("k{number}"), Put::new(vec![0; 500])).await;
    }
    let before = bounded.bytes();
    let bounded = bounded.reopen(100_000).await;
    assert!(before > 900_000 && bounded.bytes() <= 100_000 && bounded.bytes() > 99_000);
    assert_eq!(bounded.store.usage().expect("it has a capacity").entries, bounded.keys().await as u64);
    let bounded = bounded.reopen(1 << 20).await;
    assert!(bounded.bytes() <= 100_000);
}

#[tokio::test]
async fn only_an_unused_database_takes_a_capacity_and_it_evicts_from_then_on() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let refused = |disk: Arc<Disk>| {
        let settings = settings(&clock).capacity(CAPACITY);
        async move {
            let error = open_with(&disk, settings).await.expect_err("it was used");
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("leave out capacity"), "{error}");
            assert!(disk.is_free(), "the engine is closed");
        }
    };
    // With an entry, or with a mark that says so.
    for mark in [None, Some("app.schema"), Some("tiered.journals")] {
        let disk = Arc::new(Disk::default());
        let store = open_with(&disk, settings(&clock)).await.expect("opens");
        match mark {
            Some(mark) => store.set_mark(mark, Some("1".into())).await.expect("set"),
            None => drop(store.put(&key("k"), Put::new("v")).await.expect("written")),
        }
        store.close().await.expect("closes");
        refused(disk).await;
    }
    // The id that an opening gives says nothing.
    let disk = Arc::new(Disk::default());
    let store = open_with(&disk, settings(&clock)).await.expect("opens");
    store.set_mark("tiered.identity", Some("id".into())).await.expect("set");
    assert!(!store.capabilities().has(Feature::Evicts) && store.usage().is_none());
    store.close().await.expect("closes");
    let store = open_with(&disk, settings(&clock).capacity(CAPACITY)).await.expect("opens");
    assert!(store.capabilities().has(Feature::Evicts));
    assert_eq!(store.mark_names("").await.expect("reads"), ["tiered.identity"], "its own is not shown");
    store.put(&key("k"), Put::new("v")).await.expect("written");
    store.close().await.expect("closes");
    // Without the capacity nothing leaves, and what is there may still have lost its company.
    for access in [Access::ReadWrite, Access::ReadOnly] {
        let store = open_with(&disk, settings(&clock).access(access)).await.expect("opens");
        assert!(store.capabilities().has(Feature::Evicts) && store.usage().is_none());
        assert!(store.contains("k").await.expect("reads"));
        store.close().await.expect("closes");
    }
    let store = open_with(&disk, settings(&clock).capacity(CAPACITY)).await.expect("opens");
    assert_eq!(store.usage().expect("it has a capacity").entries, 1);
}

#[tokio::test]
async fn a_capacity_of_nothing_or_of_what_is_only_read_is_refused_before_anything_is_opened() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let disk = Arc::new(Disk::default());
    for settings in [settings(&clock).capacity(0), settings(&clock).capacity(1).access(Access::ReadOnly)] {
        let error = open_with(&disk, settings).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    }
    assert_eq!(disk.openings.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_damaged_record_is_counted_and_leaves_like_any_other() {
    let bounded = Bounded::new(CAPACITY).await;
    for number in 0..20 {
        bounded.put(&format!("k{number}"), Put::new(vec![0; 5_000])).await;
    }
    bounded.disk.damage(Table::Meta);
    let bounded = bounded.reopen(CAPACITY).await;
    assert_eq!(bounded.store.usage().expect("it has a capacity").entries, 20);
    for number in 0..200 {
        bounded.put(&format!("new/{number}"), Put::new(vec![0; 5_000])).await;
    }
    let mut listed = BTreeMap::new();
    let mut listing = bounded.store.list(ListOptions::new());
    while let Some(next) = listing.next().await {
        *listed.entry(next.is_ok()).or_insert(0) += 1;
    }
    let usage = bounded.store.usage().expect("it has a capacity");
    assert_eq!(usage.entries, bounded.disk.pairs(Table::Meta) as u64);
    assert!(listed.get(&true).is_some_and(|sound| *sound > 30), "{listed:?}");
}

/// What runs in the caller's poll is bounded as well.
#[tokio::test]
async fn a_store_without_threads_keeps_within_its_capacity() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let disk = Arc::new(Disk::default());
    let settings = settings(&clock).capacity(20_000).executor(Executor::Inline);
    let store = open_with(&disk, settings).await.expect("opens");
    for number in 0..200 {
        store.put(&key(&format!("k{number}")), Put::new(vec![0; 700])).await.expect("written");
    }
    assert!(disk.largest.load(Ordering::Relaxed) <= 20_000);
    assert!(store.usage().expect("it has a capacity").evictions > 150);
    assert!(clock.now() >= Timestamp::from_millis(1_000));
}
