//! Time: one injected clock, and the stamp that a store puts on a write.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entry::{Checksum, Entry, Metadata, Note};
use crate::version::VersionMint;
use crate::write::{Expiry, Identity, Put};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, without leap seconds. The last one is `u64::MAX - 1`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::{Put, Timestamp};
///
/// let midnight = Timestamp::from_millis(1_767_225_600_000);
/// let put = Put::new("offer").expires_at(midnight.saturating_add(Duration::from_secs(3_600)));
/// assert_eq!(midnight.as_millis(), 1_767_225_600_000);
/// # assert!(put.value.len() == 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    /// One more than the milliseconds: without zero, an optional expiry takes no more memory than one.
    millis_and_one: NonZeroU64,
}

impl Timestamp {
    /// From milliseconds since the Unix epoch; `u64::MAX` is the last point in time, one earlier.
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis_and_one: NonZeroU64::MIN.saturating_add(millis) }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.millis_and_one.get() - 1
    }

    /// This point in time, `duration` later; the far end of time where that overflows.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self::from_millis(self.as_millis().saturating_add(millis(duration)))
    }
}

/// The epoch.
impl Default for Timestamp {
    fn default() -> Self {
        Self::from_millis(0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timestamp").field(&self.as_millis()).finish()
    }
}

/// As the number of its milliseconds.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.as_millis())
    }
}

/// From that number.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::from_millis)
    }
}

/// A time before 1970 is the epoch; fractions of a millisecond are dropped.
///
/// # Examples
/// ```
/// use std::time::{Duration, SystemTime};
/// use tiered_core::Timestamp;
///
/// let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
/// assert_eq!(Timestamp::from(time), Timestamp::from_millis(1_500));
/// assert_eq!(SystemTime::from(Timestamp::from_millis(1_500)), time);
/// ```
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::from_millis(millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
    }
}

/// Where the operating system's time does not reach so far, the time is an earlier one.
impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        std::iter::successors(Some(timestamp.as_millis()), |millis| (*millis > 0).then_some(millis / 2))
            .find_map(|millis| Self::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
            .unwrap_or(Self::UNIX_EPOCH)
    }
}

/// Where a store takes time from.
///
/// Wall time decides expiry and nothing else; ages, deadlines and back-off are measured in uptime, so that moving
/// the wall clock by ten years changes only what has expired.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Wall time. Never earlier than a time this clock returned before. When the wall clock is set back, it goes on
    /// from where it was at the pace of [`uptime`](Self::uptime): an entry never outlives its time to live, measured in
    /// uptime from the moment it was written in this process.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment of this process, unaffected by changes of the wall clock.
    fn uptime(&self) -> Duration;
}

/// Keeps wall time from running backwards: remembers how far the wall clock has ever been ahead of uptime.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    /// Wall time at uptime 0, by the latest wall time seen; in the unit in which it is read.
    origin: AtomicU64,
}

impl Steady {
    pub(crate) const fn new() -> Self {
        Self { origin: AtomicU64::new(0) }
    }

    /// The time, where the wall clock was read before uptime was: what passes in between makes the origin earlier, and
    /// only a later one is believed.
    pub(crate) fn read(&self, wall: u64, uptime: u64) -> u64 {
        let origin = wall.saturating_sub(uptime);
        let origin = self.origin.fetch_max(origin, Ordering::Relaxed).max(origin);
        origin.saturating_add(uptime)
    }
}

/// The time of this process. All clocks share it: were each to remember for itself how far the wall clock has ever been, the
/// tiers of a stack would disagree about what has expired after a step of which only some had heard.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the operating system's clock"
)]
static PROCESS: LazyLock<Process> =
    LazyLock::new(|| Process { start: Instant::now(), steady: Steady::new() });

#[derive(Debug)]
struct Process {
    start: Instant,
    steady: Steady,
}

/// The operating system's clock, held from running backwards. All of a process show the same time.
#[derive(Debug)]
pub struct SystemClock(());

impl SystemClock {
    /// A clock. Uptime is counted from the first one of the process.
    pub fn new() -> Self {
        LazyLock::force(&PROCESS);
        Self(())
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
        // In nanoseconds: clocks that round to milliseconds at different moments would differ by one, and an entry that
        // has expired by the clock of one tier would exist by that of another.
        Timestamp::from_millis(PROCESS.steady.read(nanos(since_epoch), nanos(self.uptime())) / 1_000_000)
    }

    fn uptime(&self) -> Duration {
        PROCESS.start.elapsed()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// In milliseconds, without numbers of 128 bits: hits call it.
#[inline]
pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000).saturating_add(u64::from(duration.subsec_millis()))
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

    /// Time since a fixed moment of this process, in milliseconds.
    pub(crate) fn uptime_millis(&self) -> u64 {
        millis(self.clock.uptime())
    }

    /// How long ago something was, that was noted at `uptime_millis`.
    pub(crate) fn since(&self, uptime_millis: u64) -> Duration {
        Duration::from_millis(self.uptime_millis().saturating_sub(uptime_millis))
    }

    /// The complete entry that `put` asks for: version, time of modification and expiry filled in where the put leaves
    /// them open, size and checksum computed from the value, whatever a copy says.
    pub fn entry(&self, put: &Put) -> Entry {
        let (version, modified, note) = match put.identity() {
            Identity::Fresh => (self.versions.mint(), self.clock.now(), Note::default()),
            Identity::Named(version) => (version.clone(), self.clock.now(), Note::default()),
            Identity::Copy(of) => (of.version.clone(), of.modified, of.note.clone()),
        };
        let expires_at = match put.expiry {
            Expiry::Default | Expiry::Never => None,
            Expiry::At(at) => Some(at),
            Expiry::After(ttl) => Some(self.clock.now().saturating_add(ttl)),
        };
        let metadata = Metadata {
            version,
            modified,
            expires_at,
            attributes: put.attributes.clone(),
            size: put.value.len() as u64,
            checksum: Some(Checksum::of(&put.value)),
            note,
        };
        Entry::from_parts(put.value.clone(), Arc::new(metadata))
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_system_clocks_of_a_process_agree() {
        let clocks: Vec<SystemClock> = (0..8)
            .map(|index| {
                // Begun at different fractions of a millisecond.
                std::thread::sleep(Duration::from_micros(130 * index));
                SystemClock::new()
            })
            .collect();
        for clock in &clocks {
            clock.now();
        }
        let mut last = Timestamp::from_millis(0);
        let backwards = (0..200_000).filter(|round| {
            let now = clocks[round % clocks.len()].now();
            let earlier = now < last;
            last = now;
            earlier
        });
        // The two readings of a clock are not at the same moment; at the change of a millisecond that shows.
        let backwards = backwards.count();
        assert!(backwards < 20, "{backwards} of 200000 readings were earlier than one before");
    }
}
