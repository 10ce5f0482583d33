//! What SlateDB lies on: S3 by itself, or behind memory and a disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use measure::bucket::Server;
use slatedb::object_store::ObjectStore;
use slatedb::object_store::aws::AmazonS3Builder;
use slatedb::object_store::path::Path as ObjectPath;
use tiered::quick::QuickConfig;
use tiered::redb::RedbConfig;
use tiered::settings::MaxStale;
use tiered::{Freshness, Store as _, TieredStore};
use tiered_object_store::v0_14::ObjectView;

/// Room in memory, and on the disk.
const ROOM: (u64, u64) = (16 << 20, 256 << 20);

/// Tables are never replaced, so that they need no comparison.
const MAX_STALE: Duration = Duration::from_secs(24 * 3_600);

/// S3 by way of `endpoint`, as SlateDB has it without tiered.
pub(crate) fn bare(server: &Server, endpoint: &str) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let builder = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(&server.bucket)
        .with_access_key_id(&server.access_key)
        .with_secret_access_key(&server.secret_key);
    Ok(Arc::new(builder.build()?))
}

/// S3 behind a disk, behind memory.
pub(crate) struct Stack {
    memory: TieredStore,
    disk: TieredStore,
}

impl Stack {
    /// Opens it: what an earlier one left in `folder` is there.
    pub(crate) async fn open(server: &Server, endpoint: &str, folder: &Path) -> anyhow::Result<Self> {
        let max_stale = MaxStale::AtMost(MAX_STALE);
        let s3 = server.config(endpoint).open().await?;
        let redb = RedbConfig::new(folder.join("cache.redb")).capacity(ROOM.1).open().await?;
        let disk = TieredStore::builder(redb, s3).max_stale(max_stale).build().await?;
        let quick = QuickConfig::new(ROOM.0).build()?;
        let memory = TieredStore::builder(quick, disk.clone()).max_stale(max_stale).build().await?;
        Ok(Self { memory, disk })
    }

    /// What SlateDB sees. What it writes again under the same name is read from S3 itself.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::new(ObjectView::new(self.memory.clone()).freshness_of(freshness))
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.memory.close().await?;
        Ok(self.disk.close().await?)
    }
}

/// Tables are written once. Manifests are as well, but whether there is a next one decides who may write; the boundaries of the
/// garbage collection change.
fn freshness(path: &ObjectPath) -> Freshness {
    let is_table = path.as_ref().ends_with(".sst");
    if is_table { Freshness::Cached } else { Freshness::Authoritative }
}
