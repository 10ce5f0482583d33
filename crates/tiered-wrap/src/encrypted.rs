//! A store whose values are encrypted.

mod format;
mod key;
mod rotate;

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tiered_core::adapter::Stamp;
use tiered_core::{AsStore, Error, ErrorKind, Key, Result, Version};

use crate::delegate::delegate;
use crate::facts::Facts;
use crate::sealed::{Codec, Coded, FRAME, Head, Sealed, breathe};

use format::{Clear, EncryptedHead, Noted, Writer};
pub use key::{EncryptionKey, KeyProvider, Keys};
pub use rotate::Rotated;

/// A store that keeps the values of the store inside encrypted, by AES-256-GCM-SIV.
///
/// # What is protected
///
/// Values are: with access to the store inside, one can neither read them nor change them unnoticed. A value is bound to its key (the
/// name in the store) and its version, so none passes for that of another key, or for another version's. An older entry
/// that is put back as a whole, its version included, is not noticed.
///
/// **These stay readable**: keys, attributes, marks, sizes, times, expiry, and the id of the encryption key. Put nothing
/// secret into them. `head` and `list` tell size and checksum from an attribute that is not authenticated; a read of the
/// value does not use it.
///
/// Wrap the *tiered* store. Around its backend alone, the journal and the frontend hold plaintext.
///
/// # How
///
/// * **Deterministic.** The nonces come from the version, so equal versions give equal ciphertext: a retried write and a copy
///   between tiers are the same bytes. Two writes have two versions. Should a version repeat nevertheless, AES-GCM-SIV
///   gives away no more than whether the values are equal.
/// * **Frames.** Values are encrypted in frames of 64 KiB, each bound to its number and the size of the whole. A range is
///   read by the frames that it touches, and checked like a whole value.
/// * **Rotation.** Writes use the provider's [current](KeyProvider::current) key, reads the key that the value names.
///   [`rotate`](Self::rotate) rewrites what is under another key. Rotate before 2³² writes under one key.
///
/// # What changes
///
/// * **Cost.** A stored value has 80 bytes more, and 16 for each frame. The largest value is smaller by these.
/// * **Listings** tell size and checksum, which an attribute `wrap-0` of the entry inside carries: the checksum is hidden by
///   the key, since it would tell short values. Where the store inside lists no attributes (S3), the size follows from that
///   of what is stored, and there is no checksum.
/// * **`peek`** answers nothing: decrypting allocates. **`put_stream`** collects the value in memory.
/// * **Errors.** A key that the provider lacks, or another key under the same id, is `Config`. A value that is damaged, cut,
///   or of another key or version is `Corrupt`. A value that another program wrote is `Foreign`. Reading changes nothing, and
///   [`Precondition::Damaged`](tiered_core::Precondition::Damaged) holds over a `Corrupt` value alone: a wrong key repairs nothing.
///
/// # Format
///
/// ```text
/// "twe" | format 1 | cipher 1 | length of the id | 2 zeros | id, 32 bytes | check of the key, 8 bytes
/// size u64 | hidden checksum u32 | 4 zeros | tag, 16 bytes
/// frames: ciphertext | tag, 16 bytes
/// ```
/// Integers are little-endian. With `T(n, d)` for the tag of an empty text under the nonce `n` and the associated data `d`,
/// and `B(l)` for `"tiered-wrap " l 0 | length of the key u32 | key | 0 and the version's 16 bytes, or 1 and its token`:
///
/// * the check of the key is the first 8 bytes of `T(0, "tiered-wrap key")`;
/// * the seed is `T(0, B("seed"))`: 12 bytes of nonce, and 4 that are added to the CRC-32C of the value without carry;
/// * the tag of the head is `T(nonce, B("head") | first 64 bytes)`;
/// * frame `i` has the nonce with `i + 1` added without carry, and the associated data `B("frame") | first 64 bytes | i u64`.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_wrap::{Encrypted, EncryptionKey, Keys};
///
/// let keys = Keys::from_text(&format!("2026-a = {}", EncryptionKey::generate_hex()))?;
/// let inside = MemoryStore::new();
/// let store = Encrypted::new(inside.clone(), keys)?;
/// store.set("users/42", "Ada Lovelace").await?;
/// assert_eq!(store.get("users/42").await?.expect("just written").value(), "Ada Lovelace");
/// let stored = inside.get("users/42").await?.expect("just written");
/// assert!(!stored.value().windows(3).any(|part| part == b"Ada"));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Encrypted(Sealed<Cipher>);

