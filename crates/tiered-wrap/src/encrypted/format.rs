//! How an encrypted value looks.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use tiered_core::adapter::Checksum;
use tiered_core::adapter::codec::{take, take_u64};
use tiered_core::{Error, ErrorKind, Key, Result, Version};

use super::key::{CHECK, EncryptionKey, MAX_ID};
use crate::facts::Facts;
use crate::sealed::{FRAME, cut, foreign, frame_len, frames};

/// What every encrypted value begins with, and the version of the format.
pub(super) const MAGIC: [u8; 3] = *b"twe";
const FORMAT: u8 = 1;

/// AES-256-GCM-SIV.
const CIPHER: u8 = 1;

/// Bytes of a tag.
const TAG: usize = 16;

/// Bytes of a head without its tag, and with it.
const SIGNED: usize = 64;
pub(super) const HEAD: usize = SIGNED + TAG;

/// Bytes of a frame when stored.
const STORED_FRAME: u64 = (FRAME + TAG) as u64;

/// The size of the value that has so many bytes when stored; `None` where no value has.
pub(super) fn size_of(stored: u64) -> Option<u64> {
    let body = stored.checked_sub(HEAD as u64)?;
    let size = body.checked_sub(body.div_ceil(STORED_FRAME) * TAG as u64)?;
    (stored_of(size) == Some(stored)).then_some(size)
}

/// Bytes of a value of this size when stored.
pub(super) fn stored_of(size: u64) -> Option<u64> {
    frames(size).checked_mul(TAG as u64)?.checked_add(size)?.checked_add(HEAD as u64)
}

/// The largest value that has at most so many bytes when stored.
pub(super) fn largest(stored: u64) -> Option<u64> {
    let body = stored.checked_sub(HEAD as u64)?;
    let whole = body / STORED_FRAME * FRAME as u64;
    Some(whole + (body % STORED_FRAME).saturating_sub(TAG as u64))
}

/// What a value is bound to: its key, its version, and the use of the bytes.
fn bound(label: &[u8], key: &Key, version: &Version) -> Vec<u8> {
    let mut data = Vec::with_capacity(64 + key.len());
    data.extend_from_slice(b"tiered-wrap ");
    data.extend_from_slice(label);
    data.push(0);
    data.put_u32_le(u32::try_from(key.len()).unwrap_or(u32::MAX));
    data.extend_from_slice(key.as_str().as_bytes());
    match (version.as_u128(), version.as_token()) {
        (Some(id), _) => {
            data.push(0);
            data.put_u128_le(id);
        }
        (None, token) => {
            data.push(1);
            data.extend_from_slice(token.unwrap_or_default().as_bytes());
        }
    }
    data
}

/// What a version determines: the nonces of a value, and what hides its checksum.
struct Seed {
    nonce: [u8; 12],
    mask: u32,
}

impl Seed {
    fn of(by: &EncryptionKey, key: &Key, version: &Version) -> Result<Self> {
        let seed = by.tag(&[0; 12], &bound(b"seed", key, version))?;
        let mut rest = seed.as_slice();
        let nonce = take(&mut rest).unwrap_or_default();
        Ok(Self { nonce, mask: take(&mut rest).map(u32::from_le_bytes).unwrap_or_default() })
    }

    /// The nonce of a frame; that of the head is the seed's own.
    fn nonce(&self, index: u64) -> [u8; 12] {
        let mut nonce =
            u128::from_le_bytes(*[self.nonce.as_slice(), &[0; 4]].concat().first_chunk().unwrap_or(&[0; 16]));
        nonce ^= u128::from(index) + 1;
        nonce.to_le_bytes().first_chunk().copied().unwrap_or_default()
    }
}

/// What a value's head says in the clear.
#[derive(Clone, Debug)]
pub(super) struct Clear {
    pub(super) id: String,
    check: [u8; CHECK],
    size: u64,
    masked: u32,
}

