//! Settings of a tiered store: plain data, apart from its components.

mod ttl;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::{ReadPolicy, WritePolicy};
use crate::quantity::{self, Quantity};
use crate::sync::StrategyName;

pub use ttl::DefaultTtl;
pub(crate) use ttl::of_prefix;

/// For how long an entry of the frontend may be served before it is compared with the backend again.
///
/// In TOML: `"auto"`, `"unlimited"`, or a duration such as `"60s"`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::settings::MaxStale;
///
/// let minute = MaxStale::from(Duration::from_secs(60));
/// assert_eq!(minute, MaxStale::AtMost(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaxStale {
    /// 60 s where other processes can write to the backend, unlimited where they cannot.
    #[default]
    Auto,
    /// Without limit: no other process writes, or stale answers do no harm.
    Unlimited,
    /// So long. Ages are counted in whole milliseconds, and a fraction is cut off: after a time of zero an entry is compared
    /// again a millisecond later.
    AtMost(Duration),
}

impl From<Duration> for MaxStale {
    fn from(age: Duration) -> Self {
        Self::AtMost(age)
    }
}

impl Quantity for MaxStale {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""auto", "unlimited", or "#)?;
        Duration::expected(f)
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "unlimited" => Some(Self::Unlimited),
            age => Duration::read(age).map(Self::AtMost),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Unlimited => "unlimited".to_owned(),
            Self::AtMost(age) => age.write(),
        }
    }
}

impl Serialize for MaxStale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quantity::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for MaxStale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        quantity::deserialize(deserializer)
    }
}

/// What a persistent frontend's entries are worth when the store is opened again.
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::Reopen;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "reopen": "trust" }"#).unwrap();
/// assert_eq!(settings.reopen, Reopen::Trust);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reopen {
    /// Each is compared with the backend, by version, on its first use.
    #[default]
    Revalidate,
    /// They are served as they are after a clean close, and compared otherwise. Use it where no other process writes. The
    /// backend needs an identity: a mark, or a name ([`backend_id`](crate::TieredBuilder::backend_id)).
    Trust,
    /// They are removed.
    Clear,
}

/// What a write-behind store does with a write for which there is no room.
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::OnFull;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "on-full": "fail" }"#).unwrap();
/// assert_eq!(settings.on_full, OnFull::Fail);
/// ```
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
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::OnPark;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "on-park": "halt" }"#).unwrap();
/// assert_eq!(settings.on_park, OnPark::Halt);
/// ```
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
/// [`max_pending_age`](TieredSettings::max_pending_age).
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::OnOverdue;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "on-overdue": "block" }"#).unwrap();
/// assert_eq!(settings.on_overdue, OnOverdue::Block);
/// ```
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
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::FillTiming;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "fill": "before-answer" }"#).unwrap();
/// assert_eq!(settings.fill, FillTiming::BeforeAnswer);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FillTiming {
    /// As soon as the backend has answered. The answer does not wait for a fill that takes its time; a second read at once may
    /// miss as well.
    #[default]
    AfterAnswer,
    /// After the fill: a second read is a hit, if the frontend keeps the entry. A frontend that hangs delays the answer by
    /// [`frontend_patience`](TieredSettings::frontend_patience).
    BeforeAnswer,
}

/// What failed entries of the sync on connecting mean.
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::OnConnectFailure;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "on-connect-failure": "fail" }"#).unwrap();
/// assert_eq!(settings.on_connect_failure, OnConnectFailure::Fail);
/// ```
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
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::FrontendFailure;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "frontend-failure": "fail" }"#).unwrap();
/// assert_eq!(settings.frontend_failure, FrontendFailure::Fail);
/// ```
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
///
/// # Examples
/// ```
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::OnUnknown;
///
/// let settings: TieredSettings = serde_json::from_str(r#"{ "on-unknown": "retry" }"#).unwrap();
/// assert_eq!(settings.on_unknown, OnUnknown::Retry);
/// ```
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
///
/// In TOML: `"never"`, `"unlimited"`, or a duration such as `"10m"`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::settings::ServeStale;
///
/// let while_away = ServeStale::from(Duration::from_secs(600));
/// assert_eq!(while_away, ServeStale::AtMost(Duration::from_secs(600)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServeStale {
    /// Never: the backend's error is the answer.
    #[default]
    Never,
    /// However old it is.
    Unlimited,
    /// Where it was compared with the backend at most so long ago. Ages are counted in whole milliseconds, and a fraction is
    /// cut off.
    AtMost(Duration),
}

impl From<Duration> for ServeStale {
    fn from(age: Duration) -> Self {
        Self::AtMost(age)
    }
}

impl Quantity for ServeStale {
    fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""never", "unlimited", or "#)?;
        Duration::expected(f)
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            "unlimited" => Some(Self::Unlimited),
            age => Duration::read(age).map(Self::AtMost),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Never => "never".to_owned(),
            Self::Unlimited => "unlimited".to_owned(),
            Self::AtMost(age) => age.write(),
        }
    }
}

impl Serialize for ServeStale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        quantity::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ServeStale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        quantity::deserialize(deserializer)
    }
}

/// A circuit breaker: a tier that fails again and again is left alone for a while, and calls fail at once meanwhile.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::TieredSettings;
/// use tiered_core::settings::BreakerSettings;
///
/// let mut settings = TieredSettings::default();
/// settings.backend_breaker = Some(BreakerSettings::new(5, Duration::from_secs(1)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// So many failures in a row open it. A failure is a call that found the tier unavailable or timed out.
    pub failures: u32,
    /// For how long the tier is left alone; longer than zero. After it one call is let through: where that succeeds the
    /// breaker closes.
    #[serde(with = "quantity")]
    pub pause: Duration,
}

