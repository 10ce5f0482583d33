//! Stores of this project: a memory tier over a backend.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use tiered::moka::MokaConfig;
use tiered::quick::QuickConfig;
use tiered::redb::RedbConfig;
use tiered::{Key, MemoryStore, Put, ReadOptions, Store, StoreExt as _, TieredStore};

use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// A memory tier.
#[derive(Clone, Copy, Debug)]
pub struct Tier {
    /// Its name.
    pub name: &'static str,
    /// Makes one of so many bytes.
    pub open: fn(u64) -> tiered::Result<Arc<dyn Store>>,
}

/// Every memory tier. Another one is a line here.
pub const TIERS: &[Tier] = &[QUICK, MOKA];

const MOKA: Tier = Tier { name: "moka", open: |capacity| Ok(Arc::new(MokaConfig::new(capacity).build()?)) };
const QUICK: Tier =
    Tier { name: "quick", open: |capacity| Ok(Arc::new(QuickConfig::new(capacity).build()?)) };

/// The tier that groups use which compare something else.
pub const DEFAULT: &Tier = &QUICK;

impl Tier {
    /// The name of a stack with this frontend.
    pub fn stack(&self, backend: &str) -> String {
        format!("tiered {}/{backend}", self.name)
    }
}

/// A redb file, created where it is absent.
pub async fn redb(path: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(RedbConfig::new(path).open().await?))
}

/// A RocksDB folder, created where it is absent.
#[cfg(feature = "rocksdb")]
pub async fn rocksdb(path: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(tiered::rocksdb::RocksdbConfig::new(path).open().await?))
}

/// A tiered store.
#[derive(Clone, Debug)]
pub struct Stack(pub TieredStore);

impl Stack {
    /// Over a memory store of its own.
    pub async fn over_memory(tier: &Tier, room: Room) -> Result<Self> {
        let frontend = (tier.open)(room.with_bookkeeping())?;
        Ok(Self(TieredStore::builder(frontend, MemoryStore::new()).build().await?))
    }

    /// Over a source.
    pub async fn over(tier: &Tier, room: Room, source: &Source) -> Result<Self> {
        let frontend = (tier.open)(room.with_bookkeeping())?;
        Ok(Self(TieredStore::builder(frontend, source.clone()).build().await?))
    }
}

impl Peer for Stack {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        Ok(self.0.get(&name.key).await?.map(|entry| entry.value().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        self.0.put(&name.key, Put::new(value)).await?;
        Ok(())
    }

    async fn get_many(&self, names: &[&Name]) -> Result<usize> {
        many(&self.0, names).await
    }

    async fn settle(&self) -> Result<()> {
        Ok(self.0.flush().await?)
    }
}

/// Asks for several keys by one call; how many were there.
async fn many(store: &impl Store, names: &[&Name]) -> Result<usize> {
    let keys: Vec<Key> = names.iter().map(|name| name.key.clone()).collect();
    let mut found = 0;
    for read in store.get_many(&keys, &ReadOptions::new()).await {
        found += usize::from(read?.entry().is_some());
    }
    Ok(found)
}

/// A store without tiers.
#[derive(Clone, Debug)]
pub struct Plain(pub Arc<dyn Store>);

impl Peer for Plain {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        Ok(self.0.get(&name.key).await?.map(|entry| entry.value().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        self.0.put(&name.key, Put::new(value)).await?;
        Ok(())
    }

    async fn get_many(&self, names: &[&Name]) -> Result<usize> {
        many(&self.0, names).await
    }
}
