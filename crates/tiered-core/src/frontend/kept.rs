//! Which blocks the frontend is known to have: so that those of a version that is gone can be removed, and those of a stub that
//! was met before are found without reading it again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::Arc;

use crate::blocks::{Cut, Grid, Names, Stub};
use crate::entry::{Entry, Metadata, clamp_range};
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
    names: Names,
    indexes: BTreeSet<u64>,
    /// What the stub says that was met last: the metadata of its entry, and those of the value.
    stub: Option<(Arc<Metadata>, Stub)>,
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

    /// Remembers a block. Returns the blocks of another version of its value: they are of no use any more.
    pub(super) fn remember(&self, cut: &Cut, index: u64) -> Gone {
        self.shard(cut.key()).lock().remember(cut, index)
    }

    /// The value of `key`, if `met` is its stub and all blocks of `range` of it are known; and the range, which ends with the
    /// value.
    pub(super) fn look(
        &self,
        key: &Key,
        met: &Entry,
        range: &Range<u64>,
        grid: Grid,
    ) -> Option<(Cut, Range<u64>)> {
        let mut shard = self.shard(key).lock();
        let of = shard.of.get_mut(key).filter(|of| of.version == *met.version())?;
        let stub = of.stub_of(met)?;
        let range = clamp_range(range, stub.metadata().size).ok()?;
        let known = grid.indexes(&range).all(|index| of.indexes.contains(&index));
        known.then(|| (Cut::named(key, stub.metadata(), grid, of.names), range))
    }

    /// Whether blocks of some version of `key` are known.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.shard(key).lock().of.contains_key(key)
    }

    /// Forgets the blocks of `key`, but for those of the version that `stays`; those that were forgotten.
    pub(super) fn retire(&self, key: &Key, stays: Option<&Version>) -> Gone {
        self.shard(key).lock().take(key, stays)
    }

    /// What the names of all blocks begin with that are remembered.
    pub(super) fn hashes(&self) -> HashSet<u128> {
        let mut hashes = HashSet::new();
        for shard in &self.shards {
            hashes.extend(shard.lock().of.values().map(|of| of.names.hash()));
        }
        hashes
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        let [first, ..] = &self.shards;
        let at = self.hasher.hash_one(key) % SHARDS as u64;
        usize::try_from(at).ok().and_then(|at| self.shards.get(at)).unwrap_or(first)
    }
}

impl OfVersion {
    /// The stub that `met` is. Read once, as long as the entry stays.
    fn stub_of(&mut self, met: &Entry) -> Option<Stub> {
        if let Some((of, stub)) = &self.stub
            && Arc::ptr_eq(of, met.metadata())
        {
            return Some(stub.clone());
        }
        let stub = Stub::read(met)?;
        self.stub = Some((Arc::clone(met.metadata()), stub.clone()));
        Some(stub)
    }
}

impl Shard {
    fn remember(&mut self, cut: &Cut, index: u64) -> Gone {
        let gone = match self.of.get_mut(cut.key()) {
            Some(of) if of.version == *cut.version() => {
                self.count += usize::from(of.indexes.insert(index));
                None
            }
            Some(_) => {
                let gone = self.take(cut.key(), Some(cut.version()));
                self.begin(cut, index);
                gone
            }
            None => {
                self.begin(cut, index);
                None
            }
        };
        while self.count > MOST / SHARDS && self.of.len() > 1 {
            let Some((_, forgotten)) = self.of.pop_first() else { break };
            self.count -= forgotten.indexes.len();
        }
        gone
    }

    fn begin(&mut self, cut: &Cut, index: u64) {
        let (version, indexes) = (cut.version().clone(), BTreeSet::from([index]));
        self.of.insert(cut.key().clone(), OfVersion { version, names: cut.names(), indexes, stub: None });
        self.count += 1;
    }

    fn take(&mut self, key: &Key, stays: Option<&Version>) -> Gone {
        if self.of.is_empty() || self.of.get(key).is_none_or(|of| stays == Some(&of.version)) {
            return None;
        }
        let OfVersion { version, indexes, .. } = self.of.remove(key)?;
        self.count -= indexes.len();
        Some((version, indexes))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::entry::Note;

    const GRID: Grid = Grid::new(10);

    fn cut(key: &str, version: u128) -> Cut {
        let metadata = Metadata::new(Version::from_u128(version), Timestamp::from_millis(1), 95);
        Cut::new(&Key::new(key).expect("valid"), &Arc::new(metadata), GRID)
    }

    #[test]
    fn blocks_of_a_version_that_is_gone_are_told_once() {
        let kept = Kept::new();
        let (key, old, new) = (Key::new("k").expect("valid"), Version::from_u128(1), Version::from_u128(2));
        assert_eq!(kept.retire(&key, None), None);
        for index in [3, 3, 7] {
            assert_eq!(kept.remember(&cut("k", 1), index), None);
        }
        assert_eq!(kept.retire(&key, Some(&old)), None, "the version stays");
        assert_eq!(kept.remember(&cut("k", 2), 1), Some((old, BTreeSet::from([3, 7]))));
        assert_eq!(kept.retire(&key, None), Some((new, BTreeSet::from([1]))));
        assert_eq!(kept.retire(&key, None), None);
        assert_eq!(count(&kept), 0);
    }

    #[test]
    fn a_value_is_known_by_its_stub_and_by_all_blocks_that_are_asked_for() {
        let kept = Kept::new();
        let (key, one) = (Key::new("k").expect("valid"), cut("k", 1));
        let met = Stub::new(one.metadata(), Note::default()).entry();
        assert!(kept.look(&key, &met, &(30..50), GRID).is_none());
        kept.remember(&one, 3);
        assert!(kept.look(&key, &met, &(30..50), GRID).is_none(), "one of two");
        kept.remember(&one, 4);
        kept.remember(&one, 9);
        let (found, range) = kept.look(&key, &met, &(90..200), GRID).expect("known");
        assert_eq!((range, found.metadata()), (90..95, one.metadata()));
        assert_eq!(found.name(3).expect("valid"), one.name(3).expect("valid"));
        // A stub that was compared again.
        let later = Stub::new(one.metadata(), Note::default().with_session(3, 4)).entry();
        let (found, _) = kept.look(&key, &later, &(30..50), GRID).expect("known");
        assert_eq!(found.metadata().note.validated, 4);
        assert!(kept.look(&key, &met, &(96..97), GRID).is_none(), "beyond the end");
        let other = Stub::new(cut("k", 2).metadata(), Note::default()).entry();
        assert!(kept.look(&key, &other, &(30..50), GRID).is_none(), "of another version");
        assert!(kept.look(&key, &one.entry("0123456789".into()), &(30..50), GRID).is_none(), "a block");
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let kept = Kept::new();
        let keys: Vec<Key> = (0..64).map(|number| Key::new(format!("{number}")).expect("valid")).collect();
        for index in 0..MOST as u64 / 32 {
            for key in &keys {
                kept.remember(&cut(key.as_str(), 1), index);
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
