//! A journal in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use super::history::History;
use super::scripted::{id_of, linger, strikes};
use crate::capability::Durability;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::journal::{Aside, Journal, JournalRecord, Recovered, Sequence, VolatileJournal};
use crate::key::Key;
use crate::sync_primitives::explored::coin;

/// A journal in memory whose calls take time and may fail. What is in it takes effect when it is appended.
#[derive(Debug)]
pub(super) struct ScriptedJournal {
    inner: VolatileJournal,
    keys: Vec<Key>,
    history: Arc<History>,
    /// Appends that are refused for lack of room.
    full: AtomicUsize,
    /// Lists and trims that fail.
    failing: AtomicUsize,
    appending: AtomicBool,
}

impl ScriptedJournal {
    pub(super) fn new(keys: &[Key], history: &Arc<History>) -> Self {
        Self {
            inner: VolatileJournal::new(),
            keys: keys.to_vec(),
            history: Arc::clone(history),
            full: AtomicUsize::new(0),
            failing: AtomicUsize::new(0),
            appending: AtomicBool::new(false),
        }
    }

    /// From now on so many appends find no room, and so many other calls fail.
    pub(super) fn is_in_trouble(&self, full: usize, failing: usize) {
        self.full.store(full, Ordering::Relaxed);
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Another call than an append; it fails before or after its effect, or not.
    async fn call(&self, effect: impl Future<Output = Result<()>> + Send) -> Result<()> {
        linger().await;
        let fails = strikes(&self.failing);
        if !(fails && coin()) {
            effect.await?;
        }
        linger().await;
        if fails { Err(Error::new(ErrorKind::Unavailable, "the journal is in trouble")) } else { Ok(()) }
    }
}

#[async_trait]
impl Journal for ScriptedJournal {
    fn durability(&self) -> Durability {
        Durability::ProcessKill
    }

    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        if self.appending.swap(true, Ordering::Relaxed) {
            self.history.fault("two appends at a time");
        }
        linger().await;
        let appended = if strikes(&self.full) {
            Err(Error::new(ErrorKind::Full, "no room").outcome_is(Outcome::NotApplied))
        } else {
            for record in records {
                let place = self.keys.iter().position(|key| *key == record.key);
                let place = place.expect("the keys of a scenario are known");
                self.history.journaled(place, id_of(&record.action), record.continues);
            }
            self.inner.append(records).await
        };
        linger().await;
        self.appending.store(false, Ordering::Relaxed);
        appended
    }

    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.call(self.inner.trim(sequence)).await
    }

    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.call(self.inner.set_aside(aside)).await
    }

    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        let recovered = self.inner.recover(backend).await?;
        Ok(Recovered { journal: 1, ..recovered })
    }

    async fn close(&self) -> Result<()> {
        linger().await;
        Ok(())
    }
}
