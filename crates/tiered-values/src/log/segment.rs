//! The bytes of a segment.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::Checksum;

const MAGIC: [u8; 4] = *b"TLOG";
const FORMAT: u8 = 1;
const SEALED: u8 = 1;
/// Magic, format, flags, id, first, count.
const HEADER: usize = 4 + 1 + 1 + 16 + 8 + 4;
/// The checksum at the end.
const TAIL: usize = 4;
/// What an element has beside its bytes: id, length.
pub(super) const ELEMENT_HEADER: usize = 16 + 4;
/// Bytes of a segment without elements.
pub(super) const EMPTY: usize = HEADER + TAIL;

/// A segment whose bytes were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: u128,
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) is_sealed: bool,
    /// The elements, as they are stored.
    body: Bytes,
}

/// An element, and the id of its append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) id: u128,
    pub(super) bytes: Bytes,
}

impl Segment {
    /// A segment without elements, which is never stored like this.
    pub(super) const fn new(id: u128, first: u64) -> Self {
        Self { id, first, count: 0, is_sealed: false, body: Bytes::new() }
    }

    /// The number behind its last element.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    /// How many bytes it has in the store.
    pub(super) fn len(&self) -> usize {
        EMPTY + self.body.len()
    }

    /// The same segment with more elements.
    pub(super) fn with(&self, elements: &[Element]) -> Self {
        let added: usize = elements.iter().map(|element| ELEMENT_HEADER + element.bytes.len()).sum();
        let mut body = BytesMut::with_capacity(self.body.len() + added);
        body.put_slice(&self.body);
        let mut count = self.count;
        for element in elements {
            body.put_u128(element.id);
            // An append refuses larger elements.
            body.put_u32(u32::try_from(element.bytes.len()).unwrap_or(u32::MAX));
            body.put_slice(&element.bytes);
            count = count.saturating_add(1);
        }
        Self { count, body: body.freeze(), ..*self }
    }

    /// The same segment, sealed.
    pub(super) fn sealed(self) -> Self {
        Self { is_sealed: true, ..self }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.put_slice(&MAGIC);
        bytes.put_u8(FORMAT);
        bytes.put_u8(if self.is_sealed { SEALED } else { 0 });
        bytes.put_u128(self.id);
        bytes.put_u64(self.first);
        bytes.put_u32(self.count);
        bytes.put_slice(&self.body);
        let checksum = Checksum::of(&bytes).as_u32();
        bytes.put_u32(checksum);
        bytes.freeze()
    }

    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, &'static str> {
        let mut rest = checked(bytes, MAGIC, FORMAT)?;
        if rest.len() < HEADER - 5 {
            return Err("the segment is too short");
        }
        let flags = rest.get_u8();
        let (id, first, count) = (rest.get_u128(), rest.get_u64(), rest.get_u32());
        let segment = Self { id, first, count, is_sealed: flags & SEALED != 0, body: rest };
        let whole = segment.elements().try_fold(0_u32, |count, element| element.map(|_| count + 1))?;
        if whole != count || flags & !SEALED != 0 || first.checked_add(u64::from(count)).is_none() {
            return Err("the segment contradicts itself");
        }
        Ok(segment)
    }

    /// The elements, in order. After [`decode`](Self::decode) none of them is an error.
    pub(super) fn elements(&self) -> impl Iterator<Item = Result<Element, &'static str>> {
        let mut rest = self.body.clone();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if rest.len() < ELEMENT_HEADER {
                rest.clear();
                return Some(Err("an element is cut"));
            }
            let (id, len) = (rest.get_u128(), rest.get_u32() as usize);
            if rest.len() < len {
                rest.clear();
                return Some(Err("an element is cut"));
            }
            Some(Ok(Element { id, bytes: rest.split_to(len) }))
        })
    }

    /// Whether the append of this id is in it.
    pub(super) fn contains(&self, id: u128) -> bool {
        self.elements().any(|element| element.is_ok_and(|element| element.id == id))
    }
}

/// What is between the format number and the checksum, where all three are right.
pub(super) fn checked(bytes: &Bytes, magic: [u8; 4], format: u8) -> Result<Bytes, &'static str> {
    let end = bytes.len().checked_sub(TAIL).filter(|end| *end > magic.len()).ok_or("it is too short")?;
    if bytes.get(..magic.len()) != Some(magic.as_slice()) {
        return Err("it is no part of a log");
    }
    if bytes.get(magic.len()) != Some(&format) {
        return Err("its format is unknown to this version");
    }
    let checksum = bytes.slice(end..).get_u32();
    if Checksum::of(&bytes.slice(..end)).as_u32() != checksum {
        return Err("it is damaged: its checksum does not match");
    }
    Ok(bytes.slice(magic.len() + 1..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        let element = |id, bytes: &'static [u8]| Element { id, bytes: Bytes::from_static(bytes) };
        Segment::new(0xabcd, 300).with(&[element(1, b"one")]).with(&[element(2, b"")])
    }

    /// The bytes of format 1. If this fails, the format has changed and needs another number.
    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        let golden = concat!(
            "544c4f47",
            "01",
            "01",
            "0000000000000000000000000000abcd",
            "000000000000012c",
            "00000002",
            "00000000000000000000000000000001",
            "00000003",
            "6f6e65",
            "00000000000000000000000000000002",
            "00000000",
            "804ffdee"
        );
        let bytes = segment().sealed().encode();
        assert_eq!(crate::keys::ordered::from_bytes(&bytes), golden);
        assert_eq!(Segment::decode(&bytes), Ok(segment().sealed()));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let bytes = segment().encode();
        assert_eq!(bytes.len(), segment().len());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            Segment::decode(&damaged.into()).expect_err("one bit differs");
        }
        for len in 0..bytes.len() {
            Segment::decode(&bytes.slice(..len)).expect_err("it is cut");
        }
    }

    #[test]
    fn a_segment_that_contradicts_itself_is_refused_although_its_checksum_matches() {
        let wrong_count = Segment { count: 3, ..segment() };
        assert_eq!(Segment::decode(&wrong_count.encode()), Err("the segment contradicts itself"));
        let cut = Segment { body: segment().body.slice(..30), ..segment() };
        assert_eq!(Segment::decode(&cut.encode()), Err("an element is cut"));
        let beyond = Segment { first: u64::MAX, ..segment() };
        assert!(Segment::decode(&beyond.encode()).is_err());
    }

    #[test]
    fn an_append_is_recognised_by_its_id() {
        assert!(segment().contains(2) && !segment().contains(3));
        assert_eq!(segment().end(), 302);
    }
}
