//! Settings of a tiered store: plain data, apart from its components.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{ReadPolicy, WritePolicy};
use crate::sync::StrategyName;

/// For how long an entry of the frontend may be served before it is compared with the backend again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MaxStale {
    /// 60 s where other processes can write to the backend, unlimited where they cannot.
    #[default]
    Auto,
    /// Without limit: no other process writes, or stale answers do no harm.
    Unlimited,
    /// So many milliseconds.
    Millis(u64),
}

/// What a persistent frontend's entries are worth when the store is opened again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reopen {
    /// Each is compared with the backend, by version, on its first use.
    #[default]
    Revalidate,
    /// They are served as they are after a clean close, and compared otherwise. Use it where no other process writes.
    Trust,
    /// They are removed.
    Clear,
}

/// What a write-behind store does with a write for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnFull {
    /// The write waits for room.
    #[default]
    Block,
    /// The write fails with [`ErrorKind::Full`](crate::ErrorKind::Full).
    Fail,
}

/// What a write-behind store does when the backend definitely refuses a journaled write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnPark {
    /// [`Halt`](Self::Halt) where the backend's batches are atomic, else [`Skip`](Self::Skip).
    #[default]
    Auto,
    /// Nothing after it is flushed until an operator retries or drops it: the backend holds a prefix of history.
    Halt,
    /// The rest goes on: the backend holds a prefix of each key's history. A later write of the key replaces it.
    Skip,
}

/// What a write-behind store does with new writes while the oldest pending one is older than
/// [`max_pending_age_millis`](TieredSettings::max_pending_age_millis).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnOverdue {
    /// It acknowledges them. The alarm goes off, and a write may wait for the backend without bound.
    #[default]
    Alarm,
    /// They wait until the backend has caught up. All writes that are not in the backend were then acknowledged within one
    /// such age of each other, and the time of an append.
    Block,
    /// They fail with [`ErrorKind::Full`](crate::ErrorKind::Full) and nothing is written. The same bound holds.
    Fail,
}

/// When a read that missed is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FillTiming {
    /// As soon as the backend has answered; the fill follows. A second read at once may miss as well.
    #[default]
    AfterAnswer,
    /// After the fill: a second read is a hit, if the frontend keeps the entry. A frontend that hangs delays the answer by
    /// [`frontend_patience_millis`](TieredSettings::frontend_patience_millis).
    BeforeAnswer,
}

/// What failed entries of the sync on connecting mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnConnectFailure {
    /// The store is built. [`TieredStore::connected`](crate::TieredStore::connected) has the report, a warning tells of it,
    /// [`Stats::sync_failures`](crate::Stats) counts them, and an [`Event::SyncFailed`](crate::Event) follows.
    #[default]
    Report,
    /// The store is not built.
    Fail,
}

/// What a failure of the frontend means for a call that the backend can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FrontendFailure {
    /// Nothing: the key is quarantined and the call succeeds.
    #[default]
    Skip,
    /// The call fails, with [`Outcome::Applied`](crate::Outcome::Applied) for a write.
    Fail,
}

/// What a write-through or write-around store does about a backend write whose outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnUnknown {
    /// The caller is told. The key is closed to hits for as long as the request can still take effect
    /// ([`Capabilities::request_lifetime`](crate::Capabilities::request_lifetime)).
    #[default]
    Report,
    /// The write is retried under the same id until its outcome is known. Each attempt is conditional on the version that
    /// the backend has, so a retry never undoes the write of another process; an unconditional write first reads that
    /// version. Needs a backend with conditional puts and deletes. A write deadline still answers `Unknown` while the
    /// write goes on. Streamed puts cannot be retried and are reported. So are writes that another process could undo and
    /// a retry would bring back: over a shared backend, writes of an absent key, and all writes where the backend lacks
    /// [`UniqueValidators`](crate::Feature::UniqueValidators).
    Retry,
}

