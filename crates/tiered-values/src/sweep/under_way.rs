//! Writers under way.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tiered_core::{Delete, ErrorKind, Key, ListOptions, Put, ReadOptions, Timestamp};

use super::bytes::{Head, WriterRecord};
use super::{Inner, Sweep};
use crate::error::{Error, Result};
use crate::writer::{Ended, LOOKS};

/// Longest label, in bytes.
const MAX_LABEL: usize = 256;

/// The id of a writer: 32 hexadecimal digits.
///
/// # Examples
/// ```
/// use tiered_values::sweep::WriterId;
///
/// let id: WriterId = "0000000000000000000000000000002a".parse()?;
/// assert_eq!(id.to_string(), "0000000000000000000000000000002a");
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(u128);

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for WriterId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no id of a writer; an id has 32 hexadecimal digits"))
        })
    }
}

/// A writer whose record is in the store: it is under way, or it crashed.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::Sweep;
///
/// let sweep = Sweep::new(MemoryStore::new())?;
/// drop(sweep.begin_write("importer on host 3").await?); // It crashes.
/// for writer in sweep.writers().await? {
///     println!("{} ({}) began at generation {}", writer.id, writer.label, writer.generation);
///     sweep.forget_writer(writer.id).await?;
/// }
/// assert!(sweep.writers().await?.is_empty());
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterUnderWay {
    /// Its id.
    pub id: WriterId,
    /// What it called itself.
    pub label: String,
    /// The generation that was complete when it began. What was first observed by a later one is held back. Zero where the
    /// record cannot be read, or is of a series whose head was lost.
    pub generation: u64,
    /// When it began, by its clock: for people to read. `None` where the record cannot be read.
    pub began: Option<Timestamp>,
}

/// The record of a writer under way ([`Sweep::begin_write`]).
///
/// [`end`](Self::end) removes it. Dropping it does not: what the writer wrote stays protected until the record is
/// [forgotten](Sweep::forget_writer).
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_values::sweep::Sweep;
///
/// let store = Arc::new(MemoryStore::new());
/// let sweep = Sweep::new(store.clone())?;
/// let write = sweep.begin_write("importer").await?;
/// store.set("leaf", "…").await?;
/// store.set("root", "leaf").await?;
/// write.end().await?;
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[must_use = "a record that is not ended holds back the sweep until it is forgotten"]
pub struct WriteInProgress {
    inner: Arc<Inner>,
    id: WriterId,
}

impl WriteInProgress {
    /// The id under which reports show it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::new(MemoryStore::new())?;
    /// let write = sweep.begin_write("importer").await?;
    /// println!("if this process crashes: tiered gc --forget-writer {}", write.id());
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub const fn id(&self) -> WriterId {
        self.id
    }

    /// Flushes the store, and removes the record. Call it when the outcome of the publish is known: not after
    /// [`Outcome::Unknown`](tiered_core::Outcome::Unknown), as long as the root may still appear.
    ///
    /// # Errors
    /// Those of the flush and of the delete. The record may be left: [`Sweep::forget_writer`] removes it.
    ///
    /// # Cancel safety
    /// Dropping it may leave the record.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::new(MemoryStore::new())?;
    /// sweep.begin_write("importer").await?.end().await?;
    /// assert!(sweep.writers().await?.is_empty());
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn end(self) -> Result<()> {
        // Another handle must not see the record gone and the root not yet there.
        self.inner.store.flush().await?;
        self.inner.remove_writer(self.id).await
    }
}

