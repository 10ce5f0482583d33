//! What can be chosen for a sweep.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tiered_core::{ErrorKind, Feature, Key, Store, Timestamp};

use super::report::Verdict;
use super::{Inner, Settings, Sweep};
use crate::error::{Error, Result};
use crate::writer::{ATTEMPTS, Writer};

/// Builds a [`Sweep`].
///
/// # Examples
/// ```
/// use std::num::NonZeroUsize;
/// use tiered_core::{MemoryStore, Timestamp};
/// use tiered_values::sweep::Sweep;
///
/// let sweep = Sweep::builder(MemoryStore::new())
///     .prefix("blobs/")
///     .records("blobs.gc/")
///     .older_than(Timestamp::from_millis(1_700_000_000_000))
///     .chunk_bytes(16 << 10)
///     .batch(NonZeroUsize::new(100).expect("not zero"))
///     .concurrency(NonZeroUsize::new(8).expect("not zero"))
///     .on_key(|key, verdict| println!("{verdict:?} {key}"))
///     .build()?;
/// # drop(sweep);
/// # Ok::<(), tiered_values::Error>(())
/// ```
pub struct SweepBuilder {
    store: Arc<dyn Store>,
    settings: Settings,
}

impl SweepBuilder {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let settings = Settings {
            prefix: String::new(),
            records: "tiered.gc/".to_owned(),
            older_than: None,
            chunk_bytes: 64 << 10,
            batch: 256,
            concurrency: 16,
            on_key: None,
        };
        Self { store, settings }
    }

    /// Only keys that begin with this are ever deleted. Roots and what they refer to may lie elsewhere. Without it: all keys.
    /// Keys under `.tiered/`, which are the engine's, are never deleted. Nor are keys that contain `/.tiered/` or
    /// `/tiered.gc/`: they may be the records of a store, or of a sweep, under a prefix.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// Before the keys of the records. They are never candidates. All writers and all sweeps of a store use the same: the
    /// records of another prefix are no records, and may be deleted. Without it: `tiered.gc/`.
    #[must_use]
    pub fn records(mut self, prefix: impl Into<String>) -> Self {
        self.settings.records = prefix.into();
        self
    }

    /// Spares entries that were modified after this, by the clock of their writer. It only ever spares: what the rules of the
    /// [module](super) do not condemn stays in any case. A clock that is wrong deletes nothing that is live.
    #[must_use]
    pub fn older_than(mut self, cut_off: Timestamp) -> Self {
        self.settings.older_than = Some(cut_off);
        self
    }

    /// How many bytes a chunk of a snapshot has at most, within the store's limit. One observation takes the key, the version
    /// and 12 bytes, and is never cut. Without it: 64 KiB.
    #[must_use]
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.settings.chunk_bytes = bytes;
        self
    }

    /// How many keys are looked at, and deleted, at once. Without it: 256.
    #[must_use]
    pub fn batch(mut self, keys: NonZeroUsize) -> Self {
        self.settings.batch = keys.get();
        self
    }

    /// How many entries a walk reads at once. Without it: 16.
    #[must_use]
    pub fn concurrency(mut self, reads: NonZeroUsize) -> Self {
        self.settings.concurrency = reads.get();
        self
    }

    /// Called for each key that is not live, in the order of the keys within a batch.
    #[must_use]
    pub fn on_key(mut self, tell: impl Fn(&Key, Verdict) + Send + Sync + 'static) -> Self {
        self.settings.on_key = Some(Arc::new(tell));
        self
    }

    /// The handle. The store is not asked.
    ///
    /// # Errors
    /// [`Error::Store`] of the kind [`Unsupported`](ErrorKind::Unsupported) where the store lacks conditional puts, conditional
    /// deletes or versions that are never used twice ([`Feature::UniqueValidators`]), evicts entries, or lists fewer keys
    /// than it has ([`Feature::PartialListings`]: a stack under a policy `frontend-only`); of the kind
    /// [`InvalidKey`](ErrorKind::InvalidKey) where the prefix of the records makes no keys; [`Error::Invalid`] where that
    /// prefix is empty, or covers every candidate.
    pub fn build(self) -> Result<Sweep> {
        let Self { store, settings } = self;
        let capabilities = store.capabilities();
        for feature in [Feature::ConditionalPut, Feature::ConditionalDelete, Feature::UniqueValidators] {
            capabilities.require(feature)?;
        }
        if capabilities.has(Feature::Evicts) {
            let what = "the store evicts entries, and the records of writers could vanish; put it before a backend that does not";
            let error = tiered_core::Error::new(ErrorKind::Unsupported, what).in_tier(capabilities.name());
            return Err(error.into());
        }
        if capabilities.has(Feature::PartialListings) {
            let what = "the stack lists its frontend alone, and roots or records of writers could be missed; use the write policy write-through, write-around or write-behind, and the read policy frontend-first";
            let error = tiered_core::Error::new(ErrorKind::Unsupported, what).in_tier(capabilities.name());
            return Err(error.into());
        }
        if settings.records.is_empty() {
            return Err(Error::invalid(
                "the prefix of the records is empty; name one, such as \"tiered.gc/\"",
            ));
        }
        if settings.prefix.starts_with(&settings.records) {
            return Err(Error::invalid(format!(
                "all keys under {:?} are records of the sweep; sweep another prefix",
                settings.prefix
            )));
        }
        let writer = Writer::new(Arc::clone(&store), ATTEMPTS);
        let inner = Inner { store, writer, settings };
        inner.store.capabilities().check_key(&inner.chunk_key(u64::MAX, u128::MAX, u64::MAX)?)?;
        Ok(Sweep { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for SweepBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SweepBuilder")
            .field("store", &self.store)
            .field("prefix", &self.settings.prefix)
            .field("records", &self.settings.records)
            .finish_non_exhaustive()
    }
}
