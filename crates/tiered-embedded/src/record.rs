//! The bytes of an entry: one record of metadata, and chunks for a large value.
//!
//! Every record and chunk carries a CRC-32C over its key, position and content,
//! so that neither a flipped bit nor a record that strayed to another key is ever returned as data.
//!
//! ```text
//! record  magic "tR" | format 2 | flags | crc32c | metadata, by `tiered_core::codec` | inline value (rest, where flagged)
//! chunk   crc32c(key, version, index, content) | content
//! ```
//! Integers are little-endian. Lengths are checked against what is there before anything is allocated.

use bytes::Bytes;

use tiered_core::adapter::codec::{decode_metadata, encode_metadata};
use tiered_core::{Error, ErrorKind, Key, Metadata, Result, Timestamp, Version};

const MAGIC: [u8; 2] = *b"tR";
const FORMAT: u8 = 2;
const HEADER: usize = 8;
const FLAG_INLINE: u8 = 1;

/// A stored entry's metadata and, for a small value, the value itself.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The entry's metadata.
    pub(crate) metadata: Metadata,
    /// The value, where it is stored inline.
    pub(crate) inline: Option<Bytes>,
}

/// Encodes the record of `key`.
pub(crate) fn encode(key: &Key, metadata: &Metadata, inline: Option<&[u8]>) -> Vec<u8> {
    let flags = if inline.is_some() { FLAG_INLINE } else { 0 };
    let head = [MAGIC[0], MAGIC[1], FORMAT, flags];
    let mut record = Vec::with_capacity(HEADER + 96 + inline.map_or(0, <[u8]>::len));
    record.extend_from_slice(&head);
    record.extend_from_slice(&[0; 4]);
    encode_metadata(metadata, &mut record);
    record.extend_from_slice(inline.unwrap_or_default());
    if let Some((header, body)) = record.split_at_mut_checked(HEADER)
        && let Some(crc) = header.get_mut(head.len()..)
    {
        crc.copy_from_slice(&crc_of(&[key.as_str().as_bytes(), &head, body]).to_le_bytes());
    }
    record
}

/// Decodes the record of `key`.
///
/// # Errors
/// [`ErrorKind::Corrupt`], with the key, when anything about it is not as [`encode`] writes it.
pub(crate) fn decode(key: &Key, bytes: &[u8]) -> Result<Record> {
    parse(key, bytes).ok_or_else(|| damaged(key))
}

/// The size of the value that the record's chunks hold; `None` where the value lies in the record.
///
/// # Errors
/// As [`decode`].
pub(crate) fn size_in_chunks(key: &Key, bytes: &[u8]) -> Result<Option<u64>> {
    let size = || {
        let (flags, mut body) = open(key, bytes)?;
        if flags & FLAG_INLINE != 0 {
            return Some(None);
        }
        decode_metadata(&mut body).map(|metadata| Some(metadata.size))
    };
    size().ok_or_else(|| damaged(key))
}

/// What a record says of its entry, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The size of the value that its chunks hold; `None` where the value lies in the record.
    pub(crate) chunked: Option<u64>,
    pub(crate) expires: Option<Timestamp>,
}

/// The outline of the record of `key`.
///
/// # Errors
/// As [`decode`].
pub(crate) fn outline(key: &Key, bytes: &[u8]) -> Result<Outline> {
    let read = || {
        let (flags, mut body) = open(key, bytes)?;
        let metadata = decode_metadata(&mut body)?;
        let chunked = (flags & FLAG_INLINE == 0).then_some(metadata.size);
        Some(Outline { chunked, expires: metadata.expires_at })
    };
    read().ok_or_else(|| damaged(key))
}

fn parse(key: &Key, bytes: &[u8]) -> Option<Record> {
    let (flags, mut rest) = open(key, bytes)?;
    let metadata = decode_metadata(&mut rest)?;
    let inline = if flags & FLAG_INLINE == 0 {
        rest.is_empty().then_some(None)?
    } else {
        (rest.len() as u64 == metadata.size).then(|| Some(Bytes::copy_from_slice(rest)))?
    };
    Some(Record { metadata, inline })
}

/// The flags and the body of a record whose checksum is right.
fn open<'a>(key: &Key, bytes: &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let (head, crc) = header.split_at_checked(4)?;
    let flags = *head.get(3)?;
    if head.get(..2)? != MAGIC || *head.get(2)? != FORMAT || flags & !FLAG_INLINE != 0 {
        return None;
    }
    (crc_of(&[key.as_str().as_bytes(), head, body]).to_le_bytes() == *crc).then_some((flags, body))
}

fn damaged(key: &Key) -> Error {
    corrupt(key, "its record is damaged")
}

/// Encodes chunk number `index` of the value that `key` has under `version`.
pub(crate) fn seal_chunk(key: &Key, version: &Version, index: u32, content: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(4 + content.len());
    chunk.extend_from_slice(&chunk_crc(key, version, index, content).to_le_bytes());
    chunk.extend_from_slice(content);
    chunk
}