impl Clear {
    /// Reads a head, which is not authenticated yet.
    pub(super) fn read(head: &[u8]) -> Result<Self> {
        let mut rest = head;
        if take(&mut rest) != Some(MAGIC) {
            return Err(foreign("encrypted"));
        }
        let [format, cipher, id_len, _] = take(&mut rest).ok_or_else(cut)?;
        if (format, cipher) != (FORMAT, CIPHER) {
            let message =
                "the encrypted value has a format that this version does not know; use a later version";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        take::<1>(&mut rest).ok_or_else(cut)?;
        let id: [u8; MAX_ID] = take(&mut rest).ok_or_else(cut)?;
        let id =
            id.get(..usize::from(id_len)).and_then(|id| std::str::from_utf8(id).ok()).ok_or_else(damaged)?;
        let check = take(&mut rest).ok_or_else(cut)?;
        let size = take_u64(&mut rest).ok_or_else(cut)?;
        let masked = u32::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
        Ok(Self { id: id.to_owned(), check, size, masked })
    }

    /// Whether a key is the one that the value was encrypted under.
    pub(super) fn is_of(&self, by: &EncryptionKey) -> bool {
        self.check == *by.check()
    }
}

pub(super) fn damaged() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the encrypted value is damaged, or belongs to another key or version; restore it from another tier or a backup",
    )
}

/// The head of an encrypted value, authenticated.
pub(crate) struct EncryptedHead {
    by: EncryptionKey,
    seed: Seed,
    facts: Facts,
    stored: u64,
    /// What each frame is bound to; its number follows.
    bound: Vec<u8>,
}

impl EncryptedHead {
    /// Checks a head by the key that it names.
    pub(super) fn open(
        by: EncryptionKey,
        clear: &Clear,
        key: &Key,
        version: &Version,
        head: &[u8],
    ) -> Result<Self> {
        let (signed, tag) = head.split_at_checked(SIGNED).ok_or_else(cut)?;
        let tag: [u8; TAG] = tag.try_into().map_err(|_| cut())?;
        let seed = Seed::of(&by, key, version)?;
        let mut data = bound(b"head", key, version);
        data.extend_from_slice(signed);
        if !by.decrypt(&seed.nonce, &data, &mut [], &tag) {
            return Err(damaged());
        }
        let checksum = Checksum::from_u32(clear.masked ^ seed.mask);
        let facts = Facts { size: clear.size, checksum: Some(checksum) };
        let stored = stored_of(clear.size).ok_or_else(damaged)?;
        Ok(Self { by, seed, facts, stored, bound: of_frames(key, version, signed) })
    }

    pub(super) fn id(&self) -> &str {
        self.by.id()
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    pub(super) const fn stored(&self) -> u64 {
        self.stored
    }

    pub(super) fn span(&self, index: u64) -> Range<u64> {
        let start = (HEAD as u64).saturating_add(index.saturating_mul(STORED_FRAME));
        let len = if index < frames(self.facts.size) { frame_len(self.facts.size, index) + TAG } else { 0 };
        start..start.saturating_add(len as u64)
    }

    pub(super) fn decode(&self, index: u64, frame: &[u8], out: &mut BytesMut) -> Result<()> {
        let (text, tag) = frame.split_last_chunk::<TAG>().ok_or_else(cut)?;
        let before = out.len();
        out.extend_from_slice(text);
        let room = out.get_mut(before..).unwrap_or_default();
        let data = [self.bound.as_slice(), &index.to_le_bytes()].concat();
        if self.by.decrypt(&self.seed.nonce(index), &data, room, tag) {
            return Ok(());
        }
        out.truncate(before);
        Err(damaged())
    }
}

/// What the frames of a value are bound to: the head tells size and key, so none can be cut off or taken from elsewhere.
fn of_frames(key: &Key, version: &Version, signed: &[u8]) -> Vec<u8> {
    let mut data = bound(b"frame", key, version);
    data.extend_from_slice(signed);
    data
}

/// Writes an encrypted value, frame by frame.
pub(super) struct Writer<'v> {
    by: EncryptionKey,
    seed: Seed,
    value: &'v Bytes,
    bound: Vec<u8>,
    out: BytesMut,
    masked: u32,
}