/// Encrypts by keys of a provider.
#[derive(Debug)]
pub(crate) struct Cipher(Arc<dyn KeyProvider>);

impl Encrypted {
    /// `store` with its values encrypted by `keys`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the store does not keep metadata, or its largest value has fewer than 80 bytes. Whether
    /// the keys are those of the stored values shows when a value is read.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{MemoryStore, Store};
    /// use tiered_wrap::{Encrypted, EncryptionKey, Keys};
    ///
    /// let keys = Keys::new(EncryptionKey::new("2026-a", [7; 32])?);
    /// let store = Encrypted::new(MemoryStore::new(), keys)?;
    /// assert_eq!(store.capabilities().name(), "encrypted memory");
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn new(store: impl AsStore, keys: impl KeyProvider) -> Result<Self> {
        Self::with_stamp(store, keys, Stamp::system())
    }

    /// As [`new`](Self::new), with another source of versions. For tests that repeat themselves exactly.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_core::adapter::Stamp;
    /// use tiered_wrap::{Encrypted, EncryptionKey, Keys};
    ///
    /// let keys = Keys::new(EncryptionKey::new("test", [7; 32])?);
    /// let store = Encrypted::with_stamp(MemoryStore::new(), keys, Stamp::system())?;
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn with_stamp(store: impl AsStore, keys: impl KeyProvider, stamp: Stamp) -> Result<Self> {
        Sealed::new(store.into_store(), Cipher(Arc::new(keys)), stamp).map(Self)
    }
}

delegate!(Encrypted);

impl Codec for Cipher {
    type Head = EncryptedHead;

    const NAME: &'static str = "encrypted";
    const MAGIC: [u8; 3] = format::MAGIC;
    const FIXED: usize = format::HEAD;

    fn head_len(&self, fixed: &[u8]) -> Result<usize> {
        Clear::read(fixed).map(|_| format::HEAD)
    }

    async fn open(&self, key: &Key, version: &Version, head: &[u8]) -> Result<EncryptedHead> {
        let clear = Clear::read(head)?;
        let Some(by) = self.0.key(&clear.id).await? else {
            let message = format!(
                "the value is encrypted under the key {:?}, which is not among the keys; add it to read the value",
                clear.id
            );
            return Err(Error::new(ErrorKind::Config, message));
        };
        if !clear.is_of(&by) {
            let message = format!(
                "the value is encrypted under another key with the id {:?}; give the original one, and each key an id of its own",
                clear.id
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        EncryptedHead::open(by, &clear, key, version, head)
    }

    async fn seal(&self, key: &Key, version: &Version, value: &Bytes) -> Result<Coded> {
        let mut writer = Writer::new(self.0.current().await?, key, version, value)?;
        for (index, _) in (0_u64..).zip(value.chunks(FRAME)) {
            breathe(index).await;
            writer.frame(index)?;
        }
        let (stored, facts) = writer.finish();
        Ok(Coded { stored, facts })
    }

    async fn facts(&self, key: &Key, version: &Version, text: &str) -> Option<Facts> {
        let noted = Noted::read(text)?;
        // Without the key the size is told all the same.
        let by = self.0.key(noted.id).await.ok().flatten();
        Some(noted.facts(by.as_ref(), key, version))
    }

    fn size_of(&self, stored: u64) -> Option<u64> {
        format::size_of(stored)
    }

    fn largest(&self, stored: u64) -> Option<u64> {
        format::largest(stored)
    }
}

impl Head for EncryptedHead {
    fn facts(&self) -> Facts {
        self.facts()
    }

    fn stored(&self) -> u64 {
        self.stored()
    }

    fn span(&self, index: u64) -> Range<u64> {
        self.span(index)
    }

    fn decode(&self, index: u64, frame: &[u8], out: &mut BytesMut) -> Result<()> {
        self.decode(index, frame, out)
    }
}
