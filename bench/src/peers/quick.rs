//! `quick_cache`, by itself.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::moka::weight;
use super::source::Source;
use super::{Peer, Room};
use crate::workload::Name;

/// Counts keys and values.
#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<String, Bytes> for ByBytes {
    fn weight(&self, key: &String, value: &Bytes) -> u64 {
        u64::from(weight(key, value))
    }
}

/// A cache, over a source or over nothing.
#[derive(Clone, Debug)]
pub struct Quick {
    cache: Arc<Cache<String, Bytes, ByBytes>>,
    source: Option<Source>,
}

impl Quick {
    /// With `room`.
    pub fn new(room: Room, source: Option<Source>) -> Self {
        Self { cache: Arc::new(Cache::with_weighter(room.entries as usize, room.bytes(), ByBytes)), source }
    }
}

impl Peer for Quick {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let Some(source) = &self.source else {
            return Ok(self.cache.get(name.text.as_str()).map(|value| value.len()));
        };
        let value = self.cache.get_or_insert_async(name.text.as_str(), source.read(name)).await?;
        Ok(Some(value.len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        if let Some(source) = &self.source {
            source.write(name, value.clone()).await?;
        }
        self.cache.insert(name.text.clone(), value);
        Ok(())
    }
}
