//! The bytes of segments, groups and records.
//!
//! ```text
//! segment  header | groups, each beginning at a multiple of 8 | zeros
//! header   magic "tiered journal\0\0" | format u32: 2, or 1 where the backend has no mark of the journal | crc32c u32 | journal u128 | first sequence u64 | backend: text
//! group    magic "tJg1" | payload length u32 | crc32c u32 | count u32 | first sequence u64 | trimmed u64 | payload
//! payload  count records
//! record   flags u8 | key: text | put: metadata, then its size in bytes of value; delete: 16 bytes of version, where flagged
//! ```
//! Integers are little-endian; texts and metadata are those of [`tiered_core::codec`]. The header takes one sector. A
//! group's CRC covers the journal's id, the rest of the group's header, the payload and the zeros behind it: a group
//! from another journal or another position is invalid. `trimmed` is the trim position when the group was written: the
//! backend had every record before it.

use std::sync::Arc;

use bytes::Bytes;
use tiered_core::adapter::codec::{decode_metadata, encode_metadata, put_text, take, take_text, take_u64};
use tiered_core::adapter::journal::{JournalRecord, Sequence};
use tiered_core::{Action, Delete, Entry, Error, ErrorKind, Key, Outcome, Result, Version, adapter};

/// Where a segment's first group begins.
pub(crate) const HEADER: usize = 512;
/// Bytes of a group before its payload.
pub(crate) const GROUP: usize = 32;
/// Groups begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// The longest identity of a backend, in bytes: the header is to fit into a sector.
pub(crate) const MAX_BACKEND: usize = 256;

/// Largest payload of a group, in bytes: what one append may hand over.
pub(crate) const MAX_PAYLOAD: usize = (2 << 30) - 1;

/// What a segment begins with.
pub(crate) const SEGMENT_MAGIC: [u8; 16] = *b"tiered journal\0\0";
/// The format of journals that their backends name in a mark.
const FORMAT: u32 = 2;
/// The format of journals that were made before that. Nothing else differs.
const UNMARKED: u32 = 1;
/// What a group begins with.
pub(crate) const GROUP_MAGIC: [u8; 4] = *b"tJg1";

const PUT: u8 = 1;
const CONTINUES: u8 = 2;
const VERSION: u8 = 4;

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Tells this journal's files from another's.
    pub(crate) journal: u128,
    /// The sequence of its first record.
    pub(crate) first: Sequence,
    /// The identity of the backend.
    pub(crate) backend: Vec<u8>,
    /// Whether the backend names the journal in a mark.
    pub(crate) marked: bool,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// Never finished, or damaged.
    Damaged,
    /// Of another version of this format.
    OtherFormat(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEADER);
        body.extend_from_slice(&self.journal.to_le_bytes());
        body.extend_from_slice(&self.first.to_le_bytes());
        let len = u16::try_from(self.backend.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&len.to_le_bytes());
        body.extend_from_slice(&self.backend);
        let mut header = SEGMENT_MAGIC.to_vec();
        let format = if self.marked { FORMAT } else { UNMARKED };
        header.extend_from_slice(&format.to_le_bytes());
        header.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        header.extend_from_slice(&body);
        header.resize(HEADER, 0);
        header
    }

    pub(crate) fn decode(segment: &[u8]) -> Result<Self, NoHeader> {
        let mut rest = segment.get(..HEADER).ok_or(NoHeader::Damaged)?;
        let parsed = (|| {
            let magic: [u8; 16] = take(&mut rest)?;
            let format = u32::from_le_bytes(take(&mut rest)?);
            let crc = u32::from_le_bytes(take(&mut rest)?);
            let body = rest;
            let journal = u128::from_le_bytes(take(&mut rest)?);
            let first = take_u64(&mut rest)?;
            let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
            let backend = rest.get(..len)?.to_vec();
            let whole = body.get(..26 + len).is_some_and(|body| crc32c::crc32c(body) == crc);
            let zeros = rest.get(len..)?.iter().all(|byte| *byte == 0);
            let header = Self { journal, first, backend, marked: format != UNMARKED };
            Some((magic, format, whole && zeros, header))
        })();
        match parsed {
            Some((SEGMENT_MAGIC, FORMAT | UNMARKED, true, header)) => Ok(header),
            Some((SEGMENT_MAGIC, format, true, _)) => Err(NoHeader::OtherFormat(format)),
            _ => Err(NoHeader::Damaged),
        }
    }
}

/// A group of records that were appended together.
#[derive(Debug)]
pub(crate) struct Group<'s> {
    /// The sequence of its first record.
    pub(crate) first: Sequence,
    /// How many there are.
    pub(crate) count: u32,
    /// The backend had everything before this when it was written.
    pub(crate) trimmed: Sequence,
    payload: &'s [u8],
    /// Bytes to the next group.
    pub(crate) len: usize,
}

