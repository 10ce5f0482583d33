//! The frontend of a tiered store: what it may be asked, and how it is kept in step with the backend.
//!
//! | verb | |
//! |---|---|
//! | [`look`](Frontend::look) | what it has for a read: fresh, doubtful, damaged or nothing |
//! | [`reserve`](Frontend::reserve) | waits for a call that changes the key, and takes its place |
//! | [`update`](Frontend::update) | installs a copy or removes what is there |
//! | [`fill`](Frontend::fill) | installs what a load brought, if its fill token has not been revoked |
//! | [`quarantine`](Frontend::quarantine) | serves no hits of a key until a removal has succeeded |
//! | [`doubt_all`](Frontend::doubt_all) | compares every entry with the backend before its next use |

mod blocks;
mod change;
mod fill;
mod kept;
mod local;
mod patience;
mod quarantine;
mod session;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use crate::adapter::all_failed;
use crate::blocks::{Stub, is_block};
use crate::clock::Stamp;
use crate::effect::Effect;
use crate::entry::{Entry, Metadata, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::observe::{Count, Recorder};
use crate::parts::Parts;
use crate::plan::Plan;
use crate::policy::Freshness;
use crate::read::{ReadOptions, Reads};
use crate::sent::Sent;
use crate::settings::FrontendFailure;
use crate::slot::{Glance, Slots};
use crate::store::Store as _;
use crate::tasks::Tasks;
use crate::tier::Tier;

use kept::Kept;
use patience::within;

pub(crate) use session::{Sessions, fresh_seed};

/// What the frontend has for a read.
#[derive(Debug)]
pub(crate) enum Found {
    /// An entry that may be served, a tombstone, or a fresh note of absence.
    Fresh(Entry),
    /// The metadata of a value that may be served, without the value.
    Stub(Stub),
    /// Something that does not answer the read.
    Stale(Replaceable),
}

/// What a fill replaces in the frontend.
#[derive(Clone, Debug)]
pub(crate) enum Replaceable {
    Nothing,
    /// Something that cannot be used, whatever the backend has.
    Damaged,
    /// An entry that must be compared with the backend first.
    Doubtful(Entry),
    /// The metadata of a value without the value, to be compared first or not.
    Stub(Stub),
}

/// How a change of the frontend ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    /// It failed or has not returned: the key is in quarantine.
    Quarantined,
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The frontend has changed.
    Done,
    /// The fill token was revoked, or something else was in the way.
    Revoked,
    /// The frontend is as it was, or failed.
    Not,
}

/// The frontend.
#[derive(Debug)]
pub(crate) struct Frontend {
    tier: Tier,
    slots: Arc<Slots>,
    sessions: Sessions,
    /// The blocks that are known to be in the frontend.
    kept: Kept,
    plan: Arc<Plan>,
    stamp: Stamp,
    tasks: Tasks,
    recorder: Arc<Recorder>,
}

impl Frontend {
    pub(crate) fn new(parts: &Parts, tier: Tier, sessions: Sessions) -> Arc<Self> {
        Arc::new(Self {
            tier,
            slots: parts.slots(),
            sessions,
            kept: Kept::new(),
            plan: parts.plan(),
            stamp: parts.stamp(),
            tasks: parts.tasks(),
            recorder: parts.recorder(),
        })
    }

    pub(crate) const fn tier(&self) -> &Tier {
        &self.tier
    }

    /// The entry, where it is in memory and may be served.
    #[inline]
    pub(crate) fn peek(&self, key: &Key) -> Option<Entry> {
        // Returned as it came, not moved: a hit is mostly such small things.
        let entry = self.tier.peek(key);
        match &entry {
            Some(found) if !self.is_fresh(found.metadata(), self.plan.max_stale_of_hits()) => None,
            _ => entry,
        }
    }

    /// What the key has, if that is known without asking a tier, for the write that holds its gate: its pending write, else the
    /// entry of a hit. `None` if that is not known.
    pub(crate) fn at_hand(&self, key: &Key) -> Option<Effect> {
        match self.slots.glance_past_gate(key) {
            Glance::Pending(Effect::Put(entry)) if !entry.metadata().is_live(self.stamp.now()) => {
                Some(Effect::Delete(entry.version().clone()))
            }
            Glance::Pending(effect) => Some(effect),
            Glance::Clear => self.peek(key).map(Effect::Put),
            Glance::Gated | Glance::Quarantined => None,
        }
    }

    /// The entry in memory, however old it is.
    pub(crate) fn peek_any(&self, key: &Key) -> Option<Entry> {
        self.tier.peek(key)
    }

    /// A request to the backend that is sent now.
    pub(crate) fn sent(&self) -> Sent {
        self.sessions.sent(&self.stamp)
    }

    /// Time since an entry was compared with the backend, or stored locally.
    pub(crate) fn age(&self, metadata: &Metadata) -> Duration {
        let note = &metadata.note;
        if note.origin.is_local() {
            return Duration::ZERO;
        }
        self.stamp.since(note.validated)
    }

