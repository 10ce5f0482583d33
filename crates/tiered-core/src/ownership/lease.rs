//! The lease: a record in the backend that says whose journal is flushed to it.
//!
//! Every flush replaces the record, conditionally on the version that its owner knows, in one atomic batch with the
//! writes. A store that takes the lease over replaces it as well. From then on nothing of the earlier owner takes effect,
//! even if it was sent before: that owner is fenced. The record also says how far the journal has been flushed, so nothing
//! is flushed twice.

use serde::{Deserialize, Serialize};

use crate::batch::{Action, Batch};
use crate::clock::Stamp;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::Sequence;
use crate::key::Key;
use crate::read::ReadOptions;
use crate::store::Store;
use crate::sync_primitives::Mutex;
use crate::sync_primitives::atomic::{AtomicBool, Ordering};
use crate::version::{Precondition, Version};
use crate::write::Put;

/// Where the record is. It is not a key of the user's: a tiered store neither lists nor writes it.
pub(crate) const OWNER: &str = ".tiered/owner";

/// How a write-behind store becomes the owner of a backend that others could own.
///
/// A lease has no time limit: its owner keeps it until it closes with nothing pending, or until another store takes it
/// over.
///
/// # Examples
/// ```
/// use tiered_core::ownership::Lease;
/// use tiered_core::{MemoryStore, TieredStore, VolatileJournal, WritePolicy};
///
/// /// An active instance acquires the lease; a standby that is told to step in takes it over.
/// fn lease(standby: bool) -> Lease {
///     if standby { Lease::TakeOver } else { Lease::Acquire }
/// }
///
/// let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteBehind)
///     .journal(VolatileJournal::new())
///     .lease(lease(false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Lease {
    /// Takes a lease that is free or that this journal holds; else [`ErrorKind::Locked`](crate::ErrorKind::Locked).
    Acquire,
    /// Takes the lease from its owner, if there is one. What that owner had acknowledged and not flushed is parked in its
    /// journal until an operator decides.
    TakeOver,
}

/// What the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Counts the owners.
    epoch: u64,
    /// The owner's journal.
    journal: u128,
    /// Every record of that journal before this one is in the backend, or set aside.
    flushed: Sequence,
    /// Whether it is held; not after a close with nothing pending.
    held: bool,
}

impl Record {
    fn encode(&self) -> String {
        let Self { epoch, journal, flushed, held } = self;
        format!("tiered-owner epoch={epoch} journal={journal:032x} flushed={flushed} held={held}")
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.strip_prefix("tiered-owner ")?.split(' ');
        let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let record = Self {
            epoch: field("epoch")?.parse().ok()?,
            journal: u128::from_str_radix(field("journal")?, 16).ok()?,
            flushed: field("flushed")?.parse().ok()?,
            held: field("held")?.parse().ok()?,
        };
        words.next().is_none().then_some(record)
    }
}

/// The record as it was found.
type Found = Option<(Record, Version)>;

/// Who owns the backend, from the point of view of one journal.
#[derive(Debug)]
pub(crate) struct Tenure {
    found: Found,
    journal: u128,
}

/// The lease, as its owner holds it.
#[derive(Debug)]
pub(crate) struct Held {
    key: Key,
    state: Mutex<State>,
    fenced: AtomicBool,
}

#[derive(Debug)]
struct State {
    record: Record,
    version: Version,
    /// The versions of renewals whose outcome is unknown.
    renewals: Vec<Version>,
}

/// A flush as the owner sends it: the writes, and the record that goes with them.
#[derive(Debug)]
pub(crate) struct Attempt {
    batch: Batch,
    record: Record,
    version: Version,
}

/// What the backend's record says about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It took effect.
    Applied,
    /// It has not taken effect yet, and may.
    Open,
    /// It never takes effect: the owner itself has replaced the record since.
    Void,
    /// It never takes effect: another store is the owner.
    Fenced,
}

/// Whether the owner keeps the lease with an attempt, or gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    Lease,
    Nothing,
}

fn owner_key() -> Result<Key> {
    Key::new(OWNER)
}

