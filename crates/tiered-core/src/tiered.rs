//! The tiered store: a fast frontend over an authoritative backend.
//!
//! This is the public handle. It refuses calls when the store is closed, and hands them to the rooms: reads to
//! [`Reader`], writes to [`Writes`].

pub(crate) mod builder;
mod feed;
mod invalidate;
mod lifecycle;
mod synchronise;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::adapter::all_failed;
use crate::batch::{Batch, BatchOutcomes};
use crate::capability::{Capabilities, Sharing};
use crate::claim::{Claim, Claims, Scope};
use crate::door::Door;
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::frontend::Frontend;
use crate::hooks::{Hook, HookHandle};
use crate::journal::{Parked, Sequence};
use crate::key::Key;
use crate::list::{ListOptions, ListStream};
use crate::marks::JOURNALS;
use crate::observe::{Events, Recorder, Stats};
use crate::ownership;
use crate::parts::Parts;
use crate::plan::guarantee::Guarantees;
use crate::plan::{Plan, Side};
use crate::ranges::{NEAR, Slices, load_ranges};
use crate::read::{Read, ReadOptions, Reads};
use crate::reader::Reader;
use crate::settings::TieredSettings;
use crate::slot::Slots;
use crate::store::{ByteStream, ChangeStream, Store};
use crate::sync::SyncReport;
use crate::sync_primitives::OnceLock;
use crate::tasks::Tasks;
use crate::tier::Tier;
use crate::write::{Delete, Deleted, Put, Written};
use crate::write_behind::WriteBehind;
use crate::writer::Writes;

use feed::Follower;

/// The rooms of a store, and what belongs to the store as a whole. Held by its handles and by tasks that outlive a call.
#[derive(Debug)]
struct Rooms {
    plan: Arc<Plan>,
    guarantees: Guarantees,
    door: Arc<Door>,
    slots: Arc<Slots>,
    frontend: Arc<Frontend>,
    backend: Arc<Tier>,
    reader: Arc<Reader>,
    writes: Writes,
    tasks: Tasks,
    recorder: Arc<Recorder>,
    /// What this store lends to others: to stacks above it, and to syncs into it.
    claims: Claims,
    /// What the sync on connecting did.
    connected: OnceLock<SyncReport>,
    /// Held by the call that closes or detaches the store.
    ending: Arc<tokio::sync::Mutex<()>>,
}

