//! Stubs: the metadata of a value that the frontend has in blocks.

use std::sync::Arc;

use bytes::Bytes;

use crate::adapter::Checksum;
use crate::entry::{Entry, Metadata, Note, Origin};

/// The version of the format: what another one has written is no stub.
const FORMAT: u8 = 1;

/// The metadata of a value, as the backend gave it; its note says when it was compared.
///
/// In the frontend it is an entry under the value's own key: the metadata, and in place of the value its size and checksum,
/// which a store computes from what it is given.
///
/// | bytes | what |
/// |---|---|
/// | 1 | the format |
/// | 8 | size of the value, little-endian |
/// | 1 | whether the checksum is known |
/// | 4 | the checksum, little-endian |
#[derive(Clone, Debug)]
pub(crate) struct Stub(Arc<Metadata>);

impl Stub {
    /// Bytes of a stub in place of the value.
    pub(crate) const LEN: u64 = 14;

    /// Of a value with this metadata, compared with the backend as `note` says.
    pub(crate) fn new(metadata: &Metadata, note: Note) -> Self {
        let note = note.with_origin(Origin::Backend);
        Self(Arc::new(Metadata { note, ..metadata.clone() }))
    }

    /// The stub that an entry of the frontend is, if it is one.
    pub(crate) fn read(entry: &Entry) -> Option<Self> {
        let metadata = entry.metadata();
        let bytes: [u8; 14] = entry.value().as_ref().try_into().ok()?;
        if metadata.note.origin != Origin::Part || bytes.first() != Some(&FORMAT) {
            return None;
        }
        let [_, size @ .., _, _, _, _, _] = bytes;
        let [.., checked, a, b, c, d] = bytes;
        let checksum = match checked {
            0 => None,
            1 => Some(Checksum::from_u32(u32::from_le_bytes([a, b, c, d]))),
            _ => return None,
        };
        let whole = Metadata { size: u64::from_le_bytes(size), checksum, ..(**metadata).clone() };
        Some(Self::new(&whole, metadata.note.clone()))
    }

    /// The entry that it is in the frontend.
    pub(crate) fn entry(&self) -> Entry {
        let checksum = self.0.checksum.map(Checksum::as_u32);
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.0.size.to_le_bytes());
        bytes.push(u8::from(checksum.is_some()));
        bytes.extend_from_slice(&checksum.unwrap_or_default().to_le_bytes());
        let note = self.0.note.clone().with_origin(Origin::Part);
        let metadata = Metadata { note, size: Self::LEN, checksum: None, ..(*self.0).clone() };
        Entry::from_parts(Bytes::from(bytes), Arc::new(metadata))
    }

    /// The metadata of the value.
    pub(crate) const fn metadata(&self) -> &Arc<Metadata> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Stamp;
    use crate::{Attributes, Put, Timestamp, Version};

    fn metadata() -> Metadata {
        Metadata::new(Version::from_u128(7), Timestamp::from_millis(5), 3 << 30)
            .with_expiry(Some(Timestamp::from_millis(9)))
            .with_attributes(Attributes::new().with("a", "b").expect("valid"))
    }

    #[test]
    fn a_stub_that_was_stored_is_read_with_all_of_its_metadata() {
        for checksum in [None, Some(Checksum::of(b"value"))] {
            let whole = metadata().with_checksum(checksum);
            let stub = Stub::new(&whole, Note::default().with_session(3, 4));
            // As a store keeps it, which computes size and checksum anew.
            let stored = Stamp::system().entry(&Put::verbatim(&stub.entry()));
            assert!(stored.metadata().note.origin.is_hidden() && stored.size() == Stub::LEN);
            let read = Stub::read(&stored).expect("a stub");
            assert_eq!(**read.metadata(), whole);
            let note = &read.metadata().note;
            assert_eq!((note.session, note.validated, note.origin), (3, 4, Origin::Backend));
        }
    }

    #[test]
    fn what_is_no_stub_is_not_read_as_one() {
        let stub = Stub::new(&metadata(), Note::default()).entry();
        assert!(Stub::read(&stub).is_some());
        assert!(Stub::read(&stub.clone().with_note(Note::default())).is_none(), "an ordinary entry");
        assert!(Stub::read(&stub.slice(&(0..13)).expect("a part")).is_none());
        let mut bytes = stub.value().to_vec();
        bytes[0] = 2;
        let later = Entry::from_parts(bytes.into(), Arc::clone(stub.metadata()));
        assert!(Stub::read(&later).is_none(), "a later format");
    }
}