async fn look(backend: &dyn Store) -> Result<Found> {
    let read = backend.load(&owner_key()?, &ReadOptions::new().authoritative()).await?;
    let Some(entry) = read.into_entry() else { return Ok(None) };
    let record = Record::decode(entry.value()).ok_or_else(|| {
        Error::new(
            ErrorKind::Foreign,
            format!("the entry {OWNER} of the backend is no record of an owner; move it away"),
        )
    })?;
    Ok(Some((record, entry.version().clone())))
}

/// The journal that holds the lease of `backend`. An entry of that name which is no record is the user's.
pub(super) async fn holder(backend: &dyn Store) -> Result<Option<u128>> {
    match look(backend).await {
        Ok(found) => Ok(found.filter(|(record, _)| record.held).map(|(record, _)| record.journal)),
        Err(error) if error.kind() == ErrorKind::Foreign => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lease from `journal` and gives it to no store: what the journal holds belongs to an epoch that is over.
/// Returns whether the journal held the lease.
pub(super) async fn abandon(backend: &dyn Store, journal: u128) -> Result<bool> {
    let found = match look(backend).await {
        Err(error) if error.kind() == ErrorKind::Foreign => None,
        found => found?,
    };
    let Some((record, version)) = found.filter(|(record, _)| record.held && record.journal == journal) else {
        return Ok(false);
    };
    let over = Record { epoch: record.epoch + 1, journal: 0, flushed: 0, held: false };
    backend.put(&owner_key()?, Put::new(over.encode()).never_expires().if_version(version)).await?;
    Ok(true)
}

impl Tenure {
    /// Looks up the owner of the backend. `journal` is the journal's own identity.
    pub(crate) async fn of(backend: &dyn Store, journal: u128, lease: Lease) -> Result<Self> {
        let found = look(backend).await?;
        let tenure = Self { found, journal };
        if lease == Lease::Acquire {
            tenure.refuse_others()?;
        }
        Ok(tenure)
    }

    fn refuse_others(&self) -> Result<()> {
        match &self.found {
            Some((record, _)) if record.held && record.journal != self.journal => {
                let message = format!(
                    "the journal {:032x} holds the lease of the backend (epoch {}); close that store, or take the lease over if it will not come back",
                    record.journal, record.epoch
                );
                Err(Error::new(ErrorKind::Locked, message).during(Operation::Open))
            }
            _ => Ok(()),
        }
    }

    /// Everything of the journal before this is in the backend.
    pub(crate) fn flushed(&self) -> Sequence {
        match &self.found {
            Some((record, _)) if record.journal == self.journal => record.flushed,
            _ => 0,
        }
    }

    /// Corrects what the record says about journal records from `end` on, which the journal has lost: new records get
    /// their sequences.
    pub(crate) fn believe_until(&mut self, end: Sequence) {
        if let Some((record, _)) = self.found.as_mut().filter(|(record, _)| record.journal == self.journal) {
            record.flushed = record.flushed.min(end);
        }
    }

    /// Whether another journal held the lease last, so that what this one holds belongs to an earlier epoch.
    pub(crate) fn has_passed_on(&self) -> bool {
        self.found.as_ref().is_some_and(|(record, _)| record.journal != self.journal)
    }

    /// Takes the lease; `None` where the record has changed since it was looked at.
    pub(crate) async fn take(self, backend: &dyn Store, stamp: &Stamp) -> Result<Option<Held>> {
        let flushed = self.flushed();
        let epoch = self.found.as_ref().map_or(0, |(record, _)| record.epoch) + 1;
        let record = Record { epoch, journal: self.journal, flushed, held: true };
        let version = stamp.versions().mint();
        let before = self.found.map_or(Precondition::Absent, |(_, version)| Precondition::Matches(version));
        let put =
            Put::new(record.encode()).never_expires().with_version(version.clone()).precondition(before);
        let key = owner_key()?;
        if let Err(error) = backend.put(&key, put).await {
            // Its answer may have been lost.
            let owner = look(backend).await?;
            if owner.is_none_or(|(_, owner)| owner != version) {
                let changed = error.kind() == ErrorKind::PreconditionFailed;
                return if changed { Ok(None) } else { Err(error.during(Operation::Open)) };
            }
        }
        tracing::info!(epoch, "this store holds the lease of its backend");
        let state = State { record, version, renewals: Vec::new() };
        Ok(Some(Held { key, state: Mutex::new(state), fenced: AtomicBool::new(false) }))
    }
}

impl Attempt {
    /// What to send.
    pub(crate) fn batch(&self) -> Batch {
        self.batch.clone()
    }
}

impl Held {
    /// Notes that another store is the owner. Breaks where that was known.
    pub(crate) fn fence(&self) -> std::ops::ControlFlow<()> {
        let was_fenced = self.fenced.swap(true, Ordering::AcqRel);
        if was_fenced { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// The error of every call after the lease is lost.
    pub(crate) fn lost(&self) -> Error {
        let epoch = self.state.lock().record.epoch;
        let message = format!(
            "another store took over the lease of epoch {epoch}; what is not flushed is parked; close this store"
        );
        Error::new(ErrorKind::Locked, message).outcome_is(Outcome::NotApplied)
    }

    /// A flush of `batch`. Once it is applied, everything before `flushed` is in the backend.
    pub(crate) fn attempt(&self, batch: Batch, flushed: Sequence, stamp: &Stamp) -> Attempt {
        self.replacement(batch, flushed, Keeps::Lease, stamp)
    }

    /// An attempt that gives the lease back.
    pub(crate) fn release(&self, stamp: &Stamp) -> Attempt {
        self.replacement(Batch::new(), 0, Keeps::Nothing, stamp)
    }

    /// An attempt that writes nothing: it keeps earlier attempts from taking effect.
    pub(crate) fn renewal(&self, stamp: &Stamp) -> Attempt {
        self.replacement(Batch::new(), 0, Keeps::Lease, stamp)
    }

    fn replacement(&self, mut batch: Batch, flushed: Sequence, keeps: Keeps, stamp: &Stamp) -> Attempt {
        let state = self.state.lock();
        let record = Record {
            flushed: state.record.flushed.max(flushed),
            held: keeps == Keeps::Lease,
            ..state.record.clone()
        };
        let version = stamp.versions().mint();
        let condition = Precondition::Matches(state.version.clone());
        let put =
            Put::new(record.encode()).never_expires().with_version(version.clone()).precondition(condition);
        batch.push(self.key.clone(), Action::Put(put));
        Attempt { batch, record, version }
    }

    /// The backend has applied the attempt.
    pub(crate) fn applied(&self, attempt: Attempt) {
        *self.state.lock() = State { record: attempt.record, version: attempt.version, renewals: Vec::new() };
    }

    /// Remembers a renewal whose outcome is unknown.
    pub(crate) fn may_be_renewed(&self, renewal: Attempt) {
        self.state.lock().renewals.push(renewal.version);
    }

    /// Asks the record in the backend what became of an attempt.
    pub(crate) async fn judge(&self, backend: &dyn Store, attempt: &Attempt) -> Result<Verdict> {
        let Some((record, version)) = look(backend).await? else { return Ok(Verdict::Fenced) };
        let mut state = self.state.lock();
        Ok(if version == attempt.version {
            Verdict::Applied
        } else if version == state.version {
            Verdict::Open
        } else if state.renewals.contains(&version) {
            *state = State { record, version, renewals: Vec::new() };
            Verdict::Void
        } else {
            Verdict::Fenced
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_record_decodes_to_the_same_record() {
        let record = Record { epoch: 7, journal: u128::MAX - 1, flushed: 12, held: false };
        assert_eq!(Record::decode(record.encode().as_bytes()), Some(record.clone()));
        for foreign in ["", "tiered-owner epoch=1", "tiered-owner epoch=x journal=0 flushed=0 held=true"] {
            assert_eq!(Record::decode(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(Record::decode(format!("{} more=1", record.encode()).as_bytes()), None);
    }
}
