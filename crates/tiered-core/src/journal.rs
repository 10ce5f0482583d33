//! The write-behind journal: what makes a write durable before the backend has it.

use std::collections::VecDeque;
use std::fmt;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::batch::Action;
use crate::capability::Durability;
use crate::error::Result;
use crate::key::Key;

/// A record's place in the journal. Strictly increasing, never reused within one journal.
pub type Sequence = u64;

/// One acknowledged write: a key and what is to happen to it. The action is complete: stamped, without a
/// precondition (that was decided before it was journaled).
#[derive(Clone, Debug)]
pub struct JournalRecord {
    /// The key.
    pub key: Key,
    /// The put or delete.
    pub action: Action,
}

/// A log of acknowledged writes, in the order in which they take effect.
///
/// One store owns a journal at a time. The engine appends groups of records, hands them to the backend in order,
/// and trims what the backend has.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// What an appended record survives.
    fn durability(&self) -> Durability;

    /// Appends a group of records and makes it durable, all or none of it. Returns the sequence of its first
    /// record; the others follow it without gaps.
    ///
    /// # Errors
    /// After an error of append or sync the group's fate is unknown and the journal is poisoned: every later
    /// append fails until it is opened again. A refusal for lack of room
    /// ([`ErrorKind::Full`](crate::ErrorKind::Full), [`Outcome::NotApplied`](crate::Outcome)) does not poison it.
    ///
    /// # Cancel safety
    /// The engine never drops this call half-way.
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence>;

    /// Forgets every record up to and including `sequence`. The backend has them.
    async fn trim(&self, sequence: Sequence) -> Result<()>;

    /// The records not trimmed, in order. Called once, before the first append.
    async fn recover(&self) -> Result<Vec<(Sequence, JournalRecord)>>;

    /// Makes durable what is not yet and releases the place.
    async fn close(&self) -> Result<()>;
}

/// A journal in memory: write-behind without durability. What is not flushed is lost with the process, and
/// [`TieredStore::guarantees`](crate::TieredStore::guarantees) says so.
#[derive(Debug, Default)]
pub struct VolatileJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: Sequence,
    records: VecDeque<(Sequence, JournalRecord)>,
}

impl VolatileJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Journal for VolatileJournal {
    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        let mut state = self.state.lock();
        let first = state.next;
        for record in records {
            let sequence = state.next;
            state.next += 1;
            state.records.push_back((sequence, record.clone()));
        }
        Ok(first)
    }

    async fn trim(&self, sequence: Sequence) -> Result<()> {
        let mut state = self.state.lock();
        while state.records.front().is_some_and(|(first, _)| *first <= sequence) {
            state.records.pop_front();
        }
        Ok(())
    }

    async fn recover(&self) -> Result<Vec<(Sequence, JournalRecord)>> {
        Ok(self.state.lock().records.iter().cloned().collect())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
