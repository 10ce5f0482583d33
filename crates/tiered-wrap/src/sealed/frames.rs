//! Stored values as heads and frames.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tiered_core::{Entry, Key, Result, Version};

use super::codec::{Codec, FRAME, Head, breathe, frames};
use super::{cut, foreign, outside};

/// The memory that a value takes before any frame of it was read, in bytes: a head may claim any size.
const UNSEEN: u64 = 8 << 20;

/// A head, or how much more of the value is needed to read it.
pub(super) enum Opened<H> {
    Head(H),
    /// From the beginning of the value on.
    Needs(usize),
}

/// Reads the head at the beginning of a value that has `stored` bytes in all.
pub(super) async fn open<C: Codec>(
    codec: &C,
    key: &Key,
    version: &Version,
    bytes: &Bytes,
    stored: u64,
) -> Result<Opened<C::Head>> {
    if stored < C::FIXED as u64 {
        return Err(if bytes.starts_with(&C::MAGIC) { cut() } else { foreign(C::NAME) });
    }
    let Some(fixed) = bytes.get(..C::FIXED) else { return Ok(Opened::Needs(C::FIXED)) };
    let len = codec.head_len(fixed)?;
    if len as u64 > stored {
        return Err(cut());
    }
    let Some(head) = bytes.get(..len) else { return Ok(Opened::Needs(len)) };
    let head = codec.open(key, version, head).await?;
    if head.stored() != stored {
        return Err(cut());
    }
    Ok(Opened::Head(head))
}

/// The part of `bytes` in `range`, where `bytes` begin at `base`.
pub(super) fn part(bytes: &Bytes, base: u64, range: &Range<u64>) -> Result<Bytes> {
    let index = |at: u64| at.checked_sub(base).and_then(|at| usize::try_from(at).ok());
    match index(range.start).zip(index(range.end)) {
        Some((start, end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
        _ => Err(cut()),
    }
}

/// The frames that a range of a value touches; the range is not empty.
pub(super) fn touched(range: &Range<u64>) -> Range<u64> {
    range.start / FRAME as u64..frames(range.end)
}

/// Where these frames are in the stored value.
pub(super) fn span<H: Head>(head: &H, touched: &Range<u64>) -> Range<u64> {
    head.span(touched.start).start..head.span(touched.end.saturating_sub(1)).end
}

/// The range of the value, from the stored bytes of the frames that it touches. They begin at `base`.
pub(super) async fn decode<H: Head>(head: &H, bytes: &Bytes, base: u64, range: &Range<u64>) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let touched = touched(range);
    let capacity = (range.end - range.start + 2 * FRAME as u64).min(UNSEEN);
    let mut out = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or(FRAME));
    for index in touched.clone() {
        breathe(index - touched.start).await;
        head.decode(index, &part(bytes, base, &head.span(index))?, &mut out)?;
    }
    part(&out.freeze(), touched.start * FRAME as u64, range)
}

/// A whole entry, from the whole entry inside.
pub(super) async fn whole<C: Codec>(codec: &C, key: &Key, entry: &Entry) -> Result<Entry> {
    let bytes = entry.value();
    let head = match open(codec, key, entry.version(), bytes, entry.size()).await? {
        Opened::Head(head) => head,
        Opened::Needs(_) => return Err(cut()),
    };
    let facts = head.facts();
    let value = decode(&head, bytes, 0, &(0..facts.size)).await?;
    let entry = Entry::from_parts(value, Arc::clone(&outside(entry.metadata(), facts)?));
    entry.verify()?;
    Ok(entry)
}
