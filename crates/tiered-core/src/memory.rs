//! The reference store: a `BTreeMap` behind a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;

use crate::adapter::own_buffer;
use crate::batch::{Action, Applied, Batch, BatchOutcomes};
use crate::capability::{Capabilities, Durability, Feature, Sharing};
use crate::claim::{Claim, Claims, Scope};
use crate::clock::{Stamp, Timestamp};
use crate::entry::{Entry, Metadata, Tombstones};
use crate::error::{Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::ranges::Slices;
use crate::read::{Read, ReadOptions};
use crate::store::{Store, answer, check_mark, closed, precondition_failed};
use crate::version::Version;
use crate::write::{Delete, Deleted, Put, Written};

/// How many keys a listing takes from the map at a time: the lock is free in between.
const PAGE: usize = 256;

/// A store in the memory of this process: the reference for every clause of [`Store`], and the oracle of tests.
///
/// It keeps everything until it is dropped; for a bounded memory tier use `tiered-moka`. Cloning shares the data.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Feature, MemoryStore, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("greeting", "hello").await?;
/// assert_eq!(store.clone().get("greeting").await?.expect("the same data").value(), "hello");
///
/// // A store that can do less, for tests of what builds on it.
/// let plain = MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    capabilities: Capabilities,
    stamp: Stamp,
    state: Arc<Mutex<State>>,
    claims: Claims,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    marks: BTreeMap<String, Bytes>,
    closed: bool,
}

impl MemoryStore {
    /// An empty store on the system's clock.
    pub fn new() -> Self {
        Self::with_stamp(Stamp::system())
    }

    /// An empty store on an injected clock and mint.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_core::adapter::Stamp;
    ///
    /// let store = MemoryStore::with_stamp(Stamp::system());
    /// ```
    pub fn with_stamp(stamp: Stamp) -> Self {
        let capabilities = [
            Feature::ConditionalPut,
            Feature::ConditionalDelete,
            Feature::AtomicBatch,
            Feature::KeepsMetadata,
            Feature::KeepsNotes,
            Feature::KeepsMarks,
            Feature::Peeks,
            Feature::ListsMetadata,
            Feature::ListsExpiry,
            Feature::UniqueValidators,
        ]
        .into_iter()
        .fold(Capabilities::new("memory", Durability::Volatile, Sharing::Exclusive), Capabilities::with);
        Self { capabilities, stamp, state: Arc::default(), claims: Claims::new() }
    }

    /// The same store with other declared capabilities: fewer features, or tighter limits, which it then keeps.
    #[must_use]
    pub fn declaring(mut self, change: impl FnOnce(Capabilities) -> Capabilities) -> Self {
        self.capabilities = change(self.capabilities);
        self
    }

    fn at_hand(&self, key: &Key, tombstones: Tombstones) -> Option<Entry> {
        let state = self.state.lock();
        if state.closed || !self.capabilities.has(Feature::Peeks) {
            return None;
        }
        state.visible(key, self.stamp.now(), tombstones).cloned()
    }

    fn one(&self, key: &Key, action: &Action, operation: Operation) -> Result<Applied> {
        let run = || {
            self.capabilities.check_action(key, action)?;
            let mut state = self.state.lock();
            if state.closed {
                return Err(closed(operation));
            }
            let now = self.stamp.now();
            state.judge(key, action, now)?;
            Ok(state.carry_out(key, action.clone(), &self.stamp))
        };
        run().map_err(|error| error.during(operation).in_tier(self.capabilities.name()).for_key(key))
    }
}

/// For tests, under the feature `test-util`.
#[cfg(feature = "test-util")]
impl MemoryStore {
    /// A handle on the same data as another process would have it, which knows nothing of the claims of this one: for
    /// tests in which a process dies and its data stay.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("greeting", "hello").await?;
    /// assert!(store.in_another_process().get("greeting").await?.is_some());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn in_another_process(&self) -> Self {
        Self { claims: Claims::new(), ..self.clone() }
    }

    /// Everything that is live now, for comparison in tests.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("greeting", "hello").await?;
    /// assert_eq!(store.snapshot().len(), 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn snapshot(&self) -> BTreeMap<Key, Entry> {
        let now = self.stamp.now();
        let state = self.state.lock();
        state
            .entries
            .iter()
            .filter(|(_, entry)| entry.metadata().is_live(now))
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }
}

