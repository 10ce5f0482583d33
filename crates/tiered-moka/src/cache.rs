//! moka as a cache of entries.

use std::fmt;

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;
use tiered_core::{Entry, Key};
use tiered_memory::{Cache, weight};

use crate::config::{MokaConfig, Policy};

type Hasher = foldhash::fast::RandomState;

/// What moka needs for an entry beside its key and value: its node and queues. Measured by allocations, with what a growing
/// table has spare.
pub(crate) const OVERHEAD: u64 = 220;

/// moka's cache of entries, inside a [`MokaStore`](crate::MokaStore).
pub struct MokaCache(Moka<Key, Entry, Hasher>);

impl MokaCache {
    pub(crate) fn new(config: &MokaConfig) -> Self {
        let weigh =
            |key: &Key, entry: &Entry| u32::try_from(weight(key, entry) + OVERHEAD).unwrap_or(u32::MAX);
        let policy = match config.policy {
            Policy::Lru => EvictionPolicy::lru(),
            Policy::TinyLfu => EvictionPolicy::tiny_lfu(),
        };
        let builder = Moka::builder().max_capacity(config.capacity).eviction_policy(policy).weigher(weigh);
        let builder = match config.ttl {
            Some(ttl) => builder.time_to_live(ttl),
            None => builder,
        };
        Self(builder.build_with_hasher(Hasher::default()))
    }
}

impl fmt::Debug for MokaCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaCache").field("entries", &self.0.entry_count()).finish_non_exhaustive()
    }
}

impl Cache for MokaCache {
    #[inline]
    fn get(&self, key: &Key) -> Option<Entry> {
        self.0.get(key)
    }

    fn contains(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    fn insert(&self, key: &Key, entry: Entry) {
        self.0.insert(key.clone(), entry);
    }

    fn remove(&self, key: &Key) {
        self.0.invalidate(key);
    }

    fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry)) {
        for (key, entry) in &self.0 {
            visit(&key, &entry);
        }
    }

    fn clear(&self) {
        self.0.invalidate_all();
    }

    fn used(&self) -> u64 {
        self.0.weighted_size()
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}
