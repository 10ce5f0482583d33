//! Caches that hold a number of entries, to count their hits. What a look-up costs does not matter here.

use std::sync::Arc;

use ::foyer::{
    Cache, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig,
};
use ::moka::policy::EvictionPolicy;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tiered::{Key, ListOptions, Put, Store};

use super::tiered::{TIERS, Tier};

/// A cache that is asked for a key, and takes it where it has not got it.
pub trait Evicting {
    /// Whether the key was there.
    fn access(&mut self, key: u32, keys: &Keys) -> Result<bool>;
}

/// The keys of a trace, as tiered's tiers take them.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// So many keys.
    ///
    /// # Panics
    /// Never: digits are a key.
    pub fn of(count: usize) -> Self {
        let key = |number| Key::new(format!("{number:010}")).expect("digits are a key");
        Self((0..count).map(key).collect())
    }
}

/// A policy of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// A cache of so many entries.
    pub open: fn(usize) -> Box<dyn Evicting>,
}

/// Every policy of the peers.
pub static ALL: [Policy; 8] = [
    Policy { name: "moka LRU", open: |entries| moka(entries, EvictionPolicy::lru()) },
    Policy { name: "moka TinyLFU", open: |entries| moka(entries, EvictionPolicy::tiny_lfu()) },
    Policy { name: "quick_cache", open: quick },
    Policy { name: "foyer LRU", open: |entries| foyer(entries, LruConfig::default()) },
    Policy { name: "foyer W-TinyLFU", open: |entries| foyer(entries, LfuConfig::default()) },
    Policy { name: "foyer S3-FIFO", open: |entries| foyer(entries, S3FifoConfig::default()) },
    Policy { name: "foyer SIEVE", open: |entries| foyer(entries, SieveConfig) },
    Policy { name: "foyer FIFO", open: |entries| foyer(entries, FifoConfig::default()) },
];

/// A cache of a peer, and how it is asked and filled.
struct Of<C> {
    cache: C,
    has: fn(&C, u32) -> bool,
    insert: fn(&C, u32),
}

impl<C> Evicting for Of<C> {
    fn access(&mut self, key: u32, _: &Keys) -> Result<bool> {
        let is_there = (self.has)(&self.cache, key);
        if !is_there {
            (self.insert)(&self.cache, key);
        }
        Ok(is_there)
    }
}

type Moka = ::moka::sync::Cache<u32, ()>;

fn moka(entries: usize, policy: EvictionPolicy) -> Box<dyn Evicting> {
    Box::new(Of {
        cache: Moka::builder().max_capacity(entries as u64).eviction_policy(policy).build(),
        has: |cache, key| cache.get(&key).is_some(),
        insert: |cache, key| cache.insert(key, ()),
    })
}

fn quick(entries: usize) -> Box<dyn Evicting> {
    Box::new(Of {
        cache: quick_cache::sync::Cache::<u32, ()>::new(entries),
        has: |cache, key| cache.get(&key).is_some(),
        insert: |cache, key| cache.insert(key, ()),
    })
}

fn foyer(entries: usize, policy: impl Into<EvictionConfig>) -> Box<dyn Evicting> {
    let cache: Cache<u32, ()> = CacheBuilder::new(entries).with_eviction_config(policy).build();
    Box::new(Of {
        cache,
        has: |cache, key| cache.get(&key).is_some(),
        insert: |cache, key| drop(cache.insert(key, ())),
    })
}

/// A memory tier of tiered.
struct OfTier(Arc<dyn Store>);

impl Evicting for OfTier {
    fn access(&mut self, key: u32, keys: &Keys) -> Result<bool> {
        let key = keys.0.get(key as usize).context("a trace numbers its keys")?;
        let is_there = self.0.peek(key).is_some();
        if !is_there {
            let put = self.0.put(key, Put::new(Bytes::new()));
            put.now_or_never().context("a memory tier writes at once")??;
        }
        Ok(is_there)
    }
}

/// A memory tier whose capacity is a number of entries.
#[derive(Debug)]
pub struct Counted {
    /// Its name.
    pub name: String,
    tier: &'static Tier,
    /// Bytes that an entry weighs there.
    weight: f64,
}

impl Counted {
    /// A tier of so many entries.
    pub fn open(&self, entries: usize) -> Result<Box<dyn Evicting>> {
        Ok(Box::new(OfTier((self.tier.open)((entries as f64 * self.weight).ceil() as u64)?)))
    }
}

/// Bytes of the tier whose entries are counted to learn what one of them weighs.
const TRIAL: u64 = 16 << 20;

/// Every memory tier of tiered.
pub fn tiers(keys: &Keys) -> Result<Vec<Counted>> {
    let counted = |tier: &'static Tier| {
        Ok(Counted { name: format!("tiered {}", tier.name), tier, weight: weight(tier, keys)? })
    };
    TIERS.iter().map(counted).collect()
}

/// Fills a tier, counts what stays, and tells what one entry weighs.
fn weight(tier: &Tier, keys: &Keys) -> Result<f64> {
    let store = (tier.open)(TRIAL)?;
    let trial = Keys::of(TRIAL as usize / 64);
    let sample = keys.0.first().context("a trace has keys")?;
    for key in trial.0.iter().filter(|key| key.len() == sample.len()) {
        store.put(key, Put::new(Bytes::new())).now_or_never().context("a memory tier writes at once")??;
    }
    let listed = store.list(ListOptions::new()).count().now_or_never();
    let entries = listed.context("a memory tier lists at once")?.max(1);
    Ok(TRIAL as f64 / entries as f64)
}