/// Dropped with the last handle of a store.
#[derive(Debug)]
struct LastHandle(Tasks);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

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
/// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let key = Key::new("greeting")?;
/// store.put(&key, Put::new("hello")).await?;
/// assert_eq!(store.get(&key).await?.expect("just written").value(), "hello");
/// store.close().await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct TieredStore {
    rooms: Arc<Rooms>,
    _last_handle: Arc<LastHandle>,
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
    fn new(rooms: Arc<Rooms>) -> Self {
        let last_handle = Arc::new(LastHandle(rooms.tasks.clone()));
        Self { rooms, _last_handle: last_handle }
    }

    /// Refuses a call for `key` where the store is closed, or does not own its backend any more.
    fn open(&self, operation: Operation, key: &Key) -> Result<()> {
        self.rooms.door.check(operation).map_err(|error| error.for_key(key))
    }

    fn behind(&self) -> Option<&Arc<WriteBehind>> {
        self.rooms.writes.behind()
    }

    /// The frontend. Writing to it directly breaks every promise.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// assert_eq!(store.frontend().capabilities().name(), "memory");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn frontend(&self) -> &Arc<dyn Store> {
        self.rooms.frontend.tier().store()
    }

    /// The backend. Read from it, and write through the stack. A write that goes to the backend directly is not seen: hits
    /// show the old entry for as long as [`max_stale`](TieredSettings::max_stale) allows, which over an exclusive backend is
    /// without limit, and a pending write overwrites it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// assert!(store.backend().contains("users/42").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn backend(&self) -> &Arc<dyn Store> {
        self.rooms.backend.store()
    }

    /// The settings.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// assert_eq!(store.settings().write_policy, WritePolicy::WriteThrough);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn settings(&self) -> &TieredSettings {
        self.rooms.plan.settings()
    }

    /// What this stack promises.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// assert!(store.guarantees().linearizable);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn guarantees(&self) -> &Guarantees {
        &self.rooms.guarantees
    }

    /// What the sync on connecting did; `None` where there was none.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use tiered_core::sync::PopulateMissing;
    /// use tiered_core::{MemoryStore, TieredStore};
    ///
    /// let (front, back) = (MemoryStore::new(), MemoryStore::new());
    /// let store = TieredStore::builder(front, back).on_connect(PopulateMissing).build().await?;
    /// assert_eq!(store.connected().expect("synced").failed, 0);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn connected(&self) -> Option<&SyncReport> {
        self.rooms.connected.get()
    }

    /// Counts and gauges. Scans the table of exceptional keys; no I/O.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// store.get("users/42").await?;
    /// let stats = store.stats();
    /// assert_eq!((stats.puts, stats.hits, stats.misses), (1, 1, 0));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn stats(&self) -> Stats {
        let mut stats = self.rooms.recorder.read();
        self.rooms.slots.measure(&mut stats);
        if let Some(behind) = self.behind() {
            behind.measure(&mut stats);
        }
        stats
    }

    /// What happens from now on.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{Event, MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// let mut events = store.subscribe();
    /// store.invalidate("users/42").await?;
    /// assert!(matches!(events.next().await, Some(Event::Invalidated { .. })));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn subscribe(&self) -> Events {
        self.rooms.recorder.subscribe()
    }

    /// Takes the stack apart while its backend stays open, and returns the backend. What is pending is flushed first, while
    /// calls go on. Then new calls are refused as by a closed store, those under way end, the rest is flushed, and the
    /// frontend and the journal are closed. From then on the backend alone has everything that was acknowledged, and both
    /// tiers can be part of another stack.
    ///
    /// To exchange the tiers of a store that others go on using, take `Swappable` of `tiered-wrap`: there calls wait meanwhile.
    ///
    /// Nothing in a frontend that outlives the process is trusted later ([`Reopen::Trust`](crate::settings::Reopen::Trust)).
    ///
    /// # Durability
    /// Every acknowledged write is in the backend, as durable as the backend makes it.
    ///
    /// # Errors
    /// The store is open as before after any of them: those of [`flush`](Store::flush), a parked write among them;
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) where calls under way did not end within
    /// [`close_deadline`](TieredSettings::close_deadline);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where writes stay in the frontend;
    /// [`ErrorKind::Locked`](crate::ErrorKind::Locked) where a stack above has a durable journal, which counts this one in;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) where it was closed or detached already.
    ///
    /// # Cancel safety
    /// Dropped half-way it goes on to its end, or has not begun.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// store.set("users/42", "Ada").await?;
    /// let backend = store.detach().await?;
    /// assert!(backend.contains("users/42").await?);
    /// assert!(store.get("users/42").await.is_err());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn detach(&self) -> Result<Arc<dyn Store>> {
        self.rooms.door.refuse_hooks(Operation::Close)?;
        self.rooms.detach().await.map_err(|error| error.during(Operation::Close))?;
        Ok(Arc::clone(self.backend()))
    }

    /// Adds a [hook](crate::hooks), which sees the writes that begin from now on. Several run in the order in which they
    /// were added.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::hooks::{self, Mutation};
    /// use tiered_core::{Applied, MemoryStore, Result, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// let audit = store.add_hook(hooks::after(|mutation: &Mutation, ended: &Result<Applied>| {
    ///     println!("{:?} of {}: {ended:?}", mutation.operation(), mutation.key());
    /// }));
    /// store.set("users/42", "Ada").await?;
    /// audit.remove();
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn add_hook(&self, hook: impl Hook) -> HookHandle {
        self.rooms.door.add_hook(Box::new(hook))
    }

    /// The journaled writes that the backend refused, each with the reason, in the journal's order. Reads go on
    /// showing them.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// assert!(store.parked().is_empty());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn parked(&self) -> Vec<Parked> {
        self.behind().map(|behind| behind.parked()).unwrap_or_default()
    }

    /// Puts a parked write back in line, by [`Parked::sequence`]. [`flush`](Store::flush) tells how it ended. What
    /// later writes of its keys have replaced meanwhile is not written again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where nothing is parked under that sequence.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Store, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// for parked in store.parked() {
    ///     store.retry_parked(parked.sequence())?;
    /// }
    /// store.flush().await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn retry_parked(&self, sequence: Sequence) -> Result<()> {
        self.behind().ok_or_else(no_journal)?.retry_parked(sequence)
    }

    /// Gives a parked write up, by [`Parked::sequence`]: its keys are again what the backend has. **The write was
    /// acknowledged, and is lost.** Its receipt answers an error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where nothing is parked under that sequence;
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where the journal cannot be written: it stays parked.
    ///
    /// # Cancel safety
    /// Dropped half-way the write is parked, or given up.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
    ///     .write_policy(WritePolicy::WriteBehind)
    ///     .journal(VolatileJournal::new())
    ///     .build()
    ///     .await?;
    /// for parked in store.parked() {
    ///     println!("giving up {} records: {}", parked.records.len(), parked.reason);
    ///     store.drop_parked(parked.sequence()).await?;
    /// }
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn drop_parked(&self, sequence: Sequence) -> Result<()> {
        self.rooms.door.refuse_hooks(Operation::Delete)?;
        let behind = Arc::clone(self.behind().ok_or_else(no_journal)?);
        // In a task of its own: half of it must not be left undone.
        self.rooms.tasks.join(async move { behind.drop_parked(sequence).await }).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow what a tier does better")]
#[async_trait]
impl Store for TieredStore {
    fn capabilities(&self) -> &Capabilities {
        self.rooms.plan.capabilities()
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.open(Operation::Load, key)?;
        let read = self.rooms.reader.load(key, options).await;
        read.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.open(Operation::Put, key)?;
        self.rooms.writes.put(key, put).await.map_err(|error| error.during(Operation::Put).for_key(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.open(Operation::Delete, key)?;
        let deleted = self.rooms.writes.delete(key, delete).await;
        deleted.map_err(|error| error.during(Operation::Delete).for_key(key))
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let rooms = Arc::clone(&self.rooms);
        // Nothing is looked at before the first key is asked for.
        let listing = stream::once(async move {
            match rooms.door.check(Operation::List) {
                Ok(()) => rooms.reader.list(&options),
                Err(error) => Box::pin(stream::iter([Err(error)])) as ListStream,
            }
        });
        Box::pin(listing.flatten())
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        if self.rooms.door.is_open() { self.rooms.reader.peek(key) } else { None }
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.peek(key)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.open(Operation::Load, key)?;
        let head = self.rooms.reader.head(key, options).await;
        head.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        if let Err(error) = self.rooms.door.check(Operation::LoadMany) {
            return all_failed(keys, &error);
        }
        let reads = self.rooms.reader.get_many(keys, options).await;
        reads.into_iter().map(|read| read.map_err(|error| error.during(Operation::LoadMany))).collect()
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.open(Operation::Load, key)?;
        let load = |options: ReadOptions| async move { self.rooms.reader.load(key, &options).await };
        let read = load_ranges(ranges, options, NEAR, load).await;
        read.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.rooms.door.check(Operation::Apply)?;
        self.rooms.writes.apply(batch).await.map_err(|error| error.during(Operation::Apply))
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.open(Operation::Load, key)?;
        let read = self.rooms.reader.read_stream(key, options).await;
        read.map_err(|error| error.during(Operation::Load).for_key(key))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.open(Operation::Put, key)?;
        let written = self.rooms.writes.put_stream(key, put, body).await;
        written.map_err(|error| error.during(Operation::Put).for_key(key))
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        let capabilities = self.rooms.plan.capabilities();
        match capabilities.sharing() {
            Sharing::Shared => Ok(Claim::shared()),
            Sharing::Exclusive => self.rooms.claims.claim(capabilities.name(), scope).await,
        }
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.rooms.backend.changes()
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.rooms.door.check(Operation::Mark)?;
        let home = self.rooms.home().past_breaker();
        if name == JOURNALS { ownership::mark_from_above(home).await } else { home.mark(name).await }
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.rooms.door.check(Operation::Mark)?;
        let home = self.rooms.home().past_breaker();
        if name == JOURNALS {
            return ownership::set_mark_from_above(home, value.as_ref()).await;
        }
        home.set_mark(name, value).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.rooms.door.check(Operation::Mark)?;
        let mut names = self.rooms.home().past_breaker().mark_names(prefix).await?;
        // A store above may see none of it.
        if names.iter().any(|name| name == JOURNALS) && self.mark(JOURNALS).await?.is_none() {
            names.retain(|name| name != JOURNALS);
        }
        Ok(names)
    }

    async fn flush(&self) -> Result<()> {
        self.rooms.door.refuse_hooks(Operation::Flush)?;
        self.rooms.flush().await.map_err(|error| error.during(Operation::Flush))
    }

    async fn close(&self) -> Result<()> {
        self.rooms.door.refuse_hooks(Operation::Close)?;
        self.rooms.close().await.map_err(|error| error.during(Operation::Close))
    }
}

impl Rooms {
    fn new(
        parts: &Parts,
        guarantees: Guarantees,
        door: Arc<Door>,
        frontend: Arc<Frontend>,
        backend: Arc<Tier>,
        reader: Arc<Reader>,
        writes: Writes,
    ) -> Arc<Self> {
        Arc::new(Self {
            plan: parts.plan(),
            guarantees,
            door,
            slots: parts.slots(),
            frontend,
            backend,
            reader,
            writes,
            tasks: parts.tasks(),
            recorder: parts.recorder(),
            claims: Claims::new(),
            connected: OnceLock::new(),
            ending: Arc::default(),
        })
    }

    /// Starts the tasks that run for as long as the store is open.
    fn start(&self) {
        if self.plan.revalidates()
            && let Some(feed) = self.backend.changes()
        {
            let (slots, frontend) = (Arc::clone(&self.slots), Arc::clone(&self.frontend));
            let follower = Follower::new(slots, frontend, self.tasks.clone(), Arc::clone(&self.recorder));
            self.tasks.spawn(follower.follow(feed));
        }
        if let Some(behind) = self.writes.behind() {
            behind.start();
        }
        self.frontend.begin_sweep();
    }

    /// The tier that holds what is written, in the end.
    fn home(&self) -> &Tier {
        match self.plan.home() {
            Side::Frontend => self.frontend.tier(),
            Side::Backend => &self.backend,
        }
    }
}

/// Without a journal nothing is parked.
fn no_journal() -> Error {
    Error::new(ErrorKind::InvalidInput, "nothing is parked: the store has no journal")
}
