//! The adapter keeps the specification: one test per case, all of which run.

use std::sync::Arc;

use async_trait::async_trait;
use custom_adapter::MapStore;
use tiered_conformance::{Factory, Place};
use tiered_core::{Result, Store, Timestamp};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;

/// Gives the store under test, on a clock that the suite moves.
struct Maps {
    clock: Arc<ManualClock>,
    stamp: Stamp,
    store: Arc<MapStore>,
}

impl Maps {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { clock, store: Arc::new(MapStore::with_stamp(stamp.clone())), stamp }
    }
}

/// A place of its own, which a case may close and open again: in memory it is empty each time. A store on disk opens
/// the same file here.
struct Room(Stamp);

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(MapStore::with_stamp(self.0.clone())))
    }
}

#[async_trait]
impl Factory for Maps {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(self.store.clone())
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(self.stamp.clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

tiered_conformance::suite!(Maps::new());
