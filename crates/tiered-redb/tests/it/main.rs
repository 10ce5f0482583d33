//! The redb tier: the conformance suite, opening and refusing, damage.

mod capacity;
mod damage;
mod disk;
mod format;
mod letting_go;
mod lifecycle;
mod opening;
mod ownership;
mod read_only;

use std::sync::Arc;

use tempfile::TempDir;
use tiered_conformance::{Effort, Factory, Place, RunOptions, run};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Result, Store, Timestamp};
use tiered_redb::{RedbConfig, RedbStore};

/// A database in a folder of its own, on a manual clock.
struct Disk {
    folder: TempDir,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: RedbStore,
}

impl Disk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = RedbConfig::new(folder.path().join("suite.redb")).stamp(stamp.clone());
        let store = config.cache(8 << 20).max_value(4 << 20).open().await.expect("opens");
        Self { folder, stamp, clock, store }
    }
}

struct Room(TempDir, Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let config = RedbConfig::new(self.0.path().join("place.redb")).stamp(self.1.clone()).cache(1 << 20);
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

/// The suite works within limits that a URL can set, such as `max_value=5`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_with_a_small_value_limit() {
    let mut disk = Disk::new().await;
    let config = RedbConfig::new(disk.folder.path().join("small.redb")).stamp(disk.stamp.clone());
    disk.store = config.cache(1 << 20).max_value(5).open().await.expect("opens");
    let report = run(disk, RunOptions::new().effort(Effort::Brief)).await;
    assert!(report.is_ok(), "{report}");
}

mod suite {
    //! Every case runs.
    tiered_conformance::suite!(super::Disk::new().await);
}
