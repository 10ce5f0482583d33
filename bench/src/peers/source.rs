//! The authority that loading caches stand over: one store for all sides, which counts its loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use tiered::adapter::{Claim, Scope};
use tiered::{
    Capabilities, Delete, Deleted, Key, ListOptions, ListStream, Put, Read, ReadOptions, Store,
    StoreExt as _, Written,
};

use crate::workload::{Name, Workload};

/// A store, with a count of the reads it served and a wait before each. Clones share both.
#[derive(Clone, Debug)]
pub struct Source {
    name: &'static str,
    inner: Arc<dyn Store>,
    loads: Arc<AtomicU64>,
    wait: Duration,
}

impl Source {
    /// A source over a store.
    pub fn new(name: &'static str, inner: Arc<dyn Store>) -> Self {
        Self { name, inner, loads: Arc::default(), wait: Duration::ZERO }
    }

    /// The same, but each read takes at least this long.
    #[must_use]
    pub fn waiting(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Its name in the report.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Reads served so far.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// Writes every key of `workload`, in batches.
    pub async fn fill(&self, workload: &Workload) -> Result<()> {
        for names in workload.names.chunks(1000) {
            let batch = names.iter().fold(tiered::Batch::new(), |batch, name| {
                batch.put(name.key.clone(), Put::new(workload.value.clone()))
            });
            for outcome in self.inner.apply(batch).await? {
                outcome?;
            }
        }
        Ok(())
    }

    async fn served(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
    }

    /// Reads one key as peers do.
    pub async fn read(&self, name: &Name) -> Result<Bytes> {
        self.served().await;
        let entry = self.inner.get(&name.key).await?.context("the source lacks a key")?;
        Ok(entry.into_value())
    }

    /// The same by the key's text.
    pub async fn read_text(&self, key: &str) -> Result<Bytes> {
        self.served().await;
        let entry = self.inner.get(key).await?.context("the source lacks a key")?;
        Ok(entry.into_value())
    }

    /// Writes one key as peers do, by its text.
    pub async fn write_text(&self, key: &str, value: Bytes) -> Result<()> {
        self.inner.put(&Key::new(key)?, Put::new(value)).await?;
        Ok(())
    }

    /// Writes one key as peers do.
    pub async fn write(&self, name: &Name, value: Bytes) -> Result<()> {
        self.inner.put(&name.key, Put::new(value)).await?;
        Ok(())
    }
}

/// As the backend of a tiered store.
#[async_trait]
impl Store for Source {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> tiered::Result<Read> {
        self.served().await;
        self.inner.load(key, options).await
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<tiered::Result<Read>> {
        self.served().await;
        self.inner.get_many(keys, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> tiered::Result<Written> {
        self.inner.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> tiered::Result<Deleted> {
        self.inner.delete(key, delete).await
    }
    async fn apply(&self, batch: tiered::Batch) -> tiered::Result<tiered::adapter::BatchOutcomes> {
        self.inner.apply(batch).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    /// Several stacks stand over one source here, one after the other: none of them has it to itself.
    async fn claim(&self, _: &Scope) -> tiered::Result<Claim> {
        Ok(Claim::shared())
    }
    async fn mark(&self, name: &str) -> tiered::Result<Option<Bytes>> {
        self.inner.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> tiered::Result<()> {
        self.inner.set_mark(name, value).await
    }
    async fn mark_names(&self, prefix: &str) -> tiered::Result<Vec<String>> {
        self.inner.mark_names(prefix).await
    }
    async fn flush(&self) -> tiered::Result<()> {
        self.inner.flush().await
    }
    async fn close(&self) -> tiered::Result<()> {
        self.inner.close().await
    }
}
