//! Stores that last, and forget something between two sessions or beside a close.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Interceptor, Place};
use tiered_core::adapter::closed;
use tiered_core::adapter::{BatchOutcomes, Note, Stamp, Tombstones, VersionMint};
use tiered_core::{
    Action, Attributes, Batch, Capabilities, Durability, Entry, Error, ErrorKind, Key, ListOptions,
    MemoryStore, Operation, Precondition, Put, ReadOptions, Result, Store, Written, adapter,
};

use super::bend::{bent, reference};

/// What a session forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgets {
    Nothing,
    Attributes,
    Batches,
    CloseLosesPuts,
    CloseAppliesRefused,
    CloseTwice,
    Conditions,
    Deletes,
    EmptyValues,
    Expiry,
    LargeValues,
    LockStays,
    Marks,
    Replacements,
    Tombstones,
    Versions,
}

/// Each with the case that must name it.
pub(super) const TABLE: [(Forgets, &str); 15] = [
    (Forgets::Attributes, "life_reopen"),
    (Forgets::Batches, "life_reopen"),
    (Forgets::CloseLosesPuts, "close_keeps_acknowledged"),
    (Forgets::CloseAppliesRefused, "close_drops_refused"),
    (Forgets::CloseTwice, "life_close"),
    (Forgets::Conditions, "reopen_conditions"),
    (Forgets::Deletes, "reopen_delete"),
    (Forgets::EmptyValues, "life_reopen"),
    (Forgets::Expiry, "reopen_expiry"),
    (Forgets::LargeValues, "life_reopen"),
    (Forgets::LockStays, "life_locked"),
    (Forgets::Marks, "life_reopen_marks"),
    (Forgets::Replacements, "life_reopen"),
    (Forgets::Tombstones, "reopen_tombstones"),
    (Forgets::Versions, "reopen_versions"),
];

/// What is kept between sessions.
#[derive(Debug, Default)]
struct Shelf {
    entries: Mutex<BTreeMap<Key, Entry>>,
    marks: Mutex<BTreeMap<String, Bytes>>,
    open: AtomicBool,
}

/// A place that lasts as long as the test.
#[derive(Debug)]
pub(crate) struct Disk {
    shelf: Arc<Shelf>,
    stamp: Stamp,
    forgets: Forgets,
}

impl Disk {
    pub(crate) fn new(forgets: Forgets, stamp: &Stamp) -> Self {
        Self { shelf: Arc::default(), stamp: stamp.clone(), forgets }
    }
}

#[async_trait]
impl Place for Disk {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        if self.shelf.open.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::Locked, "the place is open already"));
        }
        let versions = match self.forgets {
            Forgets::Versions => VersionMint::seeded(1),
            _ => VersionMint::from_entropy(),
        };
        let inner = reference(&Stamp::new(self.stamp.clock().clone(), Arc::new(versions)));
        let capabilities = inner.capabilities().clone().with_durability(Durability::PowerLoss);
        let entries = self.shelf.entries.lock().clone();
        for (key, entry) in &entries {
            if let Some(put) = self.restored(entry) {
                inner.put(key, put).await?;
            }
        }
        let marks = self.shelf.marks.lock().clone();
        for (name, value) in marks.into_iter().filter(|_| self.forgets != Forgets::Marks) {
            inner.set_mark(&name, Some(value)).await?;
        }
        let session = Session {
            inner,
            capabilities,
            forgets: self.forgets,
            shelf: Arc::clone(&self.shelf),
            own: Mutex::default(),
            first: Mutex::default(),
            closed: AtomicBool::new(false),
            writing: tokio::sync::RwLock::default(),
        };
        Ok(bent(&session.inner.clone(), session))
    }
}

impl Disk {
    /// What is left of an entry of the session before.
    fn restored(&self, entry: &Entry) -> Option<Put> {
        let metadata = entry.metadata();
        let kept = match self.forgets {
            Forgets::Attributes => (**metadata).clone().with_attributes(Attributes::new()),
            Forgets::Expiry => (**metadata).clone().with_expiry(None),
            Forgets::Tombstones => (**metadata).clone().with_note(Note::default()),
            Forgets::EmptyValues if entry.size() == 0 => return None,
            _ => (**metadata).clone(),
        };
        let value = match self.forgets {
            Forgets::LargeValues => entry.value().slice(..entry.value().len().min(65_536)),
            _ => entry.value().clone(),
        };
        Some(adapter::verbatim(&Entry::from_parts(value, Arc::new(kept))))
    }
}

