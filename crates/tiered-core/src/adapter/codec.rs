//! Metadata as bytes, for whatever keeps entries on a disk of its own: embedded engines and the journal.
//!
//! ```text
//! flags | version: 16 bytes, or text | modified u64 | expires_at u64, where flagged | size u64 | checksum u32, unless flagged
//! session u64 | validated u64 | origin u8 | validator: text, where flagged
//! attributes: u16, then so many pairs of texts
//! text: u16, then so many bytes of UTF-8
//! ```
//! Integers are little-endian. There is no checksum: the store adds one over the whole. Lengths are compared
//! with what is there before anything is allocated.

use crate::attributes::Attributes;
use crate::clock::Timestamp;
use crate::entry::{Checksum, Metadata, Note, Origin};
use crate::version::{Validator, Version};

const EXPIRES: u8 = 1;
const TOKEN: u8 = 2;
const VALIDATOR: u8 = 4;
const UNCHECKED: u8 = 8;

/// Appends the bytes of `metadata` to `out`.
pub fn encode_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    let token = metadata.version.as_token();
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(
        flag(metadata.expires_at.is_some(), EXPIRES)
            | flag(token.is_some(), TOKEN)
            | flag(metadata.note.validator.is_some(), VALIDATOR)
            | flag(metadata.checksum.is_none(), UNCHECKED),
    );
    match token {
        Some(token) => put_text(token, out),
        None => out.extend_from_slice(&metadata.version.as_u128().unwrap_or_default().to_le_bytes()),
    }
    out.extend_from_slice(&metadata.modified.as_millis().to_le_bytes());
    if let Some(at) = metadata.expires_at {
        out.extend_from_slice(&at.as_millis().to_le_bytes());
    }
    out.extend_from_slice(&metadata.size.to_le_bytes());
    if let Some(checksum) = metadata.checksum {
        out.extend_from_slice(&checksum.as_u32().to_le_bytes());
    }
    out.extend_from_slice(&metadata.note.session.to_le_bytes());
    out.extend_from_slice(&metadata.note.validated.to_le_bytes());
    out.push(match metadata.note.origin {
        Origin::Backend => 0,
        Origin::Local => 1,
        Origin::Tombstone => 2,
        Origin::Absence => 3,
        Origin::Part => 4,
    });
    if let Some(validator) = &metadata.note.validator {
        put_text(validator.as_str(), out);
    }
    let count = u16::try_from(metadata.attributes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in metadata.attributes.iter().take(usize::from(count)) {
        put_text(name, out);
        put_text(value, out);
    }
}

/// Takes metadata off the front of `rest`; `None` where it is not as [`encode_metadata`] writes it.
pub fn decode_metadata(rest: &mut &[u8]) -> Option<Metadata> {
    let [flags] = take(rest)?;
    if flags & !(EXPIRES | TOKEN | VALIDATOR | UNCHECKED) != 0 {
        return None;
    }
    let version = if flags & TOKEN == 0 {
        Version::from_u128(u128::from_le_bytes(take(rest)?))
    } else {
        Version::from_token(take_text(rest)?).ok()?
    };
    let modified = Timestamp::from_millis(take_u64(rest)?);
    let expires_at = if flags & EXPIRES == 0 { None } else { Some(Timestamp::from_millis(take_u64(rest)?)) };
    let size = take_u64(rest)?;
    let checksum =
        if flags & UNCHECKED == 0 { Some(Checksum::from_u32(u32::from_le_bytes(take(rest)?))) } else { None };
    let session = take_u64(rest)?;
    let validated = take_u64(rest)?;
    let origin = match take(rest)? {
        [0] => Origin::Backend,
        [1] => Origin::Local,
        [2] => Origin::Tombstone,
        [3] => Origin::Absence,
        [4] => Origin::Part,
        _ => return None,
    };
    let validator = if flags & VALIDATOR == 0 { None } else { Some(Validator::new(take_text(rest)?).ok()?) };
    let mut attributes = Attributes::new();
    for _ in 0..u16::from_le_bytes(take(rest)?) {
        let name = take_text(rest)?;
        attributes = attributes.with(name, take_text(rest)?).ok()?;
    }
    let note = Note { session, validated, origin, validator };
    Some(Metadata { version, modified, expires_at, attributes, size, checksum, note })
}

/// Appends a text of at most 65,535 bytes: its length and its bytes.
pub fn put_text(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes().get(..usize::from(len)).unwrap_or_default());
}

/// Takes a text off the front of `rest`.
pub fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::from(u16::from_le_bytes(take(rest)?));
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// Takes so many bytes off the front of `rest`.
pub fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

