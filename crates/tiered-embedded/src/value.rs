//! Values that lie apart from their keys: their ids, the names of their chunks, and what says that no record refers to one.
//!
//! ```text
//! chunk   0x01 | crc32c(key) | id | number   → crc32c(key, id, number, content) | content
//! loose   0x00 | crc32c(key) | id            → chunks | bytes | crc32c(name, chunks, bytes)
//! ```
//! Numbers in names are big-endian, others little-endian. No key begins with such a byte, so that these names never meet those
//! of chunks that lie under their key.
//!
//! A value is *loose* while it is uploaded, and again from when its record is gone until its chunks are. The mark is written
//! and removed by the transaction that makes it so: whenever the process is killed, each chunk belongs to a record or to a
//! loose value.

use tiered_core::adapter::VersionMint;
use tiered_core::{Error, ErrorKind, Key, Result};

use crate::record::crc_of;

const LOOSE: u8 = 0;
const CHUNK: u8 = 1;

/// What a chunk's name takes.
const NAME: usize = 1 + 4 + 16 + 4;

/// What the checksum of a chunk takes.
pub(crate) const SEAL: usize = 4;

/// A pair in the table of chunks stays below 65,280 bytes: redb rounds runs of pages to powers of two, and one byte more would
/// take 128 KiB.
pub(crate) const PAIR: usize = 65_280;

/// What an engine and the checksum add to a pair.
pub(crate) const HEADER: usize = SEAL + 4 + 16;

/// Bytes of a value in a chunk; its last one may have fewer.
pub(crate) const CONTENT: usize = PAIR - HEADER - NAME;

/// What a pair takes beside its bytes, as an engine's tables need it: lengths, its share of the pages above, and room that
/// pages leave free.
pub(crate) const AROUND: u64 = 64;

/// Identifies a value in the database. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueId(u128);

impl ValueId {
    pub(crate) const LEN: usize = 16;

    pub(crate) fn mint(versions: &VersionMint) -> Self {
        Self(versions.mint().as_u128().unwrap_or_default())
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// Where a value lies: its id, and its key's hash, by which the values of a key are found without its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    hash: u32,
    pub(crate) id: ValueId,
}

impl Place {
    pub(crate) fn new(key: &Key, id: ValueId) -> Self {
        Self { hash: crc32c::crc32c(key.as_str().as_bytes()), id }
    }

    fn name(self, kind: u8) -> Vec<u8> {
        let mut name = Vec::with_capacity(NAME);
        name.push(kind);
        name.extend_from_slice(&self.hash.to_be_bytes());
        name.extend_from_slice(&self.id.to_bytes());
        name
    }

    /// The name of chunk number `index`.
    pub(crate) fn chunk(self, index: u32) -> Vec<u8> {
        let mut name = self.name(CHUNK);
        name.extend_from_slice(&index.to_be_bytes());
        name
    }

    /// The name of the mark of a loose value.
    pub(crate) fn loose(self) -> Vec<u8> {
        self.name(LOOSE)
    }

    /// The place and the number in the name of a chunk; `None` for any other name.
    pub(crate) fn of_chunk(name: &[u8]) -> Option<(Self, u32)> {
        let (place, index) = name.split_at_checked(NAME - 4)?;
        Some((Self::of(place, CHUNK)?, u32::from_be_bytes(index.try_into().ok()?)))
    }

    /// The place in the name of the mark of a loose value.
    pub(crate) fn of_loose(name: &[u8]) -> Option<Self> {
        Self::of(name, LOOSE)
    }

