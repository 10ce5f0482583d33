//! The bytes of an entry: one record of metadata, and chunks for a large value.
//!
//! Every record and chunk carries a CRC-32C over its key, position and content,
//! so that neither a flipped bit nor a record that strayed to another key is ever returned as data.
//!
//! ```text
//! record  magic "tR" | format 2 | flags | crc32c | metadata, by `tiered_core::codec` | the value, or its id, where flagged
//! chunk   crc32c(key, version, index, content) | content                                of formats before 3
//! chunk   crc32c(key, value id, index, content) | content
//! ```
//! A record without a flag is of a database of format 2: the chunks of its value lie under its key. Such records are read, and
//! none is written any more. Integers are little-endian; the id in a record is big-endian, as in names. Lengths are checked against what is there before anything is allocated.

use bytes::Bytes;

use tiered_core::adapter::codec::{decode_metadata, encode_metadata};
use tiered_core::{Error, ErrorKind, Key, Metadata, Result, Timestamp, Version};

use crate::value::{SEAL, ValueId};

const MAGIC: [u8; 2] = *b"tR";
const FORMAT: u8 = 2;
const HEADER: usize = 8;
const FLAG_INLINE: u8 = 1;
const FLAG_APART: u8 = 2;

/// Where the value of a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<T> {
    /// In the record.
    Inline(T),
    /// In chunks under this id.
    Apart(ValueId),
    /// In chunks under its key, as in a database of format 2.
    Keyed,
}

/// A stored entry's metadata and, for a small value, the value itself.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The entry's metadata.
    pub(crate) metadata: Metadata,
    /// Its value.
    pub(crate) content: Content<Bytes>,
}

/// Encodes the record of `key`.
pub(crate) fn encode(key: &Key, metadata: &Metadata, content: &Content<&[u8]>) -> Vec<u8> {
    let id;
    let (flags, behind) = match content {
        Content::Inline(value) => (FLAG_INLINE, *value),
        Content::Apart(value) => {
            id = value.to_bytes();
            (FLAG_APART, &id[..])
        }
        Content::Keyed => (0, &[][..]),
    };
    let head = [MAGIC[0], MAGIC[1], FORMAT, flags];
    let mut record = Vec::with_capacity(HEADER + 96 + behind.len());
    record.extend_from_slice(&head);
    record.extend_from_slice(&[0; 4]);
    encode_metadata(metadata, &mut record);
    record.extend_from_slice(behind);
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

/// Where the value of the record lies, and its size; `None` where it lies in the record.
///
/// # Errors
/// As [`decode`].
pub(crate) fn value_apart(key: &Key, bytes: &[u8]) -> Result<Option<(Content<()>, u64)>> {
    let value = || {
        let (flags, mut body) = open(key, bytes)?;
        if flags == FLAG_INLINE {
            return Some(None);
        }
        let metadata = decode_metadata(&mut body)?;
        content(flags, body, |_| None).map(|content| Some((content, metadata.size)))
    };
    value().ok_or_else(|| damaged(key))
}

/// What a record says of its entry, without the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) content: Content<()>,
    /// Bytes of the value.
    pub(crate) size: u64,
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
        let content = content(flags, body, |_| Some(()))?;
        Some(Outline { content, size: metadata.size, expires: metadata.expires_at })
    };
    read().ok_or_else(|| damaged(key))
}

fn parse(key: &Key, bytes: &[u8]) -> Option<Record> {
    let (flags, mut rest) = open(key, bytes)?;
    let metadata = decode_metadata(&mut rest)?;
    let inline = |value: &[u8]| (value.len() as u64 == metadata.size).then(|| Bytes::copy_from_slice(value));
    let content = content(flags, rest, inline)?;
    Some(Record { metadata, content })
}

/// What lies behind the metadata of a record.
fn content<T>(flags: u8, behind: &[u8], inline: impl Fn(&[u8]) -> Option<T>) -> Option<Content<T>> {
    Some(match flags {
        FLAG_INLINE => Content::Inline(inline(behind)?),
        FLAG_APART => Content::Apart(ValueId::from_bytes(behind.try_into().ok()?)),
        _ => behind.is_empty().then_some(Content::Keyed)?,
    })
}