impl BreakerSettings {
    /// Opens after so many failures in a row, and then leaves the tier alone for `pause`.
    pub const fn new(failures: u32, pause: Duration) -> Self {
        Self { failures, pause }
    }
}

/// How a tiered store behaves: data, for a file of settings. In code the methods of the
/// [builder](crate::TieredBuilder#settings) set the same.
///
/// Every field has a default; unknown fields are refused. Where serde reads and writes it, a duration is a text such as
/// `"60s"` or `"1h 30m"`, a number of bytes is one such as `"64MiB"` or a plain number, and `"off"` is no limit.
///
/// A duration of zero is refused by [`build`](crate::TieredBuilder::build), except for `close_deadline`, `max_stale`,
/// `serve_stale` and `soft_read_timeout`. A duration longer than the process runs is as good as no limit.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::{TieredSettings, WritePolicy};
///
/// let mut settings = TieredSettings::default();
/// settings.write_policy = WritePolicy::WriteAround;
/// settings.read_timeout = Some(Duration::from_secs(5));
/// assert_eq!(settings.close_deadline, Duration::from_secs(30));
/// assert_eq!(serde_json::to_value(&settings).unwrap()["read-timeout"], "5s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
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
    #[serde(with = "quantity")]
    pub max_fill: Option<u64>,
    /// Bytes of the blocks in which the frontend keeps large values that are read by ranges: from 1 KiB to 16 MiB, 256 KiB by
    /// default. None means that range reads leave nothing behind.
    #[serde(with = "quantity")]
    pub block_size: Option<u64>,
    /// Values of at most this many bytes are kept as a whole, once a range read asks for at least half of them; larger ones are
    /// kept in blocks. 1 MiB by default, and never more than `max_fill`.
    #[serde(with = "quantity")]
    pub fill_whole: u64,
    /// At most so many acknowledged writes wait for the backend (write-behind). 10,000 by default: a few seconds
    /// of a fast writer, in memory that a process can spare.
    pub max_pending_operations: usize,
    /// At most so many bytes of values wait for the backend (write-behind). 64 MiB by default. A streamed value of more is
    /// refused with [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), since it is collected in memory for the journal.
    #[serde(with = "quantity")]
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
    /// ([`Event::Overdue`](crate::Event::Overdue), and a warning); none means no alarm. Five minutes by default.
    #[serde(with = "quantity")]
    pub max_pending_age: Option<Duration>,
    /// What happens to new writes once the alarm has gone off.
    pub on_overdue: OnOverdue,
    /// How long a call waits for the frontend before it goes on without it; for a read of many keys, so long for each 64 of them.
    /// 2 s by default.
    #[serde(with = "quantity")]
    pub frontend_patience: Duration,
    /// How long a write takes at most to answer; none means without limit. While it waits for earlier
    /// writes of its key, or for room, the answer is [`Outcome::NotApplied`](crate::Outcome::NotApplied); after that
    /// [`Outcome::Unknown`](crate::Outcome::Unknown), and the write itself goes on. A value that is streamed into
    /// write-behind or a local cache is collected first, for as long again.
    #[serde(with = "quantity")]
    pub write_deadline: Option<Duration>,
    /// How long closing waits for pending writes to reach the backend; zero means not at all. 30 s by default.
    #[serde(with = "quantity")]
    pub close_deadline: Duration,
    /// What happens about a backend write whose outcome is unknown (write-through, write-around).
    pub on_unknown: OnUnknown,
    /// For how long the frontend remembers that the backend has no such entry; none means not at all.
    /// Another process's write is seen that much later at worst, or when the backend's feed tells of it.
    #[serde(with = "quantity")]
    pub negative_ttl: Option<Duration>,
    /// When entries expire that were put with [`Expiry::Default`](crate::Expiry::Default), as
    /// [`Put::new`](crate::Put::new) makes them. Never by default.
    pub default_ttl: DefaultTtl,
    /// The same for keys that begin with a prefix, instead of `default_ttl`. Of several prefixes the longest counts.
    pub prefix_ttl: BTreeMap<String, DefaultTtl>,
    /// Whether an entry older than it may be is served while the backend cannot be asked.
    pub serve_stale: ServeStale,
    /// How long a read waits for the backend before it takes a stale entry instead, where `serve_stale` allows one; none
    /// means for as long as the backend takes, zero not at all. The backend's answer still fills the frontend.
    #[serde(with = "quantity")]
    pub soft_read_timeout: Option<Duration>,
    /// How long a read waits for the backend at all before it fails with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut); none means without limit.
    #[serde(with = "quantity")]
    pub read_timeout: Option<Duration>,
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
            block_size: Some(256 << 10),
            fill_whole: 1 << 20,
            max_pending_operations: 10_000,
            max_pending_bytes: 64 << 20,
            on_full: OnFull::default(),
            on_park: OnPark::default(),
            max_pending_age: Some(Duration::from_mins(5)),
            on_overdue: OnOverdue::default(),
            max_quarantined: 1024,
            frontend_failure: FrontendFailure::default(),
            frontend_patience: Duration::from_secs(2),
            write_deadline: None,
            close_deadline: Duration::from_secs(30),
            on_unknown: OnUnknown::default(),
            negative_ttl: None,
            default_ttl: DefaultTtl::default(),
            prefix_ttl: BTreeMap::new(),
            serve_stale: ServeStale::default(),
            soft_read_timeout: None,
            read_timeout: None,
            backend_breaker: None,
            frontend_breaker: None,
        }
    }
}
