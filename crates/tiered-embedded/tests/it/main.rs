//! What the shared part of embedded adapters does itself, over an engine of maps.

mod capacity;
mod engine;
mod reads;
mod streams;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::Disk;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Clock, Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Delete, Durability, ErrorKind, Key, Outcome, Precondition, Put, ReadOptions, Result, Store,
    StoreExt as _, Timestamp,
};
use tiered_embedded::{EmbeddedStore, Executor, ReadMode, Settings, Table};

fn key(name: &str) -> Key {
    Key::new(name).expect("valid")
}

/// A store over maps on a manual clock.
struct Maps {
    disk: Arc<Disk>,
    clock: Arc<ManualClock>,
    executor: Executor,
    store: EmbeddedStore,
}

async fn open(disk: &Arc<Disk>, clock: &Arc<ManualClock>, executor: Executor) -> Result<EmbeddedStore> {
    open_reading(disk, clock, executor, ReadMode::default()).await
}

fn settings(clock: &Arc<ManualClock>) -> Settings {
    Settings::new("maps", "memory", Durability::PowerLoss)
        .max_value(4 << 20)
        .stamp(Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy())))
}

async fn open_reading(
    disk: &Arc<Disk>,
    clock: &Arc<ManualClock>,
    executor: Executor,
    reads: ReadMode,
) -> Result<EmbeddedStore> {
    let settings = settings(clock).executor(executor).reads(reads);
    let disk = Arc::clone(disk);
    EmbeddedStore::open(settings, move |opening| disk.open(opening)).await
}

impl Maps {
    async fn new(executor: Executor) -> Self {
        Self::reading(executor, ReadMode::default()).await
    }

    async fn reading(executor: Executor, reads: ReadMode) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let disk = Arc::new(Disk::default());
        let store = open_reading(&disk, &clock, executor, reads).await.expect("opens");
        disk.take_readers();
        Self { disk, clock, executor, store }
    }
}

struct Room(Arc<Disk>, Arc<ManualClock>, Executor);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(open(&self.0, &self.1, self.2).await?))
    }
}

#[async_trait::async_trait]
impl Factory for Maps {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(Arc::default(), Arc::clone(&self.clock), self.executor)))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! On threads.
    tiered_conformance::suite!(super::Maps::new(super::Executor::Threads).await);
}

mod threaded {
    //! Reads on threads as well.
    use super::{Executor, Maps, ReadMode};
    tiered_conformance::suite!(Maps::reading(Executor::Threads, ReadMode::Threads).await);
}

mod inline {
    //! In the caller's own poll.
    tiered_conformance::suite!(super::Maps::new(super::Executor::Inline).await);
}

#[tokio::test]
async fn concurrent_writes_share_commits() {
    let maps = Maps::new(Executor::Threads).await;
    maps.disk.slowness.store(5, Ordering::Relaxed);
    let keys: Vec<Key> = (0..200).map(|index| key(&format!("k{index}"))).collect();
    let writes = keys.iter().map(|key| maps.store.put(key, Put::new("v")));
    assert!(join_all(writes).await.iter().all(Result::is_ok));
    let commits = maps.disk.commits.load(Ordering::Relaxed);
    // Two or three where nothing else keeps the machine busy.
    assert!(commits <= 20, "200 writes took {commits} commits");
    assert_eq!(maps.disk.pairs(Table::Meta), 200);
}

#[tokio::test]
async fn a_refused_precondition_refuses_its_own_request_only() {
    let maps = Maps::new(Executor::Threads).await;
    maps.disk.slowness.store(5, Ordering::Relaxed);
    let (other, taken, free) = (key("other"), key("taken"), key("free"));
    maps.store.put(&taken, Put::new("v")).await.expect("written");
    let (first, refused, last) = futures_util::join!(
        maps.store.put(&other, Put::new("v")),
        maps.store.put(&taken, Put::new("w").if_absent()),
        maps.store.put(&free, Put::new("v").if_absent()),
    );
    first.expect("written");
    last.expect("written");
    assert_eq!(refused.expect_err("it is there").kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_failing_disk_is_reopened_and_every_waiter_gets_an_answer() {
    for executor in [Executor::Threads, Executor::Inline] {
        let maps = Maps::new(executor).await;
        let keys: Vec<Key> = (0..50).map(|index| key(&format!("k{index}"))).collect();
        maps.store.put(&keys[0], Put::new("before")).await.expect("written");
        maps.disk.failures.store(1, Ordering::Relaxed);
        maps.disk.slowness.store(5, Ordering::Relaxed);
        let writes = join_all(keys.iter().map(|key| maps.store.put(key, Put::new("v")))).await;
        let failed: Vec<_> = writes.iter().filter_map(|write| write.as_ref().err()).collect();
        assert!(!failed.is_empty());
        for error in failed {
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Some(Outcome::Unknown)));
        }
        maps.store.put(&keys[0], Put::new("after")).await.expect("the disk works again");
        assert_eq!(maps.disk.openings.load(Ordering::Relaxed), 2, "opened anew once");
        assert_eq!(maps.store.get(&keys[0]).await.expect("reads").expect("found").value(), "after");
    }
}

