//! A local cache keeps what was written to it, whatever its frontend does to earlier calls.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Fault, FaultStore, Faults};
use tiered_core::{Entry, Key, MemoryStore, Put, Store as _, StoreExt as _, TieredStore, WritePolicy};
use tokio::time::sleep;

/// Found by seed 4140 of the simulation: the removal that is to end a key's quarantine fails and takes effect later, after
/// a local write.
#[tokio::test(start_paused = true)]
async fn a_removal_that_takes_effect_late_removes_no_local_write() {
    let key = Key::new("k").expect("valid");
    let (inside, backend) = (MemoryStore::new(), MemoryStore::new());
    backend.put(&key, Put::new("the backend's")).await.expect("put");
    let faults =
        Arc::new(Faults::new(1).with(Fault::DelayedApply, 1).request_lifetime(Duration::from_secs(1)));
    let frontend = FaultStore::new("frontend", Arc::new(inside), Arc::clone(&faults));
    let store = TieredStore::builder(frontend, backend)
        .write_policy(WritePolicy::FrontendOnly)
        .build()
        .await
        .expect("builds");
    // Its fill fails, and the first removal after that.
    store.get(&key).await.expect("reads");
    while faults.fired(Fault::DelayedApply) < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    faults.heal();
    while store.put(&key, Put::new("local")).await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let shown = store.get(&key).await.expect("reads").map(Entry::into_value);
    assert_eq!(shown.expect("there"), "local");
}
