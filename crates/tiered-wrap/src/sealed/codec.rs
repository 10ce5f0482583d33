//! What a codec does.

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use tiered_core::{Key, Result, Version};

use crate::facts::Facts;

/// Bytes of a value in one frame. Small enough that a range of a few bytes reads little, large enough that a frame's own
/// bytes (16 of a tag, 4 of an index) weigh nothing. It is part of the formats: another size is another format.
pub(crate) const FRAME: usize = 64 << 10;

/// Frames between two pauses: a few milliseconds of work.
const BREATH: u64 = 16;

/// How many frames a value of `size` bytes has.
pub(crate) const fn frames(size: u64) -> u64 {
    size.div_ceil(FRAME as u64)
}

/// Bytes of the value in the frame of this number.
pub(crate) fn frame_len(size: u64, index: u64) -> usize {
    let rest = size.saturating_sub(index.saturating_mul(FRAME as u64));
    usize::try_from(rest).unwrap_or(FRAME).min(FRAME)
}

/// A value in the form in which it is stored.
pub(crate) struct Coded {
    pub(crate) stored: Bytes,
    /// [`Facts`], as the text of an attribute.
    pub(crate) facts: String,
}

/// How values are kept.
pub(crate) trait Codec: fmt::Debug + Send + Sync + 'static {
    /// What was read of a value's head.
    type Head: Head;

    /// What such a value is, for errors: an adjective.
    const NAME: &'static str;

    /// What such a value begins with.
    const MAGIC: [u8; 3];

    /// So many bytes tell how long the head is.
    const FIXED: usize;

    /// Bytes of the head that begins like this.
    fn head_len(&self, fixed: &[u8]) -> Result<usize>;

    /// Reads a head.
    fn open(
        &self,
        key: &Key,
        version: &Version,
        head: &[u8],
    ) -> impl Future<Output = Result<Self::Head>> + Send;

    /// The stored form of a value.
    fn seal(&self, key: &Key, version: &Version, value: &Bytes)
    -> impl Future<Output = Result<Coded>> + Send;

    /// The facts in the text of an attribute; `None` where it is none of this codec's.
    fn facts(&self, key: &Key, version: &Version, text: &str) -> impl Future<Output = Option<Facts>> + Send;

    /// The size of the value that has so many bytes when stored, where that tells.
    fn size_of(&self, stored: u64) -> Option<u64>;

    /// The largest value that has at most so many bytes when stored.
    fn largest(&self, stored: u64) -> Option<u64>;
}

/// The head of a stored value.
pub(crate) trait Head: Send + Sync + Unpin + 'static {
    /// Size and checksum of the value.
    fn facts(&self) -> Facts;

    /// What `head` and listings say of the value: as much as the attribute tells.
    fn shown(&self) -> Facts {
        self.facts()
    }

    /// Bytes of the stored value, head included.
    fn stored(&self) -> u64;

    /// Where the frame of this number is in the stored value.
    fn span(&self, index: u64) -> Range<u64>;

    /// Appends the bytes of the value that are in this frame.
    fn decode(&self, index: u64, frame: &[u8], out: &mut BytesMut) -> Result<()>;
}

/// Lets other tasks run now and then in a loop over frames.
pub(crate) async fn breathe(index: u64) {
    if !index.is_multiple_of(BREATH) || index == 0 {
        return;
    }
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
