//! A backend that is not always there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tiered::adapter::{BatchOutcomes, Claim, Scope};
use tiered::{
    Batch, Capabilities, Delete, Deleted, Error, ErrorKind, Key, ListOptions, ListStream, Outcome, Put, Read,
    ReadOptions, Result, Store, Written,
};
use tokio::sync::watch;

/// How a backend takes writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// At once.
    There,
    /// It refuses them: none of them takes effect.
    Away,
    /// They wait until it is there again.
    Busy,
}

/// A store whose writes fail or wait when told to. Reads are always served. Clones share both.
#[derive(Clone, Debug)]
pub struct Away {
    inner: Arc<dyn Store>,
    presence: Arc<watch::Sender<Presence>>,
}

impl Away {
    /// Over a store, which is there.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, presence: Arc::new(watch::channel(Presence::There).0) }
    }

    /// From now on it takes writes like this.
    pub fn set(&self, presence: Presence) {
        self.presence.send_replace(presence);
    }

    async fn admit(&self) -> Result<()> {
        let mut presence = self.presence.subscribe();
        // The other end is held here, so that waiting cannot fail.
        let found = presence.wait_for(|presence| *presence != Presence::Busy).await.map(|presence| *presence);
        if matches!(found, Ok(Presence::There)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "the backend is away").outcome_is(Outcome::NotApplied))
    }
}

#[async_trait]
impl Store for Away {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.inner.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.admit().await?;
        self.inner.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.admit().await?;
        self.inner.delete(key, delete).await
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.admit().await?;
        self.inner.apply(batch).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.inner.claim(scope).await
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.inner.set_mark(name, value).await
    }
    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.mark_names(prefix).await
    }
    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
