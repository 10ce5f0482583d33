//! The plan of a stack: every question that a policy answers, answered once.
//!
//! Nothing here is asynchronous and nothing calls a store. [`Plan::of`] takes the settings, what the user declares and
//! what the tiers declare; it refuses what cannot keep its promises and derives the rest as data. No other module reads
//! a policy.

mod blocks;
mod check;
mod declared;
mod derive;
pub(crate) mod guarantee;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::blocks::{Grid, is_block};
use crate::capability::{Capabilities, Feature, Sharing};
use crate::error::Result;
use crate::key::Key;
use crate::ownership::{Lease, OWNER};
use crate::policy::{Freshness, ReadPolicy, WritePolicy};
use crate::settings::{self, DefaultTtl, MaxStale, OnPark, OnUnknown, ServeStale, TieredSettings};
use crate::write::Expiry;

pub(crate) use declared::Declared;
use guarantee::{Guarantees, Staleness};

/// Staleness allowed where other processes can write to the backend, unless set otherwise: a minute is short
/// enough for most caches and long enough to spare the backend.
const SHARED_MAX_STALE: Duration = Duration::from_mins(1);

/// Where a write goes, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteRoute {
    /// To the backend, then to the frontend (or out of it, under write-around), then it is acknowledged.
    Through(OnUnknown),
    /// To the journal, then it is acknowledged; the backend and the frontend follow.
    Behind,
    /// To the frontend alone.
    Local,
}

/// One of the two tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Frontend,
    Backend,
}

/// The answers. Made once, by [`Plan::of`].
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    settings: TieredSettings,
    declared: Declared,
    route: WriteRoute,
    max_stale: Option<Duration>,
    /// The same in milliseconds, which every hit needs; `u64::MAX` for any age.
    max_stale_millis: u64,
    /// How old a note of absence may be, in milliseconds; zero where none is kept.
    negative_ttl_millis: u64,
    /// Sharing of the backend.
    sharing: Sharing,
    /// Whether the backend's batches are atomic.
    atomic: bool,
    /// How values are cut into blocks, where the frontend keeps some.
    grid: Option<Grid>,
    capabilities: Capabilities,
    guarantees: Guarantees,
}

impl Plan {
    /// Plans a stack of these tiers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a combination that cannot keep its promises, saying what to
    /// change.
    pub(crate) fn of(
        settings: TieredSettings,
        declared: Declared,
        frontend: &Capabilities,
        backend: &Capabilities,
    ) -> Result<Self> {
        check::check(&settings, declared, frontend, backend)?;
        let sharing = backend.sharing();
        let max_stale = match settings.max_stale {
            MaxStale::AtMost(age) => Some(age),
            MaxStale::Auto if sharing == Sharing::Shared && !declared.writes_alone() => {
                Some(SHARED_MAX_STALE)
            }
            MaxStale::Auto | MaxStale::Unlimited => None,
        };
        let staleness = staleness(&settings, declared, sharing, max_stale);
        let grid = blocks::grid(&settings, staleness, frontend, backend);
        let mut guarantees = Guarantees::of(&settings, frontend, backend, declared.journaled(), staleness);
        guarantees.keep_blocks(grid.is_some());
        let others_write = declared.others_write(sharing);
        let capabilities = derive::capabilities(&settings, frontend, backend, &guarantees, others_write);
        let route = match settings.write_policy {
            WritePolicy::WriteThrough | WritePolicy::WriteAround => WriteRoute::Through(settings.on_unknown),
            WritePolicy::WriteBehind => WriteRoute::Behind,
            WritePolicy::FrontendOnly => WriteRoute::Local,
        };
        let atomic = backend.has(Feature::AtomicBatch);
        let max_stale_millis = max_stale.map_or(u64::MAX, millis);
        let negative_ttl_millis = settings.negative_ttl.map_or(0, millis);
        Ok(Self {
            settings,
            declared,
            route,
            max_stale,
            max_stale_millis,
            negative_ttl_millis,
            sharing,
            atomic,
            grid,
            capabilities,
            guarantees,
        })
    }

    /// The settings. The policies among them are for this module.
    pub(crate) const fn settings(&self) -> &TieredSettings {
        &self.settings
    }

    /// What the stack declares about itself.
    pub(crate) const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What the stack promises.
    pub(crate) const fn guarantees(&self) -> &Guarantees {
        &self.guarantees
    }

    /// Where writes go.
    pub(crate) const fn route(&self) -> WriteRoute {
        self.route
    }

    /// How the backend is to be owned, where that takes a lease.
    pub(crate) const fn lease(&self) -> Option<Lease> {
        self.declared.leased()
    }

    /// Whether the engine keeps this key of the backend for itself: the record of the lease.
    pub(crate) fn reserves(&self, key: &Key) -> bool {
        self.declared.leased().is_some() && key.as_str() == OWNER
    }

    /// How values are cut into blocks that the frontend keeps; `None` where it keeps none.
    pub(crate) const fn grid(&self) -> Option<Grid> {
        self.grid
    }

    /// Values of at most this many bytes are kept as a whole, also where a range is read.
    pub(crate) fn fill_whole(&self) -> u64 {
        self.settings.fill_whole.min(self.settings.max_fill.unwrap_or(u64::MAX))
    }

    /// Whether no one may write this key: the engine keeps something of its own under it.
    pub(crate) fn refuses(&self, key: &Key) -> bool {
        self.reserves(key) || is_block(key)
    }

    /// The tier that holds what is written, in the end.
    pub(crate) fn home(&self) -> Side {
        if self.is_local() { Side::Frontend } else { Side::Backend }
    }

