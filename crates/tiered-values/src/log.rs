//! Append logs over any store.

mod append;
mod builder;
mod head;
mod place;
mod read;
mod segment;
mod trim;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tiered_core::adapter::VersionMint;
use tiered_core::{AsStore, Attributes, Key, Store};

use crate::error::Result;
use crate::keys::ordered;

pub use builder::LogBuilder;

/// An append log over any store: numbered elements, in segments of bounded size.
///
/// * [`append`](Self::append) adds an element and returns its number, [`append_all`](Self::append_all) several at once. It rewrites the last segment, never the log.
///   Concurrent appends lose nothing, of any number of handles and processes. After a crash the log is as before, or has the
///   element.
/// * [`read`](Self::read) and [`fold`](Self::fold) begin at any element. What they answer has no gaps.
/// * [`trim`](Self::trim) removes elements from the front, by whole segments. Numbers are never used again.
///
/// The store needs conditional puts and must not evict. Cloning shares the handle.
///
/// # Format 1
///
/// A log called `NAME` has these keys, and none else:
///
/// | key | value |
/// |---|---|
/// | `NAME/head` | `TLGH` · format (1 byte: 1) · first element left (8 bytes) · CRC-32C of all before (4 bytes) |
/// | `NAME/segments/` and 16 hexadecimal digits, the number of the segment's first element | a segment |
///
/// A segment: `TLOG` · format (1 byte: 1) · flags (1 byte: 1 sealed) · id (16 bytes) · number of its first element (8 bytes) ·
/// count of elements (4 bytes) · the elements · CRC-32C of all before (4 bytes). An element: id of its append (16 bytes) ·
/// length (4 bytes) · bytes. Integers are big-endian.
///
/// Without a head the first element is 0. Another format number, or a checksum that does not match, is
/// [`Error::Damaged`](crate::Error::Damaged).
///
/// # Rules
///
/// 1. Every write of a segment is conditional on what was read. A segment only grows.
/// 2. The write that reaches a bound sets the flag *sealed*. A sealed segment never changes.
/// 3. The next segment is created, if absent, under the number behind a sealed one. So the numbers of segments have no gaps,
///    and an element's number is its segment's first number and its place.
/// 4. A trim first writes the head, with the first number of a segment that stays, and then deletes the segments below, the
///    lowest first. It never deletes the last segment: its number and its count say which number comes next, so that none is
///    used again.
/// 5. A segment whose first number is below the head's is no part of the log. A delayed writer may leave one
///    after a trim. Every handle reads the head after it creates a segment, or meets one for the first time. The next trim
///    deletes what was left.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::Log;
///
/// let log = Log::new(MemoryStore::new(), "logs/orders")?;
/// assert_eq!(log.append("first").await?, 0);
/// assert_eq!(log.append("second").await?, 1);
/// let elements = log.read(1, 100).await?;
/// assert_eq!(elements, [(1, "second".into())]);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    head: Key,
    /// Before a segment's number.
    segments: String,
    bounds: Bounds,
    attempts: u32,
    versions: VersionMint,
    /// Shown by `head` of the store; reading does not look at it.
    attributes: Attributes,
    /// The last segment, as far as this handle knows.
    last: Mutex<Option<Known>>,
    /// Where the latest read of this handle ended: the next one mostly goes on there.
    visited: Mutex<Option<Known>>,
}

/// When a segment is sealed.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    bytes: usize,
    elements: u32,
}

/// A segment that is a part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    first: u64,
    id: u128,
}

impl Log {
    /// The log of this name in `store`. It need not exist.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) of the kind [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where the name
    /// makes no keys, or of the kind [`Unsupported`](tiered_core::ErrorKind::Unsupported) where the store has no conditional puts,
    /// or evicts entries.
    pub fn new(store: impl AsStore, name: &str) -> Result<Self> {
        Self::builder(store, name).build()
    }

    /// The same, with more to choose.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Log;
    ///
    /// let log = Log::builder(MemoryStore::new(), "logs/orders").segment_bytes(16 << 10).build()?;
    /// # drop(log);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub fn builder(store: impl AsStore, name: &str) -> LogBuilder {
        LogBuilder::new(store.into_store(), name)
    }

    /// The numbers of the elements that are there: from the first one left to the one that comes next.
    ///
    /// # Errors
    /// Those of the store; [`Error::Damaged`](crate::Error::Damaged).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::Log;
    ///
    /// let log = Log::new(MemoryStore::new(), "logs/orders")?;
    /// assert_eq!(log.range().await?, 0..0);
    /// log.append("first").await?;
    /// assert_eq!(log.range().await?, 0..1);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn range(&self) -> Result<Range<u64>> {
        let next = self.inner.place().await?.next();
        let first = self.inner.first().await?;
        Ok(first..next.max(first))
    }
}

impl Inner {
    fn segment_key(&self, first: u64) -> Result<Key> {
        Ok(Key::new(format!("{}{}", self.segments, ordered::from_u64(first)))?)
    }

    /// The number in a segment's key; `None` for any other key.
    fn first_of(&self, key: &Key) -> Option<u64> {
        key.as_str().strip_prefix(&self.segments).and_then(ordered::to_u64)
    }

    fn known(&self) -> Option<Known> {
        *self.last.lock()
    }

    /// Remembers a segment that is a part of the log, where it is not before the one that is remembered.
    fn remember(&self, known: Known) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.first <= known.first) {
            *last = Some(known);
        }
    }

    /// Forgets a segment that leads nowhere any more, and what was remembered on the way from it.
    fn forget(&self, known: Known) {
        let mut last = self.last.lock();
        if last.is_some_and(|last| last.first >= known.first) {
            *last = None;
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("store", &self.inner.store)
            .field("segments", &self.inner.segments)
            .field("bounds", &self.inner.bounds)
            .finish_non_exhaustive()
    }
}
