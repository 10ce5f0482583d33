//! The RocksDB tier: the conformance suite, opening and refusing, damage.

mod capacity;
mod damage;
mod lifecycle;
mod opening;

use std::sync::Arc;

use tempfile::TempDir;
use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Result, Store, Timestamp};
use tiered_rocksdb::{RocksdbConfig, RocksdbStore};

/// A database in a folder of its own, on a manual clock.
struct Disk {
    folder: TempDir,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: RocksdbStore,
}

impl Disk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = RocksdbConfig::new(folder.path().join("suite.rocksdb")).stamp(stamp.clone());
        let store = config.cache(8 << 20).max_value(4 << 20).open().await.expect("opens");
        Self { folder, stamp, clock, store }
    }
}

struct Room(TempDir, Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let config = RocksdbConfig::new(self.0.path().join("place.rocksdb"))
            .stamp(self.1.clone())
            .cache(1 << 20)
            .write_buffer(1 << 20);
        Ok(Arc::new(config.open().await?))
    }
}

#[async_trait::async_trait]
impl Factory for Disk {
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
    //! Every case runs.
    tiered_conformance::suite!(super::Disk::new().await);
}
