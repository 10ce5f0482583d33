//! The write-behind journal: what makes a write durable before the backend has it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

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
#[non_exhaustive]
pub struct JournalRecord {
    /// The key.
    pub key: Key,
    /// The put or delete.
    pub action: Action,
    /// Whether the next record belongs to the same batch, so that the backend gets both or none.
    pub continues: bool,
}

impl JournalRecord {
    /// A record of a write by itself, or of the last one of a batch.
    pub fn new(key: Key, action: impl Into<Action>) -> Self {
        Self { key, action: action.into(), continues: false }
    }

    /// The same record, to which the next one belongs.
    #[must_use]
    pub fn continued(mut self) -> Self {
        self.continues = true;
        self
    }
}

/// Records that the backend refused: one write, or all of an atomic batch.
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
///     println!("{}: {} records, {}", parked.sequence(), parked.records.len(), parked.reason);
///     store.retry_parked(parked.sequence())?;
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Parked {
    /// The records, in order; never empty.
    pub records: Vec<(Sequence, JournalRecord)>,
    /// Why they are parked.
    pub reason: ParkReason,
}

/// Why a journaled write is parked.
///
/// # Examples
/// ```
/// use tiered_core::ParkReason;
///
/// let reason = ParkReason::Refused("the value is too large".to_owned());
/// assert_eq!(reason.to_string(), "the value is too large");
/// assert!(ParkReason::LeaseLost.to_string().ends_with("retry or drop it"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParkReason {
    /// The backend refused it, with this error.
    Refused(String),
    /// Another owner held the lease after the write was acknowledged. The backend may have newer writes.
    LeaseLost,
    /// The journal was abandoned by name after the write was acknowledged. The backend may have newer writes.
    Abandoned,
}

impl ParkReason {
    /// Whether opening the store again is a reason to try the write again: not over another owner's writes.
    pub(crate) const fn may_be_over(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for ParkReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(error) => error,
            Self::LeaseLost => {
                "another owner held the lease since this write was acknowledged, and the backend may have newer writes; retry or drop it"
            }
            Self::Abandoned => {
                "the journal was abandoned by name since this write was acknowledged, and the backend may have newer writes; retry or drop it"
            }
        })
    }
}

impl Parked {
    /// These records, in order, which are parked for this reason.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::journal::JournalRecord;
    /// use tiered_core::{Key, ParkReason, Parked, Put};
    ///
    /// let record = JournalRecord::new(Key::new("users/42")?, Put::new("Ada"));
    /// let parked = Parked::new(vec![(7, record)], ParkReason::Refused("too large".to_owned()));
    /// assert_eq!(parked.sequence(), 7);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub const fn new(records: Vec<(Sequence, JournalRecord)>, reason: ParkReason) -> Self {
        Self { records, reason }
    }

    /// What it is known by: the sequence of its first record.
    pub fn sequence(&self) -> Sequence {
        self.records.first().map_or(0, |(sequence, _)| *sequence)
    }
}

impl fmt::Debug for Parked {
    // Of what a journal holds, numbers: there may be very much of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("sequence", &self.sequence())
            .field("records", &self.records.len())
            .field("reason", &self.reason)
            .finish()
    }
}

/// What is not to be flushed with the rest.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Aside {
    /// Refused by the backend; a person decides.
    pub parked: Vec<Parked>,
    /// Given up by a person.
    pub dropped: Vec<Sequence>,
}

impl Aside {
    /// These records.
    pub const fn new(parked: Vec<Parked>, dropped: Vec<Sequence>) -> Self {
        Self { parked, dropped }
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside")
            .field("parked", &self.parked.len())
            .field("dropped", &self.dropped.len())
            .finish()
    }
}

/// What a journal holds when it is opened.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// The records that are not trimmed, in order. Those of [`aside`](Self::aside) may be among them.
    pub records: Vec<(Sequence, JournalRecord)>,
    /// What is not to be flushed.
    pub aside: Aside,
    /// The journal's own identity, by which its backend and the record of a lease know it again; 0 where it has none.
    pub journal: u128,
    /// Whether the journal knows that its backend names it ([`Journal::note_marked`]). A new journal does from the start.
    pub marked: bool,
}

