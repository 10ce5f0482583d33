//! A write in the one shape that it has inside the engine, from the public method to the tiers.

use crate::batch::{Action, Applied, Atomicity, Batch};
use crate::clock::{Stamp, Timestamp};
use crate::entry::Entry;
use crate::error::Operation;
use crate::journal::JournalRecord;
use crate::key::Key;
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Put, Written};

/// What a write leaves under its key.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// This entry.
    Put(Entry),
    /// Nothing. The version is the id of the delete.
    Delete(Version),
}

/// A write that is complete: it has its id, and what it stores is settled.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    key: Key,
    effect: Effect,
    precondition: Precondition,
    /// Whether a delete must tell if a live entry existed.
    reports_existed: bool,
}

impl Write {
    pub(crate) const fn put(key: Key, entry: Entry, precondition: Precondition) -> Self {
        Self { key, effect: Effect::Put(entry), precondition, reports_existed: false }
    }

    /// The delete, under its own id or a new one.
    pub(crate) fn delete(key: Key, delete: Delete, stamp: &Stamp) -> Self {
        let id = delete.id().cloned().unwrap_or_else(|| stamp.versions().mint());
        let reports_existed = delete.reports_existed();
        Self { key, effect: Effect::Delete(id), precondition: delete.precondition, reports_existed }
    }

    /// The write of a journal's record.
    pub(crate) fn of_record(record: JournalRecord, stamp: &Stamp) -> Self {
        match record.action {
            Action::Put(put) => Self::put(record.key, stamp.entry(&put), Precondition::None),
            Action::Delete(delete) => Self::delete(record.key, delete, stamp),
        }
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) const fn effect(&self) -> &Effect {
        &self.effect
    }

    /// The entry that a put stores; `None` for a delete.
    pub(crate) const fn entry(&self) -> Option<&Entry> {
        match &self.effect {
            Effect::Put(entry) => Some(entry),
            Effect::Delete(_) => None,
        }
    }

    pub(crate) const fn precondition(&self) -> &Precondition {
        &self.precondition
    }

    pub(crate) const fn reports_existed(&self) -> bool {
        self.reports_existed
    }

    pub(crate) const fn is_put(&self) -> bool {
        matches!(self.effect, Effect::Put(_))
    }

    pub(crate) const fn operation(&self) -> Operation {
        match self.effect {
            Effect::Put(_) => Operation::Put,
            Effect::Delete(_) => Operation::Delete,
        }
    }

    /// The id of the write, which is the version of what it stores.
    pub(crate) fn id(&self) -> &Version {
        match &self.effect {
            Effect::Put(entry) => entry.version(),
            Effect::Delete(id) => id,
        }
    }

    /// Bytes of the value.
    pub(crate) fn size(&self) -> u64 {
        self.entry().map_or(0, Entry::size)
    }

    /// The same write under another precondition.
    pub(crate) fn under(&self, precondition: Precondition) -> Self {
        Self { precondition, ..self.clone() }
    }

    /// The write as a store takes it.
    pub(crate) fn action(&self) -> Action {
        match &self.effect {
            Effect::Put(entry) => Action::Put(Put::verbatim(entry).precondition(self.precondition.clone())),
            Effect::Delete(id) => {
                let delete = Delete::new().precondition(self.precondition.clone()).under_id(id.clone());
                Action::Delete(if self.reports_existed { delete.report_existed() } else { delete })
            }
        }
    }

    /// The same write after its precondition was decided: it is carried out whatever the backend has.
    pub(crate) fn decided(self) -> Self {
        Self { precondition: Precondition::None, reports_existed: false, ..self }
    }

    /// The write, which is [decided](Self::decided), as a journal takes it. `continues` as in [`JournalRecord`].
    pub(crate) fn record(&self, continues: bool) -> JournalRecord {
        JournalRecord { key: self.key.clone(), action: self.action(), continues }
    }

    /// Whether `current` is what the write leaves behind. For a delete: what it was conditional on is no longer there.
    pub(crate) fn left(&self, current: Option<&Version>) -> bool {
        match &self.effect {
            Effect::Put(entry) => current == Some(entry.version()),
            Effect::Delete(_) => current.is_none(),
        }
    }

    /// Whether what it stores has expired.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.entry().and_then(|entry| entry.metadata().expires_at).is_some_and(|at| now >= at)
    }

    /// The answer to a write that took effect under its precondition.
    pub(crate) fn applied(&self) -> Applied {
        match &self.effect {
            Effect::Put(entry) => Applied::Put(Written::committed(entry.version().clone())),
            Effect::Delete(_) => {
                let existed = matches!(self.precondition, Precondition::Matches(_));
                Applied::Delete(Deleted::committed(existed))
            }
        }
    }
}

/// The writes as one batch.
pub(crate) fn batch_of(writes: &[Write], atomicity: Atomicity) -> Batch {
    writes.iter().fold(Batch::of(atomicity), |mut batch, write| {
        batch.push(write.key.clone(), write.action());
        batch
    })
}

/// Whether the write at `index` is the last one on its key.
pub(crate) fn is_last_on_key(writes: &[Write], index: usize) -> bool {
    let key = writes.get(index).map(Write::key);
    !writes.iter().skip(index + 1).any(|later| Some(later.key()) == key)
}

/// The keys of the writes, sorted, each once.
pub(crate) fn keys_of(writes: &[Write]) -> Vec<Key> {
    let mut keys: Vec<Key> = writes.iter().map(|write| write.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