/// Appends a group to `out`, which becomes a multiple of [`ALIGN`] long.
///
/// # Errors
/// A record that is not complete, or too many bytes. The content of `out` is then unspecified.
pub(crate) fn encode_group(
    journal: u128,
    first: Sequence,
    trimmed: Sequence,
    records: &[JournalRecord],
    out: &mut Vec<u8>,
) -> Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[0; GROUP]);
    for record in records {
        encode_record(record, out)?;
    }
    let payload = out.len() - begin - GROUP;
    if payload > MAX_PAYLOAD {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "the journal takes 2 GiB at a time; write less in one batch",
        )
        .outcome_is(Outcome::NotApplied));
    }
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(GROUP);
    header.extend_from_slice(&GROUP_MAGIC);
    header.extend_from_slice(&u32::try_from(payload).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&count.to_le_bytes());
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&trimmed.to_le_bytes());
    if let Some(place) = out.get_mut(begin..begin + GROUP) {
        place.copy_from_slice(&header);
    }
    out.resize(begin + (GROUP + payload).next_multiple_of(ALIGN), 0);
    let crc = crc_of(journal, out.get(begin..).unwrap_or_default());
    if let Some(place) = out.get_mut(begin + 8..begin + 12) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    Ok(())
}

/// The checksum of a group that begins with its header and ends with its padding.
fn crc_of(journal: u128, group: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&journal.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, group.get(4..8).unwrap_or_default());
    crc32c::crc32c_append(crc, group.get(12..).unwrap_or_default())
}

impl<'s> Group<'s> {
    /// The group at the beginning of `bytes`, if there is a whole one.
    pub(crate) fn decode(journal: u128, bytes: &'s [u8]) -> Option<Self> {
        let mut rest = bytes;
        if take(&mut rest)? != GROUP_MAGIC {
            return None;
        }
        let len = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let crc = u32::from_le_bytes(take(&mut rest)?);
        let count = u32::from_le_bytes(take(&mut rest)?);
        let first = take_u64(&mut rest)?;
        let trimmed = take_u64(&mut rest)?;
        let payload = rest.get(..len)?;
        let padded = (GROUP + len).next_multiple_of(ALIGN);
        if crc_of(journal, bytes.get(..padded)?) != crc {
            return None;
        }
        Some(Self { first, count, trimmed, payload, len: padded })
    }

    /// Its records.
    pub(crate) fn records(&self) -> Option<Vec<(Sequence, JournalRecord)>> {
        let mut rest = self.payload;
        let mut records = Vec::new();
        for sequence in self.first..self.first.checked_add(u64::from(self.count))? {
            records.push((sequence, decode_record(&mut rest)?));
        }
        rest.is_empty().then_some(records)
    }
}

/// Appends a record.
///
/// # Errors
/// A put that was not stamped: a mistake of the caller.
pub(crate) fn encode_record(record: &JournalRecord, out: &mut Vec<u8>) -> Result<()> {
    let continues = if record.continues { CONTINUES } else { 0 };
    match &record.action {
        Action::Put(put) => {
            let metadata = adapter::metadata_of(put).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "a put is journaled complete: stamped, and of a known end",
                )
                .for_key(&record.key)
                .outcome_is(Outcome::NotApplied)
            })?;
            out.push(PUT | continues);
            put_text(record.key.as_str(), out);
            encode_metadata(&metadata, out);
            out.extend_from_slice(&put.value);
        }
        Action::Delete(delete) => {
            let version = adapter::version_of_delete(delete).and_then(Version::as_u128);
            out.push(continues | if version.is_some() { VERSION } else { 0 });
            put_text(record.key.as_str(), out);
            if let Some(version) = version {
                out.extend_from_slice(&version.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Takes a record off the front of `rest`. Its value is in memory of its own: a record that waits for long does not keep
/// its whole segment there.
pub(crate) fn decode_record(rest: &mut &[u8]) -> Option<JournalRecord> {
    let [flags] = take(rest)?;
    let key = Key::new(take_text(rest)?).ok()?;
    let action = match flags & !CONTINUES {
        PUT => {
            let metadata = decode_metadata(rest)?;
            let (value, after) = rest.split_at_checked(usize::try_from(metadata.size).ok()?)?;
            *rest = after;
            let entry = Entry::from_parts(Bytes::copy_from_slice(value), Arc::new(metadata));
            entry.verify().ok()?;
            Action::Put(adapter::verbatim(&entry))
        }
        0 => Action::Delete(Delete::new()),
        VERSION => {
            let version = Version::from_u128(u128::from_le_bytes(take(rest)?));
            Action::Delete(adapter::delete_with_version(Delete::new(), version))
        }
        _ => return None,
    };
    let record = JournalRecord::new(key, action);
    Some(if flags & CONTINUES == 0 { record } else { record.continued() })
}