/// The flags and the body of a record whose checksum is right.
fn open<'a>(key: &Key, bytes: &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (header, body) = bytes.split_at_checked(HEADER)?;
    let (head, crc) = header.split_at_checked(4)?;
    let flags = *head.get(3)?;
    if head.get(..2)? != MAGIC || *head.get(2)? != FORMAT || !matches!(flags, 0 | FLAG_INLINE | FLAG_APART) {
        return None;
    }
    (crc_of(&[key.as_str().as_bytes(), head, body]).to_le_bytes() == *crc).then_some((flags, body))
}

fn damaged(key: &Key) -> Error {
    corrupt(key, "its record is damaged")
}

/// Whose chunk it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'o> {
    /// The value with this id.
    Value(ValueId),
    /// The value that the key has under this version, in a database of format 2.
    Version(&'o Version),
}

/// Encodes chunk number `index` of a value of `key`.
pub(crate) fn seal_chunk(key: &Key, id: ValueId, index: u32, content: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(SEAL + content.len());
    chunk.extend_from_slice(&chunk_crc(key, Owner::Value(id), index, content).to_le_bytes());
    chunk.extend_from_slice(content);
    chunk
}

/// The content of chunk number `index` of a value of `key`; `None` where it is damaged or belongs to something else.
pub(crate) fn open_chunk<'a>(key: &Key, owner: Owner<'_>, index: u32, chunk: &'a [u8]) -> Option<&'a [u8]> {
    chunk
        .split_at_checked(SEAL)
        .filter(|(crc, content)| chunk_crc(key, owner, index, content).to_le_bytes() == **crc)
        .map(|(_, content)| content)
}

/// The error for damaged data of `key`.
pub(crate) fn corrupt(key: &Key, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{what}; restore it from another tier or a backup")).for_key(key)
}

fn chunk_crc(key: &Key, owner: Owner<'_>, index: u32, content: &[u8]) -> u32 {
    let (key, index) = (key.as_str().as_bytes(), index.to_le_bytes());
    match owner {
        Owner::Value(id) => crc_of(&[key, &id.to_bytes(), &index, content]),
        Owner::Version(version) => {
            let id = version.as_u128().unwrap_or_default().to_le_bytes();
            let token = version.as_token().unwrap_or_default().as_bytes();
            crc_of(&[key, &id, token, &index, content])
        }
    }
}

/// The checksum of several parts. The length of each goes in before it, so that bytes cannot move from one part to the next.
pub(crate) fn crc_of(parts: &[&[u8]]) -> u32 {
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
            let id = ValueId::from_bytes([7; 16]);
            for content in [Content::Keyed, Content::Apart(id), Content::Inline(b"value".as_slice())] {
                let record = decode(&key, &encode(&key, &metadata, &content)).expect("decodes");
                assert_eq!(record.metadata, metadata);
                assert_eq!(record.metadata.note.validator, metadata.note.validator);
                assert_eq!(record.metadata.note.origin, Origin::Local);
                let content = match content {
                    Content::Inline(value) => Content::Inline(Bytes::from_static(value)),
                    Content::Apart(id) => Content::Apart(id),
                    Content::Keyed => Content::Keyed,
                };
                assert_eq!(record.content, content);
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let (key, metadata) = sample();
        for content in [Content::Inline(b"value".as_slice()), Content::Apart(ValueId::from_bytes([7; 16]))] {
            let good = encode(&key, &metadata, &content);
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&key, &bad).expect_err("damaged").kind(), ErrorKind::Corrupt);
            }
            for len in 0..good.len() {
                assert!(decode(&key, &good[..len]).is_err());
            }
            assert!(decode(&Key::new("other").expect("valid"), &good).is_err(), "a stray record");
        }
    }

    #[test]
    fn a_chunk_opens_only_for_its_value_and_place() {
        let key = Key::new("k").expect("valid");
        let [id, other] = [7, 8].map(|byte| ValueId::from_bytes([byte; 16]));
        let owner = Owner::Value(id);
        let chunk = seal_chunk(&key, id, 0, b"content");
        assert_eq!(open_chunk(&key, owner, 0, &chunk), Some(&b"content"[..]));
        assert_eq!(open_chunk(&key, owner, 1, &chunk), None);
        assert_eq!(open_chunk(&key, Owner::Value(other), 0, &chunk), None);
        assert_eq!(open_chunk(&Key::new("l").expect("valid"), owner, 0, &chunk), None);
        assert_eq!(open_chunk(&key, Owner::Version(&Version::from_u128(7)), 0, &chunk), None);
        for bit in 0..chunk.len() * 8 {
            let mut bad = chunk.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_chunk(&key, owner, 0, &bad), None);
        }
    }
}
