//! The lease: a record in the backend that says whose journal is flushed to it.
//!
//! Every flush replaces the record, conditionally on the version that its owner knows, in one atomic batch with the
//! writes. Who takes the lease over replaces it as well, and from then on nothing of the owner before takes effect, be it
//! sent already. The record also says how far the journal has been flushed, so that nothing is flushed twice.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::flusher::{Applied, is_refusal};
use super::{Behind, Engine};
use crate::backoff::Backoff;
use crate::batch::{Action, Batch};
use crate::clock::Stamp;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::journal::Sequence;
use crate::key::Key;
use crate::planted::Plant;
use crate::read::ReadOptions;
use crate::store::Store;
use crate::tiered::engine::sleep_unless;
use crate::tiered::health::contained;
use crate::version::{Precondition, Version};
use crate::write::Put;

/// Where the record is. No key of the user's: the tiered store neither lists nor writes it.
pub(in crate::tiered) const OWNER: &str = ".tiered/owner";

/// How a write-behind store becomes the owner of a backend that others could own.
///
/// A lease has no time: whoever holds it keeps it until it closes with nothing pending, or until somebody takes it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lease {
    /// Where nobody holds it, or this very journal does; else [`ErrorKind::Locked`](crate::ErrorKind::Locked).
    Acquire,
    /// From whoever holds it. What that one had acknowledged and not flushed is parked in its journal, where somebody
    /// decides on it.
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

/// Whose the backend is, from the point of view of one journal.
pub(super) struct Standing {
    found: Found,
    journal: u128,
}

/// The lease of an owner.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    state: Mutex<State>,
    fenced: AtomicBool,
}

#[derive(Debug)]
struct State {
    record: Record,
    version: Version,
    /// Replacements of the record alone whose outcome is unknown.
    voids: Vec<Version>,
}

/// A flush as the owner makes it.
struct Attempt {
    batch: Batch,
    record: Record,
    version: Version,
}

