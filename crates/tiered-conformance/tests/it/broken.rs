//! Deliberately broken stores: each must fail a named case, or the case proves nothing.

mod fault;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use tiered_conformance::{Ending, Factory, Place, RunOptions, run};
use tiered_core::{ManualClock, Result, Stamp, Store, Timestamp, VersionMint};

use fault::{Fault, TABLE};
use store::Broken;

/// Gives a store with one fault, on a manual clock.
struct Workshop {
    store: Broken,
    fault: Fault,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

impl Workshop {
    fn new(fault: Fault) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { store: Broken::new(fault, stamp.clone()), fault, stamp, clock }
    }
}

/// Opens an empty store each time, and as often as it is asked: what no lasting store may do.
struct Room {
    fault: Fault,
    stamp: Stamp,
}

#[async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(Broken::new(self.fault, self.stamp.clone())))
    }
}

#[async_trait]
impl Factory for Workshop {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room { fault: self.fault, stamp: self.stamp.clone() }))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapper_without_a_fault_passes() {
    let report = run(Workshop::new(Fault::None), RunOptions::new()).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "says which case caught which store")]
async fn every_broken_store_fails_the_case_that_is_there_for_it() {
    let mut unnoticed = Vec::new();
    for (fault, name) in TABLE {
        let report = run(Workshop::new(fault), RunOptions::new().only([name])).await;
        match report.case(name).map(|case| &case.ending) {
            Some(Ending::Failed(why)) => {
                assert!(why.starts_with('['), "{fault:?}: no clause is cited in {why:?}");
                println!("{fault:?}: caught by the case {name}");
            }
            other => unnoticed.push(format!("{fault:?} by {name}: {other:?}")),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:#?}");
}
