//! Which journals hold writes for a backend. Backend and journal know each other: the journal is bound to the identity of
//! the backend (mark `tiered.identity`), and the mark `tiered.journals` of the backend names the journals whose writes it
//! may still receive.
//!
//! An id is in the mark, durably, before its journal takes the first record. It leaves the mark after the trim that empties
//! the journal. A store that writes without seeing those records would be overwritten by them later, so it is refused.
//!
//! The mark is a set: a stack over a stack has a journal of its own. Its id stands in the lowest backend with a `+` for
//! each tiered store in between. Under a lease the record of the owner says the same.

mod hand_over;
mod lease;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::capability::Feature;
use crate::clock::Stamp;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::marks::{IDENTITY, JOURNALS, OF_PREFIXES, within_prefix};
use crate::store::{AsStore, Store};

pub use hand_over::hand_over;
pub use lease::Lease;
pub(crate) use lease::{Attempt, Held, OWNER, Tenure, Verdict};

/// Which acknowledged writes a stack sees that wait in a journal for its backend.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::ownership::JournalsSeen;
/// use tiered_core::{MemoryStore, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// assert_eq!(store.guarantees().journals, JournalsSeen::All);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalsSeen {
    /// All.
    All,
    /// Not those in the journal of another stack, until they are flushed. Only a stack that never writes its backend can
    /// be built over a backend for which such a journal holds writes.
    NotAll,
}

/// The identity of a backend: the name that the user gave it, else its mark. A backend that can keep marks gets one.
/// `None` if it cannot.
pub(crate) async fn identity(
    backend: &dyn Store,
    given: Option<&str>,
    stamp: &Stamp,
) -> Result<Option<Bytes>> {
    if let Some(given) = given {
        return Ok(Some(Bytes::copy_from_slice(given.as_bytes())));
    }
    if !backend.capabilities().has(Feature::KeepsMarks) {
        return Ok(None);
    }
    if let Some(identity) = backend.mark(IDENTITY).await? {
        return Ok(Some(identity));
    }
    let identity = Bytes::from(stamp.versions().mint().to_string());
    backend.set_mark(IDENTITY, Some(identity.clone())).await?;
    Ok(Some(identity))
}

/// The id of a store: what tells it from every other, whatever its place is called. It is kept in the store itself, and is
/// the same after each opening. A tiered store has the id of its backend. `None` where the store has none yet, or keeps no
/// marks.
///
/// A frontend that outlives the process and a journal remember the id of their backend, and refuse another one.
///
/// # Errors
/// Those of the store.
///
/// # Cancel safety
/// Dropping it has no effect.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ownership};
///
/// let store = MemoryStore::new();
/// assert_eq!(ownership::id(&store).await?, None);
/// let id = ownership::ensure_id(&store).await?;
/// assert_eq!(ownership::id(&store).await?, id);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn id(store: &(impl AsStore + ?Sized)) -> Result<Option<String>> {
    let store = store.as_store();
    if !store.capabilities().has(Feature::KeepsMarks) {
        return Ok(None);
    }
    let identity = store.mark(IDENTITY).await?;
    Ok(identity.map(|identity| String::from_utf8_lossy(&identity).into_owned()))
}

/// The id of a store, as [`id`] reads it. One that has none gets one. `None` where the store keeps no marks.
///
/// Two processes that give a shared store its first id at the same time may each see another one. Where that matters, open
/// it once with [`Create::New`](crate::Create::New) before.
///
/// # Durability
/// As a mark: when it returns, the id is as durable as the store can make it.
///
/// # Errors
/// Those of the store.
///
/// # Cancel safety
/// Dropped half-way the store has an id, or none.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ownership};
///
/// let (one, other) = (MemoryStore::new(), MemoryStore::new());
/// assert_ne!(ownership::ensure_id(&one).await?, ownership::ensure_id(&other).await?);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn ensure_id(store: &(impl AsStore + ?Sized)) -> Result<Option<String>> {
    let identity = identity(store.as_store(), None, &Stamp::system()).await?;
    Ok(identity.map(|identity| String::from_utf8_lossy(&identity).into_owned()))
}