impl fmt::Debug for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovered")
            .field("records", &self.records.len())
            .field("aside", &self.aside)
            .field("journal", &format_args!("{:032x}", self.journal))
            .field("marked", &self.marked)
            .finish()
    }
}

/// A log of acknowledged writes, in the order in which they take effect.
///
/// One store owns a journal at a time. The engine appends groups of records, hands them to the backend in order,
/// and trims what the backend has.
///
/// # Durability
/// What is appended, set aside, or trimmed by [`close`](Self::close) survives what
/// [`durability`](Self::durability) says. A trim in between need not survive anything: records that the backend has
/// may be recovered again, always all from some record on.
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

    /// Forgets every record up to and including `sequence`. The backend has them, or they are set aside.
    ///
    /// # Errors
    /// What is not forgotten now is forgotten by a later trim.
    async fn trim(&self, sequence: Sequence) -> Result<()>;

    /// Replaces what is set aside, and makes that durable. Records in it are kept although they are trimmed.
    ///
    /// # Errors
    /// After an error what was set aside before, or what was to be, is set aside.
    async fn set_aside(&self, aside: &Aside) -> Result<()>;

    /// What the journal holds. Called once, before the first append. Binds a new journal to the backend of this
    /// identity.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the journal of another backend,
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) for a damaged one.
    async fn recover(&self, backend: &[u8]) -> Result<Recovered>;

    /// Writes down, durably, that the backend names this journal from now on: one that is not named any more when it is
    /// opened again was given up. Called once for a journal that was made before backends named theirs.
    async fn note_marked(&self) -> Result<()> {
        Ok(())
    }

    /// Makes durable what is not yet and releases the place.
    async fn close(&self) -> Result<()>;
}

/// A journal, in each form in which one is handed over: by itself, as `Arc<J>`, or as `Arc<dyn Journal>`.
/// [`TieredBuilder::journal`](crate::TieredBuilder::journal) takes it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tiered_core::VolatileJournal;
/// use tiered_core::adapter::journal::{IntoJournal, Journal};
///
/// let shared: Arc<dyn Journal> = VolatileJournal::new().into_journal();
/// let same = Arc::clone(&shared).into_journal();
/// assert!(Arc::ptr_eq(&shared, &same));
/// ```
pub trait IntoJournal {
    /// The journal, shared.
    fn into_journal(self) -> Arc<dyn Journal>;
}

impl<J: Journal> IntoJournal for J {
    fn into_journal(self) -> Arc<dyn Journal> {
        Arc::new(self)
    }
}

impl<J: Journal> IntoJournal for Arc<J> {
    fn into_journal(self) -> Arc<dyn Journal> {
        self
    }
}

impl IntoJournal for Arc<dyn Journal> {
    fn into_journal(self) -> Arc<dyn Journal> {
        self
    }
}

/// A journal in memory: write-behind without durability. What is not flushed is lost with the process, and
/// [`TieredStore::guarantees`](crate::TieredStore::guarantees) says so.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Store, StoreExt, TieredStore, VolatileJournal, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteBehind)
///     .journal(VolatileJournal::new())
///     .build()
///     .await?;
/// store.set("counter", "1").await?;
/// store.flush().await?;
/// assert!(store.backend().get("counter").await?.is_some());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct VolatileJournal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: Sequence,
    records: VecDeque<(Sequence, JournalRecord)>,
    aside: Aside,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("next", &self.next)
            .field("records", &self.records.len())
            .field("aside", &self.aside)
            .finish()
    }
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

    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.state.lock().aside = aside.clone();
        Ok(())
    }

    async fn recover(&self, _backend: &[u8]) -> Result<Recovered> {
        let state = self.state.lock();
        Ok(Recovered {
            records: state.records.iter().cloned().collect(),
            aside: state.aside.clone(),
            journal: 0,
            marked: true,
        })
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