impl<'v> Writer<'v> {
    pub(super) fn new(by: EncryptionKey, key: &Key, version: &Version, value: &'v Bytes) -> Result<Self> {
        let seed = Seed::of(&by, key, version)?;
        let masked = Checksum::of(value).as_u32() ^ seed.mask;
        let size = value.len() as u64;
        let stored = stored_of(size).and_then(|stored| usize::try_from(stored).ok()).ok_or_else(cut)?;
        let mut out = BytesMut::with_capacity(stored);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[FORMAT, CIPHER, u8::try_from(by.id().len()).unwrap_or(0), 0, 0]);
        out.extend_from_slice(by.id().as_bytes());
        out.put_bytes(0, MAX_ID.saturating_sub(by.id().len()));
        out.extend_from_slice(by.check());
        out.put_u64_le(size);
        out.put_u32_le(masked);
        out.put_bytes(0, SIGNED.saturating_sub(out.len()));
        let mut data = bound(b"head", key, version);
        data.extend_from_slice(&out);
        let tag = by.tag(&seed.nonce, &data)?;
        let bound = of_frames(key, version, &out);
        out.extend_from_slice(&tag);
        Ok(Self { by, seed, value, bound, out, masked })
    }

    pub(super) fn frame(&mut self, index: u64) -> Result<()> {
        let len = frame_len(self.value.len() as u64, index);
        let start = usize::try_from(index).ok().and_then(|index| index.checked_mul(FRAME)).ok_or_else(cut)?;
        let frame = self.value.get(start..start + len).ok_or_else(cut)?;
        let before = self.out.len();
        self.out.extend_from_slice(frame);
        let data = [self.bound.as_slice(), &index.to_le_bytes()].concat();
        let room = self.out.get_mut(before..).unwrap_or_default();
        let tag = self.by.encrypt(&self.seed.nonce(index), &data, room)?;
        self.out.extend_from_slice(&tag);
        Ok(())
    }

    /// The stored value, and its facts as text.
    pub(super) fn finish(self) -> (Bytes, String) {
        let check = u32::from_be_bytes(self.by.check().first_chunk().copied().unwrap_or_default());
        let facts = format!("e1.{}.{:08x}.{check:08x}.{}", self.value.len(), self.masked, self.by.id());
        (self.out.freeze(), facts)
    }
}

/// What the text of an attribute says, which is not authenticated.
pub(super) struct Noted<'t> {
    size: u64,
    masked: u32,
    check: u32,
    pub(super) id: &'t str,
}

impl<'t> Noted<'t> {
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let mut parts = text.strip_prefix("e1.")?.split('.');
        let mut next = || parts.next();
        let size = next()?.parse().ok()?;
        let masked = u32::from_str_radix(next()?, 16).ok()?;
        let check = u32::from_str_radix(next()?, 16).ok()?;
        let id = next()?;
        next().is_none().then_some(Self { size, masked, check, id })
    }

    /// Size and checksum; no checksum without the key.
    pub(super) fn facts(&self, by: Option<&EncryptionKey>, key: &Key, version: &Version) -> Facts {
        let begins =
            |by: &&EncryptionKey| by.check().first_chunk().copied() == Some(self.check.to_be_bytes());
        let seed = by.filter(begins).and_then(|by| Seed::of(by, key, version).ok());
        let checksum = seed.map(|seed| Checksum::from_u32(self.masked ^ seed.mask));
        Facts { size: self.size, checksum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_by_stored_sizes() {
        let frame = FRAME as u64;
        for size in [0, 1, frame - 1, frame, frame + 1, 3 * frame, 3 * frame + 17, 1 << 30] {
            let stored = stored_of(size).expect("small");
            assert_eq!((size_of(stored), largest(stored)), (Some(size), Some(size)));
            assert!(stored_of(largest(stored + 5).expect("room")).expect("small") <= stored + 5);
        }
        for none in [0, HEAD as u64 - 1, HEAD as u64 + 1, HEAD as u64 + 16, HEAD as u64 + STORED_FRAME + 16] {
            assert_eq!(size_of(none), None, "{none}");
        }
    }
}
