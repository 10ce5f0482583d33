//! Parked and dropped writes: a small file, replaced as a whole.
//!
//! ```text
//! magic "tJa2" | crc32c u32 over the rest | journal u128
//! dropped: u32, then so many u64
//! parked: u32, then so many of: reason: code u8, text | count u32 | count of (sequence u64, record)
//! ```
//!
//! | code | reason | text |
//! |---|---|---|
//! | 0 | refused by the backend | its error |
//! | 1 | the lease was lost | empty |
//! | 2 | the journal was abandoned | empty |
//!
//! The format "tJa1" had no code: the text told the reasons apart. It is read, and written anew with the next change.

use std::io;

use bytes::Bytes;
use tiered_core::adapter::codec::{put_text, take, take_text, take_u64};
use tiered_core::adapter::journal::Aside;
use tiered_core::{ParkReason, Parked, Result};

use crate::folder::Folder;
use crate::format::{decode_record, encode_record};

/// What is set aside.
pub(crate) const ASIDE: &str = "aside";
/// The name of the file while it is being written.
pub(crate) const ASIDE_NEW: &str = "aside.new";
/// Space that is given up when the disk is full.
pub(crate) const RESERVE: &str = "reserve";
/// Its size, in bytes: a few parked writes of usual size.
pub(crate) const RESERVE_SIZE: u64 = 1 << 20;

/// What the file begins with.
pub(crate) const MAGIC: [u8; 4] = *b"tJa2";
/// What a file of any format begins with.
pub(crate) const ANY_MAGIC: [u8; 3] = *b"tJa";
/// What a file of the format before begins with.
pub(crate) const MAGIC_1: [u8; 4] = *b"tJa1";
/// Reasons are for people; a driver's may be long.
const MAX_REASON: usize = 1024;

pub(crate) fn encode(journal: u128, aside: &Aside) -> Result<Vec<u8>> {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
    let mut body = journal.to_le_bytes().to_vec();
    body.extend_from_slice(&count(aside.dropped.len()));
    for sequence in &aside.dropped {
        body.extend_from_slice(&sequence.to_le_bytes());
    }
    body.extend_from_slice(&count(aside.parked.len()));
    for parked in &aside.parked {
        put_reason(&parked.reason, &mut body);
        body.extend_from_slice(&count(parked.records.len()));
        for (sequence, record) in &parked.records {
            body.extend_from_slice(&sequence.to_le_bytes());
            encode_record(record, &mut body)?;
        }
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// `None` where the bytes are damaged, or those of another journal.
pub(crate) fn decode(journal: u128, bytes: &Bytes) -> Option<Aside> {
    let mut rest: &[u8] = bytes;
    let take_reason = match take(&mut rest)? {
        MAGIC => take_reason,
        MAGIC_1 => take_reason_1,
        _ => return None,
    };
    if u32::from_le_bytes(take(&mut rest)?) != crc32c::crc32c(rest) {
        return None;
    }
    if u128::from_le_bytes(take(&mut rest)?) != journal {
        return None;
    }
    let mut aside = Aside::default();
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        aside.dropped.push(take_u64(&mut rest)?);
    }
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let reason = take_reason(&mut rest)?;
        let mut records = Vec::new();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let sequence = take_u64(&mut rest)?;
            records.push((sequence, decode_record(&mut rest)?));
        }
        aside.parked.push(Parked::new(records, reason));
    }
    rest.is_empty().then_some(aside)
}

fn put_reason(reason: &ParkReason, to: &mut Vec<u8>) {
    let (code, text) = match reason {
        ParkReason::LeaseLost => (1, String::new()),
        ParkReason::Abandoned => (2, String::new()),
        // A reason that this version does not know is kept as its text.
        other => (0, other.to_string()),
    };
    to.push(code);
    put_text(&text[..text.floor_char_boundary(MAX_REASON)], to);
}

fn take_reason(from: &mut &[u8]) -> Option<ParkReason> {
    let [code] = take(from)?;
    let text = take_text(from)?;
    match code {
        0 => Some(ParkReason::Refused(text.to_owned())),
        1 => Some(ParkReason::LeaseLost),
        2 => Some(ParkReason::Abandoned),
        _ => None,
    }
}

/// A reason of the format before, which its text tells.
fn take_reason_1(from: &mut &[u8]) -> Option<ParkReason> {
    let text = take_text(from)?;
    Some(if text.contains("another owner held the lease since this was acknowledged") {
        ParkReason::LeaseLost
    } else if text.contains("the journal was given up by name since this was acknowledged") {
        ParkReason::Abandoned
    } else {
        ParkReason::Refused(text.to_owned())
    })
}

/// Replaces the file: the old one is there until the new one is whole.
pub(crate) fn store(folder: &dyn Folder, bytes: &[u8]) -> io::Result<()> {
    let stored = (|| {
        let file = folder.create(ASIDE_NEW, bytes.len() as u64)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        folder.rename(ASIDE_NEW, ASIDE)?;
        folder.sync()
    })();
    if stored.is_err() {
        folder.remove(ASIDE_NEW).ok();
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiered_core::adapter::journal::JournalRecord;
    use tiered_core::{Action, Delete, Key};

    const OLD: [&str; 3] = [
        "redb: the value is too large",
        "another owner held the lease since this was acknowledged; retry or drop it",
        "the journal was given up by name since this was acknowledged, and the backend may have newer writes; retry or drop it",
    ];

    fn parked(sequence: u64, reason: ParkReason) -> Parked {
        let action = Action::Delete(Delete::new());
        let record = JournalRecord::new(Key::new("k").expect("valid"), action);
        Parked::new(vec![(sequence, record)], reason)
    }

    #[test]
    fn reasons_in_the_previous_format_are_read() {
        let mut body = 7_u128.to_le_bytes().to_vec();
        body.extend_from_slice(&0_u32.to_le_bytes());
        body.extend_from_slice(&3_u32.to_le_bytes());
        for (sequence, reason) in (1_u64..).zip(OLD) {
            put_text(reason, &mut body);
            body.extend_from_slice(&1_u32.to_le_bytes());
            body.extend_from_slice(&sequence.to_le_bytes());
            let parked = parked(sequence, ParkReason::LeaseLost);
            encode_record(&parked.records[0].1, &mut body).expect("fits");
        }
        let mut bytes = MAGIC_1.to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        let aside = decode(7, &bytes.into()).expect("is read");
        let reasons: Vec<ParkReason> = aside.parked.iter().map(|parked| parked.reason.clone()).collect();
        let refused = ParkReason::Refused(OLD[0].to_owned());
        assert_eq!(reasons, [refused, ParkReason::LeaseLost, ParkReason::Abandoned]);
    }

    #[test]
    fn an_encoded_reason_decodes_to_the_same_reason() {
        let long = "é".repeat(MAX_REASON);
        for reason in [ParkReason::LeaseLost, ParkReason::Abandoned, ParkReason::Refused(long)] {
            let aside = Aside::new(vec![parked(3, reason.clone())], vec![1]);
            let read = decode(7, &encode(7, &aside).expect("fits").into()).expect("is read");
            let cut = match reason {
                ParkReason::Refused(text) => ParkReason::Refused(text[..MAX_REASON].to_owned()),
                other => other,
            };
            assert_eq!((read.parked[0].reason.clone(), read.dropped), (cut, vec![1]));
        }
    }
}
