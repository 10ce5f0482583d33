//! Garbage sweep: deletes what nothing refers to any more, without trusting a clock.
//!
//! A program that writes immutable entries (*leaves*) and then a *root* that refers to them leaves garbage behind: leaves of
//! replaced roots, and leaves of writers that failed. A [`Sweep`] removes it. What is live is said by [`Roots`] and a
//! [`Walk`](tiered_core::sync::Walk), or by a [`KeepList`].
//!
//! # When an entry is deleted
//!
//! The age of an entry is counted in *generations*, not in time. Each run of a sweep records all unreachable keys with their
//! versions in a *snapshot*, which is kept in the store itself. A completed snapshot is a generation. An entry is deleted if
//! all of this holds:
//!
//! 1. An earlier, completed generation has the key under the same version. So every entry is observed by at least one run
//!    before another run deletes it.
//! 2. It is unreachable now.
//! 3. No writer is under way that began before that generation was complete ([`Sweep::begin_write`]).
//!
//! The delete is conditional on the version: an entry that is written meanwhile stays. A clock takes no part in this.
//! [`SweepBuilder::older_than`] can only spare more.
//!
//! # What a writer does
//!
//! 1. [`Sweep::begin_write`], before it reads or writes anything of what it is about to publish.
//! 2. It writes its leaves, then publishes the root: one put, conditional on the root that it replaces.
//! 3. [`WriteInProgress::end`], once the outcome of the publish is known.
//!
//! Everything that the new root refers to, directly or not, must either be
//! * **written under the record**: by a put between steps 1 and 2, also where an entry with the same bytes exists, or by a
//!   [`touch`](crate::StoreTools::touch), which gives it a new version; or be
//! * **reachable at the moment of the publish** from a root that is there at that moment. What the replaced root refers to is
//!   reachable, since the put is conditional on it. What another root refers to stays reachable unless a writer replaces
//!   or deletes that root before the publish. What is handed on from root to new root faster than a run lists its roots is
//!   written again instead: a listing of [`Roots::under`] is no snapshot in every store, and could miss each of them.
//!
//! An entry that is not a root never changes what it refers to: to change it, write another one, as entries named by their
//! content do. A put under a key that a reachable entry refers to already, and that was missing, is a publish as well.
//!
//! That a key exists is no reason not to write it: it may be garbage that the next run deletes.
//!
//! **A copy that keeps the version is no write.** [`sync`](tiered_core::sync::sync), [`walk_sync`](tiered_core::sync::walk_sync)
//! and the restore of a backup bring entries back under the version that a generation may have observed. So
//! never run a sweep of the target beside them. Or copy under the record, and [`touch`](crate::StoreTools::touch) every copied
//! key before the root is published. Leave the records (`tiered.gc/`) out of
//! a copy: those of another store say nothing about this one.
//!
//! # Why nothing live is deleted
//!
//! A run reads, in this order: the head, which names the latest completed generation `G`; the records of writers under way;
//! the roots, until a pass finds all of them as the pass before read them. Call the beginning of that pass `T`: all roots
//! had the values that the run walked at `T`. Then it lists and deletes.
//!
//! Suppose that it deletes an entry of version `v`, first observed by generation `g`, and that a root published later refers
//! to it, or one that is there does. The entry was not reachable at `T`. So there is a first publish after `T` which made it
//! reachable. Its writer relied on nothing that was reachable, so it wrote the entry under its record.
//! * If that write came after `v`, the entry had another version, and the conditional delete was refused; or the write came
//!   after the delete as well, and the entry is there.
//! * If that write was `v`, or came before it, it came before generation `g` listed `v`. So the writer began before `g` was
//!   complete, and its record says so. It ended after its publish, so after `T`, and its record was there when the records were
//!   read: rule 3 spared the entry.
//!
//! A writer which begins after the records were read is covered by this: whatever it writes has a version that no generation
//! up to `G` has. The delete may also arrive late, after a lost answer: the argument does not depend on when it takes effect.
//!
//! This needs a store that keeps what it acknowledged for as long as its writers run, and handles that are one store
//! (`[handles]` of [`Store`]). Under write-behind, writers and sweeps use the stack, not its backend.
//!
//! # Several processes, and crashes
//!
//! Each run writes its snapshot under an id of its own, and makes it the next generation by one conditional write of the head.
//! Of several runs at once one wins; each of them deletes only what the rules allow. A run that is interrupted leaves chunks of
//! a snapshot, which a later run removes. A writer that crashed leaves its record, which holds back what came after it:
//! [`SweepReport::writers`] shows it, and [`Sweep::forget_writer`] removes it.
//!
//! # Memory
//!
//! A run takes 16 bytes and some overhead for each live key, room for a batch and two chunks, and the names of the roots and
//! of keys that are referred to and missing. A walk also takes the queue of references that were found and not yet read, and the
//! values of the entries that it reads at once ([`SweepBuilder::concurrency`]). A node with a million references queues a million
//! keys, unless they are declared as [leaves](Roots::leaves_under). The rest is streamed: listings and snapshots are both in the
//! order of the keys.
//! The 16 bytes are a fingerprint, by `SipHash` under random keys. For a [`KeepList`] two keys of one fingerprint only spare
//! garbage. For a walk they could hide a branch: with a billion keys the probability is less than 10⁻²⁰.
//!
//! # Format 1
//!
//! Under the prefix of the records (`tiered.gc/`):
//!
//! | key | value |
//! |---|---|
//! | `head` | `TGCH` · format (1 byte: 1) · series (16 bytes) · generation (8) · id of its run (16) · count of its chunks (8) · CRC-32C (4) |
//! | `writers/` and its id, 32 hexadecimal digits | `TGCW` · 1 · series (16) · generation that was complete when it began (8) · label · CRC-32C |
//! | `snapshots/` generation, 16 hexadecimal digits `/` id of the run, 32 digits `/` number of the chunk, 16 digits | `TGCS` · 1 · observations · CRC-32C |
//!
//! An observation: length of the key (2 bytes) · key · length of the version (2) · version as text · the generation that
//! observed it first (8). Integers are big-endian. The series is a random id that a head gets when it is created: where a head
//! was lost, the records of older series hold everything back.
//!
//! # Examples
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
//! use std::sync::Arc;
//! use tiered_values::sweep::{Roots, Sweep};
//!
//! let store = Arc::new(MemoryStore::new());
//! let sweep = Sweep::new(store.clone())?;
//!
//! // A writer: leaves, then the root.
//! let write = sweep.begin_write("importer").await?;
//! store.set("leaves/1", "…").await?;
//! store.set("leaves/2", "…").await?;
//! store.set("roots/main", "leaves/2").await?;
//! write.end().await?;
//!
//! // A value lists the keys that it refers to, one on a line.
//! let references = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
//!     String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
//! };
//! let roots = Roots::new(references).under("roots/").leaves_under("leaves/");
//! let first = sweep.run(&roots).await?;
//! assert_eq!((first.observed, first.deleted), (1, 0));
//! let second = sweep.run(&roots).await?;
//! assert_eq!((second.observed, second.deleted), (0, 1));
//! assert!(!store.contains("leaves/1").await? && store.contains("leaves/2").await?);
//! # Ok::<(), tiered_values::Error>(()) }).unwrap();
//! ```

