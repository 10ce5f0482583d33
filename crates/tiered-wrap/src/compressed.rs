//! A store whose values are compressed.

mod format;
mod method;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tiered_core::adapter::{Checksum, Stamp};
use tiered_core::{AsStore, Key, Result, Version};

use crate::delegate::delegate;
use crate::facts::Facts;
use crate::sealed::{Codec, Coded, Head, Sealed, breathe};

use format::CompressedHead;
pub use method::Compression;

/// A store that keeps the values of the store inside compressed.
///
/// Values are compressed in frames of 64 KiB, so a range is read and decompressed by the frames that it touches. A frame
/// that does not shrink is kept as it is, and so is a value. Values of every [`Compression`] that the build has are read,
/// whichever is used for writing.
///
/// * **Cost.** A stored value begins with a head of 24 bytes, and 4 bytes for each compressed frame. The largest value is
///   24 bytes smaller than that of the store inside.
/// * **Listings** and `head` tell the size of the value and no checksum: an encrypted store inside leaves attributes in the
///   clear, and the checksum of a short value tells the value. The size is in an attribute `wrap-0` of the entry inside.
///   Where the store inside lists no attributes (S3), and where attributes take more than about 1,450 bytes, the first
///   bytes of each listed value are read.
/// * **`peek`** answers nothing: decompressing allocates. **`put_stream`** collects the value in memory.
/// * **Errors.** A value that another program wrote is [`ErrorKind::Foreign`](tiered_core::ErrorKind::Foreign). One that is
///   cut or damaged is `Corrupt`. One of a method that the build lacks is `Unsupported`. In a listing all three are `Corrupt`
///   with the key, in its place. Reading changes nothing.
/// * **Damage** in a range is found where decompressing fails. A whole value is also compared with its checksum.
///
/// # Format
///
/// ```text
/// "twz" | format 1 | method | 3 zeros | size u64 | checksum u32 | CRC-32C of what is before and of the index
/// index: u32 for each frame, its stored length, the highest bit set where it is not compressed
/// frames
/// ```
/// Integers are little-endian. Method 0 is a value that is not compressed, and has no index; 1 is lz4 (a block for each
/// frame), 2 is zstd. The checksum is the CRC-32C of the value.
///
/// # Examples
/// ```
/// # #[cfg(feature = "lz4")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_wrap::{Compressed, Compression};
///
/// let inside = MemoryStore::new();
/// let store = Compressed::new(inside.clone(), Compression::Lz4)?;
/// store.set("report", "many equal lines\n".repeat(1_000)).await?;
/// assert_eq!(store.get("report").await?.expect("just written").size(), 17_000);
/// assert!(inside.get("report").await?.expect("just written").size() < 1_000);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Compressed(Sealed<Compression>);

impl Compressed {
    /// `store` with its values compressed like this.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](tiered_core::ErrorKind::Config) where the store does not keep metadata, or its largest value has
    /// fewer than 24 bytes.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{MemoryStore, Store};
    /// use tiered_wrap::{Compressed, Compression};
    ///
    /// # #[cfg(feature = "lz4")] {
    /// let store = Compressed::new(MemoryStore::new(), Compression::Lz4)?;
    /// assert_eq!(store.capabilities().name(), "compressed memory");
    /// # }
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn new(store: impl AsStore, compression: Compression) -> Result<Self> {
        Sealed::new(store.into_store(), compression, Stamp::system()).map(Self)
    }
}

delegate!(Compressed);

impl Codec for Compression {
    type Head = CompressedHead;

    const NAME: &'static str = "compressed";
    const MAGIC: [u8; 3] = format::MAGIC;
    const FIXED: usize = format::FIXED;

    fn head_len(&self, fixed: &[u8]) -> Result<usize> {
        format::head_len(fixed)
    }

    async fn open(&self, _: &Key, _: &Version, head: &[u8]) -> Result<CompressedHead> {
        format::open(head)
    }

    async fn seal(&self, _: &Key, _: &Version, value: &Bytes) -> Result<Coded> {
        let mut writer = format::Writer::new(*self, value);
        for (index, _) in (0_u64..).zip(value.chunks(crate::sealed::FRAME)) {
            breathe(index).await;
            writer.frame(index)?;
        }
        let checksum = Checksum::of(value);
        // Not the checksum: an encrypted store inside leaves attributes in the clear, and it would tell short values.
        let facts = format!("z1.{}", value.len());
        Ok(Coded { stored: writer.finish(checksum), facts })
    }

    async fn facts(&self, _: &Key, _: &Version, text: &str) -> Option<Facts> {
        let size = text.strip_prefix("z1.")?.parse().ok()?;
        Some(Facts { size, checksum: None })
    }

    fn size_of(&self, _stored: u64) -> Option<u64> {
        None
    }

    fn largest(&self, stored: u64) -> Option<u64> {
        stored.checked_sub(format::FIXED as u64)
    }
}

impl Head for CompressedHead {
    fn facts(&self) -> Facts {
        Facts { size: self.size, checksum: Some(self.checksum) }
    }

    fn shown(&self) -> Facts {
        Facts { size: self.size, checksum: None }
    }

    fn stored(&self) -> u64 {
        self.stored
    }

    fn span(&self, index: u64) -> Range<u64> {
        self.frame_span(index)
    }

    fn decode(&self, index: u64, frame: &[u8], out: &mut BytesMut) -> Result<()> {
        self.frame(index, frame, out)
    }
}
