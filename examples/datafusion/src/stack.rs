//! The lake in S3, behind a disk, behind memory.

use std::ops::Sub;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use measure::bucket::Server;
use serde::{Deserialize, Serialize};
use tiered::quick::QuickConfig;
use tiered::redb::RedbConfig;
use tiered::s3::Conditional;
use tiered::settings::MaxStale;
use tiered::{Store as _, TieredStore, WriteDurability};
use tiered_object_store::v0_13::ObjectView;

/// How much each tier may hold, and for how long it answers without comparing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) max_stale: Duration,
}

/// The stack.
pub(crate) struct Stack {
    memory: TieredStore,
    disk: TieredStore,
}

/// Blocks that each tier had.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hits {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    /// Calls of the caches that failed, or were late: what they were to keep is asked for again.
    pub(crate) late: u64,
}

impl Sub for Hits {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            memory: self.memory - earlier.memory,
            disk: self.disk - earlier.disk,
            late: self.late - earlier.late,
        }
    }
}

impl Stack {
    /// Opens it: what an earlier one left in `folder` is there.
    pub(crate) async fn open(
        server: &Server,
        endpoint: &str,
        folder: &Path,
        room: Room,
    ) -> anyhow::Result<Self> {
        let max_stale = MaxStale::AtMost(room.max_stale);
        // Nothing but reads of what others write: no probe of conditional writes.
        let s3 = server.config(endpoint).conditional(Conditional::Off).open().await?;
        let redb = RedbConfig::new(folder.join("cache.redb"))
            .capacity(room.disk)
            .durability(WriteDurability::Buffer)
            .open()
            .await?;
        let disk = TieredStore::builder(redb, s3).max_stale(max_stale).build().await?;
        let quick = QuickConfig::new(room.memory).build()?;
        let memory = TieredStore::builder(quick, disk.clone()).max_stale(max_stale).build().await?;
        Ok(Self { memory, disk })
    }

    /// What DataFusion sees.
    pub(crate) fn objects(&self) -> Arc<ObjectView> {
        Arc::new(ObjectView::new(self.memory.clone()))
    }

    pub(crate) fn hits(&self) -> Hits {
        let (memory, disk) = (self.memory.stats(), self.disk.stats());
        Hits {
            memory: memory.block_hits,
            disk: disk.block_hits,
            late: memory.frontend_errors + disk.frontend_errors,
        }
    }

    /// Forgets what lies under `key`, which another program has replaced. The tier below goes first: what is above would fetch the
    /// old one from it.
    pub(crate) async fn invalidate(&self, key: &str) -> anyhow::Result<()> {
        self.disk.invalidate(key).await?;
        Ok(self.memory.invalidate(key).await?)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.memory.close().await?;
        Ok(self.disk.close().await?)
    }
}