impl fmt::Debug for MemoryStore {
    // Entries stay out: there may be many, and values do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.state.lock().entries.len())
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn live(&self, key: &Key, now: Timestamp) -> Option<&Entry> {
        self.visible(key, now, Tombstones::Hide)
    }

    fn visible(&self, key: &Key, now: Timestamp, tombstones: Tombstones) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.metadata().is_visible(now, tombstones))
    }

    fn judge(&self, key: &Key, action: &Action, now: Timestamp) -> Result<()> {
        let current: Option<&Version> = self.live(key, now).map(Entry::version);
        let precondition = match action {
            Action::Put(put) => &put.precondition,
            Action::Delete(delete) => &delete.precondition,
        };
        if precondition.holds(current) { Ok(()) } else { Err(precondition_failed(key)) }
    }

    fn carry_out(&mut self, key: &Key, action: Action, stamp: &Stamp) -> Applied {
        match action {
            Action::Put(put) => {
                // What it keeps is its own: the caller's buffer may be a small part of a large one.
                let value = own_buffer(&put.value);
                let entry = stamp.entry(&put.value(value));
                let version = entry.version().clone();
                self.entries.insert(key.clone(), entry);
                Applied::Put(Written::committed(version))
            }
            Action::Delete(_) => {
                let existed = self.live(key, stamp.now()).is_some();
                self.entries.remove(key);
                Applied::Delete(Deleted::committed(existed))
            }
        }
    }

    fn page(&self, options: &ListOptions, now: Timestamp, size: usize) -> Vec<Listed> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = match &options.start_after {
            Some(after) if after.as_str() >= options.prefix.as_str() => Excluded(after.as_str()),
            _ if options.prefix.is_empty() => Unbounded,
            _ => Included(options.prefix.as_str()),
        };
        self.entries
            .range::<str, _>((from, Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(&options.prefix))
            .filter(|(_, entry)| entry.metadata().is_visible(now, options.tombstones))
            .take(size)
            .map(|(key, entry)| Listed::of_entry(key.clone(), entry, options))
            .collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let entry = {
            let state = self.state.lock();
            if state.closed {
                return Err(closed(Operation::Load).in_tier(self.capabilities.name()));
            }
            state.entries.get(key).cloned()
        };
        answer(entry, self.stamp.now(), options)
            .map_err(|error| error.in_tier(self.capabilities.name()).for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let version = put.version().cloned();
        match self.one(key, &Action::Put(put), Operation::Put)? {
            Applied::Put(written) => Ok(written),
            Applied::Delete(_) => Ok(Written::committed(version.unwrap_or(Version::from_u128(0)))),
        }
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        match self.one(key, &Action::Delete(delete), Operation::Delete)? {
            Applied::Delete(deleted) => Ok(deleted),
            Applied::Put(_) => Ok(Deleted::committed(false)),
        }
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let store = self.clone();
        let pages = stream::unfold(Some(options), move |options| {
            let store = store.clone();
            async move {
                let mut options = options?;
                let size = options.limit.map_or(PAGE, |limit| limit.min(PAGE));
                let page = {
                    let state = store.state.lock();
                    if state.closed {
                        let error = closed(Operation::List).in_tier(store.capabilities.name());
                        return Some((vec![Err(error)], None));
                    }
                    state.page(&options, store.stamp.now(), size)
                };
                let next = page.last().filter(|_| page.len() == size && size > 0).map(|last| {
                    options.start_after = Some(last.key.clone());
                    options.limit = options.limit.map(|limit| limit - size);
                    options
                });
                Some((page.into_iter().map(Ok).collect(), next))
            }
        });
        Box::pin(futures_util::StreamExt::flat_map(pages, stream::iter::<Vec<Result<Listed>>>))
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.at_hand(key, Tombstones::Hide)
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.at_hand(key, Tombstones::Show)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let options = ReadOptions { unless: None, if_version: None, range: None, ..options.clone() };
        Ok(self.load(key, &options).await?.entry().map(|entry| Arc::clone(entry.metadata())))
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let options = ReadOptions { range: None, ..options.clone() };
        let read = self.load(key, &options).await?.try_map(|entry| Slices::of(&entry, ranges));
        read.map_err(|error| error.during(Operation::Load).in_tier(self.capabilities.name()).for_key(key))
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        let failed = |error: crate::Error| error.during(Operation::Apply).in_tier(self.capabilities.name());
        if !self.capabilities.has(Feature::AtomicBatch) || batch.atomicity() == crate::Atomicity::PerItem {
            if batch.atomicity() == crate::Atomicity::Required && !batch.is_empty() {
                self.capabilities.require(Feature::AtomicBatch).map_err(failed)?;
            }
            return self.apply_separately(batch).map_err(failed);
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err(failed(closed(Operation::Apply)));
        }
        let now = self.stamp.now();
        for (key, action) in batch.operations() {
            self.capabilities
                .check_action(key, action)
                .and_then(|()| state.judge(key, action, now))
                .map_err(|error| failed(error.for_key(key)))?;
        }
        let existed: Vec<bool> =
            batch.operations().iter().map(|(key, _)| state.live(key, now).is_some()).collect();
        let operations = batch.into_operations().into_iter().zip(existed);
        Ok(operations
            .map(|((key, action), existed)| {
                Ok(match state.carry_out(&key, action, &self.stamp) {
                    Applied::Delete(_) => Applied::Delete(Deleted::committed(existed)),
                    written @ Applied::Put(_) => written,
                })
            })
            .collect())
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        if self.capabilities.sharing() == Sharing::Shared {
            return Ok(Claim::shared());
        }
        self.claims.claim(self.capabilities.name(), scope).await
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.capabilities.require(Feature::KeepsMarks)?;
        check_mark(name, None)?;
        let state = self.state.lock();
        if state.closed {
            return Err(closed(Operation::Mark).in_tier(self.capabilities.name()));
        }
        Ok(state.marks.get(name).cloned())
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.capabilities.require(Feature::KeepsMarks)?;
        check_mark(name, value.as_ref())?;
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed(Operation::Mark).in_tier(self.capabilities.name()));
        }
        match value {
            Some(value) => state.marks.insert(name.to_owned(), value),
            None => state.marks.remove(name),
        };
        Ok(())
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.capabilities.require(Feature::KeepsMarks)?;
        let state = self.state.lock();
        if state.closed {
            return Err(closed(Operation::Mark).in_tier(self.capabilities.name()));
        }
        Ok(state.marks.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn flush(&self) -> Result<()> {
        if self.state.lock().closed {
            return Err(closed(Operation::Flush).in_tier(self.capabilities.name()));
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.state.lock().closed = true;
        Ok(())
    }
}

impl MemoryStore {
    /// One outcome per operation, judged against the state before the batch.
    fn apply_separately(&self, batch: Batch) -> Result<BatchOutcomes> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed(Operation::Apply));
        }
        let now = self.stamp.now();
        let judged: Vec<Result<()>> = batch
            .operations()
            .iter()
            .map(|(key, action)| {
                let judged =
                    self.capabilities.check_action(key, action).and_then(|()| state.judge(key, action, now));
                judged.map_err(|error| {
                    error.during(Operation::Apply).in_tier(self.capabilities.name()).for_key(key)
                })
            })
            .collect();
        let existed: Vec<bool> =
            batch.operations().iter().map(|(key, _)| state.live(key, now).is_some()).collect();
        let operations = batch.into_operations().into_iter().zip(judged).zip(existed);
        Ok(operations
            .map(|(((key, action), judged), existed)| {
                judged?;
                Ok(match state.carry_out(&key, action, &self.stamp) {
                    Applied::Delete(_) => Applied::Delete(Deleted::committed(existed)),
                    written @ Applied::Put(_) => written,
                })
            })
            .collect())
    }
}
