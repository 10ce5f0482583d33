//! The same queries through caches that others publish, with as much memory and disk.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use foyer::{BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder};
use micromegas_object_cache::L1CacheStore;
use micromegas_object_cache::foyer_backend::FoyerBackend;
use object_store::ObjectStore;
use object_store_opendal::OpendalStore;
use opendal::Operator;
use opendal::services::S3;
use opendal_layer_foyer::{FoyerKey, FoyerLayer, FoyerValue};

use crate::lake;
use crate::queries;
use crate::report::{self, Run};
use crate::runs::Lab;

/// More than any file has: an object is one entry of OpenDAL's cache.
const ENTRY: usize = 64 << 20;

/// A cache.
#[derive(Clone, Copy, Debug)]
enum Peer {
    /// Parts of objects, in memory and on a disk.
    Micromegas,
    /// Whole objects, in memory and on a disk.
    Opendal,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Micromegas => "micromegas-object-cache 0.33",
            Self::Opendal => "opendal-layer-foyer 0.58",
        }
    }
}

/// A cache that is open.
enum Opened {
    Micromegas(Arc<L1CacheStore>, Arc<FoyerBackend>),
    Opendal(Arc<OpendalStore>, HybridCache<FoyerKey, FoyerValue>),
}

/// The runs of each, as those of tiered. Their wrong answers are counted, and do not fail the program.
pub(crate) async fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let (mut runs, mut edition) = (Vec::new(), 10);
    let bare = lab.bare("without a cache, each time").await?;
    for peer in [Peer::Micromegas, Peer::Opendal] {
        let (folder, bare) = (tempfile::tempdir()?, lab.bare("").await?);
        let opened = peer.open(lab, folder.path()).await?;
        runs.push(opened.ask(lab, peer, "cold", &bare).await);
        runs.push(opened.ask(lab, peer, "warm", &bare).await);
        opened.close().await?;
        let opened = peer.open(lab, folder.path()).await?;
        runs.push(opened.ask(lab, peer, "opened again", &bare).await);
        lake::write(&*lab.owner, lab.victim()?, edition).await?;
        edition += 1;
        tokio::time::sleep(lab.room.max_stale).await;
        let bare = lab.bare("").await?;
        runs.push(opened.ask(lab, peer, "a file replaced by another program, max-stale later", &bare).await);
        opened.close().await?;
    }
    println!("\nThrough other caches:\n");
    let all: Vec<Run> = std::iter::once(bare.clone()).chain(runs).collect();
    report::print(&all, &bare);
    Ok(())
}

impl Peer {
    async fn open(self, lab: &Lab<'_>, folder: &Path) -> anyhow::Result<Opened> {
        let (server, endpoint) = (&lab.arguments.server, lab.wire.endpoint());
        let (memory, disk) = (usize::try_from(lab.room.memory)?, usize::try_from(lab.room.disk)?);
        Ok(match self {
            Self::Micromegas => {
                let folder = folder.to_str().context("no UTF-8")?;
                let backend = Arc::new(FoyerBackend::new(folder, memory, disk).await?);
                let origin = lake::bare(server, &endpoint)?;
                let store = L1CacheStore::new(origin, backend.clone(), "lake".to_owned());
                Opened::Micromegas(Arc::new(store), backend)
            }
            Self::Opendal => {
                let device = FsDeviceBuilder::new(folder).with_capacity(disk).build()?;
                let engine =
                    BlockEngineConfig::new(device).with_block_size(ENTRY).with_buffer_pool_size(2 * ENTRY);
                let cache = HybridCacheBuilder::new()
                    .memory(memory)
                    .with_shards(1)
                    .with_weighter(|_: &FoyerKey, value: &FoyerValue| value.len())
                    .storage()
                    .with_engine_config(engine)
                    .build()
                    .await?;
                let service = S3::default()
                    .endpoint(&endpoint)
                    .region("us-east-1")
                    .bucket(&server.bucket)
                    .access_key_id(&server.access_key)
                    .secret_access_key(&server.secret_key);
                let operator = Operator::new(service)?.layer(FoyerLayer::new(cache.clone()));
                Opened::Opendal(Arc::new(OpendalStore::new(operator)), cache)
            }
        })
    }
}

impl Opened {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Micromegas(store, _) => Arc::clone(store) as Arc<dyn ObjectStore>,
            Self::Opendal(store, _) => Arc::clone(store) as Arc<dyn ObjectStore>,
        }
    }

    async fn ask(&self, lab: &Lab<'_>, peer: Peer, what: &str, bare: &Run) -> Run {
        let before = lab.wire.asked();
        let answers = queries::ask_each(self.objects()).await;
        let asked = lab.wire.asked() - before;
        let wrong = answers.wrong(&bare.answers);
        Run { name: format!("{}: {what}", peer.name()), answers, asked, hits: None, wrong }
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Micromegas(_, backend) => backend.close().await,
            Self::Opendal(_, cache) => Ok(cache.close().await?),
        }
    }
}
