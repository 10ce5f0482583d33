//! A journal that takes its time.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::Dice;
use tiered_core::{Durability, Journal, JournalRecord, Result, Sequence, VolatileJournal};

/// The volatile journal, a few milliseconds late, or many.
#[derive(Debug)]
pub(crate) struct SlowJournal {
    inner: VolatileJournal,
    dice: Mutex<Dice>,
}

impl SlowJournal {
    pub(crate) fn new(seed: u64) -> Self {
        Self { inner: VolatileJournal::new(), dice: Mutex::new(Dice::new(seed)) }
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
        self.inner.append(records).await
    }

    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.inner.trim(sequence).await
    }

    async fn recover(&self) -> Result<Vec<(Sequence, JournalRecord)>> {
        self.inner.recover().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
