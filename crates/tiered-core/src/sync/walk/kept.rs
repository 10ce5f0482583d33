//! Values that were read for their references, for as long as there is room: they are copied without being read again.

use std::collections::HashMap;

use super::node::Id;
use crate::entry::Entry;

/// Bytes that an entry takes beside its value: its metadata, and its place here.
const BESIDE: u64 = 200;

/// Values that were read, until they are copied.
#[derive(Debug)]
pub(super) struct Kept {
    entries: HashMap<Id, Entry>,
    bytes: u64,
    most: u64,
}

impl Kept {
    /// Room for so many bytes; 0 keeps nothing.
    pub(super) fn new(most: u64) -> Self {
        Self { entries: HashMap::new(), bytes: 0, most }
    }

    /// Keeps a value if there is room.
    pub(super) fn keep(&mut self, id: Id, entry: Entry) {
        let bytes = self.bytes.saturating_add(weight(&entry));
        if bytes <= self.most && self.entries.insert(id, entry).is_none() {
            self.bytes = bytes;
        }
    }

    /// Gives a value out.
    pub(super) fn take(&mut self, id: Id) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(weight(&entry));
        Some(entry)
    }

    /// What the values here take.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn weight(entry: &Entry) -> u64 {
    entry.size().saturating_add(BESIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Stamp;
    use crate::write::Put;

    #[test]
    fn values_are_kept_as_long_as_there_is_room() {
        let entry = |bytes: usize| Stamp::system().entry(&Put::new(vec![1; bytes]));
        let mut kept = Kept::new(1_000);
        kept.keep(0, entry(100));
        kept.keep(1, entry(600));
        kept.keep(2, entry(200));
        assert_eq!(kept.bytes(), 700);
        assert!(kept.take(1).is_none());
        assert_eq!(kept.take(0).map(|entry| entry.size()), Some(100));
        assert_eq!(kept.bytes(), 400);
        kept.keep(1, entry(400));
        assert_eq!((kept.bytes(), kept.take(0)), (1_000, None));
    }
}