impl fmt::Debug for WriteInProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteInProgress").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Sweep {
    /// Records that a writer begins. Call it before the writer's first leaf, and before it looks for what is there already.
    /// What the writer then writes is not deleted before it [ends](WriteInProgress::end). The [module](super) says what a
    /// writer may refer to. `label` is shown in reports, and cut to 256 bytes.
    ///
    /// # Errors
    /// Those of the store. A record may be left where the answer was lost; it holds back the sweep until it is
    /// [forgotten](Self::forget_writer).
    ///
    /// # Cancel safety
    /// Dropping it may leave a record.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::{MemoryStore, Put, StoreExt};
    /// use tiered_values::sweep::Sweep;
    ///
    /// let store = Arc::new(MemoryStore::new());
    /// store.set("root", "").await?;
    /// let sweep = Sweep::new(store.clone())?;
    ///
    /// let write = sweep.begin_write("importer").await?;
    /// let root = store.get("root").await?.expect("there");
    /// // Written in any case: a leaf of this name may be garbage.
    /// store.set("leaf", "…").await?;
    /// store.set("root", Put::new("leaf").if_version(root.version().clone())).await?;
    /// write.end().await?;
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn begin_write(&self, label: &str) -> Result<WriteInProgress> {
        let inner = Arc::clone(&self.inner);
        let head = inner.read_head().await?.head;
        let id = WriterId(inner.writer.mint());
        let mut end = label.len().min(MAX_LABEL);
        while !label.is_char_boundary(end) {
            end -= 1;
        }
        let label = label.get(..end).unwrap_or_default().to_owned();
        let record = WriterRecord { series: head.series, generation: head.generation, label };
        let put = Put::new(record.encode()).never_expires().if_absent();
        let key = inner.writer_key(id)?;
        if inner.writer.put(&key, put).await? == Ended::Lost {
            return Err(Error::Contended { key, attempts: 1 });
        }
        // Other handles must see it before they see anything that it protects.
        inner.store.flush().await?;
        Ok(WriteInProgress { inner, id })
    }

    /// Removes the record of a writer that will publish nothing any more: it crashed, or was given up. Returns whether there
    /// was one. If the writer goes on all the same, what it publishes may lack leaves.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// Dropping it may leave the record.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::new(MemoryStore::new())?;
    /// let id = sweep.begin_write("crashes").await?.id();
    /// assert!(sweep.forget_writer(id).await?);
    /// assert!(!sweep.forget_writer(id).await?);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn forget_writer(&self, id: WriterId) -> Result<bool> {
        let key = self.inner.writer_key(id)?;
        let was_there = match self.inner.store.head(&key, &ReadOptions::new().authoritative()).await {
            Ok(found) => found.is_some(),
            Err(error) if error.kind() == ErrorKind::Corrupt => true,
            Err(error) => return Err(error.into()),
        };
        self.inner.remove_writer(id).await?;
        Ok(was_there)
    }
}

impl Inner {
    fn writers_prefix(&self) -> String {
        format!("{}writers/", self.settings.records)
    }

    fn writer_key(&self, id: WriterId) -> Result<Key> {
        Ok(Key::new(format!("{}{id}", self.writers_prefix()))?)
    }

    /// Deletes a record. An id is never used again, so the delete may be repeated.
    async fn remove_writer(&self, id: WriterId) -> Result<()> {
        let key = self.writer_key(id)?;
        let mut left = LOOKS;
        loop {
            left -= 1;
            match self.store.delete(&key, Delete::new()).await {
                Ok(_) => return Ok(()),
                Err(error) if left > 0 && error.is_retryable() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// All writers under way. The head was read before.
    pub(super) async fn writers(&self, head: &Head) -> Result<Vec<WriterUnderWay>> {
        let prefix = self.writers_prefix();
        let mut listing = self.store.list(ListOptions::new().prefix(&prefix));
        let mut writers = Vec::new();
        while let Some(listed) = listing.next().await {
            let key = match listed {
                Ok(listed) => listed.key,
                Err(error) => match error.damaged_key() {
                    Some(key) => key.clone(),
                    None => return Err(error.into()),
                },
            };
            let Some(id) = key.as_str().strip_prefix(&prefix).and_then(|id| id.parse().ok()) else {
                continue;
            };
            writers.extend(self.read_writer(head, id, &key).await?);
        }
        Ok(writers)
    }

    /// One of them; `None` where it has ended.
    async fn read_writer(&self, head: &Head, id: WriterId, key: &Key) -> Result<Option<WriterUnderWay>> {
        let unreadable =
            |label: &str| WriterUnderWay { id, label: label.to_owned(), generation: 0, began: None };
        let entry = match self.store.load(key, &ReadOptions::new().authoritative()).await {
            Ok(read) => read.into_entry(),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Ok(Some(unreadable("its record is damaged")));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(entry) = entry else { return Ok(None) };
        let Ok(record) = WriterRecord::decode(entry.value()) else {
            return Ok(Some(unreadable("its record cannot be read")));
        };
        // Generations of another series say nothing about those of this one. Nor does one that has not been yet.
        let counts = record.series == head.series && record.generation <= head.generation;
        let generation = if counts { record.generation } else { 0 };
        let began = Some(entry.metadata().modified);
        Ok(Some(WriterUnderWay { id, label: record.label, generation, began }))
    }
}