    /// Whether an entry may be served although it is older than it should be, while the backend cannot be asked: it is in
    /// step with every write of this store, and not older than `oldest` (in milliseconds).
    pub(crate) fn may_serve_stale(&self, metadata: &Metadata, oldest: u64) -> bool {
        let note = &metadata.note;
        let age = self.stamp.uptime_millis().saturating_sub(note.validated);
        self.sessions.is_in_step(note.session) && age <= oldest
    }

    /// Whether the frontend takes an entry of this size.
    pub(crate) fn fits(&self, key: &Key, size: u64) -> bool {
        let limits = self.tier.capabilities();
        let max_fill = self.plan.settings().max_fill.unwrap_or(u64::MAX);
        key.len() <= limits.max_key() && size <= limits.max_value().min(max_fill) && !is_block(key)
    }

    /// Whether an entry may be served without asking the backend; `max_stale` in milliseconds.
    #[inline]
    fn is_fresh(&self, metadata: &Metadata, max_stale: u64) -> bool {
        let note = &metadata.note;
        let max_stale = match note.origin {
            Origin::Absence => max_stale.min(self.plan.max_age_of_absence()),
            Origin::Backend if self.plan.revalidates() => max_stale,
            Origin::Backend | Origin::Local | Origin::Tombstone => return true,
            // Neither is an entry.
            Origin::Part => return false,
        };
        if note.session != self.sessions.current() {
            return false;
        }
        max_stale == u64::MAX
            || self.stamp.uptime_millis().checked_sub(note.validated).is_some_and(|age| age <= max_stale)
    }

    /// Looks what the frontend has for a read.
    pub(crate) async fn look(&self, key: &Key, options: &ReadOptions) -> Result<Found> {
        let nothing = Ok(Found::Stale(Replaceable::Nothing));
        let local = self.plan.is_local();
        if !local && (self.slots.is_quarantined(key) || options.freshness == Freshness::Authoritative) {
            return nothing;
        }
        let asked = match self.tier.peek(key) {
            Some(entry) => match &options.range {
                Some(range) => entry.slice(range).map(Some),
                None => Ok(Some(entry)),
            },
            None => match self.known_stub(key, options).await {
                Some(stub) => return Ok(self.judge_stub(stub, options.freshness)),
                None => self.load(key, options).await,
            },
        };
        if let Some(stub) = self.stub_in(key, options, &asked).await {
            return Ok(self.judge_stub(stub, options.freshness));
        }
        match asked {
            Ok(found) => Ok(self.judge(found, self.plan.max_stale_millis(options.freshness))),
            Err(error)
                if error.kind() == ErrorKind::InvalidRange
                    && (local || (options.if_version.is_some() && !self.plan.revalidates())) =>
            {
                self.beyond_the_end(key, options, error).await
            }
            Err(error) => self.after_failed_look(key, options.freshness, error),
        }
    }