/// However the process ends next, the engine is no longer in use.
#[tokio::test]
async fn dropping_a_store_closes_its_engine() {
    for executor in [Executor::Threads, Executor::Inline] {
        let Maps { disk, store, .. } = Maps::new(executor).await;
        disk.slowness.store(50, Ordering::Relaxed);
        let written = key("k");
        let write = store.put(&written, Put::new("v")).now_or_never();
        drop((write, store));
        assert!(disk.is_free(), "{executor:?}: still open");
        assert_eq!(disk.pairs(Table::Meta), 1, "{executor:?}: what was begun is carried out");
    }
}

#[tokio::test]
async fn damage_is_an_error_that_names_the_key_until_the_key_is_written() {
    for (table, size) in [(Table::Meta, 100), (Table::Meta, 200_000), (Table::Chunks, 200_000)] {
        let maps = Maps::new(Executor::Threads).await;
        let key = key("precious");
        maps.store.put(&key, Put::new(vec![7; size])).await.expect("written");
        maps.disk.damage(table);
        let error = maps.store.get(&key).await.expect_err("damaged");
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key)), "{}", error.chain());
        let sound = Key::new("sound").expect("valid");
        maps.store.put(&sound, Put::new("v")).await.expect("written");
        let reads = maps.store.get_many(&[sound.clone(), key.clone()], &ReadOptions::new()).await;
        let [Ok(read), Err(error)] = reads.as_slice() else { panic!("{reads:?}") };
        assert!(read.entry().is_some(), "damage is one key's");
        assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key)), "{}", error.chain());
        maps.store.delete(&sound, Delete::new()).await.expect("removed");
        maps.store.put(&key, Put::new("again")).await.expect("written");
        assert_eq!(maps.store.get(&key).await.expect("reads").expect("found").value(), "again");
        assert_eq!(maps.disk.pairs(Table::Chunks), 0, "no chunk is left behind");
        maps.disk.damage(Table::Meta);
        maps.store.delete(&key, Delete::new()).await.expect("removed");
        assert_eq!(maps.disk.pairs(Table::Meta), 0);
    }
}

#[tokio::test]
async fn a_listing_reports_damage_and_continues() {
    use futures_util::StreamExt as _;
    let maps = Maps::new(Executor::Threads).await;
    for name in ["a", "b", "c"] {
        maps.store.put(&key(name), Put::new("v")).await.expect("written");
    }
    maps.disk.damage(Table::Meta);
    maps.store.put(&key("b"), Put::new("good again")).await.expect("written");
    let mut seen = Vec::new();
    let mut listing = maps.store.list(tiered_core::ListOptions::new());
    while let Some(listed) = listing.next().await {
        seen.push(match listed {
            Ok(listed) => (listed.key, false),
            Err(error) => {
                let key = error.damaged_key();
                (key.unwrap_or_else(|| panic!("{}", error.chain())).clone(), true)
            }
        });
    }
    assert_eq!(seen, [(key("a"), true), (key("b"), false), (key("c"), true)]);
}

