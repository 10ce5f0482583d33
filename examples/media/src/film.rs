//! A film whose every byte is known.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tiered::ByteStream;

/// Bytes of a piece of the upload.
const PIECE: u64 = 1 << 20;

/// A film of so many bytes. Its words of 8 bytes are all different, and those of films with other numbers.
#[derive(Clone, Copy, Debug)]
pub struct Film {
    number: u64,
    size: u64,
}

impl Film {
    pub fn new(number: u64, size: u64) -> Self {
        Self { number, size }
    }

    pub fn size(self) -> u64 {
        self.size
    }

    /// The bytes of `range`.
    pub fn bytes(self, range: Range<u64>) -> impl Iterator<Item = u8> {
        let words = range.start / 8..range.end.div_ceil(8);
        let skipped = usize::try_from(range.start % 8).unwrap_or_default();
        let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        words.flat_map(move |word| self.word(word)).skip(skipped).take(count)
    }

    fn word(self, number: u64) -> [u8; 8] {
        (self.number << 40 | (number + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()
    }

    /// All of it.
    pub fn stream(self) -> ByteStream {
        let starts = (0..self.size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let pieces = starts.map(move |start| {
            let end = (start + PIECE).min(self.size);
            Ok(self.bytes(start..end).collect::<BytesMut>().freeze()) as tiered::Result<Bytes>
        });
        Box::pin(stream::iter(pieces))
    }

    /// Where `bytes`, which begin at `offset`, are not as they should be.
    pub fn first_wrong(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let expected = self.bytes(offset..offset + bytes.len() as u64);
        (offset..).zip(expected.zip(bytes)).find(|(_, (expected, byte))| expected != *byte).map(|(at, _)| at)
    }
}
