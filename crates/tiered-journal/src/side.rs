//! Parked and dropped writes: a small file, replaced as a whole.
//!
//! ```text
//! magic "tJa1" | crc32c u32 over the rest | journal u128
//! dropped: u32, then so many u64
//! parked: u32, then so many of: reason: text | count u32 | count of (sequence u64, record)
//! ```

use std::io;

use bytes::Bytes;
use tiered_core::codec::{put_text, take, take_text, take_u64};
use tiered_core::{Aside, Parked, Result};

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
pub(crate) const MAGIC: [u8; 4] = *b"tJa1";
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
        let mut end = parked.reason.len().min(MAX_REASON);
        while !parked.reason.is_char_boundary(end) {
            end -= 1;
        }
        put_text(parked.reason.get(..end).unwrap_or_default(), &mut body);
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
    if take(&mut rest)? != MAGIC || u32::from_le_bytes(take(&mut rest)?) != crc32c::crc32c(rest) {
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
        let reason = take_text(&mut rest)?.to_owned();
        let mut records = Vec::new();
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let sequence = take_u64(&mut rest)?;
            records.push((sequence, decode_record(&mut rest)?));
        }
        aside.parked.push(Parked { records, reason });
    }
    rest.is_empty().then_some(aside)
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
