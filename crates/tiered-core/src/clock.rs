//! Time: one injected clock, and the stamp that a store puts on a write.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, Metadata};
use crate::version::VersionMint;
use crate::write::{Expiry, Put};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This point in time, `duration` later; the far end of time where that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where a store takes time from.
///
/// Wall time decides expiry and nothing else; ages, deadlines and back-off are measured in uptime, so that moving
/// the wall clock by ten years changes only what has expired.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall time. Never earlier than a time this clock returned before.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment of this process, unaffected by changes of the wall clock.
    fn uptime(&self) -> Duration;
}

/// The operating system's clock, held from running backwards.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    latest: AtomicU64,
}

impl SystemClock {
    /// A clock whose uptime starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the operating system's clock"
    )]
    pub fn new() -> Self {
        Self { start: Instant::now(), latest: AtomicU64::new(0) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the operating system's clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.latest.fetch_max(now, Ordering::Relaxed).max(now))
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that a test moves by hand. Wall time and uptime move separately.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicU64,
    uptime_millis: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`, with no uptime.
    pub const fn new(now: Timestamp) -> Self {
        Self { now: AtomicU64::new(now.0), uptime_millis: AtomicU64::new(0) }
    }

    /// Moves wall time and uptime forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.now.fetch_add(millis, Ordering::Relaxed);
        self.uptime_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// Moves wall time alone to `now`; earlier times are ignored, since a clock never runs backwards.
    pub fn jump_to(&self, now: Timestamp) {
        self.now.fetch_max(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime_millis.load(Ordering::Relaxed))
    }
}

/// What turns a [`Put`] into an [`Entry`]: a clock and a mint. Every store holds one.
///
/// A field that the put sets already (because it is a copy, or was stamped by the tier above) is kept verbatim.
#[derive(Clone, Debug)]
pub struct Stamp {
    clock: Arc<dyn Clock>,
    versions: Arc<VersionMint>,
}

impl Stamp {
    /// A stamp from a clock and a mint.
    pub fn new(clock: Arc<dyn Clock>, versions: Arc<VersionMint>) -> Self {
        Self { clock, versions }
    }

    /// The operating system's clock and random source.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock::new()), Arc::new(VersionMint::from_entropy()))
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The mint.
    pub fn versions(&self) -> &Arc<VersionMint> {
        &self.versions
    }

    /// Wall time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The complete entry that `put` asks for: version, time of modification, expiry and checksum filled in where
    /// the put leaves them open.
    pub fn entry(&self, put: &Put) -> Entry {
        let version = put.version.clone().unwrap_or_else(|| self.versions.mint());
        let modified = put.modified.unwrap_or_else(|| self.clock.now());
        let expires_at = match put.expiry {
            Expiry::Never => None,
            Expiry::At(at) => Some(at),
            Expiry::After(ttl) => Some(self.clock.now().saturating_add(ttl)),
        };
        let checksum = put.checksum.unwrap_or_else(|| crate::entry::Checksum::of(&put.value));
        let metadata = Metadata {
            version,
            modified,
            expires_at,
            attributes: put.attributes.clone(),
            size: put.value.len() as u64,
            checksum,
            note: put.note.clone(),
        };
        Entry::from_parts(put.value.clone(), Arc::new(metadata))
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::system()
    }
}
