//! moka, by itself: `sync` for look-ups, `future` where it loads.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use foldhash::fast::RandomState;

use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// What an entry weighs: as others that are told only of keys and values.
pub(super) fn weight(key: &str, value: &Bytes) -> u32 {
    u32::try_from(key.len() + value.len()).unwrap_or(u32::MAX)
}

/// The synchronous cache with LRU and the hasher of tiered's own moka tier: the least that tier could cost.
#[derive(Clone, Debug)]
pub struct Moka(::moka::sync::Cache<String, Bytes, RandomState>);

impl Moka {
    /// With `room`.
    pub fn new(room: Room) -> Self {
        let builder = ::moka::sync::Cache::builder()
            .max_capacity(room.bytes())
            .eviction_policy(::moka::policy::EvictionPolicy::lru())
            .weigher(|key: &String, value: &Bytes| weight(key, value));
        Self(builder.build_with_hasher(RandomState::default()))
    }
}

impl Peer for Moka {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        Ok(self.0.get(name.text.as_str()).map(|value| value.len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        self.0.insert(name.text.clone(), value);
        Ok(())
    }
}

/// The asynchronous cache, which loads by `try_get_with`: one load for all who ask.
#[derive(Clone, Debug)]
pub struct Loading {
    cache: ::moka::future::Cache<String, Bytes, RandomState>,
    source: Source,
}

impl Loading {
    /// With `room`, over `source`.
    pub fn new(room: Room, source: Source) -> Self {
        let builder = ::moka::future::Cache::builder()
            .max_capacity(room.bytes())
            .eviction_policy(::moka::policy::EvictionPolicy::lru())
            .weigher(|key: &String, value: &Bytes| weight(key, value));
        Self { cache: builder.build_with_hasher(RandomState::default()), source }
    }
}

impl Peer for Loading {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let load = self.source.read(name);
        let value = self.cache.try_get_with_by_ref(name.text.as_str(), load).await;
        value.map(|value| Some(value.len())).map_err(|error| anyhow!("{error:#}"))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        self.source.write(name, value.clone()).await?;
        self.cache.insert(name.text.clone(), value).await;
        Ok(())
    }
}
