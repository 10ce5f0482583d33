//! A film whose every byte is known.

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

    /// The byte at `offset`.
    pub fn byte(self, offset: u64) -> u8 {
        let word = (self.number << 40 | (offset / 8 + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        usize::try_from(offset % 8).ok().and_then(|place| word.get(place).copied()).unwrap_or_default()
    }

    /// All of it.
    pub fn stream(self) -> ByteStream {
        let starts = (0..self.size).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX));
        let pieces = starts.map(move |start| {
            let end = (start + PIECE).min(self.size);
            Ok((start..end).map(|offset| self.byte(offset)).collect::<BytesMut>().freeze())
                as tiered::Result<Bytes>
        });
        Box::pin(stream::iter(pieces))
    }

    /// Where `bytes`, which begin at `offset`, are not as they should be.
    pub fn first_wrong(self, offset: u64, bytes: &[u8]) -> Option<u64> {
        (offset..).zip(bytes).find(|(at, byte)| self.byte(*at) != **byte).map(|(at, _)| at)
    }
}
