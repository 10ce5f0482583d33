//! The body of an object: the value alone, or in its envelope.
//!
//! ```text
//! enveloped:  "TIERED\x01\n"  id of the write (16 bytes)  value  CRC-32C of the value (4 bytes, big-endian)
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::{Checksum, VersionMint};
use tiered_core::{Error, ErrorKind, Result, Version};

use crate::config::Layout;

const MAGIC: &[u8; 8] = b"TIERED\x01\n";

/// Bytes before the value of an enveloped object.
const BEFORE: u64 = 24;

/// Bytes behind it.
pub(crate) const BEHIND: u64 = 4;

impl Layout {
    /// Where the value begins.
    pub(crate) const fn start(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Enveloped => BEFORE,
        }
    }

    /// The value's size in an object of `total` bytes; `None` if an object of this layout cannot have that size.
    pub(crate) const fn size(self, total: u64) -> Option<u64> {
        match self {
            Self::Raw => Some(total),
            Self::Enveloped => total.checked_sub(BEFORE + BEHIND),
        }
    }

    /// The bytes before the value. The id is the write's, or a new one if the write has none of this project's.
    pub(crate) fn before(self, version: &Version, mint: &VersionMint) -> Bytes {
        if self == Self::Raw {
            return Bytes::new();
        }
        let id = version.as_u128().or_else(|| mint.mint().as_u128()).unwrap_or_default();
        let mut before = BytesMut::with_capacity(24);
        before.put_slice(MAGIC);
        before.put_u128(id);
        before.freeze()
    }

    /// The bytes after a value of this checksum.
    pub(crate) fn behind(self, checksum: Checksum) -> Bytes {
        match self {
            Self::Raw => Bytes::new(),
            Self::Enveloped => Bytes::copy_from_slice(&checksum.as_u32().to_be_bytes()),
        }
    }

    /// The value of a whole body, and the checksum behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is not an envelope.
    pub(crate) fn open(self, body: &Bytes) -> Result<(Bytes, Option<Checksum>)> {
        if self == Self::Raw {
            return Ok((body.clone(), None));
        }
        let end = body.len().checked_sub(4).filter(|end| *end >= 24 && body.starts_with(MAGIC));
        let (Some(end), Some(crc)) = (end, body.last_chunk::<4>()) else { return Err(foreign()) };
        Ok((body.slice(24..end), Some(Checksum::from_u32(u32::from_be_bytes(*crc)))))
    }
}

/// The error of an object that has no envelope.
pub(crate) fn foreign() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the object has no envelope: another program wrote it; use the raw layout, or another prefix",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_decodes_to_the_same_entry() {
        let layout = Layout::Enveloped;
        let value = Bytes::from_static(b"value");
        let checksum = Checksum::of(&value);
        let before = layout.before(&Version::from_u128(7), &VersionMint::seeded(1));
        let body = Bytes::from([&before[..], &value, &layout.behind(checksum)].concat());
        assert_eq!(layout.size(body.len() as u64), Some(5));
        assert_eq!(before.len() as u64, layout.start());
        assert_eq!(layout.open(&body).expect("opens"), (value.clone(), Some(checksum)));
        assert!(layout.open(&value).is_err() && layout.open(&body.slice(1..)).is_err());
        assert_eq!(layout.size(27), None);
    }
}