/// A journal's identity.
///
/// # Examples
/// ```
/// use tiered_core::ownership::JournalId;
///
/// let id: JournalId = "000000000000000000000000000000ff".parse()?;
/// assert_eq!(id.to_string(), "000000000000000000000000000000ff");
/// assert!("ff".parse::<JournalId>().is_err());
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(u128);

impl JournalId {
    /// The journal of this number, as [`Recovered::journal`](crate::adapter::journal::Recovered::journal) gives it.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::ownership::JournalId;
    ///
    /// let id = JournalId::from_u128(255);
    /// assert_eq!((id.as_u128(), id.to_string().len()), (255, 32));
    /// ```
    pub const fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// Its number.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tiered_core::ownership::JournalId::from_u128(7).as_u128(), 7);
    /// ```
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for JournalId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = if digits { u128::from_str_radix(text, 16).ok() } else { None };
        id.map(Self).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{text:?} is no journal's id: 32 hexadecimal digits"))
        })
    }
}

/// The journals that may hold writes which `store` has not received: those in its mark and in the marks of its prefixes, and
/// the holder of its lease. The holder of the lease of a prefix is told by the prefix alone.
///
/// # Errors
/// Those of the store.
///
/// # Cancel safety
/// Dropping it has no effect.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ownership};
///
/// assert!(ownership::journals(&MemoryStore::new()).await?.is_empty());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn journals(store: &(impl AsStore + ?Sized)) -> Result<Vec<JournalId>> {
    let store = store.as_store();
    let mut all: BTreeSet<JournalId> = lease_holder(store).await?.into_iter().collect();
    for mark in marks_with_journals(store).await? {
        all.extend(Named::read_mark(store, &mark).await?.0.into_iter().map(|(_, id)| id));
    }
    Ok(all.into_iter().collect())
}

/// The marks that name journals: that of the store, and those of its prefixes.
async fn marks_with_journals(store: &dyn Store) -> Result<Vec<String>> {
    if !store.capabilities().has(Feature::KeepsMarks) {
        return Ok(Vec::new());
    }
    let mut marks = store.mark_names(OF_PREFIXES).await?;
    marks.retain(|mark| within_prefix(mark) == JOURNALS);
    marks.push(JOURNALS.to_owned());
    Ok(marks)
}

/// Gives a journal up by name, where it is lost or its writes are not wanted: `store` does not wait for it any more, and
/// may be written without it. When the journal is opened again all the same, everything that it holds is parked, not
/// flushed. **Its unflushed writes were acknowledged, and are lost where the journal is.** Whether it was named at all.
///
/// Call it on the backend itself, while no stack is built over it.
///
/// # Durability
/// As a mark: when it returns, it is as durable as the store can make it.
///
/// # Errors
/// Those of the store.
///
/// # Cancel safety
/// Dropped half-way the journal is given up, or not.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ownership};
///
/// let store = MemoryStore::new();
/// let lost = "000000000000000000000000000000ff".parse()?;
/// assert!(!ownership::abandon(&store, lost).await?);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub async fn abandon(store: &(impl AsStore + ?Sized), journal: JournalId) -> Result<bool> {
    let store = store.as_store();
    let mut was_named = false;
    for mark in marks_with_journals(store).await? {
        let mut named = Named::read_mark(store, &mark).await?;
        let before = named.0.len();
        named.0.retain(|(_, id)| *id != journal);
        if named.0.len() < before {
            store.set_mark(&mark, named.encode()).await?;
            was_named = true;
        }
    }
    Ok(may_be_leased(store) && lease::abandon(store, journal.0).await? || was_named)
}

fn may_be_leased(store: &dyn Store) -> bool {
    let capabilities = store.capabilities();
    capabilities.has(Feature::AtomicBatch) && capabilities.has(Feature::ConditionalPut)
}

