//! The tiered store: a fast frontend over an authoritative backend.

mod apply;
mod behind;
mod builder;
mod drive;
mod engine;
mod feed;
mod guarantee;
mod health;
mod lifecycle;
mod listing;
mod local;
pub mod ownership;
mod read;
mod session;
mod settings;
mod stale;
mod streaming;
mod synchronise;
mod write;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::{Batch, BatchOutcomes};
use crate::capability::{Capabilities, Sharing};
use crate::claim::{Claim, Scope};
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::journal::{Parked, Sequence};
use crate::key::{AsKey, Key};
use crate::list::{ListOptions, ListStream};
use crate::observe::{Events, Stats};
use crate::ranges::{NEAR, Slices, load_ranges};
use crate::read::{Read, ReadOptions, Reads};
use crate::store::{ByteStream, ChangeStream, Store};
use crate::sync::SyncReport;
use crate::write::{Delete, Deleted, Put, Written};

pub use behind::Lease;
pub use builder::TieredBuilder;
pub use guarantee::{FlushOrder, Guarantees, JournalsSeen, Requirement};
pub use settings::{
    BreakerSettings, FillTiming, FrontendFailure, MaxStale, OnConnectFailure, OnFull, OnOverdue, OnPark,
    OnUnknown, Reopen, ServeStale, TieredSettings,
};

use engine::{Alive, Engine};
use health::contained;

/// A store of two tiers. Cloning it is cheap, and it is a [`Store`] itself, so it can be the backend of another.
///
/// What it promises for each policy stands in the book's chapter on durability, and for a given stack in
/// [`TieredStore::guarantees`].
///
/// # Durability
/// As the backend's, for write-through and write-around; as the journal's, for write-behind; as the frontend's,
/// for frontend-only.
///
/// # Cancel safety
/// A write that is dropped either never passed its key's gate, or runs to its end in a task of the runtime that
/// the store was built in. Reads can be dropped at any time.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())).build().await?;
/// let key = Key::new("greeting")?;
/// store.put(&key, Put::new("hello")).await?;
/// assert_eq!(store.get(&key).await?.expect("just written").value(), "hello");
/// store.close().await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct TieredStore {
    engine: Arc<Engine>,
    _alive: Arc<Alive>,
}

impl fmt::Debug for TieredStore {
    // What is pending and what is stored stays out: there may be much of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore")
            .field("capabilities", self.capabilities())
            .field("guarantees", self.guarantees())
            .finish_non_exhaustive()
    }
}

impl TieredStore {
    /// Begins to build a store of these two tiers.
    pub fn builder(frontend: Arc<dyn Store>, backend: Arc<dyn Store>) -> TieredBuilder {
        TieredBuilder::new(frontend, backend)
    }

    fn new(engine: Arc<Engine>) -> Self {
        let alive = Alive::new(&engine);
        Self { engine, _alive: Arc::new(alive) }
    }

    /// The frontend. Writing to it directly goes past every promise.
    pub fn frontend(&self) -> &Arc<dyn Store> {
        &self.engine.frontend
    }

    /// The backend. A write that goes to it directly goes past the stack: hits show the old entry for as long as
    /// [`max_stale`](TieredSettings::max_stale) allows, which over an exclusive backend is for ever, and a pending write
    /// overwrites it. Read it, write through the stack.
    pub fn backend(&self) -> &Arc<dyn Store> {
        &self.engine.backend
    }

    /// The settings.
    pub fn settings(&self) -> &TieredSettings {
        &self.engine.settings
    }

    /// What this stack promises.
    pub fn guarantees(&self) -> &Guarantees {
        &self.engine.guarantees
    }

