//! multi-tier-cache: its moka tier, over a source or over nothing. Its second tier would be Redis.

use std::sync::Arc;
use std::time::Duration;

use ::multi_tier_cache::error::CacheError;
use ::multi_tier_cache::{CacheManager, CacheStrategy, CacheTier, MokaCache, MokaCacheConfig};
use anyhow::Result;
use bytes::Bytes;

use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// Long enough that nothing expires during a run.
const LIFE: Duration = Duration::from_hours(1);

/// A cache.
#[derive(Clone)]
pub struct MultiTier {
    manager: Arc<CacheManager>,
    source: Option<Source>,
}

impl std::fmt::Debug for MultiTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MultiTier").field("source", &self.source).finish_non_exhaustive()
    }
}

impl MultiTier {
    /// With `room`, over `source`.
    pub fn new(room: Room, source: Option<Source>) -> Result<Self> {
        let config = MokaCacheConfig { max_capacity: room.entries, time_to_live: LIFE, time_to_idle: LIFE };
        let tier = CacheTier::new(Arc::new(MokaCache::new(config)?), 1, false, 1, 1.0);
        Ok(Self { manager: Arc::new(CacheManager::new_with_tiers(vec![tier], None)?), source })
    }
}

impl Peer for MultiTier {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let Some(source) = &self.source else {
            return Ok(self.manager.get(&name.text).await?.map(|value| value.len()));
        };
        let load = || async {
            source.read(name).await.map_err(|error| CacheError::BackendError(format!("{error:#}")))
        };
        let strategy = CacheStrategy::Custom(LIFE);
        let value = self.manager.get_or_compute_with(&name.text, strategy, load).await?;
        Ok(Some(value.len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        if let Some(source) = &self.source {
            source.write(name, value.clone()).await?;
        }
        let strategy = CacheStrategy::Custom(LIFE);
        Ok(self.manager.set_with_strategy(&name.text, value, strategy).await?)
    }
}
