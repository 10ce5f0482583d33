//! One version of a value, and how it is cut into blocks.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::grid::Grid;
use super::name::Names;
use crate::entry::{Entry, Metadata, Note, Origin};
use crate::error::Result;
use crate::key::Key;
use crate::version::Version;

/// One version of a value, and how it is cut into blocks.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    key: Key,
    metadata: Arc<Metadata>,
    grid: Grid,
    names: Names,
}

impl Cut {
    /// The value of `key` with this metadata.
    pub(crate) fn new(key: &Key, metadata: &Arc<Metadata>, grid: Grid) -> Self {
        Self::named(key, metadata, grid, Names::of(key, &metadata.version, grid.block()))
    }

    /// The same, where the names of its blocks are known.
    pub(crate) fn named(key: &Key, metadata: &Arc<Metadata>, grid: Grid, names: Names) -> Self {
        Self { key: key.clone(), metadata: Arc::clone(metadata), grid, names }
    }

    pub(crate) const fn names(&self) -> Names {
        self.names
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }

    pub(crate) const fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    pub(crate) fn version(&self) -> &Version {
        &self.metadata.version
    }

    pub(crate) const fn grid(&self) -> Grid {
        self.grid
    }

    /// The name of a block in the frontend.
    ///
    /// # Errors
    /// None: a name is a valid key.
    pub(crate) fn name(&self, index: u64) -> Result<Key> {
        self.names.block(index)
    }

    /// The bytes of neighbouring blocks.
    pub(crate) fn bytes(&self, run: &Range<u64>) -> Range<u64> {
        self.grid.bytes_of(run, self.metadata.size)
    }

    /// The whole blocks in a part of the value that begins at `start`.
    pub(crate) fn blocks_in(&self, part: &Bytes, start: u64) -> Vec<(u64, Bytes)> {
        self.grid.cut(part, start, self.metadata.size)
    }

    /// A block as an entry of the frontend. It expires with its value.
    pub(crate) fn entry(&self, block: Bytes) -> Entry {
        let note = Note::default().with_origin(Origin::Part);
        let metadata = Metadata::new(self.version().clone(), self.metadata.modified, block.len() as u64)
            .with_expiry(self.metadata.expires_at)
            .with_note(note);
        Entry::from_parts(block, Arc::new(metadata))
    }

    /// Whether an entry, or a part of one, is that of block `index` of this version.
    pub(crate) fn has(&self, index: u64, entry: &Entry) -> bool {
        let bytes = self.grid.bytes(index, self.metadata.size);
        entry.metadata().note.origin == Origin::Part
            && entry.version() == self.version()
            && entry.size() == bytes.end - bytes.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, Version};

    fn cut(key: &str, version: u128, size: u64) -> Cut {
        let metadata = Metadata::new(Version::from_u128(version), Timestamp::from_millis(1), size);
        Cut::new(&Key::new(key).expect("valid"), &Arc::new(metadata), Grid::new(10))
    }

    #[test]
    fn a_block_is_taken_for_its_own_version_and_place_alone() {
        let of = cut("k", 1, 25);
        let (full, last) = (of.entry("0123456789".into()), of.entry("01234".into()));
        assert!(of.has(0, &full) && of.has(1, &full) && of.has(2, &last));
        assert!(!of.has(2, &full) && !of.has(0, &last), "of another length");
        assert!(of.has(0, &full.slice(&(2..3)).expect("a part")));
        assert!(!cut("k", 2, 25).has(0, &full), "of another version");
        assert!(!of.has(0, &full.clone().with_note(Note::default())), "an ordinary entry");
    }

    #[test]
    fn a_block_is_hidden_and_expires_with_its_value() {
        let at = Some(Timestamp::from_millis(9));
        let metadata = (**cut("k", 1, 25).metadata()).clone().with_expiry(at);
        let of = Cut::new(&Key::new("k").expect("valid"), &Arc::new(metadata), Grid::new(10));
        let block = of.entry("0123456789".into());
        assert_eq!(block.metadata().expires_at, at);
        assert!(block.metadata().note.origin.is_hidden());
    }
}
