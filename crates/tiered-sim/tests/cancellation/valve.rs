//! A tier, or a journal, whose writes a test holds back or fails.

use std::sync::Arc;

use async_trait::async_trait;
use tiered_core::{
    Aside, Batch, BatchOutcomes, Capabilities, Delete, Deleted, Durability, Entry, Error, ErrorKind, Journal,
    JournalRecord, Key, ListOptions, ListStream, MemoryStore, Outcome, Put, Read, ReadOptions, Recovered,
    Result, Sequence, Store, VolatileJournal, Written,
};
use tokio::sync::watch;

/// What happens to writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// They wait.
    Shut,
    /// They fail, for now.
    Broken,
    /// They are refused for good.
    Refusing,
}

/// Sets what happens to writes.
#[derive(Clone, Debug)]
pub(crate) struct Valve(Arc<watch::Sender<Mode>>);

impl Valve {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Mode::Open)))
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.send_replace(mode);
    }

    async fn pass(&self) -> Result<()> {
        let mut mode = self.0.subscribe();
        let mode = *mode.wait_for(|mode| *mode != Mode::Shut).await.expect("the sender is here");
        let failed = match mode {
            Mode::Open | Mode::Shut => return Ok(()),
            Mode::Broken => Error::new(ErrorKind::Unavailable, "broken"),
            Mode::Refusing => Error::new(ErrorKind::TooLarge, "refused"),
        };
        Err(failed.outcome_is(Outcome::NotApplied))
    }
}

/// A memory store behind a valve.
#[derive(Clone, Debug)]
pub(crate) struct Valved {
    pub(crate) store: MemoryStore,
    pub(crate) valve: Valve,
}

impl Valved {
    pub(crate) fn new(store: MemoryStore) -> Self {
        Self { store, valve: Valve::new() }
    }

    /// What is there, past every fault and whether or not it is closed.
    pub(crate) fn value(&self, key: &Key) -> Option<String> {
        let entry = self.store.snapshot().remove(key)?;
        Some(String::from_utf8_lossy(entry.value()).into_owned())
    }
}

#[async_trait]
impl Store for Valved {
    fn capabilities(&self) -> &Capabilities {
        self.store.capabilities()
    }
    async fn claim(&self, scope: &tiered_core::Scope) -> Result<tiered_core::Claim> {
        self.store.claim(scope).await
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.store.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.valve.pass().await?;
        self.store.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.valve.pass().await?;
        self.store.delete(key, delete).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.store.list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        self.store.peek(key)
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.valve.pass().await?;
        self.store.apply(batch).await
    }
    async fn mark(&self, name: &str) -> Result<Option<bytes::Bytes>> {
        self.store.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<bytes::Bytes>) -> Result<()> {
        self.store.set_mark(name, value).await
    }
    async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }
    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

/// A journal behind a valve.
#[derive(Debug)]
pub(crate) struct ValvedJournal {
    inner: VolatileJournal,
    valve: Valve,
}

impl ValvedJournal {
    pub(crate) fn new(valve: Valve) -> Self {
        Self { inner: VolatileJournal::new(), valve }
    }
}

#[async_trait]
impl Journal for ValvedJournal {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        self.valve.pass().await?;
        self.inner.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.inner.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        // A disk takes its time, during which a caller can go away.
        tokio::task::yield_now().await;
        self.inner.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