/// The content of chunk number `index` of the value that `key` has under `version`.
///
/// # Errors
/// [`ErrorKind::Corrupt`], with the key, when it is damaged or belongs to something else.
pub(crate) fn open_chunk<'a>(key: &Key, version: &Version, index: u32, chunk: &'a [u8]) -> Result<&'a [u8]> {
    chunk
        .split_at_checked(4)
        .filter(|(crc, content)| chunk_crc(key, version, index, content).to_le_bytes() == **crc)
        .map(|(_, content)| content)
        .ok_or_else(|| corrupt(key, "a chunk of its value is damaged"))
}

/// The error for damaged data of `key`.
pub(crate) fn corrupt(key: &Key, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what}; restore it from another tier or a backup")).for_key(key)
}

fn chunk_crc(key: &Key, version: &Version, index: u32, content: &[u8]) -> u32 {
    let id = version.as_u128().unwrap_or_default().to_le_bytes();
    let token = version.as_token().unwrap_or_default().as_bytes();
    crc_of(&[key.as_str().as_bytes(), &id, token, &index.to_le_bytes(), content])
}

/// The checksum of several parts. The length of each goes in before it, so that bytes cannot move from one part to the next.
fn crc_of(parts: &[&[u8]]) -> u32 {
    // Small pieces are gathered: a call for each would take longer than reading the value.
    let (mut gathered, mut filled) = ([0; 128], 0);
    let mut crc = 0;
    for part in parts {
        for piece in [&(part.len() as u64).to_le_bytes()[..], part] {
            if let Some(place) = gathered.get_mut(filled..filled + piece.len()) {
                place.copy_from_slice(piece);
                filled += piece.len();
            } else {
                crc = crc32c::crc32c_append(crc, gathered.get(..filled).unwrap_or_default());
                filled = 0;
                crc = crc32c::crc32c_append(crc, piece);
            }
        }
    }
    crc32c::crc32c_append(crc, gathered.get(..filled).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiered_core::adapter::{Note, Origin, Stamp, Validator};
    use tiered_core::{Attributes, Put};

    fn sample() -> (Key, Metadata) {
        let attributes = Attributes::new().with("content-type", "text/plain").expect("valid");
        let put = Put::new("value").expires_at(Timestamp::from_millis(9)).attributes(attributes);
        let note = Note::default()
            .with_session(3, 4)
            .with_origin(Origin::Local)
            .with_validator(Some(Validator::new("\"tag\"").expect("short")));
        let entry = Stamp::system().entry(&put).with_note(note);
        (Key::new("k").expect("valid"), (**entry.metadata()).clone())
    }

    /// Gathering pieces changes nothing: what was written before is read.
    #[test]
    fn the_checksum_of_parts_is_that_of_their_lengths_and_bytes_in_a_row() {
        let long = [7_u8; 300];
        for lengths in
            [[0, 0, 0], [1, 20, 90], [120, 1, 1], [128, 8, 120], [8, 300, 8], [300, 0, 112], [104, 8, 300]]
        {
            let parts = lengths.map(|length| long.get(..length).expect("as long"));
            let row: Vec<u8> = parts
                .iter()
                .flat_map(|part| [&(part.len() as u64).to_le_bytes()[..], part].concat())
                .collect();
            assert_eq!(crc_of(&parts), crc32c::crc32c(&row), "{lengths:?}");
        }
    }

    #[test]
    fn an_encoded_record_decodes_to_the_same_record() {
        let (key, metadata) = sample();
        let mut token = metadata.clone();
        token.version = Version::from_token("\"etag\"").expect("valid");
        for metadata in [metadata, token] {
            for inline in [None, Some(b"value".as_slice())] {
                let record = decode(&key, &encode(&key, &metadata, inline)).expect("decodes");
                assert_eq!(record.metadata, metadata);
                assert_eq!(record.metadata.note.validator, metadata.note.validator);
                assert_eq!(record.metadata.note.origin, Origin::Local);
                assert_eq!(record.inline.as_deref(), inline);
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let (key, metadata) = sample();
        let good = encode(&key, &metadata, Some(b"value"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&key, &bad).expect_err("damaged").kind(), ErrorKind::Corrupt);
        }
        for len in 0..good.len() {
            assert!(decode(&key, &good[..len]).is_err());
        }
        assert!(decode(&Key::new("other").expect("valid"), &good).is_err(), "a stray record");
        let chunk = seal_chunk(&key, &metadata.version, 0, b"content");
        assert_eq!(open_chunk(&key, &metadata.version, 0, &chunk).expect("good"), b"content");
        assert!(open_chunk(&key, &metadata.version, 1, &chunk).is_err());
        for bit in 0..chunk.len() * 8 {
            let mut bad = chunk.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_chunk(&key, &metadata.version, 0, &bad).is_err());
        }
    }
}