    /// Whether writes stay in the frontend: a cache of a backend that others own.
    pub(crate) fn is_local(&self) -> bool {
        self.route == WriteRoute::Local
    }

    /// Whether the stack ever writes its backend.
    pub(crate) fn writes_backend(&self) -> bool {
        !self.is_local()
    }

    /// The tier that listings come from.
    pub(crate) fn lists(&self) -> Side {
        if self.is_local() || !self.revalidates() { Side::Frontend } else { Side::Backend }
    }

    /// Whether entries of the frontend are compared with the backend at all, and misses are read from it.
    pub(crate) fn revalidates(&self) -> bool {
        self.settings.read_policy == ReadPolicy::FrontendFirst
    }

    /// Whether a read of this freshness is answered by the frontend and never by the backend.
    pub(crate) fn frontend_answers_alone(&self, freshness: Freshness) -> bool {
        !self.revalidates() && freshness != Freshness::Authoritative
    }

    /// Whether what the frontend says of a key counts more than what the backend says.
    pub(crate) fn frontend_decides(&self, freshness: Freshness) -> bool {
        self.is_local() || self.frontend_answers_alone(freshness)
    }

    /// Whether several misses may share one read of the backend.
    pub(crate) fn loads_together(&self) -> bool {
        self.revalidates() && !self.is_local()
    }

    /// Whether the frontend keeps a copy of what was written.
    pub(crate) fn keeps_written(&self) -> bool {
        self.settings.write_policy != WritePolicy::WriteAround
    }

    /// Whether a streamed put goes to the backend part by part, past the frontend. A stack that reads its frontend alone
    /// would never see it.
    pub(crate) fn pipes_streams(&self) -> bool {
        matches!(self.route, WriteRoute::Through(_)) && self.revalidates()
    }

    /// The largest value that may be streamed into the journal, where it is kept as a whole: as much as may be pending.
    pub(crate) fn largest_journaled_stream(&self) -> u64 {
        self.settings.max_pending_bytes
    }

    /// Whether a refused precondition shows that the frontend's copy is old: another process wrote.
    pub(crate) fn refusal_shows_staleness(&self) -> bool {
        self.sharing == Sharing::Shared && self.revalidates()
    }

    /// Whether no other process writes the backend.
    pub(crate) fn writes_alone(&self) -> bool {
        self.sharing == Sharing::Exclusive || self.declared.writes_alone()
    }

    /// Whether the backend must be claimed: a stack that never writes its backend and revalidates again and again can share
    /// it.
    pub(crate) fn claims_backend(&self) -> bool {
        self.writes_backend() || self.max_stale.is_none()
    }

    /// How old a validation may be for a read of this freshness, in milliseconds; `u64::MAX` for any age.
    pub(crate) fn max_stale_millis(&self, freshness: Freshness) -> u64 {
        match freshness {
            Freshness::Authoritative => 0,
            Freshness::Cached => self.max_stale_millis,
            Freshness::MaxStale(age) => millis(age).min(self.max_stale_millis),
        }
    }

    /// The same for a hit, which is of [`Freshness::Cached`].
    #[inline]
    pub(crate) const fn max_stale_of_hits(&self) -> u64 {
        self.max_stale_millis
    }

    /// How old a note of absence may be, in milliseconds.
    #[inline]
    pub(crate) const fn max_age_of_absence(&self) -> u64 {
        self.negative_ttl_millis
    }

    /// When an entry under `key` expires that was put without an expiry.
    pub(crate) fn default_expiry(&self, key: &Key) -> Expiry {
        let of_prefix = settings::of_prefix(&self.settings.prefix_ttl, key.as_str());
        match of_prefix.unwrap_or(self.settings.default_ttl) {
            DefaultTtl::Never => Expiry::Never,
            DefaultTtl::After(ttl) => Expiry::After(ttl),
        }
    }

    /// How old an entry may be that is served while the backend cannot be asked, in milliseconds; `None` where none is.
    pub(crate) fn oldest_stale_answer(&self) -> Option<u64> {
        match self.settings.serve_stale {
            ServeStale::Never => None,
            ServeStale::Unlimited => Some(u64::MAX),
            ServeStale::AtMost(age) => Some(millis(age)),
        }
    }

    /// How long a read waits before it takes a stale entry; `None` where none is served.
    pub(crate) fn soft_read_timeout(&self) -> Option<Duration> {
        let serves = self.settings.serve_stale != ServeStale::Never;
        self.settings.soft_read_timeout.filter(|_| serves)
    }

    /// Whether the flush halts at a parked write, so that the backend holds a prefix of history.
    pub(crate) fn halts_when_parked(&self) -> bool {
        match self.settings.on_park {
            OnPark::Auto => self.atomic,
            OnPark::Halt => true,
            OnPark::Skip => false,
        }
    }
}

/// How far reads may lag behind the writes of others. The owner of a lease learns only at its next flush that another one
/// has taken over, so it does not count as the only writer.
fn staleness(
    settings: &TieredSettings,
    declared: Declared,
    sharing: Sharing,
    max_stale: Option<Duration>,
) -> Staleness {
    // A store that never writes its backend and compares again leaves it to other stores of this process.
    let leaves_it = settings.write_policy == WritePolicy::FrontendOnly && max_stale.is_some();
    if (sharing == Sharing::Exclusive && !leaves_it) || declared.writes_alone() {
        return Staleness::None;
    }
    match max_stale {
        Some(age) if settings.read_policy == ReadPolicy::FrontendFirst => Staleness::AtMost(age),
        _ => Staleness::Unlimited,
    }
}

/// A fraction is cut off, so that nothing is older than was allowed. The largest number stands for any age, which a duration
/// never is.
fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX - 1)
}
