//! The configuration of a memory tier.

use std::time::Duration;

use tiered_core::adapter::Stamp;
use tiered_core::{Capabilities, Error, ErrorKind, Operation, Result};
use tiered_memory::{CacheStore, Settings};

use crate::MokaStore;
use crate::cache::{MokaCache, OVERHEAD};

/// The longest time to live: moka panics beyond it.
const MAX_TTL: Duration = Duration::from_hours(1_000 * 365 * 24);

/// What is evicted when the cache is full.
///
/// # Examples
/// ```
/// use tiered_moka::{MokaConfig, Policy};
///
/// let store = MokaConfig::new(64 << 20).policy(Policy::TinyLfu).build()?;
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The least recently used entry. What was just written is there.
    #[default]
    Lru,
    /// What is used least often, by an estimate: scans do not push out what is read again and again. An entry that was just
    /// written may be refused, which is a miss and never an older value.
    TinyLfu,
}

/// Configures a [`MokaStore`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_moka::MokaConfig;
///
/// let store = MokaConfig::new(64 << 20).ttl(Duration::from_secs(60)).build()?;
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MokaConfig {
    pub(crate) capacity: u64,
    pub(crate) ttl: Option<Duration>,
    pub(crate) policy: Policy,
    pub(crate) max_value: u64,
    pub(crate) stamp: Stamp,
}

impl MokaConfig {
    /// A tier that holds at most `capacity` bytes of keys, values and bookkeeping.
    pub fn new(capacity: u64) -> Self {
        let max_value = Capabilities::DEFAULT_MAX_VALUE;
        Self { capacity, ttl: None, policy: Policy::Lru, max_value, stamp: Stamp::system() }
    }

    /// Drops entries this long after they were written to this tier, regardless of their own expiry.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What is evicted when the cache is full; by default the least recently used entry.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The largest value, in bytes; never more than the capacity leaves beside a key and the bookkeeping.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// The clock and the source of versions.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    /// Makes the tier.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a capacity or a time to live of zero, or one longer than 1,000 years.
    pub fn build(self) -> Result<MokaStore> {
        let refuse = |why| Err(Error::new(ErrorKind::Config, why).during(Operation::Open).in_tier("moka"));
        if self.capacity == 0 {
            return refuse("capacity is 0; give the bytes that the cache may hold, such as 64MiB");
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("ttl is 0; leave it out for no time limit");
        }
        if self.ttl.is_some_and(|ttl| ttl > MAX_TTL) {
            return refuse("ttl is longer than 1,000 years; leave it out for no time limit");
        }
        let cache = MokaCache::new(&self);
        let settings = Settings::new("moka", self.capacity).overhead(OVERHEAD).max_value(self.max_value);
        Ok(CacheStore::new(cache, settings.stamp(self.stamp)))
    }
}