    /// What the sync on connecting did; `None` where there was none.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::sync::PopulateMissing;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let (front, back) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    /// let store = TieredStore::builder(front, back).on_connect(Arc::new(PopulateMissing)).build().await?;
    /// assert_eq!(store.connected().expect("synced").failed, 0);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn connected(&self) -> Option<&SyncReport> {
        self.engine.connected.get()
    }

    /// Counts and gauges. Scans the table of exceptional keys; no I/O.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> Events {
        self.engine.events.subscribe()
    }

    /// The journaled writes that the backend refused, each with the reason, in the journal's order. Reads go on
    /// showing them.
    pub fn parked(&self) -> Vec<Parked> {
        self.engine.parked()
    }

    /// Puts a parked write back in line, by [`Parked::sequence`]. [`flush`](Store::flush) tells how it ended. What
    /// later writes of its keys have replaced meanwhile is not written again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where nothing is parked under that sequence.
    pub fn retry_parked(&self, sequence: Sequence) -> Result<()> {
        self.engine.retry_parked(sequence)
    }

    /// Gives a parked write up, by [`Parked::sequence`]: its keys are what the backend has. **The write was
    /// acknowledged, and is lost.** Its receipt is an error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where nothing is parked under that sequence;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where the journal cannot be written: it stays parked.
    ///
    /// # Cancel safety
    /// Dropped half-way the write is parked, or given up.
    pub async fn drop_parked(&self, sequence: Sequence) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        // In a task of its own: half of it must not be left undone.
        let dropped = self.engine.runtime.spawn(async move { engine.drop_parked(sequence).await });
        dropped
            .await
            .map_err(|error| Error::new(ErrorKind::Other, "the runtime shut down").with_source(error))?
    }

    /// Drops `key` from the frontend. A fill that is under way does not bring it back.
    ///
    /// # Errors
    /// The frontend's, after which the key serves no hits until a removal has succeeded.
    ///
    /// # Cancel safety
    /// As a write.
    pub async fn invalidate(&self, key: impl AsKey) -> Result<()> {
        self.engine.invalidate(&*key.as_key()?).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow what a tier does better")]
#[async_trait]
impl Store for TieredStore {
    fn capabilities(&self) -> &Capabilities {
        &self.engine.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.engine.load(key, options).await.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.engine.put(key, put).await.map_err(|error| error.during(Operation::Put).for_key(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.engine.delete(key, delete).await.map_err(|error| error.during(Operation::Delete).for_key(key))
    }

    fn list(&self, options: ListOptions) -> ListStream {
        self.engine.list(options)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.engine.peek(key)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.engine.head(key, options).await.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads = self.engine.get_many(keys, options).await;
        reads.into_iter().map(|read| read.map_err(|error| error.during(Operation::LoadMany))).collect()
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.engine.load(key, &options).await };
        let read = load_ranges(ranges, options, NEAR, load).await;
        read.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.engine.apply(batch).await.map_err(|error| error.during(Operation::Apply))
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.engine
            .read_stream(key, options)
            .await
            .map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.engine
            .put_stream(key, put, body)
            .await
            .map_err(|error| error.during(Operation::Put).for_key(key))
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        let capabilities = &self.engine.capabilities;
        match capabilities.sharing() {
            Sharing::Shared => Ok(Claim::shared()),
            Sharing::Exclusive => self.engine.claims.claim(capabilities.name(), scope).await,
        }
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.engine.backend.changes()
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.engine.check_open(Operation::Mark)?;
        let home = self.engine.home();
        if name == ownership::JOURNALS {
            return contained(&**home, ownership::mark_from_above(home.as_ref())).await;
        }
        contained(&**home, home.mark(name)).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.engine.check_open(Operation::Mark)?;
        let home = self.engine.home();
        if name == ownership::JOURNALS {
            let set = ownership::set_mark_from_above(home.as_ref(), value.as_ref());
            return contained(&**home, set).await;
        }
        contained(&**home, home.set_mark(name, value)).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.engine.check_open(Operation::Mark)?;
        let home = self.engine.home();
        let mut names = contained(&**home, home.mark_names(prefix)).await?;
        // A store above may see none of it.
        if names.iter().any(|name| name == ownership::JOURNALS)
            && self.mark(ownership::JOURNALS).await?.is_none()
        {
            names.retain(|name| name != ownership::JOURNALS);
        }
        Ok(names)
    }

    async fn flush(&self) -> Result<()> {
        self.engine.flush().await.map_err(|error| error.during(Operation::Flush))
    }

    async fn close(&self) -> Result<()> {
        self.engine.close().await.map_err(|error| error.during(Operation::Close))
    }
}