mod builder;
mod bytes;
mod head;
mod live;
mod mark;
mod report;
mod run;
mod snapshot;
mod under_way;

use std::fmt;
use std::sync::Arc;

use tiered_core::{AsStore, Key, Store, Timestamp};

use crate::error::Result;
use crate::writer::Writer;

pub use builder::SweepBuilder;
pub use head::Horizon;
pub use live::{KeepList, Live, Roots};
pub use report::{SweepOutcome, SweepReport, Verdict};
pub use under_way::{WriteInProgress, WriterId, WriterUnderWay};

/// Finds and deletes what is not live in a store, one tier or a stack of them; see the [module](self) for the rules.
///
/// A stack deletes from all of its tiers. The store needs conditional puts and deletes and versions that are never used twice,
/// must not evict, and must list all of its keys: a stack that lists its frontend alone (`frontend-only`) is refused. Cloning shares the handle.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_values::sweep::{KeepList, Sweep};
///
/// let store = Arc::new(MemoryStore::new());
/// store.set("used", "…").await?;
/// store.set("unused", "…").await?;
/// let sweep = Sweep::new(store.clone())?;
/// for _ in 0..2 {
///     // The horizon first, then the list: what is written from here on is not judged by it.
///     let horizon = sweep.horizon().await?;
///     let keep = KeepList::new(horizon, ["used"])?;
///     let would = sweep.dry_run(&keep).await?;
///     let did = sweep.run(&keep).await?;
///     assert_eq!(would.deleted, did.deleted);
/// }
/// assert!(store.contains("used").await? && !store.contains("unused").await?);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Sweep {
    inner: Arc<Inner>,
}

/// What is told of each key that is not live.
type OnKey = Arc<dyn Fn(&Key, Verdict) + Send + Sync>;

struct Inner {
    store: Arc<dyn Store>,
    writer: Writer,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    /// Only keys that begin with this are candidates.
    prefix: String,
    /// Before the keys of all records.
    records: String,
    older_than: Option<Timestamp>,
    chunk_bytes: usize,
    batch: usize,
    concurrency: usize,
    on_key: Option<OnKey>,
}