#[derive(Debug)]
struct Session {
    inner: MemoryStore,
    capabilities: Capabilities,
    forgets: Forgets,
    shelf: Arc<Shelf>,
    /// The keys that this session wrote.
    own: Mutex<BTreeSet<Key>>,
    /// The first entry of each key in this session.
    first: Mutex<BTreeMap<Key, Entry>>,
    closed: AtomicBool,
    /// Held by writes, so that a close waits for them.
    writing: tokio::sync::RwLock<()>,
}

impl Session {
    async fn entries(&self) -> Result<BTreeMap<Key, Entry>> {
        let all = ListOptions::new().tombstones(Tombstones::Show);
        let listed: Vec<_> = self.inner.list(all).try_collect().await?;
        let mut entries = BTreeMap::new();
        for listed in listed {
            let shown = ReadOptions::new().tombstones(Tombstones::Show);
            if let Some(entry) = self.inner.load(&listed.key, &shown).await?.into_entry() {
                entries.insert(listed.key, entry);
            }
        }
        Ok(entries)
    }

    /// A moment in which a close may come in between.
    async fn moment(&self) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[async_trait]
impl Interceptor for Session {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    fn capabilities<'s>(&'s self, _inner: &'s dyn Store) -> &'s Capabilities {
        &self.capabilities
    }

    async fn put(&self, inner: &dyn Store, key: &Key, mut put: Put) -> Result<Written> {
        match self.forgets {
            Forgets::Conditions
                if put.precondition == Precondition::Absent && !self.own.lock().contains(key) =>
            {
                put.precondition = Precondition::None;
            }
            Forgets::CloseLosesPuts | Forgets::CloseAppliesRefused => {
                if self.closed.load(Ordering::Acquire) {
                    return Err(closed(Operation::Put));
                }
                self.moment().await;
                let late = self.closed.load(Ordering::Acquire);
                if late && self.forgets == Forgets::CloseLosesPuts {
                    return Ok(Written::committed(VersionMint::from_entropy().mint()));
                }
                if late {
                    let entry = Stamp::system().entry(&put);
                    self.shelf.entries.lock().insert(key.clone(), entry);
                    return Err(closed(Operation::Put));
                }
            }
            _ => {}
        }
        let _writing = self.writing.read().await;
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(Operation::Put));
        }
        let written = inner.put(key, put).await?;
        self.own.lock().insert(key.clone());
        if let Some(entry) = inner.load(key, &ReadOptions::new()).await?.into_entry() {
            self.first.lock().entry(key.clone()).or_insert(entry);
        }
        Ok(written)
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        if self.forgets == Forgets::Batches {
            let puts = batch.operations().iter().filter(|(_, action)| matches!(action, Action::Put(_)));
            self.own.lock().extend(puts.map(|(key, _)| key.clone()));
        }
        inner.apply(batch).await
    }

    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        inner.set_mark(name, value.clone()).await?;
        let mut marks = self.shelf.marks.lock();
        match value {
            Some(value) => marks.insert(name.to_owned(), value),
            None => marks.remove(name),
        };
        Ok(())
    }

    async fn close(&self, inner: &dyn Store) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return match self.forgets {
                Forgets::CloseTwice => Err(closed(Operation::Close)),
                _ => Ok(()),
            };
        }
        let _writing = self.writing.write().await;
        let mut entries = self.entries().await?;
        inner.close().await?;
        let mut kept = self.shelf.entries.lock();
        match self.forgets {
            // What was deleted is there still; so are late puts.
            Forgets::Deletes | Forgets::CloseAppliesRefused => kept.extend(entries),
            Forgets::Replacements => {
                let first = self.first.lock();
                for (key, entry) in &mut entries {
                    if let Some(first) = first.get(key) {
                        *entry = first.clone();
                    }
                }
                *kept = entries;
            }
            Forgets::Batches => {
                let first = self.first.lock();
                entries.retain(|key, _| first.contains_key(key) || !self.own.lock().contains(key));
                *kept = entries;
            }
            _ => *kept = entries,
        }
        if self.forgets != Forgets::LockStays {
            self.shelf.open.store(false, Ordering::Release);
        }
        Ok(())
    }
}
