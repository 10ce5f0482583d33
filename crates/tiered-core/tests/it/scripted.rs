//! A store whose next calls end as a test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_core::{
    Batch, BatchOutcomes, Capabilities, Delete, Deleted, Error, ErrorKind, Key, ListOptions, ListStream,
    MemoryStore, Outcome, Put, Read, ReadOptions, Result, Sharing, Store, Written,
};

/// How a write ends.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It is lost on the way, which nobody knows.
    RequestLost,
    /// The same, and somebody else writes this value to the key meanwhile.
    Overtaken(&'static str),
}

/// What writes of one key meet, each time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// They take so long.
    Slow(Duration),
    /// They fail after so long.
    Fails(Duration),
}

/// What reads do; where they hang, writes do so too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Well,
    Down,
    Hangs,
}

/// A memory store with a script.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) inner: MemoryStore,
    capabilities: Capabilities,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    reading: Arc<Mutex<Reading>>,
    reads: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    troubles: Arc<Mutex<BTreeMap<Key, Trouble>>>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self::over(MemoryStore::new(), Sharing::Exclusive)
    }

    /// A server that others write as well.
    pub(crate) fn shared() -> Self {
        Self::over(MemoryStore::new(), Sharing::Shared)
    }

    pub(crate) fn over(inner: MemoryStore, sharing: Sharing) -> Self {
        let capabilities = inner.capabilities().clone().named("scripted").with_sharing(sharing);
        Self {
            inner,
            capabilities,
            fates: Arc::default(),
            reading: Arc::new(Mutex::new(Reading::Well)),
            reads: Arc::default(),
            writes: Arc::default(),
            troubles: Arc::default(),
        }
    }

    /// The same store with other declared capabilities.
    pub(crate) fn declaring(mut self, change: impl FnOnce(Capabilities) -> Capabilities) -> Self {
        self.capabilities = change(self.capabilities);
        self
    }

    /// The next write ends so, then the one after it.
    pub(crate) fn then(&self, fate: Fate) -> &Self {
        self.fates.lock().push_back(fate);
        self
    }

    /// Writes of the key meet this from now on.
    pub(crate) fn trouble(&self, key: &Key, trouble: Trouble) {
        self.troubles.lock().insert(key.clone(), trouble);
    }

    /// Nothing is slow or fails any more.
    pub(crate) fn untroubled(&self) {
        self.troubles.lock().clear();
    }

    pub(crate) fn reads_are(&self, reading: Reading) {
        *self.reading.lock() = reading;
    }

    /// Reads that arrived here.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes that arrived here.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    async fn read(&self) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let reading = *self.reading.lock();
        match reading {
            Reading::Well => Ok(()),
            Reading::Down => Err(Error::new(ErrorKind::Unavailable, "down")),
            Reading::Hangs => std::future::pending().await,
        }
    }

    async fn write<T>(&self, key: Option<&Key>, apply: impl Future<Output = Result<T>>) -> Result<T> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if *self.reading.lock() == Reading::Hangs {
            std::future::pending::<()>().await;
        }
        let trouble = key.and_then(|key| self.troubles.lock().get(key).copied());
        match trouble {
            Some(Trouble::Slow(time)) => tokio::time::sleep(time).await,
            Some(Trouble::Fails(time)) => {
                tokio::time::sleep(time).await;
                return Err(Error::new(ErrorKind::Unavailable, "in trouble").outcome_is(Outcome::NotApplied));
            }
            None => {}
        }
        let fate = self.fates.lock().pop_front();
        match fate {
            None => return apply.await,
            Some(Fate::AnswerLost) => drop(apply.await?),
            Some(Fate::RequestLost) => {}
            Some(Fate::Overtaken(value)) => {
                if let Some(key) = key {
                    self.inner.put(key, Put::new(value)).await?;
                }
            }
        }
        Err(Error::new(ErrorKind::TimedOut, "no answer").outcome_is(Outcome::Unknown))
    }
}

#[async_trait]
impl Store for Scripted {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn claim(&self, scope: &tiered_core::Scope) -> Result<tiered_core::Claim> {
        // A shared store keeps nobody out.
        match self.capabilities.sharing() {
            Sharing::Shared => Ok(tiered_core::Claim::shared()),
            Sharing::Exclusive => self.inner.claim(scope).await,
        }
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.read().await?;
        self.inner.load(key, options).await
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.write(Some(key), self.inner.put(key, put)).await
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.write(Some(key), self.inner.delete(key, delete)).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.write(None, self.inner.apply(batch)).await
    }

    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).expect("a valid key")
}
