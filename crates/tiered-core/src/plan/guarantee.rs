//! What a stack promises, as data.

use std::time::Duration;

use crate::capability::{Capabilities, Durability, Feature, Sharing};
use crate::error::{Error, ErrorKind, Result};
use crate::ownership::JournalsSeen;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::settings::{OnPark, TieredSettings};

/// In which order a backend receives the acknowledged writes.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{FlushOrder, MemoryStore, TieredStore, VolatileJournal, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteBehind)
///     .journal(VolatileJournal::new())
///     .build()
///     .await?;
/// // Its backend has atomic batches.
/// assert_eq!(store.guarantees().flush_order, FlushOrder::Prefix);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlushOrder {
    /// Each before it is acknowledged.
    Synchronous,
    /// The backend always holds a prefix of the acknowledged history.
    Prefix,
    /// The backend holds, for each key, a prefix of that key's history.
    PerKey,
    /// Never: writes stay in the frontend.
    Never,
}

/// How far a read may lag behind the writes of others: of other processes, and of other stores in this process.
///
/// It bounds reads of [`Freshness::Cached`](crate::Freshness::Cached). An answer that is marked as
/// [stale](crate::Read::stale) may be older.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Staleness, TieredStore};
///
/// let (frontend, backend) = (MemoryStore::new(), MemoryStore::new());
/// let store = TieredStore::builder(frontend, backend).build().await?;
/// assert_eq!(store.guarantees().max_stale, Staleness::None);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Staleness {
    /// Not at all: this store is the only writer.
    None,
    /// At most this long.
    AtMost(Duration),
    /// Without limit: entries are not compared with the backend again, or the frontend is read alone.
    Unlimited,
}

/// What a stack promises. Each field follows from the policies and from what the tiers declare.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Durability, MemoryStore, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// let guarantees = store.guarantees();
/// assert!(guarantees.linearizable && guarantees.conditional_writes);
/// assert_eq!(guarantees.durability, Durability::Volatile);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[expect(clippy::struct_excessive_bools, reason = "promises that have nothing to do with each other")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guarantees {
    /// Whether the operations on each key are linearizable within this process.
    pub linearizable: bool,
    /// How far a read may lag behind the writes of others.
    pub max_stale: Staleness,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// In which order the backend receives writes.
    pub flush_order: FlushOrder,
    /// Whether batches are all-or-nothing, also under a crash.
    pub atomic_batches: bool,
    /// Whether preconditions are judged atomically with the write.
    pub conditional_writes: bool,
    /// Whether range reads of large values leave blocks in the frontend, which later ones are answered from.
    pub blocks: bool,
    /// Which acknowledged writes of the backend's journals it sees.
    pub journals: JournalsSeen,
}

/// A level of guarantees to insist on.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Durability, ErrorKind, MemoryStore, Requirement, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .require(Requirement::Survives(Durability::PowerLoss));
/// let error = store.build().await.expect_err("memory is volatile");
/// assert_eq!(error.kind(), ErrorKind::Config);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// Linearizable per key, conditional writes, and acknowledged writes survive a killed process.
    Strict,
    /// Linearizable per key.
    Linearizable,
    /// Acknowledged writes survive at least this.
    Survives(Durability),
}

impl Guarantees {
    pub(crate) fn of(
        settings: &TieredSettings,
        frontend: &Capabilities,
        backend: &Capabilities,
        journal: Option<Durability>,
        max_stale: Staleness,
    ) -> Self {
        let (read, write, on_park) = (settings.read_policy, settings.write_policy, settings.on_park);
        let local = write == WritePolicy::FrontendOnly;
        let home = if local { frontend } else { backend };
        let durability = match (write, journal) {
            (WritePolicy::WriteBehind, Some(journal)) => journal.min(backend.durability()),
            _ => home.durability(),
        };
        let flush_order = match write {
            WritePolicy::WriteThrough | WritePolicy::WriteAround => FlushOrder::Synchronous,
            // What goes on past a parked write is no prefix.
            WritePolicy::WriteBehind if backend.has(Feature::AtomicBatch) && on_park != OnPark::Skip => {
                FlushOrder::Prefix
            }
            WritePolicy::WriteBehind => FlushOrder::PerKey,
            WritePolicy::FrontendOnly => FlushOrder::Never,
        };
        // The owner decides preconditions under the key's gate, where the backend need not be able to.
        let decides = matches!(write, WritePolicy::WriteBehind | WritePolicy::FrontendOnly);
        Self {
            linearizable: read == ReadPolicy::FrontendFirst
                && !local
                && (backend.sharing() == Sharing::Exclusive || write == WritePolicy::WriteBehind),
            max_stale,
            durability,
            flush_order,
            // Local batches are judged together and written one by one. Journaled ones reach the backend in whole
            // groups, so that a crash keeps all of a batch or none, whatever the journal survives.
            atomic_batches: !local && backend.has(Feature::AtomicBatch),
            conditional_writes: decides || home.has(Feature::ConditionalPut),
            blocks: false,
            journals: JournalsSeen::All,
        }
    }

    /// The frontend keeps blocks of large values, or none.
    pub(crate) fn keep_blocks(&mut self, kept: bool) {
        self.blocks = kept;
    }

    /// The stack sees these journals of its backend.
    pub(crate) fn see(&mut self, journals: JournalsSeen) {
        self.journals = journals;
    }

    /// Refuses less than `requirement`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], saying what is missing.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Requirement, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.guarantees().require(Requirement::Linearizable)?;
    /// assert!(store.guarantees().require(Requirement::Strict).is_err(), "memory does not survive a kill");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn require(&self, requirement: Requirement) -> Result<()> {
        let missing = match requirement {
            Requirement::Linearizable | Requirement::Strict if !self.linearizable => {
                "reads may miss acknowledged writes; use ReadPolicy::FrontendFirst over a backend that no other process writes"
            }
            Requirement::Strict if !self.conditional_writes => {
                "the backend has no atomic conditional writes; use one that has"
            }
            Requirement::Strict if self.durability < Durability::ProcessKill => {
                "acknowledged writes do not survive a killed process; use a durable backend and no volatile journal"
            }
            Requirement::Survives(durability) if self.durability < durability => {
                "acknowledged writes survive less than required; use a durable backend and no volatile journal"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Config, format!("the stack does not keep {requirement:?}: {missing}")))
    }
}
