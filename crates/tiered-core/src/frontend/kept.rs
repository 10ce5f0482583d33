//! Which blocks the frontend is known to have: so that those of a version that is gone can be removed.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::Key;
use crate::sync_primitives::Mutex;
use crate::version::Version;

/// Blocks that are remembered: of 256 KiB each they are 256 GiB, for a few tens of megabytes of memory. What is forgotten is
/// left to the eviction of the frontend.
const MOST: usize = 1 << 20;

/// The blocks of one version of a value.
#[derive(Debug)]
struct OfVersion {
    version: Version,
    indexes: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct State {
    of: BTreeMap<Key, OfVersion>,
    count: usize,
}

/// The blocks that were installed or found, by the key of their value.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<State>);

/// Blocks of a version that is gone, to be removed.
pub(super) type Gone = Option<(Version, BTreeSet<u64>)>;

impl Kept {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Remembers a block of `version` of `key`. Returns the blocks of another version of `key`: they are of no use any more.
    pub(super) fn remember(&self, key: &Key, version: &Version, index: u64) -> Gone {
        let mut state = self.0.lock();
        let gone = state.take(key, Some(version));
        let new = OfVersion { version: version.clone(), indexes: BTreeSet::new() };
        if state.of.entry(key.clone()).or_insert(new).indexes.insert(index) {
            state.count += 1;
        }
        while state.count > MOST && state.of.len() > 1 {
            let Some((_, forgotten)) = state.of.pop_first() else { break };
            state.count -= forgotten.indexes.len();
        }
        gone
    }

    /// Forgets the blocks of `key`, but for those of the version that `stays`; those that were forgotten.
    pub(super) fn retire(&self, key: &Key, stays: Option<&Version>) -> Gone {
        self.0.lock().take(key, stays)
    }
}

impl State {
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
        assert_eq!(kept.0.lock().count, 0);
    }

    #[test]
    fn no_more_is_remembered_than_fits() {
        let kept = Kept::new();
        let (first, second) = (Key::new("a").expect("valid"), Key::new("b").expect("valid"));
        let version = Version::from_u128(1);
        kept.remember(&first, &version, 0);
        for index in 0..MOST as u64 {
            kept.remember(&second, &version, index);
        }
        assert_eq!(kept.retire(&first, None), None, "forgotten");
        assert_eq!(kept.0.lock().count, MOST);
    }
}