/// What the backend's record says about an attempt.
enum Verdict {
    /// It took effect.
    Landed,
    /// It did not, yet.
    Standing,
    /// It never will: the owner itself replaced the record since.
    Void,
    /// Somebody else is the owner now.
    Fenced,
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
pub(in crate::tiered) async fn holder(backend: &dyn Store) -> Result<Option<u128>> {
    match look(backend).await {
        Ok(found) => Ok(found.filter(|(record, _)| record.held).map(|(record, _)| record.journal)),
        Err(error) if error.kind() == ErrorKind::Foreign => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lease from `journal` and gives it to nobody: what the journal holds is of an epoch that is over. Whether it
/// held the lease.
pub(in crate::tiered) async fn abandon(backend: &dyn Store, journal: u128) -> Result<bool> {
    let found = match look(backend).await {
        Err(error) if error.kind() == ErrorKind::Foreign => None,
        found => found?,
    };
    let Some((record, version)) = found.filter(|(record, _)| record.held && record.journal == journal) else {
        return Ok(false);
    };
    let over = Record { epoch: record.epoch + 1, journal: 0, flushed: 0, held: false };
    backend.put(&owner_key()?, Put::new(over.encode()).if_version(version)).await?;
    Ok(true)
}

impl Standing {
    /// Looks whose the backend is. `journal` is the journal's own identity.
    pub(super) async fn of(backend: &dyn Store, journal: u128, lease: Lease) -> Result<Self> {
        let found = look(backend).await?;
        let standing = Self { found, journal };
        if lease == Lease::Acquire {
            standing.refuse_others()?;
        }
        Ok(standing)
    }

    fn refuse_others(&self) -> Result<()> {
        match &self.found {
            Some((record, _)) if record.held && record.journal != self.journal => {
                let message = format!(
                    "the journal {:032x} holds the lease of the backend (epoch {}); close that store, or take the lease over where it is gone for good",
                    record.journal, record.epoch
                );
                Err(Error::new(ErrorKind::Locked, message).during(Operation::Open))
            }
            _ => Ok(()),
        }
    }

    /// Everything of the journal before this is in the backend.
    pub(super) fn flushed(&self) -> Sequence {
        match &self.found {
            Some((record, _)) if record.journal == self.journal => record.flushed,
            _ => 0,
        }
    }

    /// Takes back what the record says of records that the journal, which ends at `end`, has lost: others get their
    /// sequences.
    pub(super) fn believe_until(&mut self, end: Sequence) {
        if let Some((record, _)) = self.found.as_mut().filter(|(record, _)| record.journal == self.journal) {
            record.flushed = record.flushed.min(end);
        }
    }

    /// Whether another owner came in between: what the journal holds is of an epoch that is over.
    pub(super) fn is_of_the_past(&self) -> bool {
        self.found.as_ref().is_some_and(|(record, _)| record.journal != self.journal)
    }

    /// Takes the lease; `None` where the record has changed since it was looked at.
    pub(super) async fn take(self, backend: &dyn Store, stamp: &Stamp) -> Result<Option<Held>> {
        let flushed = self.flushed();
        let epoch = self.found.as_ref().map_or(0, |(record, _)| record.epoch) + 1;
        let record = Record { epoch, journal: self.journal, flushed, held: true };
        let version = stamp.versions().mint();
        let before = self.found.map_or(Precondition::Absent, |(_, version)| Precondition::Matches(version));
        let put = Put::new(record.encode()).with_version(version.clone()).precondition(before);
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
        let state = State { record, version, voids: Vec::new() };
        Ok(Some(Held { key, state: Mutex::new(state), fenced: AtomicBool::new(false) }))
    }
}

impl Held {
    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// The owner's error once somebody else is.
    pub(super) fn fenced(&self) -> Option<Error> {
        self.is_fenced().then(|| {
            let epoch = self.state.lock().record.epoch;
            let message = format!(
                "another store took over the lease of epoch {epoch}; what is not flushed is parked; close this store"
            );
            Error::new(ErrorKind::Locked, message).outcome_is(Outcome::NotApplied)
        })
    }

    /// A flush of `batch`, after which everything before `flushed` is in the backend.
    fn attempt(
        &self,
        mut batch: Batch,
        flushed: Sequence,
        held: bool,
        stamp: &Stamp,
        fences: bool,
    ) -> Attempt {
        let state = self.state.lock();
        let record = Record { flushed: state.record.flushed.max(flushed), held, ..state.record.clone() };
        let version = stamp.versions().mint();
        let condition =
            if fences { Precondition::Matches(state.version.clone()) } else { Precondition::None };
        let put = Put::new(record.encode()).with_version(version.clone()).precondition(condition);
        batch.push(self.key.clone(), Action::Put(put));
        Attempt { batch, record, version }
    }

    fn landed(&self, attempt: Attempt) {
        *self.state.lock() = State { record: attempt.record, version: attempt.version, voids: Vec::new() };
    }

    async fn judge(&self, backend: &dyn Store, attempt: &Attempt) -> Result<Verdict> {
        let Some((record, version)) = look(backend).await? else { return Ok(Verdict::Fenced) };
        let mut state = self.state.lock();
        Ok(if version == attempt.version {
            Verdict::Landed
        } else if version == state.version {
            Verdict::Standing
        } else if state.voids.contains(&version) {
            *state = State { record, version, voids: Vec::new() };
            Verdict::Void
        } else {
            Verdict::Fenced
        })
    }
}

impl Engine {
    /// Applies a batch as the owner, until the backend has it or refuses it, or somebody else is the owner. Everything
    /// before `flushed` is in the backend then.
    ///
    /// After an unknown attempt nothing is waited for: whichever of two attempts comes first keeps the other from taking
    /// effect.
    pub(super) async fn until_applied_as_owner(
        &self,
        behind: &Behind,
        held: &Held,
        batch: Batch,
        flushed: Sequence,
    ) -> Applied {
        let fences = !self.planted.has(Plant::FenceSkipped);
        let attempt = || held.attempt(batch.clone(), flushed, true, &self.stamp, fences);
        let mut sent = attempt();
        // Whether an attempt may have taken effect, or may yet.
        let mut open = false;
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        loop {
            let Some(error) = self.watched_attempt(behind, sent.batch.clone()).await else {
                held.landed(sent);
                return Applied::Done;
            };
            let stale = error.kind() == ErrorKind::PreconditionFailed;
            if error.write_outcome() == Outcome::NotApplied && is_refusal(error.kind()) {
                // The record decides what became of an attempt that nobody has heard of.
                let verdict = if open || stale {
                    contained(&*self.backend, held.judge(self.backend.as_ref(), &sent)).await
                } else {
                    return Applied::Refused(error);
                };
                match verdict {
                    Ok(Verdict::Landed) => {
                        held.landed(sent);
                        return Applied::Done;
                    }
                    Ok(Verdict::Fenced) => return Applied::Fenced,
                    Ok(Verdict::Void) if !stale => return Applied::Refused(error),
                    Ok(Verdict::Void) => (sent, open) = (attempt(), false),
                    // Before a refused batch is divided, no attempt at the whole of it may be under way.
                    Ok(Verdict::Standing) if !stale && self.make_void(behind, held).await => {
                        return Applied::Refused(error);
                    }
                    Ok(Verdict::Standing) | Err(_) => {}
                }
            }
            open |= error.write_outcome() == Outcome::Unknown;
            self.counters.flush_retries.add(1);
            tracing::debug!(error = %error.chain(), "a flush failed and is tried again");
            self.sound_alarm(behind);
            if sleep_unless(&mut leaving, backoff.next_delay()).await {
                return Applied::Left;
            }
        }
    }

    /// Replaces the record alone, so that no attempt of before can take effect; whether that is certain.
    async fn make_void(&self, behind: &Behind, held: &Held) -> bool {
        let attempt = held.attempt(Batch::new(), 0, true, &self.stamp, true);
        let Some(error) = self.watched_attempt(behind, attempt.batch.clone()).await else {
            held.landed(attempt);
            return true;
        };
        if error.write_outcome() == Outcome::Unknown {
            held.state.lock().voids.push(attempt.version);
        }
        false
    }

    /// Somebody else is the owner: everything that is not flushed is parked, and the store serves nothing any more.
    pub(super) async fn fence(&self, behind: &Behind) {
        if behind.lease.get().is_some_and(|held| !held.fenced.swap(true, Ordering::AcqRel)) {
            tracing::error!("another store took over the lease; this one serves nothing any more");
        }
        self.barred.store(true, Ordering::Release);
        let error = Error::new(ErrorKind::Locked, "another store took over the lease");
        self.park_rest(behind, behind.ousted.get_or_init(|| error)).await;
    }

    /// Gives the lease back, when nothing is pending any more.
    pub(in crate::tiered) async fn release_lease(&self) -> Result<()> {
        let Some(held) = self.behind.as_ref().and_then(|behind| behind.lease.get()) else { return Ok(()) };
        if held.is_fenced() {
            return Ok(());
        }
        let attempt = held.attempt(Batch::new(), 0, false, &self.stamp, true);
        let released = self
            .backend
            .apply(attempt.batch.clone())
            .await
            .and_then(|outcomes| outcomes.into_iter().find_map(Result::err).map_or(Ok(()), Err));
        match released {
            // Late, it would take effect while nobody else holds it, or not at all.
            Err(error) if error.kind() != ErrorKind::PreconditionFailed => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether there is a lease.
    pub(in crate::tiered) fn is_leased(&self) -> bool {
        self.behind.as_ref().is_some_and(|behind| behind.lease.get().is_some())
    }

    /// Whether the tiered store keeps this key for itself.
    pub(in crate::tiered) fn keeps_for_itself(&self, key: &Key) -> bool {
        key.as_str() == OWNER && self.is_leased()
    }

    /// Why this store does not own its backend any more.
    pub(in crate::tiered) fn fenced(&self) -> Option<Error> {
        self.behind.as_ref()?.lease.get()?.fenced()
    }
}

/// What is set aside where another owner came in between: everything of the journal.
pub(super) const PAST: &str = "another owner held the lease since this was acknowledged; retry or drop it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record { epoch: 7, journal: u128::MAX - 1, flushed: 12, held: false };
        assert_eq!(Record::decode(record.encode().as_bytes()), Some(record.clone()));
        for foreign in ["", "tiered-owner epoch=1", "tiered-owner epoch=x journal=0 flushed=0 held=true"] {
            assert_eq!(Record::decode(foreign.as_bytes()), None, "{foreign}");
        }
        assert_eq!(Record::decode(format!("{} more=1", record.encode()).as_bytes()), None);
    }
}
