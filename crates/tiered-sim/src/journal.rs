//! A journal that takes its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::Dice;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::{Durability, Outcome, Result};

/// Another journal, a few milliseconds late, or many.
#[derive(Debug)]
pub(crate) struct SlowJournal {
    inner: Arc<dyn Journal>,
    dice: Mutex<Dice>,
    failed: Arc<AtomicBool>,
}

impl SlowJournal {
    /// `failed` is set when an append fails for another reason than a full disk: from then on everything is refused.
    pub(crate) fn new(inner: Arc<dyn Journal>, seed: u64, failed: Arc<AtomicBool>) -> Self {
        Self { inner, dice: Mutex::new(Dice::new(seed)), failed }
    }

    fn delay(&self) -> Duration {
        let mut dice = self.dice.lock();
        let bound = if dice.below(4) == 0 { 60 } else { 4 };
        Duration::from_millis(dice.below(bound))
    }
}

#[async_trait]
impl Journal for SlowJournal {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        tokio::time::sleep(self.delay()).await;
        let appended = self.inner.append(records).await;
        if appended.as_ref().is_err_and(|error| error.outcome() == Some(Outcome::Unknown)) {
            self.failed.store(true, Ordering::Relaxed);
        }
        appended
    }

    async fn trim(&self, sequence: Sequence) -> Result<()> {
        tokio::time::sleep(self.delay()).await;
        self.inner.trim(sequence).await
    }

    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        tokio::time::sleep(self.delay()).await;
        self.inner.set_aside(aside).await
    }

    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