/// Whether an entry that is older than it may be is served while the backend cannot be asked.
///
/// Such an answer is marked ([`Read::stale`](crate::Read)). It is never one that has expired, one of a key with a
/// write under way or in quarantine, or one from before the frontend failed to keep in step; and it is given to reads
/// of [`Freshness::Cached`](crate::Freshness) alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServeStale {
    /// Never: the backend's error is the answer.
    #[default]
    Never,
    /// However old it is.
    Unlimited,
    /// Where it was compared with the backend at most so many milliseconds ago.
    Millis(u64),
}

impl ServeStale {
    /// The greatest age in milliseconds; `None` where nothing stale is served.
    pub(crate) const fn limit(self) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::Unlimited => Some(u64::MAX),
            Self::Millis(millis) => Some(millis),
        }
    }
}

/// A circuit breaker: a tier that fails again and again is left alone for a while, and calls fail at once meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// So many failures in a row open it. A failure is a call that found the tier unavailable or timed out.
    pub failures: u32,
    /// For how long the tier is left alone, in milliseconds. After it one call is let through: where that succeeds the
    /// breaker closes.
    pub pause_millis: u64,
}

impl BreakerSettings {
    /// Opens after so many failures in a row, and then leaves the tier alone for `pause`.
    pub fn new(failures: u32, pause: Duration) -> Self {
        Self { failures, pause_millis: whole_millis(pause) }
    }
}

impl From<Duration> for MaxStale {
    fn from(age: Duration) -> Self {
        Self::Millis(whole_millis(age))
    }
}

impl From<Duration> for ServeStale {
    fn from(age: Duration) -> Self {
        Self::Millis(whole_millis(age))
    }
}

/// In milliseconds. A fraction counts as a whole one, so that no duration but zero becomes zero.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// How a tiered store behaves. Every field has a default; unknown fields are refused.
///
/// # Examples
/// ```
/// use tiered_core::{TieredSettings, WritePolicy};
///
/// let settings = TieredSettings { write_policy: WritePolicy::WriteAround, ..TieredSettings::default() };
/// assert_eq!(settings.max_pending_operations, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct TieredSettings {
    /// How it writes.
    pub write_policy: WritePolicy,
    /// How it reads.
    pub read_policy: ReadPolicy,
    /// How stale a hit may be.
    pub max_stale: MaxStale,
    /// What a persistent frontend's entries are worth after opening.
    pub reopen: Reopen,
    /// A strategy to run from backend to frontend when the store is built.
    pub on_connect: Option<StrategyName>,
    /// What entries mean that the strategy could not handle.
    pub on_connect_failure: OnConnectFailure,
    /// When a read that missed is answered.
    pub fill: FillTiming,
    /// Values larger than this many bytes are not copied to the frontend; none means the frontend's own limit.
    pub max_fill: Option<u64>,
    /// At most so many acknowledged writes wait for the backend (write-behind). 10,000 by default: a few seconds
    /// of a fast writer, in memory that a process can spare.
    pub max_pending_operations: usize,
    /// At most so many bytes of values wait for the backend (write-behind). 64 MiB by default.
    pub max_pending_bytes: u64,
    /// What happens to a write for which there is no room.
    pub on_full: OnFull,
    /// Keys in quarantine beyond this number put the whole frontend in doubt: each of its entries is compared
    /// with the backend on its next use. 1,024 by default, since each key in quarantine is a task that retries.
    pub max_quarantined: usize,
    /// What a failure of the frontend means.
    pub frontend_failure: FrontendFailure,
    /// What happens to the writes after one that the backend refuses.
    pub on_park: OnPark,
    /// How long a journaled write may wait for the backend before an alarm goes off
    /// ([`Event::Overdue`](crate::Event::Overdue), and a warning), in milliseconds; none means no alarm. Five
    /// minutes by default.
    pub max_pending_age_millis: Option<u64>,
    /// What happens to new writes once the alarm has gone off.
    pub on_overdue: OnOverdue,
    /// How long a call waits for the frontend before it goes on without it, in milliseconds. 2 s by default.
    pub frontend_patience_millis: u64,
    /// How long a write takes at most to answer, in milliseconds; none means without limit. While it waits for earlier
    /// writes of its key, or for room, the answer is [`Outcome::NotApplied`](crate::Outcome::NotApplied); after that
    /// [`Outcome::Unknown`](crate::Outcome::Unknown), and the write itself goes on. A value that is streamed into
    /// write-behind or a local cache is collected first, for as long again.
    pub write_deadline_millis: Option<u64>,
    /// How long closing waits for pending writes to reach the backend, in milliseconds. 30 s by default.
    pub close_deadline_millis: u64,
    /// What happens about a backend write whose outcome is unknown (write-through, write-around).
    pub on_unknown: OnUnknown,
    /// For how long the frontend remembers that the backend has no such entry, in milliseconds; none means not at all.
    /// Another process's write is seen that much later at worst, or when the backend's feed tells of it.
    pub negative_ttl_millis: Option<u64>,
    /// Whether an entry older than it may be is served while the backend cannot be asked.
    pub serve_stale: ServeStale,
    /// How long a read waits for the backend before it takes a stale entry instead, where `serve_stale` allows one, in
    /// milliseconds; none means for as long as the backend takes. The backend's answer still fills the frontend.
    pub soft_read_timeout_millis: Option<u64>,
    /// How long a read waits for the backend at all before it fails with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut), in milliseconds; none means without limit.
    pub read_timeout_millis: Option<u64>,
    /// Leaves a backend that fails again and again alone for a while.
    pub backend_breaker: Option<BreakerSettings>,
    /// The same for the frontend, which the store does without meanwhile.
    pub frontend_breaker: Option<BreakerSettings>,
}

