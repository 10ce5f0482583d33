//! cachet: one tier in memory, two of them, or one before a source.

use ::cachet::{Cache, CacheEntry, CacheTier, Error, InsertOutcome};
use anyhow::Result;
use bytes::Bytes;
use std::sync::Arc;
use tick::Clock;

use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// A cache.
#[derive(Clone, Debug)]
pub struct Cachet(Arc<Cache<String, Bytes>>);

impl Cachet {
    /// One tier in memory, whose capacity is a number of entries.
    pub fn memory(room: Room) -> Self {
        let cache = Cache::builder::<String, Bytes>(Clock::new_tokio())
            .memory_with(|memory| memory.max_capacity(room.entries));
        Self(Arc::new(cache.build()))
    }

    /// Two tiers in memory.
    pub fn two_tiers(room: Room) -> Self {
        let tier = || {
            Cache::builder::<String, Bytes>(Clock::new_tokio())
                .memory_with(|memory| memory.max_capacity(room.entries))
        };
        Self(Arc::new(tier().fallback(tier()).build()))
    }

    /// A tier in memory before `source`, guarded against stampedes.
    pub fn over(room: Room, source: Source) -> Self {
        let tier = Cache::builder::<String, Bytes>(Clock::new_tokio())
            .memory_with(|memory| memory.max_capacity(room.entries));
        let below = Cache::builder::<String, Bytes>(Clock::new_tokio()).storage(Below(source));
        Self(Arc::new(tier.fallback(below).stampede_protection().build()))
    }
}

impl Peer for Cachet {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        Ok(self.0.get(name.text.as_str()).await?.map(|entry| entry.value().len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        self.0.insert(name.text.clone(), value).await?;
        Ok(())
    }
}

/// A source as the lowest tier.
#[derive(Debug)]
struct Below(Source);

impl CacheTier<String, Bytes> for Below {
    async fn get(&self, key: &String) -> Result<Option<CacheEntry<Bytes>>, Error> {
        let value = self.0.read_text(key).await.map_err(|error| Error::from_message(format!("{error:#}")))?;
        Ok(Some(CacheEntry::new(value)))
    }

    async fn insert(&self, key: String, entry: CacheEntry<Bytes>) -> Result<InsertOutcome, Error> {
        let written = self.0.write_text(&key, entry.into_value()).await;
        written.map_err(|error| Error::from_message(format!("{error:#}")))?;
        Ok(InsertOutcome::Accepted)
    }

    async fn invalidate(&self, _: &String) -> Result<(), Error> {
        Ok(())
    }

    async fn clear(&self) -> Result<(), Error> {
        Ok(())
    }
}
