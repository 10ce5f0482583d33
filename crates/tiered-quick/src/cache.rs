//! `quick_cache` as a cache of entries.

use std::fmt;
use std::time::Duration;

use quick_cache::sync::{Cache as Quick, DefaultLifecycle};
use quick_cache::{Options, Weighter};
use tiered_core::adapter::Stamp;
use tiered_core::{Entry, Key};
use tiered_memory::{Cache, weight};

type Hasher = foldhash::fast::RandomState;

/// What `quick_cache` needs for an entry beside its key and value: links, its place in the table, and what growing tables
/// have spare. Measured by allocations.
pub(crate) const OVERHEAD: u64 = 72;

/// What it takes to remember a key that was evicted: as much as a place for an entry.
pub(crate) const EVICTED: u64 = 128;

/// An entry as it is held, with or without a time at which it ends.
trait Held: Clone + Send + Sync + 'static {
    fn entry(&self) -> &Entry;

    fn into_entry(self) -> Entry;

    /// The uptime in milliseconds at which its time in this tier ends.
    fn ends_at(&self) -> Option<u64>;
}

impl Held for Entry {
    fn entry(&self) -> &Entry {
        self
    }

    fn into_entry(self) -> Entry {
        self
    }

    fn ends_at(&self) -> Option<u64> {
        None
    }
}

/// An entry in a tier with a time to live.
#[derive(Clone)]
struct Timed {
    entry: Entry,
    ends_at: u64,
}

impl Held for Timed {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn into_entry(self) -> Entry {
        self.entry
    }

    fn ends_at(&self) -> Option<u64> {
        Some(self.ends_at)
    }
}

#[derive(Clone, Debug)]
struct Weigh;

impl<H: Held> Weighter<Key, H> for Weigh {
    fn weight(&self, key: &Key, held: &H) -> u64 {
        weight(key, held.entry()) + OVERHEAD
    }
}

/// `quick_cache`, and the clock by which entries end.
struct Shards<H> {
    cache: Quick<Key, H, Weigh, Hasher, DefaultLifecycle<Key, H>>,
    stamp: Stamp,
}

impl<H: Held> Shards<H> {
    fn new(options: Options, stamp: Stamp) -> Self {
        let cache = Quick::with_options(options, Weigh, Hasher::default(), DefaultLifecycle::default());
        Self { cache, stamp }
    }

    fn is_served(&self, held: &H) -> bool {
        held.ends_at().is_none_or(|end| millis(self.stamp.clock().uptime()) < end)
    }

    #[inline(never)]
    fn get_in_time(&self, key: &Key) -> Option<Entry> {
        self.cache.get(key).filter(|held| self.is_served(held)).map(H::into_entry)
    }

    fn contains(&self, key: &Key) -> bool {
        self.cache.peek(key).is_some_and(|held| self.is_served(&held))
    }

    fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry)) {
        for (key, held) in self.cache.iter().filter(|(_, held)| self.is_served(held)) {
            visit(&key, held.entry());
        }
    }
}

/// `quick_cache`'s cache of entries, inside a [`QuickStore`](crate::QuickStore).
pub struct QuickCache(Kind);

enum Kind {
    Plain(Shards<Entry>),
    /// With the tier's time to live.
    Timed(Shards<Timed>, Duration),
}

/// The same for both kinds of shards.
macro_rules! either {
    ($kind:expr, $shards:ident => $do:expr) => {
        match $kind {
            Kind::Plain($shards) => $do,
            Kind::Timed($shards, _) => $do,
        }
    };
}

impl QuickCache {
    pub(crate) fn new(options: Options, ttl: Option<Duration>, stamp: Stamp) -> Self {
        Self(match ttl {
            None => Kind::Plain(Shards::new(options, stamp)),
            Some(ttl) => Kind::Timed(Shards::new(options, stamp), ttl),
        })
    }

    /// The largest weight of an entry: a shard keeps a share of its capacity for what was just written.
    pub(crate) fn largest_entry(&self) -> u64 {
        either!(&self.0, shards => shards.cache.shard_capacity()) / 100 * 95
    }
}

impl fmt::Debug for QuickCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = either!(&self.0, shards => shards.cache.len());
        f.debug_struct("QuickCache").field("entries", &entries).finish_non_exhaustive()
    }
}

impl Cache for QuickCache {
    #[inline]
    fn get(&self, key: &Key) -> Option<Entry> {
        match &self.0 {
            // As it comes from the cache, not moved.
            Kind::Plain(shards) => shards.cache.get(key),
            Kind::Timed(shards, _) => shards.get_in_time(key),
        }
    }

    fn contains(&self, key: &Key) -> bool {
        either!(&self.0, shards => shards.contains(key))
    }

    fn insert(&self, key: &Key, entry: Entry) {
        match &self.0 {
            Kind::Plain(shards) => shards.cache.insert(key.clone(), entry),
            Kind::Timed(shards, ttl) => {
                let ends_at = millis(shards.stamp.clock().uptime().saturating_add(*ttl));
                shards.cache.insert(key.clone(), Timed { entry, ends_at });
            }
        }
    }

    fn remove(&self, key: &Key) {
        either!(&self.0, shards => drop(shards.cache.remove(key)));
    }

    fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry)) {
        either!(&self.0, shards => shards.visit(visit));
    }

    fn clear(&self) {
        either!(&self.0, shards => shards.cache.clear());
    }

    fn used(&self) -> u64 {
        either!(&self.0, shards => shards.cache.weight())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