async fn lease_holder(store: &dyn Store) -> Result<Option<JournalId>> {
    if !may_be_leased(store) {
        return Ok(None);
    }
    Ok(lease::holder(store).await?.map(JournalId))
}

/// What a mark names: journals, each with the number of tiered stores between it and the store that has the mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named(BTreeSet<(usize, JournalId)>);

impl Named {
    async fn read(store: &dyn Store) -> Result<Self> {
        if !store.capabilities().has(Feature::KeepsMarks) {
            return Ok(Self::default());
        }
        Self::read_mark(store, JOURNALS).await
    }

    async fn read_mark(store: &dyn Store, name: &str) -> Result<Self> {
        let Some(mark) = store.mark(name).await? else { return Ok(Self::default()) };
        Self::decode(&mark).ok_or_else(|| {
            let message =
                format!("the mark {name} is no list of journals; it was written by another program");
            Error::new(ErrorKind::Corrupt, message)
                .during(Operation::Mark)
                .in_tier(store.capabilities().name())
        })
    }

    async fn write(&self, store: &dyn Store) -> Result<()> {
        store.set_mark(JOURNALS, self.encode()).await
    }

    fn encode(&self) -> Option<Bytes> {
        let words: Vec<String> =
            self.0.iter().map(|(above, id)| format!("{}{id}", "+".repeat(*above))).collect();
        (!words.is_empty()).then(|| Bytes::from(words.join(" ")))
    }

    fn decode(mark: &[u8]) -> Option<Self> {
        let words = std::str::from_utf8(mark).ok()?.split(' ').filter(|word| !word.is_empty());
        let named = words.map(|word| {
            let id = word.trim_start_matches('+');
            Some((word.len() - id.len(), id.parse().ok()?))
        });
        named.collect::<Option<_>>().map(Self)
    }

    /// As a tiered store shows it to a stack above: without its own journal.
    fn seen_from_above(&self) -> Self {
        Self(self.0.iter().filter_map(|(above, id)| Some((above.checked_sub(1)?, *id))).collect())
    }

    /// The mark of the backend after a stack above has set `theirs`.
    fn with_above(&self, theirs: &Self) -> Self {
        let own = self.0.iter().filter(|(above, _)| *above == 0).copied();
        Self(own.chain(theirs.0.iter().map(|(above, id)| (above + 1, *id))).collect())
    }
}

/// The mark as a stack above a tiered store sees it.
pub(crate) async fn mark_from_above(backend: &dyn Store) -> Result<Option<Bytes>> {
    Ok(Named::read(backend).await?.seen_from_above().encode())
}

/// Sets the mark for a stack above a tiered store.
pub(crate) async fn set_mark_from_above(backend: &dyn Store, value: Option<&Bytes>) -> Result<()> {
    let theirs = Named::decode(value.map_or(&[][..], |value| value)).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("the mark {JOURNALS} is a list of journals"))
            .during(Operation::Mark)
    })?;
    Named::read(backend).await?.with_above(&theirs).write(backend).await
}

/// Refuses to take away the tiered store over `backend` while journals of stacks above it count it in: over the backend alone
/// they would not find their names.
pub(crate) async fn refuse_above(backend: &impl Store) -> Result<()> {
    let Some((_, id)) = Named::read(backend).await?.0.into_iter().find(|(above, _)| *above > 0) else {
        return Ok(());
    };
    let message = format!(
        "the journal {id} of a stack above counts this store in, and would not be known without it; close that stack first, or keep this store"
    );
    Err(Error::new(ErrorKind::Locked, message).in_tier(backend.capabilities().name()))
}

/// The journals that a store tolerates, although it does not see what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tolerates {
    /// Those of stacks above it, which are about to be built over it.
    above: bool,
    /// The holder of the lease: the store takes part in leasing itself.
    lease_holder: bool,
    /// All: the store never writes the backend.
    all: bool,
}

