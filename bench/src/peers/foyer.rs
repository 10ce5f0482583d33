//! foyer, by itself: in memory, and hybrid with a disk tier.

use std::path::Path;

use ::foyer::{
    BlockEngineConfig, Cache, CacheBuilder, DeviceBuilder as _, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder,
};
use anyhow::Result;
use bytes::Bytes;

use super::moka::weight;
use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// Bytes of the disk tier of a hybrid cache.
const DISK: usize = 2 << 30;

#[expect(clippy::ptr_arg, reason = "a weigher is handed the key as it is stored")]
fn weigh(key: &String, value: &Bytes) -> usize {
    weight(key, value) as usize
}

/// The cache in memory, with its default policy (LRU), over a source or over nothing.
#[derive(Clone, Debug)]
pub struct Memory {
    cache: Cache<String, Bytes>,
    source: Option<Source>,
}

impl Memory {
    /// With `room`.
    pub fn new(room: Room, source: Option<Source>) -> Self {
        let cache = CacheBuilder::new(room.bytes() as usize).with_weighter(weigh).build();
        Self { cache, source }
    }
}

impl Peer for Memory {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let Some(source) = &self.source else {
            return Ok(self.cache.get(name.text.as_str()).map(|entry| entry.value().len()));
        };
        let (source, wanted) = (source.clone(), name.clone());
        let entry = self.cache.get_or_fetch(&name.text, || async move { source.read(&wanted).await }).await?;
        Ok(Some(entry.value().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        if let Some(source) = &self.source {
            source.write(name, value.clone()).await?;
        }
        self.cache.insert(name.text.clone(), value);
        Ok(())
    }
}

/// The hybrid cache: memory, and a disk tier for what memory evicts.
#[derive(Clone, Debug)]
pub struct Hybrid {
    cache: HybridCache<String, Bytes>,
    source: Option<Source>,
}

impl Hybrid {
    /// With `room` in memory; its disk tier is in `folder`.
    pub async fn open(room: Room, folder: &Path, source: Option<Source>) -> Result<Self> {
        let device = FsDeviceBuilder::new(folder.join("foyer")).with_capacity(DISK).build()?;
        let cache = HybridCacheBuilder::new()
            .memory(room.bytes() as usize)
            .with_weighter(weigh)
            .storage()
            .with_engine_config(BlockEngineConfig::new(device))
            .build()
            .await?;
        Ok(Self { cache, source })
    }

    /// Flushes and closes it.
    pub async fn close(&self) -> Result<()> {
        Ok(self.cache.close().await?)
    }
}

impl Peer for Hybrid {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let Some(source) = &self.source else {
            return Ok(self.cache.get(name.text.as_str()).await?.map(|entry| entry.value().len()));
        };
        let (source, wanted) = (source.clone(), name.clone());
        let entry = self.cache.get_or_fetch(&name.text, || async move { source.read(&wanted).await }).await?;
        Ok(Some(entry.value().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        if let Some(source) = &self.source {
            source.write(name, value.clone()).await?;
        }
        self.cache.insert(name.text.clone(), value);
        Ok(())
    }
}
