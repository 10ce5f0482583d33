//! Proves the adapter: one test for each case of the suite.

use std::sync::Arc;

use async_trait::async_trait;
use custom_adapter::MapStore;
use tiered_conformance::{Factory, Place, RunOptions, run};
use tiered_core::{ManualClock, Result, Stamp, Store, Timestamp, VersionMint};

/// Gives the suite a store on a clock that it can move, and fresh places that it may close.
struct Maps {
    store: MapStore,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

impl Maps {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { store: MapStore::new(stamp.clone()), stamp, clock }
    }
}

struct Map(MapStore);

#[async_trait]
impl Place for Map {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.0.clone()))
    }
}

#[async_trait]
impl Factory for Maps {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Map(MapStore::new(self.stamp.clone()))))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

mod suite {
    // Each skip has its reason: a limit of 1 GiB is too large to try, a map outlives no process, and batches are not
    // atomic.
    tiered_conformance::suite!(
        super::Maps::new(),
        skips: [
            "put_value_limit", "stream_put_limit", "race_batches", "life_reopen", "life_reopen_marks", "life_locked",
            "tier_cold", "tier_cold_update",
        ],
    );
}

/// The same cases in one go, with a table of how each ended.
#[tokio::test]
async fn all_at_once() {
    let report = run(Maps::new(), RunOptions::new()).await;
    assert!(report.is_ok(), "{report}");
    assert!(report.refused() > 0, "what is not declared is refused: atomic batches and marks\n{report}");
}
