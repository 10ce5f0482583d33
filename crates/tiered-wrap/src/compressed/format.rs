//! How a compressed value looks.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::Checksum;
use tiered_core::adapter::codec::{take, take_u64};
use tiered_core::{Error, ErrorKind, Result};

use super::method::{self, Compression, KEPT};
use crate::sealed::{FRAME, cut, foreign, frame_len, frames};

/// What every compressed value begins with, and the version of the format.
pub(super) const MAGIC: [u8; 3] = *b"twz";
const FORMAT: u8 = 1;

/// Bytes of a head without its index.
pub(super) const FIXED: usize = 24;

/// Where the checksum of the head is.
const SUM_AT: usize = 20;

/// Set in the index for a frame that is not compressed.
const PLAIN: u32 = 1 << 31;

fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the compressed value is damaged; restore it from another tier or a backup",
    )
}

/// How many frames have an entry in the index.
fn indexed(method: u8, size: u64) -> u64 {
    if method == KEPT { 0 } else { frames(size) }
}

pub(super) fn head_len(fixed: &[u8]) -> Result<usize> {
    let (method, size) = begin(fixed)?;
    let index = indexed(method, size).checked_mul(4).and_then(|len| len.checked_add(FIXED as u64));
    index.and_then(|len| usize::try_from(len).ok()).ok_or_else(cut)
}

/// The method and the size in the first bytes of a head.
fn begin(fixed: &[u8]) -> Result<(u8, u64)> {
    let mut rest = fixed;
    if take(&mut rest) != Some(MAGIC) {
        return Err(foreign("compressed"));
    }
    match take(&mut rest) {
        Some([FORMAT]) => {}
        Some(_) => {
            let message =
                "the compressed value has a format that this version does not know; use a later version";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        None => return Err(cut()),
    }
    let [method, ..] = take::<4>(&mut rest).ok_or_else(cut)?;
    Ok((method, take_u64(&mut rest).ok_or_else(cut)?))
}

/// What the head of a compressed value says.
pub(crate) struct CompressedHead {
    pub(super) size: u64,
    pub(super) checksum: Checksum,
    pub(super) stored: u64,
    method: u8,
    /// Where each frame begins, and where the last one ends. None where nothing is compressed.
    index: Option<Arc<[Span]>>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u64,
    len: u32,
    is_plain: bool,
}

pub(super) fn open(head: &[u8]) -> Result<CompressedHead> {
    let (method, size) = begin(head)?;
    let (fixed, index) = head.split_at_checked(FIXED).ok_or_else(cut)?;
    let (summed, sum) = fixed.split_at_checked(SUM_AT).ok_or_else(cut)?;
    let expected = crc32c::crc32c_append(crc32c::crc32c(summed), index);
    if sum != expected.to_le_bytes() {
        return Err(damaged());
    }
    method::check(method)?;
    let mut rest = summed.get(16..).unwrap_or_default();
    let checksum = Checksum::from_u32(u32::from_le_bytes(take(&mut rest).ok_or_else(cut)?));
    if method == KEPT {
        let stored = size.checked_add(FIXED as u64).ok_or_else(cut)?;
        return Ok(CompressedHead { size, checksum, stored, method, index: None });
    }
    let mut at = head.len() as u64;
    let mut spans = Vec::with_capacity(index.len() / 4);
    let mut rest = index;
    while let Some(entry) = take(&mut rest).map(u32::from_le_bytes) {
        let span = Span { start: at, len: entry & !PLAIN, is_plain: entry & PLAIN != 0 };
        at += u64::from(span.len);
        spans.push(span);
    }
    Ok(CompressedHead { size, checksum, stored: at, method, index: Some(spans.into()) })
}

impl CompressedHead {
    fn span_of(&self, index: u64) -> Option<Span> {
        self.index.as_ref()?.get(usize::try_from(index).ok()?).copied()
    }

    pub(super) fn frame_span(&self, index: u64) -> Range<u64> {
        if self.index.is_none() {
            let start = (FIXED as u64).saturating_add(index.saturating_mul(FRAME as u64));
            return start..start.saturating_add(frame_len(self.size, index) as u64);
        }
        // Beyond the last frame: nothing, at the end.
        self.span_of(index)
            .map_or(self.stored..self.stored, |span| span.start..span.start + u64::from(span.len))
    }

    pub(super) fn frame(&self, index: u64, frame: &[u8], out: &mut BytesMut) -> Result<()> {
        let len = frame_len(self.size, index);
        let is_plain = self.span_of(index).is_none_or(|span| span.is_plain);
        if is_plain {
            if frame.len() != len {
                return Err(cut());
            }
            out.extend_from_slice(frame);
            return Ok(());
        }
        let before = out.len();
        out.put_bytes(0, len);
        let room = out.get_mut(before..).unwrap_or_default();
        if method::decompress(self.method, frame, room) { Ok(()) } else { Err(damaged()) }
    }
}

/// Writes a compressed value, frame by frame.
pub(super) struct Writer<'v> {
    compression: Compression,
    value: &'v Bytes,
    index: Vec<u32>,
    frames: BytesMut,
    scratch: Vec<u8>,
}

impl<'v> Writer<'v> {
    pub(super) fn new(compression: Compression, value: &'v Bytes) -> Self {
        let scratch = vec![0; compression.room(FRAME.min(value.len()))];
        Self { compression, value, index: Vec::new(), frames: BytesMut::new(), scratch }
    }

    pub(super) fn frame(&mut self, index: u64) -> Result<()> {
        let len = frame_len(self.value.len() as u64, index);
        let start = usize::try_from(index).ok().and_then(|index| index.checked_mul(FRAME)).ok_or_else(cut)?;
        let frame = self.value.get(start..start + len).ok_or_else(cut)?;
        let compressed = self.compression.compress(frame, &mut self.scratch).filter(|size| *size < len);
        let (bytes, flag) = match compressed.and_then(|size| self.scratch.get(..size)) {
            Some(bytes) => (bytes, 0),
            None => (frame, PLAIN),
        };
        self.frames.extend_from_slice(bytes);
        // A frame has 64 KiB at most.
        self.index.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX >> 1) | flag);
        Ok(())
    }

    /// The stored value: compressed where that is shorter, its index included.
    pub(super) fn finish(self, checksum: Checksum) -> Bytes {
        let shrinks = self.index.len() * 4 + self.frames.len() < self.value.len();
        let (method, index, frames) = if shrinks {
            (self.compression.code(), self.index.as_slice(), &*self.frames)
        } else {
            (KEPT, &[][..], &**self.value)
        };
        let mut out = BytesMut::with_capacity(FIXED + index.len() * 4 + frames.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, method, 0, 0, 0]);
        out.put_u64_le(self.value.len() as u64);
        out.put_u32_le(checksum.as_u32());
        let index: Vec<u8> = index.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out), &index);
        out.put_u32_le(sum);
        out.extend_from_slice(&index);
        out.extend_from_slice(frames);
        out.freeze()
    }
}
