//! The bytes of a journal, made and read by other means than its own.

/// The id of every journal here.
const JOURNAL: u128 = 0x7469_6572_6564;

pub(super) const HEADER: usize = 512;

const GROUP: usize = 32;

/// The name of the segment that begins with `first`.
pub(super) fn name(first: u64) -> String {
    format!("{first:016x}.segment")
}

/// The header of a segment.
pub(super) fn header(first: u64, backend: &[u8]) -> Vec<u8> {
    let len = u16::try_from(backend.len()).expect("a short name").to_le_bytes();
    let body = [&JOURNAL.to_le_bytes()[..], &first.to_le_bytes(), &len, backend].concat();
    let crc = crc32c::crc32c(&body).to_le_bytes();
    let mut header = [b"tiered journal\0\0", &1_u32.to_le_bytes()[..], &crc, &body].concat();
    header.resize(HEADER, 0);
    header
}

/// A group whose checksum holds.
pub(super) fn group(first: u64, trimmed: u64, count: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_le_bytes();
    let behind = [&count.to_le_bytes()[..], &first.to_le_bytes(), &trimmed.to_le_bytes(), payload].concat();
    let mut group = [&b"tJg1"[..], &len, &[0; 4], &behind].concat();
    group.resize(group.len().next_multiple_of(8), 0);
    let crc = crc_of(&group).to_le_bytes();
    group[8..12].copy_from_slice(&crc);
    group
}

/// The file of what is set aside, with a checksum that holds.
pub(super) fn aside(content: &[u8]) -> Vec<u8> {
    let body = [&JOURNAL.to_le_bytes()[..], content].concat();
    [&b"tJa1"[..], &crc32c::crc32c(&body).to_le_bytes(), &body].concat()
}

fn crc_of(group: &[u8]) -> u32 {
    let covered = [&JOURNAL.to_le_bytes()[..], &group[4..8], &group[12..]].concat();
    crc32c::crc32c(&covered)
}

/// A group whose checksum holds: the sequences of its records, and where it ends.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) end: usize,
}

/// The groups of a segment from its first on, as far as they are good.
pub(super) fn groups(segment: &[u8]) -> Vec<Group> {
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(segment.get(at..at + len)?);
        Some(u64::from_le_bytes(bytes))
    };
    let mut groups = Vec::new();
    let mut at = HEADER;
    let group_at = |at: usize| {
        let len = usize::try_from(number(at + 4, 4)?).ok()?;
        let end = at + (GROUP + len).next_multiple_of(8);
        let group = segment.get(at..end)?;
        let good = group.starts_with(b"tJg1") && number(at + 8, 4)? == u64::from(crc_of(group));
        let first = number(at + 16, 8)?;
        good.then_some(Group { first, next: first.checked_add(number(at + 12, 4)?)?, end })
    };
    while let Some(group) = group_at(at) {
        at = group.end;
        groups.push(group);
    }
    groups
}