impl Default for TieredSettings {
    fn default() -> Self {
        Self {
            write_policy: WritePolicy::default(),
            read_policy: ReadPolicy::default(),
            max_stale: MaxStale::default(),
            reopen: Reopen::default(),
            on_connect: None,
            on_connect_failure: OnConnectFailure::default(),
            fill: FillTiming::default(),
            max_fill: None,
            max_pending_operations: 10_000,
            max_pending_bytes: 64 << 20,
            on_full: OnFull::default(),
            on_park: OnPark::default(),
            max_pending_age_millis: Some(300_000),
            on_overdue: OnOverdue::default(),
            max_quarantined: 1024,
            frontend_failure: FrontendFailure::default(),
            frontend_patience_millis: 2_000,
            write_deadline_millis: None,
            close_deadline_millis: 30_000,
            on_unknown: OnUnknown::default(),
            negative_ttl_millis: None,
            serve_stale: ServeStale::default(),
            soft_read_timeout_millis: None,
            read_timeout_millis: None,
            backend_breaker: None,
            frontend_breaker: None,
        }
    }
}

impl TieredSettings {
    pub(crate) fn frontend_patience(&self) -> Duration {
        Duration::from_millis(self.frontend_patience_millis)
    }

    pub(crate) fn max_pending_age(&self) -> Option<Duration> {
        self.max_pending_age_millis.map(Duration::from_millis)
    }

    pub(crate) fn write_deadline(&self) -> Option<Duration> {
        self.write_deadline_millis.map(Duration::from_millis)
    }

    pub(crate) fn soft_read_timeout(&self) -> Option<Duration> {
        // Without anything stale to serve there is nothing to do earlier.
        let serves = self.serve_stale != ServeStale::Never;
        self.soft_read_timeout_millis.filter(|_| serves).map(Duration::from_millis)
    }

    pub(crate) fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout_millis.map(Duration::from_millis)
    }

    pub(crate) fn close_deadline(&self) -> Duration {
        Duration::from_millis(self.close_deadline_millis)
    }
}
