//! The map that a store is compared with.

use std::collections::BTreeMap;

use tiered_core::{Key, Precondition, Version};

/// Keys in an order that bytes decide, some of which begin with others.
pub(super) const KEYS: [&str; 8] = ["A", "a", "a/", "a/b", "a0", "b", "é", "\u{10ffff}"];

/// The key of a number.
pub(super) fn key(number: u8) -> Key {
    Key::new(KEYS[usize::from(number) % KEYS.len()]).expect("a key")
}

/// An entry, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Vec<u8>,
    pub(super) version: Version,
    /// In milliseconds.
    pub(super) expires_at: Option<u64>,
}

/// What a store is to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    entries: BTreeMap<Key, Held>,
    /// Milliseconds since the Unix epoch.
    pub(super) now: u64,
    /// Makes each value another.
    written: u32,
    /// Versions that entries had, oldest first.
    versions: Vec<Version>,
}

impl Model {
    /// The live entry.
    pub(super) fn get(&self, key: &Key) -> Option<&Held> {
        self.entries.get(key).filter(|held| held.expires_at.is_none_or(|at| self.now < at))
    }

    /// The live entries, in the order of their keys.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Key, &Held)> {
        let now = self.now;
        self.entries.iter().filter(move |(_, held)| held.expires_at.is_none_or(|at| now < at))
    }

    pub(super) fn put(&mut self, key: Key, held: Held) {
        self.versions.push(held.version.clone());
        self.entries.insert(key, held);
    }

    pub(super) fn delete(&mut self, key: &Key) {
        self.entries.remove(key);
    }

    pub(super) fn holds(&self, key: &Key, precondition: &Precondition) -> bool {
        precondition.holds(self.get(key).map(|held| &held.version))
    }

    /// A value of so many bytes that no entry had before, but for the shortest.
    pub(super) fn value(&mut self, len: u8) -> Vec<u8> {
        self.written += 1;
        self.written.to_le_bytes().into_iter().cycle().take(usize::from(len)).collect()
    }

    /// A version that an entry had at some time.
    pub(super) fn version(&self, back: u8) -> Version {
        let index = self.versions.len().checked_sub(1 + usize::from(back));
        index.map_or(Version::from_u128(0), |index| self.versions[index].clone())
    }
}
