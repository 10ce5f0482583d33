//! What can be chosen for a log.

use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;
use tiered_core::adapter::VersionMint;
use tiered_core::{ErrorKind, Feature, Key, Store};

use super::{Bounds, Inner, Log};
use crate::error::Result;
use crate::format::Format;
use crate::writer::ATTEMPTS;

/// Builds a [`Log`].
///
/// The bounds are the handle's: others may have other ones for the same log.
///
/// # Examples
/// ```
/// use std::num::NonZeroU32;
/// use tiered_core::MemoryStore;
/// use tiered_values::Log;
///
/// let log = Log::builder(MemoryStore::new(), "logs/orders")
///     .segment_bytes(16 << 10)
///     .segment_elements(NonZeroU32::new(100).expect("not zero"))
///     .max_attempts(NonZeroU32::new(16).expect("not zero"))
///     .build()?;
/// # drop(log);
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Debug)]
pub struct LogBuilder {
    store: Arc<dyn Store>,
    name: String,
    bounds: Bounds,
    attempts: NonZeroU32,
}

impl LogBuilder {
    pub(super) fn new(store: Arc<dyn Store>, name: &str) -> Self {
        // An append rewrites a segment: half of this on average.
        let bounds = Bounds { bytes: 64 << 10, elements: 1024 };
        Self { store, name: name.to_owned(), bounds, attempts: ATTEMPTS }
    }

    /// How many bytes a segment has at most, unless a single append is larger. Each append rewrites one segment. Without
    /// it: 64 KiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: usize) -> Self {
        self.bounds.bytes = bytes;
        self
    }

    /// How many elements a segment has at most, unless a single append has more. Without it: 1,024.
    #[must_use]
    pub fn segment_elements(mut self, elements: NonZeroU32) -> Self {
        self.bounds.elements = elements.get();
        self
    }

    /// How many attempts an append makes before it is [`Error::Contended`](crate::Error::Contended). Each failed attempt is
    /// another writer's success. Without it: 256.
    #[must_use]
    pub fn max_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The handle. The store is not asked.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store) of the kind [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where the name
    /// makes no keys, or ones that are too long for the store; of the kind [`Unsupported`](ErrorKind::Unsupported) where the
    /// store has no conditional puts, or evicts entries.
    pub fn build(self) -> Result<Log> {
        let head = Key::new(format!("{}/head", self.name))?;
        let inner = Inner {
            store: self.store,
            head,
            segments: format!("{}/segments/", self.name),
            bounds: self.bounds,
            attempts: self.attempts.get(),
            versions: VersionMint::from_entropy(),
            attributes: Format::new("log", 1)?.attributes(None)?,
            last: Mutex::new(None),
            visited: Mutex::new(None),
        };
        let longest = inner.segment_key(u64::MAX)?;
        let capabilities = inner.store.capabilities();
        capabilities.check_key(&longest)?;
        capabilities.require(Feature::ConditionalPut)?;
        if capabilities.has(Feature::Evicts) {
            let what = "the store evicts entries, and a log would lose elements; put it before a backend that does not";
            return Err(tiered_core::Error::new(ErrorKind::Unsupported, what)
                .in_tier(capabilities.name())
                .into());
        }
        Ok(Log { inner: Arc::new(inner) })
    }
}
