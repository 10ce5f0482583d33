//! The head: the first element that is left.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::Checksum;
use tiered_core::{Precondition, Put, ReadOptions};

use super::Inner;
use super::segment::checked;
use crate::error::{Error, Result};
use crate::writer::{LOOKS, is_refused, is_unknown};

const MAGIC: [u8; 4] = *b"TLGH";
const FORMAT: u8 = 1;

pub(super) fn encode(first: u64) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&MAGIC);
    bytes.put_u8(FORMAT);
    bytes.put_u64(first);
    let checksum = Checksum::of(&bytes).as_u32();
    bytes.put_u32(checksum);
    bytes.freeze()
}

fn decode(bytes: &Bytes) -> Result<u64, &'static str> {
    let mut rest = checked(bytes, MAGIC, FORMAT)?;
    if rest.len() == 8 { Ok(rest.get_u64()) } else { Err("the head has another length") }
}

impl Inner {
    /// The first element that is left, and the condition under which the head may be replaced.
    async fn read_head(&self) -> Result<(u64, Precondition)> {
        let read = self.store.load(&self.head, &ReadOptions::new().authoritative()).await?;
        let Some(entry) = read.into_entry() else { return Ok((0, Precondition::Absent)) };
        let damaged = |reason| Error::Damaged { key: self.head.clone(), reason };
        let first = decode(entry.value()).map_err(damaged)?;
        Ok((first, Precondition::Matches(entry.version().clone())))
    }

    /// The first element that is left.
    pub(super) async fn first(&self) -> Result<u64> {
        Ok(self.read_head().await?.0)
    }

    /// Moves the first element that is left to `first`, never back. Returns where it is.
    pub(super) async fn advance(&self, first: u64) -> Result<u64> {
        let mut looks = 0;
        for _ in 0..self.attempts {
            let (current, condition) = self.read_head().await?;
            if current >= first {
                return Ok(current);
            }
            let put = Put::new(encode(first))
                .never_expires()
                .attributes(self.attributes.clone())
                .precondition(condition);
            match self.store.put(&self.head, put).await {
                Ok(_) => return Ok(first),
                // The next look tells: the head only moves on, whichever write came first.
                Err(error) if is_refused(&error) => {}
                Err(error) if is_unknown(&error) && looks < LOOKS => looks += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended { key: self.head.clone(), attempts: self.attempts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of format 1. If this fails, the format has changed and needs another number.
    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        let bytes = encode(300);
        assert_eq!(crate::keys::ordered::from_bytes(&bytes), "544c474801000000000000012c3722456e");
        assert_eq!(decode(&bytes), Ok(300));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            decode(&damaged.into()).expect_err("one bit differs");
        }
    }
}
