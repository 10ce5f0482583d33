//! What can be chosen for typed values.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use tiered_core::adapter::{Clock, SystemClock};
use tiered_core::{Expiry, Feature, Store};

use super::{Counts, ExpiryOf, Inner, Typed};
use crate::codec::Codec;
use crate::error::Result;
use crate::format::Format;
use crate::loads::Loads;
use crate::writer::{ATTEMPTS, Writer};

/// What a value of another codec or schema version is.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_core::MemoryStore;
/// use tiered_values::{Json, OnMismatch, Typed};
///
/// let store = Arc::new(MemoryStore::new());
/// Typed::<u32>::new(store.clone(), Json)?.put("k", &1).await?;
/// let next = Typed::<u64>::builder(store, Json).schema(2).on_mismatch(OnMismatch::Miss).build()?;
/// assert_eq!(next.get("k").await?, None);
/// assert_eq!(next.stats().mismatches, 1);
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMismatch {
    /// [`Error::Format`](crate::Error::Format).
    #[default]
    Fail,
    /// Absent, and [counted](crate::TypedStats::mismatches). Writes replace it. For caches.
    Miss,
}

/// Builds a [`Typed`] handle.
///
/// # Examples
/// ```
/// use std::num::NonZeroU32;
/// use std::sync::Arc;
/// use std::time::Duration;
/// use tiered_core::adapter::SystemClock;
/// use tiered_core::{Expiry, MemoryStore};
/// use tiered_values::{Json, OnMismatch, Typed};
///
/// let sessions = Typed::<(String, u64)>::builder(MemoryStore::new(), Json)
///     .schema(3)
///     .on_mismatch(OnMismatch::Miss)
///     .expiry(|(_, seconds)| Expiry::After(Duration::from_secs(*seconds)))
///     .max_attempts(NonZeroU32::new(16).expect("not zero"))
///     .clock(Arc::new(SystemClock::new()))
///     .build()?;
/// # drop(sessions);
/// # Ok::<(), tiered_values::Error>(())
/// ```
pub struct TypedBuilder<T> {
    store: Arc<dyn Store>,
    codec: Arc<dyn Codec<T>>,
    schema: u32,
    on_mismatch: OnMismatch,
    expiry: Option<Box<ExpiryOf<T>>>,
    max_attempts: NonZeroU32,
    clock: Option<Arc<dyn Clock>>,
}

impl<T: 'static> TypedBuilder<T> {
    pub(super) fn new(store: Arc<dyn Store>, codec: Arc<dyn Codec<T>>) -> Self {
        let on_mismatch = OnMismatch::default();
        Self { store, codec, schema: 1, on_mismatch, expiry: None, max_attempts: ATTEMPTS, clock: None }
    }

    /// The schema version of the type `T`. Raise it when older bytes would be read wrongly. Without it: 1.
    #[must_use]
    pub fn schema(mut self, version: u32) -> Self {
        self.schema = version;
        self
    }

    /// What a value of another codec or schema version is. Without it: an error.
    #[must_use]
    pub fn on_mismatch(mut self, on_mismatch: OnMismatch) -> Self {
        self.on_mismatch = on_mismatch;
        self
    }

    /// When each value stops existing; asked for every write of this handle. Without it: never, and an update keeps the
    /// expiry that the entry has.
    #[must_use]
    pub fn expiry(mut self, of: impl Fn(&T) -> Expiry + Send + Sync + 'static) -> Self {
        self.expiry = Some(Box::new(of));
        self
    }

    /// How many attempts an update makes before it is [`Error::Contended`](crate::Error::Contended). Each failed attempt is
    /// another writer's success. Without it: 256.
    #[must_use]
    pub fn max_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The clock by which an absence is forgotten. Without it: the operating system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The handle.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where the codec's name breaks the rules; [`Error::Store`](crate::Error::Store) of
    /// the kind [`Unsupported`](tiered_core::ErrorKind::Unsupported) where the store keeps no attributes.
    pub fn build(self) -> Result<Typed<T>> {
        self.store.capabilities().require(Feature::KeepsMetadata)?;
        let inner = Inner {
            format: Format::new(self.codec.name(), self.schema)?,
            writer: Writer::new(Arc::clone(&self.store), self.max_attempts),
            store: self.store,
            codec: self.codec,
            on_mismatch: self.on_mismatch,
            expiry: self.expiry,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            loads: Loads::default(),
            counts: Counts::default(),
        };
        Ok(Typed { inner: Arc::new(inner), keys: PhantomData })
    }
}

impl<T> fmt::Debug for TypedBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedBuilder")
            .field("store", &self.store)
            .field("codec", &self.codec)
            .field("schema", &self.schema)
            .field("on_mismatch", &self.on_mismatch)
            .finish_non_exhaustive()
    }
}