#[tokio::test]
async fn a_repair_replaces_only_damaged_entries() {
    for (table, size) in [(Table::Meta, 100), (Table::Meta, 200_000), (Table::Chunks, 200_000)] {
        let maps = Maps::new(Executor::Threads).await;
        let repair = || Put::new("repaired").precondition(Precondition::Damaged);
        let refused = maps.store.put(&key("k"), repair()).await.expect_err("absent");
        assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
        maps.store.put(&key("k"), Put::new(vec![7; size])).await.expect("written");
        let refused = maps.store.put(&key("k"), repair()).await.expect_err("good");
        assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
        // The refusal comes before its transaction's end, which writes the tables back.
        maps.store.flush().await.expect("flushed");
        maps.disk.damage(table);
        maps.store.put(&key("k"), repair()).await.expect("damaged");
        assert_eq!(maps.store.get(&key("k")).await.expect("reads").expect("found").value(), "repaired");
        maps.disk.damage(Table::Meta);
        let delete = Delete::new().precondition(Precondition::Damaged);
        maps.store.delete(&key("k"), delete).await.expect("damaged");
        assert_eq!(maps.disk.pairs(Table::Meta), 0);
    }
}

/// What a wall clock costs that goes ten years ahead: what had a time to live is swept, and what has none stays.
#[tokio::test]
async fn a_clock_that_jumps_forward_expires_entries() {
    let maps = Maps::new(Executor::Threads).await;
    let wall = maps.clock.now();
    maps.store.put(&key("hour"), Put::new("v").expires_in(Duration::from_hours(1))).await.expect("written");
    maps.store.put(&key("kept"), Put::new("v")).await.expect("written");
    maps.clock.set_wall(wall.saturating_add(Duration::from_hours(10 * 365 * 24)));
    for _ in 0..4 {
        maps.store.put(&key("busy"), Put::new("v")).await.expect("written");
    }
    assert_eq!(maps.disk.pairs(Table::Meta), 2, "busy and kept: the sweep has removed the hour");
    maps.clock.set_wall(wall);
    maps.store
        .put(&key("half"), Put::new("v").expires_in(Duration::from_millis(500)))
        .await
        .expect("written");
    maps.clock.advance(Duration::from_millis(500));
    assert!(maps.store.get(&key("half")).await.expect("reads").is_none(), "it ends by uptime");
}

/// A scan over many deletes is slow in some engines, so that deletes do not pay for a sweep of each other.
#[tokio::test]
async fn puts_sweep_expired_entries_and_deletes_do_not() {
    let maps = Maps::new(Executor::Threads).await;
    maps.store.put(&key("short"), Put::new("v").expires_in(Duration::from_mins(1))).await.expect("written");
    maps.clock.advance(Duration::from_secs(61));
    for _ in 0..10 {
        maps.store.delete(&key("absent"), Delete::new()).await.expect("deleted");
    }
    assert_eq!(maps.disk.pairs(Table::Meta), 1, "still there");
    maps.store.put(&key("busy"), Put::new("v")).await.expect("written");
    assert_eq!(maps.disk.pairs(Table::Meta), 1, "only busy");
}

/// The sweep rests where nothing expires. The first entry that does wakes it, wherever it stands.
#[tokio::test]
async fn an_entry_that_expires_is_reclaimed_after_many_that_do_not() {
    let maps = Maps::new(Executor::Threads).await;
    for _ in 0..4 {
        for index in 0..10 {
            maps.store.put(&key(&format!("kept-{index}")), Put::new("v")).await.expect("written");
        }
    }
    maps.store.put(&key("a"), Put::new("v").expires_in(Duration::from_mins(1))).await.expect("written");
    maps.clock.advance(Duration::from_secs(61));
    for _ in 0..20 {
        maps.store.put(&key("kept-0"), Put::new("v")).await.expect("written");
    }
    assert_eq!(maps.disk.pairs(Table::Meta), 10, "only what does not expire");
}

#[tokio::test]
async fn expired_entries_are_reclaimed_by_later_writes() {
    let maps = Maps::new(Executor::Threads).await;
    for index in 0..100 {
        let put = Put::new(vec![1; 2_000]).expires_in(Duration::from_mins(1));
        maps.store.put(&key(&format!("short-{index}")), put).await.expect("written");
    }
    maps.store.put(&key("long"), Put::new("v")).await.expect("written");
    maps.clock.advance(Duration::from_secs(61));
    for _ in 0..110 {
        maps.store.put(&key("busy"), Put::new("v")).await.expect("written");
    }
    assert_eq!(maps.disk.pairs(Table::Meta), 2, "long and busy");
    assert_eq!(maps.disk.pairs(Table::Chunks), 0);
}
