//! A hit allocates nothing, by a key or by its text.

use std::alloc::System;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tiered::{Create, Entry, Key, Put, Result, Store, StoreExt as _, TieredStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Polls once: a hit is ready at once.
fn at_once(hit: impl Future<Output = Result<Option<Entry>>>) -> Entry {
    let mut hit = pin!(hit);
    match hit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(entry) => entry.expect("reads").expect("a hit"),
        Poll::Pending => unreachable!("a hit waits for nothing"),
    }
}

#[test]
fn a_hit_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    let (store, key) = runtime.block_on(async {
        let frontend = tiered::open("moka:", Create::IfAbsent).await.expect("opens");
        let backend = tiered::open("memory:", Create::IfAbsent).await.expect("opens");
        let store = TieredStore::builder(frontend, backend).build().await.expect("builds");
        let key = Key::new("users/42").expect("valid");
        store.put(&key, Put::new(vec![1; 1000])).await.expect("written");
        (store, key)
    });
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    // moka allocates for its own housekeeping now and then: enough hits in a row without any show that a hit itself
    // never does.
    at_once(store.get(&key));
    at_once(shared.get("users/42"));
    let quiet = (0..1000).any(|_| {
        let region = Region::new(ALLOCATOR);
        for _ in 0..10 {
            at_once(store.get(&key));
            at_once(shared.get("users/42"));
        }
        let change = region.change();
        change.allocations == 0 && change.reallocations == 0
    });
    assert!(quiet, "each of 1,000 rounds of 20 hits allocated");
}
