//! A folder with a capacity.

use std::sync::Arc;

use tempfile::TempDir;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{ErrorKind, Feature, Key, Put, Result, Store, StoreExt as _, Timestamp};
use tiered_rocksdb::{RocksdbConfig, RocksdbStore, WriteDurability};

/// A database with a capacity in a folder of its own, on a manual clock.
struct Bounded {
    folder: TempDir,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: RocksdbStore,
}

const CAPACITY: u64 = 2 << 20;

impl Bounded {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = RocksdbConfig::new(folder.path().join("suite.rocksdb")).stamp(stamp.clone());
        let store = config.cache(8 << 20).capacity(CAPACITY).open().await.expect("opens");
        Self { folder, stamp, clock, store }
    }
}

struct Room(TempDir, Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let config = RocksdbConfig::new(self.0.path().join("place.rocksdb")).stamp(self.1.clone());
        let config = config.cache(1 << 20).write_buffer(1 << 20).capacity(CAPACITY);
        Ok(Arc::new(config.open().await?))
    }
}

#[async_trait::async_trait]
impl Factory for Bounded {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let folder = tempfile::tempdir_in(self.folder.path()).ok()?;
        Some(Arc::new(Room(folder, self.stamp.clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    //! Entries vanish meanwhile: the suite writes more than there is room for.
    tiered_conformance::suite!(super::Bounded::new().await);
}

#[tokio::test]
async fn it_keeps_within_its_capacity_and_counts_the_same_after_each_opening() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("cache.rocksdb"))
        .durability(WriteDurability::Buffer)
        .capacity(CAPACITY);
    let mut number = 0_u64;
    for round in 0..3 {
        let store = config.clone().open().await.expect("opens");
        assert!(store.capabilities().has(Feature::Evicts));
        for size in [100, 1_000, 5_000, 70_000, 300_000].into_iter().cycle().take(100) {
            number += 1;
            let name =
                Key::new(format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))).expect("valid");
            store.put(&name, Put::new(vec![7; size])).await.expect("written");
            assert!(store.usage().expect("it has a capacity").bytes <= CAPACITY);
        }
        let usage = store.usage().expect("it has a capacity");
        assert!(usage.evictions > 0, "{round}: {usage:?}");
        assert_eq!(usage.entries, store.keys("").await.expect("lists").len() as u64);
        store.close().await.expect("closes");
        let counted = config.clone().open().await.expect("opens");
        assert_eq!(counted.usage().expect("it has a capacity").bytes, usage.bytes);
        counted.close().await.expect("closes");
    }
}

#[tokio::test]
async fn a_database_that_was_used_without_a_capacity_is_refused_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RocksdbConfig::new(folder.path().join("data.rocksdb"));
    let store = config.clone().open().await.expect("opens");
    store.set("k", "v").await.expect("written");
    store.close().await.expect("closes");
    let error = config.clone().capacity(CAPACITY).open().await.expect_err("it may be the only copy");
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    let store = config.open().await.expect("as before");
    assert!(store.contains("k").await.expect("reads"));
}
