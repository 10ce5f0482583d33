//! A flush covers every write that was acknowledged before it, and ends, whichever thread is ahead.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tiered_core::{
    Batch, CommitLevel, MemoryStore, Put, Store as _, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};

use crate::key;
use crate::picky::picky;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flush_covers_every_write_acknowledged_before_it() {
    let back = picky(true);
    back.strict.store(false, Ordering::Relaxed);
    let store = TieredStore::builder(MemoryStore::new(), back.clone())
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .build()
        .await
        .expect("builds");
    let writers: Vec<_> = (0..32)
        .map(|writer| {
            let (store, back) = (store.clone(), back.clone());
            tokio::runtime::Handle::current().spawn(async move {
                for round in 0..100 {
                    let name = format!("w{writer}");
                    let value = format!("{round}");
                    let others = (0..8).fold(Batch::new(), |batch, other| {
                        batch.put(key(&format!("w{writer}/{other}")), Put::new(value.clone()))
                    });
                    store.apply(others).await.expect("acknowledged");
                    let written =
                        store.put(&key(&name), Put::new(value.clone())).await.expect("acknowledged");
                    let flushed = tokio::time::timeout(Duration::from_secs(20), store.flush()).await;
                    flushed.expect("the flush ends").expect("drains");
                    let found = back.value(&name).await.expect("flushed");
                    assert_eq!(found, value, "{name} was acknowledged before the flush");
                    written.receipt.durable(CommitLevel::Committed).await.expect("flushed");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("holds");
    }
    assert!(store.get(&key("w0")).await.expect("reads").is_some());
}
