//! The configuration of a memory tier.

use std::thread;
use std::time::Duration;

use quick_cache::OptionsBuilder;
use tiered_core::adapter::Stamp;
use tiered_core::{Capabilities, Error, ErrorKind, Operation, Result};
use tiered_memory::{CacheStore, Settings};

use crate::QuickStore;
use crate::cache::{EVICTED, OVERHEAD, QuickCache};

/// What a shard has at least, where the capacity allows: room for values of some megabytes.
const SHARD: u64 = 16 << 20;

/// What is kept free beside a value of the largest size: a key, metadata, and the share that a shard keeps for new entries.
const BESIDE_VALUE: u64 = 64 << 10;

/// What an entry takes on average, where nothing else is said.
const AVERAGE: u64 = 1 << 10;

/// Of how many evicted keys the cache knows, beside a resident one: what comes back soon was evicted too early.
const REMEMBERED: f64 = 0.5;

/// Configures a [`QuickStore`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_quick::QuickConfig;
///
/// let store = QuickConfig::new(64 << 20).ttl(Duration::from_secs(60)).build()?;
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct QuickConfig {
    capacity: u64,
    items: Option<u64>,
    ttl: Option<Duration>,
    max_value: Option<u64>,
    stamp: Stamp,
}

impl QuickConfig {
    /// A tier that holds at most `capacity` bytes of keys, values and bookkeeping.
    pub fn new(capacity: u64) -> Self {
        Self { capacity, items: None, ttl: None, max_value: None, stamp: Stamp::system() }
    }

    /// How many entries are expected; by default one for each KiB of the capacity. The cache remembers half as many keys that
    /// it has evicted, to know what comes back, and needs 128 bytes of the capacity for each.
    #[must_use]
    pub fn items(mut self, number: u64) -> Self {
        self.items = Some(number);
        self
    }

    /// Does not serve entries this long after they were written to this tier, regardless of their own expiry.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The largest value, in bytes; never more than the capacity leaves beside a key and the bookkeeping. The cache has as
    /// many shards as leave room for it: without this, shards of 16 MiB or more, with at most four for each core.
    #[must_use]
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.max_value = Some(bytes);
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
    /// [`ErrorKind::Config`] for a capacity or a time to live of zero, or more items than the capacity can remember.
    pub fn build(self) -> Result<QuickStore> {
        let refuse = |why| Err(Error::new(ErrorKind::Config, why).during(Operation::Open).in_tier("quick"));
        if self.capacity == 0 {
            return refuse("capacity is 0; give the bytes that the cache may hold, such as 64MiB");
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return refuse("ttl is 0; leave it out for no time limit");
        }
        let items = self.items.unwrap_or(self.capacity / AVERAGE).max(1);
        let entries = self.capacity.saturating_sub((items / 2).saturating_mul(EVICTED));
        if entries < self.capacity / 2 {
            return refuse(
                "items is too large: what is remembered of evicted entries would take half of the capacity",
            );
        }
        let options = OptionsBuilder::new()
            .shards(self.shards(entries))
            .estimated_items_capacity(usize::try_from(items).unwrap_or(usize::MAX))
            .weight_capacity(entries)
            .ghost_allocation(REMEMBERED)
            .build()
            .map_err(|error| Error::new(ErrorKind::Config, "the cache cannot be made").with_source(error))?;
        let cache = QuickCache::new(options, self.ttl, self.stamp.clone());
        let max_value = self.max_value.unwrap_or(Capabilities::DEFAULT_MAX_VALUE);
        let settings = Settings::new("quick", cache.largest_entry()).overhead(OVERHEAD).max_value(max_value);
        Ok(CacheStore::new(cache, settings.stamp(self.stamp)))
    }

    /// As many shards as threads can use, each with room for the largest value. A power of two.
    fn shards(&self, capacity: u64) -> usize {
        let room = self
            .max_value
            .map_or(SHARD, |value| (value.saturating_add(BESIDE_VALUE) / 95 + 1).saturating_mul(100));
        let most = usize::try_from(capacity / room).unwrap_or(usize::MAX).max(1);
        let wanted = thread::available_parallelism().map_or(1, usize::from) * 4;
        // Rounded down: rounded up, a value would not fit.
        1 << wanted.next_power_of_two().min(most).ilog2()
    }
}