    /// As [`look`](Self::look) for each of `keys`, with one call of the tier for all that are not in memory. `None`: the key is
    /// to be looked at by itself.
    pub(crate) async fn look_many(&self, keys: &[&Key], options: &ReadOptions) -> Vec<Option<Found>> {
        let local = self.plan.is_local();
        let max_stale = self.plan.max_stale_millis(options.freshness);
        let mut found = Vec::with_capacity(keys.len());
        let (mut indexes, mut asked) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            let unused = self.slots.is_quarantined(key) || options.freshness == Freshness::Authoritative;
            found.push(if unused && !local {
                Some(Found::Stale(Replaceable::Nothing))
            } else if let Some(entry) = self.tier.peek(key) {
                let part = options.range.as_ref().map_or(Ok(entry.clone()), |range| entry.slice(range));
                part.ok().map(|part| self.judge(Some(part), max_stale))
            } else {
                indexes.push(index);
                asked.push((*key).clone());
                None
            });
        }
        if !asked.is_empty() {
            let reads = self.load_many(&asked, options).await;
            for ((index, key), read) in indexes.into_iter().zip(&asked).zip(reads) {
                let judged = match read {
                    // A stub, which is read by itself.
                    Ok(read)
                        if read.entry().is_some_and(|entry| entry.metadata().note.origin == Origin::Part) =>
                    {
                        None
                    }
                    Ok(read) => Some(self.judge(read.into_entry(), max_stale)),
                    Err(error) if error.kind() == ErrorKind::InvalidRange => None,
                    Err(error) => self.after_failed_look(key, options.freshness, error).ok(),
                };
                if let Some(place) = found.get_mut(index) {
                    *place = judged;
                }
            }
        }
        found
    }

    /// What an entry of the frontend is worth for a read; `max_stale` in milliseconds.
    fn judge(&self, found: Option<Entry>, max_stale: u64) -> Found {
        let Some(entry) = found else { return Found::Stale(Replaceable::Nothing) };
        let (origin, fresh) = (entry.metadata().note.origin, self.is_fresh(entry.metadata(), max_stale));
        // Written under another policy: it is not the backend's, so a fill replaces it.
        let foreign = origin.is_local() && !self.plan.is_local();
        let useless = origin == Origin::Part || (origin == Origin::Absence && !fresh);
        if foreign || useless {
            return Found::Stale(Replaceable::Damaged);
        }
        if fresh { Found::Fresh(entry) } else { Found::Stale(Replaceable::Doubtful(entry)) }
    }

    /// What a failure of the frontend means for a read.
    fn after_failed_look(&self, key: &Key, freshness: Freshness, error: Error) -> Result<Found> {
        if self.plan.is_local() {
            return Err(error);
        }
        match error.kind() {
            ErrorKind::Corrupt => {
                self.recorder.count(Count::FrontendCorruption);
                tracing::warn!(key = %key, error = %error.chain(), "damaged entry in the frontend");
                Ok(Found::Stale(Replaceable::Damaged))
            }
            // The backend is not asked, and a failure must not pass for an absence.
            _ if self.plan.frontend_answers_alone(freshness) => Err(error),
            // The entry in the frontend may be of another size than the backend's, which decides.
            ErrorKind::InvalidRange => Ok(Found::Stale(Replaceable::Damaged)),
            _ => {
                self.recorder.count(Count::FrontendError);
                match self.plan.settings().frontend_failure {
                    FrontendFailure::Fail => Err(error),
                    FrontendFailure::Skip => Ok(Found::Stale(Replaceable::Nothing)),
                }
            }
        }
    }

    /// What a range means that does not fit the frontend's entry, where writes stay there: a tombstone has no bytes and
    /// is absent, whatever the range; the size of a copy says nothing about the backend's entry. Nor is a range judged
    /// against another version than the one that is asked for.
    async fn beyond_the_end(&self, key: &Key, options: &ReadOptions, error: Error) -> Result<Found> {
        let entry = self.load(key, &ReadOptions::new().range(0..0)).await?;
        let is_local = |entry: &Entry| entry.metadata().note.origin.is_local();
        match entry {
            // Written under another policy: it is not the backend's.
            Some(entry) if is_local(&entry) && !self.plan.is_local() => {
                Ok(Found::Stale(Replaceable::Damaged))
            }
            Some(entry) if entry.metadata().note.origin == Origin::Tombstone => Ok(Found::Fresh(entry)),
            Some(entry) if !is_local(&entry) && self.plan.revalidates() => {
                Ok(Found::Stale(Replaceable::Damaged))
            }
            Some(entry) if options.excludes(entry.version()) => Ok(Found::Fresh(entry)),
            Some(_) => Err(error),
            None => Ok(Found::Stale(Replaceable::Nothing)),
        }
    }

    /// Loads from the frontend, tombstones included, for as long as patience lasts.
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Option<Entry>> {
        let options = asking(options);
        let patience = self.plan.settings().frontend_patience;
        Ok(self.wait_for(patience, self.tier.load(key, &options)).await?.into_entry())
    }

    /// As [`load`](Self::load), of many keys in one call. Patience grows with their number.
    async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        /// Keys that a slow disk reads while patience for one call lasts.
        const KEYS: usize = 64;
        let options = asking(options);
        let calls = u32::try_from(keys.len().div_ceil(KEYS)).unwrap_or(u32::MAX);
        let patience = self.plan.settings().frontend_patience.saturating_mul(calls);
        let reads = self.wait_for(patience, self.tier.get_many(keys, &options)).await;
        reads.unwrap_or_else(|error| all_failed(keys, &error))
    }

    async fn wait_for<T>(&self, patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(patience, call).await.unwrap_or_else(|| {
            let late = self.late();
            self.tier.learn(Some(&late));
            Err(late)
        })
    }

    /// Ends the session of a frontend that outlives the process: after this it may be trusted.
    pub(crate) async fn end_session(&self) {
        if !session::is_persistent(self.tier.capabilities()) || self.slots.quarantined() > 0 {
            return;
        }
        // Without the mark the next session only trusts less.
        let ended = session::end(self.tier.past_breaker(), self.sessions.current()).await;
        if let Err(error) = ended {
            tracing::warn!(error = %error.chain(), "the frontend's session was not ended cleanly");
        }
    }

    /// Closes the frontend's store.
    pub(crate) async fn close(&self) -> Result<()> {
        self.tier.past_breaker().close().await
    }

    fn late(&self) -> Error {
        Error::new(ErrorKind::TimedOut, "the frontend does not answer").in_tier(self.tier.name())
    }
}

/// What the frontend is asked for a read: what it has of the key, tombstones included.
fn asking(options: &ReadOptions) -> ReadOptions {
    ReadOptions {
        freshness: Freshness::Cached,
        unless: None,
        if_version: None,
        range: options.range.clone(),
        tombstones: Tombstones::Show,
    }
}