    fn of(name: &[u8], kind: u8) -> Option<Self> {
        let (hash, id) = name.strip_prefix(&[kind])?.split_at_checked(4)?;
        let hash = u32::from_be_bytes(hash.try_into().ok()?);
        Some(Self { hash, id: ValueId::from_bytes(id.try_into().ok()?) })
    }
}

/// The first name of a chunk of a value of `key`, and of what may have the same hash.
pub(crate) fn first_chunk_of(key: &Key) -> Vec<u8> {
    Place::new(key, ValueId(0)).chunk(0)
}

/// The last of them.
pub(crate) fn last_chunk_of(key: &Key) -> Vec<u8> {
    Place::new(key, ValueId(u128::MAX)).chunk(u32::MAX)
}

/// What ends the names of marks of loose values.
pub(crate) const END_OF_LOOSE: &[u8] = &[CHUNK];

/// Chunks of a value of so many bytes.
pub(crate) fn chunks_of(size: u64) -> u64 {
    size.div_ceil(CONTENT as u64)
}

/// What the chunks of a value of so many bytes take, with what is around them.
pub(crate) fn bytes_of(size: u64) -> u64 {
    chunks_of(size).saturating_mul((NAME + SEAL) as u64 + AROUND).saturating_add(size)
}

/// What there is of a loose value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loose {
    /// Chunks with lower numbers may be there, others are not.
    pub(crate) chunks: u32,
    /// What they take, and the mark with them.
    pub(crate) bytes: u64,
}

impl Loose {
    const LEN: usize = 4 + 8 + SEAL;

    /// A loose value of so many bytes.
    pub(crate) fn new(size: u64) -> Result<Self> {
        let chunks = u32::try_from(chunks_of(size)).map_err(|_| {
            Error::new(ErrorKind::TooLarge, "the value has more chunks than can be counted; split it")
        })?;
        let mark = (NAME - 4 + Self::LEN) as u64 + AROUND;
        Ok(Self { chunks, bytes: bytes_of(size).saturating_add(mark) })
    }

    pub(crate) fn encode(self, name: &[u8]) -> Vec<u8> {
        let mut mark = Vec::with_capacity(Self::LEN);
        mark.extend_from_slice(&self.chunks.to_le_bytes());
        mark.extend_from_slice(&self.bytes.to_le_bytes());
        let crc = crc_of(&[name, &mark]);
        mark.extend_from_slice(&crc.to_le_bytes());
        mark
    }

    /// `None` where the mark is damaged.
    pub(crate) fn decode(name: &[u8], mark: &[u8]) -> Option<Self> {
        let (body, crc) = mark.split_at_checked(Self::LEN - SEAL)?;
        let (chunks, bytes) = body.split_at_checked(4)?;
        let sound = crc_of(&[name, body]).to_le_bytes() == *crc;
        let loose = Self {
            chunks: u32::from_le_bytes(chunks.try_into().ok()?),
            bytes: u64::from_le_bytes(bytes.try_into().ok()?),
        };
        sound.then_some(loose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place::new(&Key::new("k").expect("valid"), ValueId(7 << 64 | 9))
    }

    #[test]
    fn a_name_tells_its_place() {
        let place = place();
        assert_eq!(Place::of_chunk(&place.chunk(3)), Some((place, 3)));
        assert_eq!(Place::of_loose(&place.loose()), Some(place));
        assert_eq!(Place::of_loose(&place.chunk(3)), None);
        assert_eq!(Place::of_chunk(&place.loose()), None);
        assert_eq!(Place::of_chunk(b"a key of an older format\0\0\0\0\0"), None);
        assert_eq!(place.chunk(0).len(), NAME);
        let key = Key::new("k").expect("valid");
        assert!(first_chunk_of(&key) < place.chunk(0) && place.chunk(u32::MAX) < last_chunk_of(&key));
        assert!(place.loose().as_slice() < END_OF_LOOSE && END_OF_LOOSE < place.chunk(0).as_slice());
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_damage_is_seen() {
        let (name, loose) = (place().loose(), Loose::new(1 << 32).expect("countable"));
        assert_eq!(loose.chunks, 65_843);
        let mark = loose.encode(&name);
        assert_eq!(Loose::decode(&name, &mark), Some(loose));
        for bit in 0..mark.len() * 8 {
            let mut bad = mark.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Loose::decode(&name, &bad), None);
        }
        assert_eq!(Loose::decode(&name, &mark[1..]), None);
        assert_eq!(Loose::new(u64::MAX).expect_err("too many").kind(), ErrorKind::TooLarge);
    }
}