/// Whether a run writes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Dry,
    Apply,
}

impl Sweep {
    /// A sweep of the whole store. The store is not asked.
    ///
    /// # Errors
    /// Those of [`SweepBuilder::build`].
    pub fn new(store: impl AsStore) -> Result<Self> {
        Self::builder(store).build()
    }

    /// The same, with more to choose.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::builder(MemoryStore::new()).prefix("blobs/").build()?;
    /// # drop(sweep);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub fn builder(store: impl AsStore) -> SweepBuilder {
        SweepBuilder::new(store.into_store())
    }

    /// Counts what [`run`](Self::run) would do now. Nothing is written, but for a cache: in a stack the reads of roots and of
    /// what they refer to fill the frontend, as those of a run do.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) before it writes.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::sweep::{KeepList, Sweep};
    ///
    /// let store = Arc::new(MemoryStore::new());
    /// store.set("used", "…").await?;
    /// store.set("unused", "…").await?;
    /// let sweep = Sweep::new(store.clone())?;
    /// let keep = KeepList::new(sweep.horizon().await?, ["used"])?;
    /// let report = sweep.dry_run(&keep).await?;
    /// assert_eq!((report.listed, report.live, report.observed, report.deleted), (2, 1, 1, 0));
    /// assert_eq!(store.keys("").await?.len(), 2, "nothing was written");
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn dry_run<'l>(&self, live: impl Into<Live<'l>>) -> Result<SweepReport> {
        self.inner.sweep(live.into(), Mode::Dry).await
    }

    /// Deletes what may be deleted, and records what is not live for a later run. What was observed under another version, or
    /// is held back, stays. Running it again is safe at any time, and so are several runs at once, in several processes.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where nothing at all is live, or the horizon of the keep-list is of another
    /// series; [`Error::Store`](crate::Error::Store) of the kind [`NotFound`](tiered_core::ErrorKind::NotFound) where a named
    /// root is absent; [`Error::Contended`](crate::Error::Contended) where the roots change faster than they are read, with
    /// the key that changed last;
    /// [`Error::Damaged`](crate::Error::Damaged) where the head is damaged: delete it, then everything is observed anew. A root or a
    /// referenced entry that cannot be read is an error, and nothing was deleted. A delete that fails is counted, and so are all
    /// deletes of a batch that fails as a whole. The third such batch in a row ends the run with its error.
    ///
    /// # Cancel safety
    /// Dropping it leaves deletes that are done, and parts of a snapshot that a later run removes.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::sweep::{KeepList, Sweep};
    ///
    /// let store = Arc::new(MemoryStore::new());
    /// store.set("used", "…").await?;
    /// store.set("unused", "…").await?;
    /// let sweep = Sweep::new(store.clone())?;
    /// let mut deleted = Vec::new();
    /// for _ in 0..3 {
    ///     let keep = KeepList::new(sweep.horizon().await?, ["used"])?;
    ///     deleted.push(sweep.run(&keep).await?.deleted);
    /// }
    /// assert_eq!(deleted, [0, 1, 0]);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn run<'l>(&self, live: impl Into<Live<'l>>) -> Result<SweepReport> {
        self.inner.sweep(live.into(), Mode::Apply).await
    }

    /// What a [`KeepList`] that is made from now on can condemn: entries that were observed before, and before all writers
    /// that are under way now.
    ///
    /// # Errors
    /// Those of the store; [`Error::Damaged`](crate::Error::Damaged) where the head is damaged.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::new(MemoryStore::new())?;
    /// assert_eq!(sweep.horizon().await?.generation(), 0, "nothing was observed yet");
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn horizon(&self) -> Result<Horizon> {
        let head = self.inner.read_head().await?;
        let writers = self.inner.writers(&head.head).await?;
        Ok(head.head.horizon(&writers))
    }

    /// The writers that are under way, and those that crashed: nothing tells them apart.
    ///
    /// # Errors
    /// Those of the store; [`Error::Damaged`](crate::Error::Damaged) where the head is damaged.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::sweep::Sweep;
    ///
    /// let sweep = Sweep::new(MemoryStore::new())?;
    /// let write = sweep.begin_write("importer").await?;
    /// let writers = sweep.writers().await?;
    /// assert_eq!((writers[0].id, writers[0].label.as_str()), (write.id(), "importer"));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn writers(&self) -> Result<Vec<WriterUnderWay>> {
        let head = self.inner.read_head().await?;
        self.inner.writers(&head.head).await
    }
}

impl fmt::Debug for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweep")
            .field("store", &self.inner.store)
            .field("prefix", &self.inner.settings.prefix)
            .field("records", &self.inner.settings.records)
            .field("older_than", &self.inner.settings.older_than)
            .finish_non_exhaustive()
    }
}