/// Takes a `u64` off the front of `rest`.
pub fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Put;
    use crate::adapter::Stamp;

    fn samples() -> Vec<Metadata> {
        let attributes = Attributes::new().with("content-type", "text/plain").expect("valid");
        let put = Put::new("value").expires_at(Timestamp::from_millis(9)).attributes(attributes);
        let note = Note {
            session: 3,
            validated: 4,
            origin: Origin::Local,
            validator: Some(Validator::new("\"tag\"").expect("short")),
        };
        let full = (**Stamp::system().entry(&put).with_note(note).metadata()).clone();
        let token = Metadata { version: Version::from_token("\"etag\"").expect("valid"), ..full.clone() };
        let plain = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        let unchecked = Metadata { checksum: None, ..full.clone() };
        vec![full, token, plain, unchecked]
    }

    #[test]
    fn encoded_metadata_decode_to_the_same_metadata() {
        for metadata in samples() {
            let mut bytes = Vec::new();
            encode_metadata(&metadata, &mut bytes);
            bytes.extend_from_slice(b"after");
            let mut rest = bytes.as_slice();
            let decoded = decode_metadata(&mut rest).expect("decodes");
            assert_eq!(decoded, metadata);
            assert_eq!(decoded.note.validator, metadata.note.validator);
            assert_eq!(decoded.note.origin, metadata.note.origin);
            assert_eq!(rest, b"after");
        }
    }

    #[test]
    fn every_origin_is_kept_and_has_its_own_byte() {
        let plain = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        let origins = [
            (0, Origin::Backend),
            (1, Origin::Local),
            (2, Origin::Tombstone),
            (3, Origin::Absence),
            (4, Origin::Part),
        ];
        for (byte, origin) in origins {
            let metadata = Metadata { note: Note { origin, ..plain.note.clone() }, ..plain.clone() };
            let mut bytes = Vec::new();
            encode_metadata(&metadata, &mut bytes);
            // Flags, version, modified, size, checksum, session, validated.
            let at = 1 + 16 + 8 + 8 + 4 + 8 + 8;
            assert_eq!(bytes.get(at), Some(&byte), "{origin:?}");
            assert_eq!(decode_metadata(&mut bytes.as_slice()).expect("decodes").note.origin, origin);
            for unknown in 5..=255 {
                bytes[at] = unknown;
                assert!(decode_metadata(&mut bytes.as_slice()).is_none(), "origin {unknown}");
            }
        }
    }

    #[test]
    fn a_flag_of_a_later_format_is_refused() {
        let mut bytes = Vec::new();
        encode_metadata(Stamp::system().entry(&Put::new("")).metadata(), &mut bytes);
        for flag in [16, 32, 64, 128] {
            bytes[0] |= flag;
            assert!(decode_metadata(&mut bytes.as_slice()).is_none(), "flag {flag}");
            bytes[0] &= !flag;
        }
        assert!(decode_metadata(&mut bytes.as_slice()).is_some());
    }

    /// Stores on disk hold these bytes.
    #[test]
    fn the_format_on_disk_is_the_documented_one() {
        let version = Version::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let note = Note {
            session: 3,
            validated: 4,
            origin: Origin::Tombstone,
            validator: Some(Validator::new("tag").expect("short")),
        };
        let full = Metadata {
            version,
            modified: Timestamp::from_millis(1),
            expires_at: Some(Timestamp::from_millis(2)),
            attributes: Attributes::new().with("a", "bc").expect("valid"),
            size: 5,
            checksum: Some(Checksum::from_u32(6)),
            note,
        };
        let mut bytes = Vec::new();
        encode_metadata(&full, &mut bytes);
        let u64 = |number: u8| [number, 0, 0, 0, 0, 0, 0, 0];
        let expected = [
            &[5_u8][..],
            &[16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
            &u64(1),
            &u64(2),
            &u64(5),
            &[6, 0, 0, 0],
            &u64(3),
            &u64(4),
            &[2],
            &[3, 0, b't', b'a', b'g'],
            &[1, 0, 1, 0, b'a', 2, 0, b'b', b'c'],
        ];
        assert_eq!(bytes, expected.concat());
        let token = Metadata {
            version: Version::from_token("t").expect("valid"),
            expires_at: None,
            attributes: Attributes::new(),
            checksum: None,
            note: Note { validator: None, ..full.note.clone() },
            ..full
        };
        bytes.clear();
        encode_metadata(&token, &mut bytes);
        let expected = [&[10_u8][..], &[1, 0, b't'], &u64(1), &u64(5), &u64(3), &u64(4), &[2], &[0, 0]];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn truncated_input_is_refused() {
        for metadata in samples() {
            let mut bytes = Vec::new();
            encode_metadata(&metadata, &mut bytes);
            for len in 0..bytes.len() {
                assert!(decode_metadata(&mut &bytes[..len]).is_none(), "{len} of {}", bytes.len());
            }
        }
    }
}
