//! Stores to wrap, on a manual clock, and the factory that wraps them.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tiered_conformance::{Eviction, Factory, Intercept, Interceptor, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Feature, ListOptions, ListStream, Listed, MemoryStore, Result, Store, Timestamp};
use tiered_moka::MokaConfig;
use tiered_redb::RedbConfig;

/// A store to wrap.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside {
    Memory,
    /// Without atomic batches.
    Plain,
    /// Whose listings tell keys and sizes alone, as those of S3.
    Bare,
    Moka,
    Redb,
}

/// Lists keys and sizes, and nothing else.
#[derive(Debug)]
struct SizesAlone;

#[async_trait]
impl Interceptor for SizesAlone {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let listing = inner.list(options);
        Box::pin(listing.map(|listed| listed.map(|listed| Listed::new(listed.key, listed.size))))
    }
}

/// Largest value of the store inside: the suite tries to exceed it.
const MAX_VALUE: u64 = 4 << 20;

impl Inside {
    async fn open(self, stamp: &Stamp, folder: &TempDir) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory => {
                let store = MemoryStore::with_stamp(stamp.clone());
                Arc::new(store.declaring(|all| all.with_max_value(MAX_VALUE)))
            }
            Self::Plain => {
                let store = MemoryStore::with_stamp(stamp.clone());
                Arc::new(store.declaring(|all| all.without(Feature::AtomicBatch).with_max_value(MAX_VALUE)))
            }
            Self::Bare => {
                let store = MemoryStore::with_stamp(stamp.clone());
                let store =
                    store.declaring(|all| all.without(Feature::ListsMetadata).with_max_value(MAX_VALUE));
                Arc::new(Intercept::new(store, SizesAlone))
            }
            Self::Moka => Arc::new(
                MokaConfig::new(256 << 20).max_value(MAX_VALUE).stamp(stamp.clone()).build().expect("builds"),
            ),
            Self::Redb => {
                let config = RedbConfig::new(folder.path().join("data.redb")).stamp(stamp.clone());
                Arc::new(config.cache(8 << 20).max_value(MAX_VALUE).open().await?)
            }
        })
    }
}

/// What is put around the store inside.
pub(crate) type Wrap = fn(Arc<dyn Store>, &Stamp) -> Result<Arc<dyn Store>>;

/// Gives a wrapped store.
pub(crate) struct Wrapped {
    inside: Inside,
    wrap: Wrap,
    clock: Arc<ManualClock>,
    stamp: Stamp,
    store: Arc<dyn Store>,
    _folder: TempDir,
}

impl Wrapped {
    pub(crate) async fn new(inside: Inside, wrap: Wrap) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let store = inside.open(&stamp, &folder).await.expect("opens");
        let store = wrap(store, &stamp).expect("wraps");
        Self { inside, wrap, clock, stamp, store, _folder: folder }
    }
}

struct Room {
    inside: Inside,
    wrap: Wrap,
    stamp: Stamp,
    folder: TempDir,
}

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        (self.wrap)(self.inside.open(&self.stamp, &self.folder).await?, &self.stamp)
    }
}

#[async_trait]
impl Factory for Wrapped {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let folder = tempfile::tempdir().ok()?;
        let (inside, wrap, stamp) = (self.inside, self.wrap, self.stamp.clone());
        Some(Arc::new(Room { inside, wrap, stamp, folder }))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }

    fn eviction(&self) -> Eviction {
        Eviction::Never
    }
}
