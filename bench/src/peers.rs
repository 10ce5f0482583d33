//! What is compared: stores of tiered, and the peers, each behind one small trait.

pub mod away;
pub mod behind;
pub mod cachet;
pub mod copiers;
pub mod drive;
pub mod evicting;
pub mod foyer;
pub mod group_commit;
pub mod moka;
pub mod multi_tier;
pub mod quick;
#[cfg(feature = "servers")]
pub mod raw_postgres;
pub mod raw_redb;
#[cfg(feature = "rocksdb")]
pub mod raw_rocksdb;
#[cfg(feature = "servers")]
pub mod raw_s3;
pub mod record;
pub mod redis;
pub mod source;
pub mod tiered;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;

use crate::peers::drive::Drive;
use crate::peers::source::Source;
use crate::workload::{Name, Workload};

/// A cache or a store, as the groups drive it. Clones share the data.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Looks a key up; the length of its value. A peer over a source loads what it misses, by its own means against
    /// stampedes where it has them.
    fn get(&self, name: &Name) -> impl Future<Output = Result<Option<usize>>> + Send;

    /// Writes a key; also to the source, where there is one.
    fn put(&self, name: &Name, value: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Looks several keys up; how many were there. Here: one after the other.
    fn get_many(&self, names: &[&Name]) -> impl Future<Output = Result<usize>> + Send {
        async move {
            let mut found = 0;
            for name in names {
                found += usize::from(self.get(name).await?.is_some());
            }
            Ok(found)
        }
    }

    /// Waits until nothing of what was done goes on in the background, so that the next side is not disturbed. Here: nothing
    /// does.
    fn settle(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// One side of a comparison, ready to be driven.
#[derive(Clone)]
pub struct Contender {
    /// Its name in the report.
    pub name: String,
    /// Whether it is a store of this project.
    pub is_ours: bool,
    /// What drives it.
    pub peer: Arc<dyn Drive>,
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contender {
    /// A store of this project.
    pub fn ours(name: impl Into<String>, peer: impl Peer) -> Self {
        Self { name: name.into(), is_ours: true, peer: Arc::new(peer) }
    }

    /// A peer.
    pub fn theirs(name: impl Into<String>, peer: impl Peer) -> Self {
        Self { name: name.into(), is_ours: false, peer: Arc::new(peer) }
    }
}

/// The peer that tables compare with: the cache beneath the default memory tier, used by itself.
pub const REFERENCE: &str = "moka";

/// How much a cache may hold: some count entries, some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Entries.
    pub entries: u64,
    /// Bytes of each entry, key and value.
    pub each: u64,
}

/// What tiered's memory tiers count for an entry beside its key and value, at most.
const BOOKKEEPING: u64 = 400;

impl Room {
    /// Room for `entries` of a workload.
    pub fn of(entries: u64, workload: &Workload) -> Self {
        let key = workload.names.first().map_or(0, |name| name.text.len());
        Self { entries, each: (key + workload.value.len()) as u64 }
    }

    /// In bytes of keys and values.
    pub fn bytes(self) -> u64 {
        self.entries * self.each
    }

    /// In bytes, where bookkeeping counts as well.
    pub fn with_bookkeeping(self) -> u64 {
        self.entries * (self.each + BOOKKEEPING)
    }
}

/// The peers among the memory caches.
const CACHES: [&str; 7] = [
    REFERENCE,
    "quick_cache",
    "foyer memory",
    "foyer hybrid",
    "cachet",
    "cachet, two tiers",
    "multi-tier-cache",
];

/// The names of all memory caches, ours first.
pub fn cache_names() -> Vec<String> {
    let ours = tiered::TIERS.iter().map(|tier| tier.stack("memory"));
    ours.chain(CACHES.map(str::to_owned)).collect()
}

/// A memory cache over nothing, by its name. `folder` is for those that have a disk tier as well.
pub async fn cache(name: &str, room: Room, folder: &Path) -> Result<Contender> {
    if let Some(tier) = tiered::TIERS.iter().find(|tier| tier.stack("memory") == name) {
        return Ok(Contender::ours(name, tiered::Stack::over_memory(tier, room).await?));
    }
    Ok(match name {
        REFERENCE => Contender::theirs(name, moka::Moka::new(room)),
        "quick_cache" => Contender::theirs(name, quick::Quick::new(room, None)),
        "foyer memory" => Contender::theirs(name, foyer::Memory::new(room, None)),
        "foyer hybrid" => Contender::theirs(name, foyer::Hybrid::open(room, folder, None).await?),
        "cachet" => Contender::theirs(name, cachet::Cachet::memory(room)),
        "cachet, two tiers" => Contender::theirs(name, cachet::Cachet::two_tiers(room)),
        "multi-tier-cache" => Contender::theirs(name, multi_tier::MultiTier::new(room, None)?),
        _ => bail!("no cache has the name {name}"),
    })
}

/// All memory caches over nothing.
pub async fn caches(room: Room, folder: &Path) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    for name in cache_names() {
        all.push(cache(&name, room, folder).await?);
    }
    Ok(all)
}

/// Caches that load what they miss from `source`, and write to it as well.
pub async fn caches_over(source: &Source, room: Room, folder: &Path) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    for tier in tiered::TIERS {
        all.push(Contender::ours(tier.stack(source.name()), tiered::Stack::over(tier, room, source).await?));
    }
    all.push(Contender::theirs(REFERENCE, moka::Loading::new(room, source.clone())));
    all.push(Contender::theirs("cachet", cachet::Cachet::over(room, source.clone())));
    let source = || Some(source.clone());
    all.push(Contender::theirs("quick_cache", quick::Quick::new(room, source())));
    all.push(Contender::theirs("foyer memory", foyer::Memory::new(room, source())));
    all.push(Contender::theirs("foyer hybrid", foyer::Hybrid::open(room, folder, source()).await?));
    all.push(Contender::theirs("multi-tier-cache", multi_tier::MultiTier::new(room, source())?));
    Ok(all)
}
