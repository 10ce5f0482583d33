//! Which blocks the frontend is known to have: so that those of a version that is gone can be removed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;

use crate::blocks::{Grid, Names};
use crate::key::Key;
use crate::sync_primitives::Mutex;
use crate::version::Version;

/// Blocks that are remembered: of 256 KiB each they are 256 GiB, for a few tens of megabytes of memory. What is forgotten is
/// left to the eviction of the frontend.
const MOST: usize = 1 << 20;

/// Locks, so that readers of different values do not wait for each other.
const SHARDS: usize = 16;

/// The blocks of one version of a value.
#[derive(Debug)]
struct OfVersion {
    version: Version,
    indexes: BTreeSet<u64>,
}

/// The blocks of those values whose keys have one remainder.
#[derive(Debug, Default)]
struct Shard {
    of: BTreeMap<Key, OfVersion>,
    count: usize,
}

/// The blocks that were installed or found, by the key of their value.
#[derive(Debug)]
pub(super) struct Kept {
    shards: [Mutex<Shard>; SHARDS],
    hasher: foldhash::fast::FixedState,
}

/// Blocks of a version that is gone, to be removed.
pub(super) type Gone = Option<(Version, BTreeSet<u64>)>;

impl Kept {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// Remembers a block of `version` of `key`. Returns the blocks of another version of `key`: they are of no use any more.
    pub(super) fn remember(&self, key: &Key, version: &Version, index: u64) -> Gone {
        self.shard(key).lock().remember(key, version, index)
    }

    /// Forgets the blocks of `key`, but for those of the version that `stays`; those that were forgotten.
    pub(super) fn retire(&self, key: &Key, stays: Option<&Version>) -> Gone {
        self.shard(key).lock().take(key, stays)
    }

    /// What the names of all blocks begin with that are remembered.
    pub(super) fn hashes(&self, grid: Grid) -> HashSet<u128> {
        let mut hashes = HashSet::new();
        for shard in &self.shards {
            let shard = shard.lock();
            hashes.extend(shard.of.iter().map(|(key, of)| Names::of(key, &of.version, grid.block()).hash()));
        }
        hashes
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        let at = self.hasher.hash_one(key) % SHARDS as u64;
        usize::try_from(at).ok().and_then(|at| self.shards.get(at)).unwrap_or(first)
    }
}

impl Shard {
    fn remember(&mut self, key: &Key, version: &Version, index: u64) -> Gone {
        let gone = match self.of.get_mut(key) {
            Some(of) if of.version == *version => {
                self.count += usize::from(of.indexes.insert(index));
                None
            }
            Some(_) => {
                let gone = self.take(key, Some(version));
                self.begin(key, version, index);
                gone
            }
            None => {
                self.begin(key, version, index);
                None
            }
        };
        while self.count > MOST / SHARDS && self.of.len() > 1 {
            let Some((_, forgotten)) = self.of.pop_first() else { break };
            self.count -= forgotten.indexes.len();
        }
        gone
    }

    fn begin(&mut self, key: &Key, version: &Version, index: u64) {
        let of = OfVersion { version: version.clone(), indexes: BTreeSet::from([index]) };
        self.of.insert(key.clone(), of);
        self.count += 1;
    }

    fn take(&mut self, key: &Key, stays: Option<&Version>) -> Gone {
        if self.of.is_empty() || self.of.get(key).is_none_or(|of| stays == Some(&of.version)) {
            return None;
        }
        let OfVersion { version, indexes } = self.of.remove(key)?;
        self.count -= indexes.len();
        Some((version, indexes))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_version_that_is_gone_are_told_once() {
        let kept = Kept::new();
        let (key, old, new) = (Key::new("k").expect("valid"), Version::from_u128(1), Version::from_u128(2));
        assert_eq!(kept.retire(&key, None), None);
        assert_eq!(kept.remember(&key, &old, 3), None);
        assert_eq!(kept.remember(&key, &old, 3), None);
        assert_eq!(kept.remember(&key, &old, 7), None);
        assert_eq!(kept.retire(&key, Some(&old)), None, "the version stays");
        assert_eq!(kept.remember(&key, &new, 1), Some((old, BTreeSet::from([3, 7]))));
        assert_eq!(kept.retire(&key, None), Some((new, BTreeSet::from([1]))));
        assert_eq!(kept.retire(&key, None), None);
        assert_eq!(count(&kept), 0);
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let kept = Kept::new();
        let version = Version::from_u128(1);
        let keys: Vec<Key> = (0..64).map(|number| Key::new(format!("{number}")).expect("valid")).collect();
        for index in 0..MOST as u64 / 32 {
            for key in &keys {
                kept.remember(key, &version, index);
            }
        }
        assert!((MOST / 4..=MOST).contains(&count(&kept)), "{}", count(&kept));
        let retired = keys.iter().filter_map(|key| kept.retire(key, None)).map(|(_, indexes)| indexes.len());
        assert!(retired.sum::<usize>() > 0 && count(&kept) == 0, "what is counted is what is remembered");
    }

    fn count(kept: &Kept) -> usize {
        kept.shards.iter().map(|shard| shard.lock().count).sum()
    }
}