impl Tolerates {
    pub(crate) const fn above(self) -> Self {
        Self { above: true, ..self }
    }

    pub(crate) const fn lease_holder(self) -> Self {
        Self { lease_holder: true, ..self }
    }

    pub(crate) const fn all(self) -> Self {
        Self { all: true, ..self }
    }
}

/// Looks for journals other than `own` that hold writes for `backend`, and refuses those that are not tolerated.
pub(crate) async fn check(
    backend: &dyn Store,
    own: Option<u128>,
    tolerates: Tolerates,
) -> Result<JournalsSeen> {
    let named = Named::read(backend).await?;
    let foreign = named.0.iter().find(|(above, id)| Some(id.0) != own && !(*above > 0 && tolerates.above));
    let holder = if tolerates.lease_holder || tolerates.above {
        None
    } else {
        lease_holder(backend).await?.filter(|id| Some(id.0) != own)
    };
    let Some(id) = foreign.map(|(_, id)| *id).or(holder) else { return Ok(JournalsSeen::All) };
    if tolerates.all {
        tracing::warn!(journal = %id, "a journal holds writes for the backend that this store does not see");
        return Ok(JournalsSeen::NotAll);
    }
    let message = format!(
        "the journal {id} holds acknowledged writes for this backend, which this store would not see and which would overwrite newer ones; open it with that journal, take over its lease, or give the journal up by name: `tiered journal abandon`, or ownership::abandon"
    );
    Err(Error::new(ErrorKind::Locked, message).during(Operation::Open).in_tier(backend.capabilities().name()))
}

/// A journal and the mark of its backend.
#[derive(Debug)]
pub(crate) struct Registration {
    named: Named,
    standing: Standing,
}

/// What the backend's mark says about a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It names the journal.
    Named,
    /// It does not, although it did: the journal was abandoned by name.
    Abandoned,
    /// It does not, since the journal is older than marks.
    OlderThanMarks,
}

impl Registration {
    /// Looks up the journal in the backend's mark.
    pub(crate) async fn of(backend: &dyn Store, journal: u128, knows_marks: bool) -> Result<Self> {
        let mut named = Named::read(backend).await?;
        let standing = match (named.0.insert((0, JournalId(journal))), knows_marks) {
            (false, _) => Standing::Named,
            (true, true) => Standing::Abandoned,
            (true, false) => Standing::OlderThanMarks,
        };
        Ok(Self { named, standing })
    }

    pub(crate) const fn standing(&self) -> Standing {
        self.standing
    }

    /// Enters the journal in the mark, durably.
    pub(crate) async fn write(&self, backend: &dyn Store) -> Result<()> {
        if self.standing == Standing::Named { Ok(()) } else { self.named.write(backend).await }
    }
}

/// Takes an empty journal out of the backend's mark.
pub(crate) async fn leave(backend: &dyn Store, journal: u128) -> Result<()> {
    let mut named = Named::read(backend).await?;
    if named.0.remove(&(0, JournalId(journal))) { named.write(backend).await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_mark_decodes_to_the_same_mark() {
        let named = Named([(0, JournalId(7)), (0, JournalId(u128::MAX)), (2, JournalId(7))].into());
        assert_eq!(Named::decode(&named.encode().expect("some")), Some(named));
        assert_eq!(Named::default().encode(), None);
        for foreign in ["x", "+", "00000000000000000000000000000007,1", "7"] {
            assert_eq!(Named::decode(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_stack_sees_and_sets_only_the_marks_of_its_own_level() {
        let backend = Named([(0, JournalId(1)), (1, JournalId(2)), (2, JournalId(3))].into());
        let seen = backend.seen_from_above();
        assert_eq!(seen, Named([(0, JournalId(2)), (1, JournalId(3))].into()));
        assert_eq!(backend.with_above(&seen), backend);
        assert_eq!(backend.with_above(&Named::default()), Named([(0, JournalId(1))].into()));
    }
}
