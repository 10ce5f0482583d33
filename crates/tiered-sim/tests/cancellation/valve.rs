//! A tier, or a journal, whose writes a test holds back or fails.

use std::sync::Arc;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::{Durability, Error, ErrorKind, Key, MemoryStore, Outcome, Result, Store, VolatileJournal};
use tokio::sync::watch;

/// What happens to writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Open,
    /// They wait.
    Shut,
    /// They fail, for now.
    Broken,
    /// They are refused permanently.
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
#[derive(Debug)]
pub(crate) struct Valved {
    pub(crate) store: MemoryStore,
    pub(crate) valve: Valve,
}

impl Valved {
    pub(crate) fn over(store: MemoryStore) -> Intercept<Self> {
        Intercept::new(Arc::new(store.clone()), Self { store, valve: Valve::new() })
    }

    /// What is there, past every fault and whether or not it is closed.
    pub(crate) fn value(&self, key: &Key) -> Option<String> {
        let entry = self.store.snapshot().remove(key)?;
        Some(String::from_utf8_lossy(entry.value()).into_owned())
    }
}

#[async_trait]
impl Interceptor for Valved {
    async fn before_write(&self) -> Result<()> {
        self.valve.pass().await
    }
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<bytes::Bytes>) -> Result<()> {
        inner.set_mark(name, value).await
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
