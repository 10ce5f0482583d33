//! Removals from the frontend of a store that is in use: many at once, and none that a write came before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::Reads;
use tiered_core::sync::{FullSync, SyncOptions};
use tiered_core::{
    Error, ErrorKind, Key, MemoryStore, Metadata, Put, ReadOptions, Result, Store, StoreExt as _, TieredStore,
};

use crate::scripted::key;

/// A backend that counts its reads, the first of which fails where it is to. A write comes through the store when it is asked for
/// many keys.
#[derive(Debug, Default)]
struct Asked {
    many: AtomicU64,
    single: AtomicU64,
    is_down_once: AtomicU64,
    store: Mutex<Option<TieredStore>>,
}

#[async_trait]
impl Interceptor for Asked {
    async fn head(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Arc<Metadata>>> {
        self.single.fetch_add(1, Ordering::Relaxed);
        inner.head(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.many.fetch_add(1, Ordering::Relaxed);
        let store = self.store.lock().take();
        if let Some(store) = store {
            // Its gate is closed: it is written once the removal has ended.
            let writes = async move { store.put(&extra(7), Put::new("new")).await };
            drop(tokio::runtime::Handle::current().spawn(writes));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if self.is_down_once.swap(0, Ordering::Relaxed) > 0 {
            let down = || Err(Error::new(ErrorKind::Unavailable, "down"));
            return keys.iter().map(|_| down()).collect();
        }
        inner.get_many(keys, options).await
    }
}

fn extra(index: usize) -> Key {
    key(&format!("extra-{index:04}"))
}

async fn with_extras(count: usize) -> (MemoryStore, Arc<Intercept<Asked, MemoryStore>>, TieredStore) {
    let front = MemoryStore::new();
    for index in 0..count {
        front.put(&extra(index), Put::new("old")).await.expect("written");
    }
    let back = MemoryStore::new();
    back.put(&key("kept"), Put::new("1")).await.expect("written");
    let back = Arc::new(Intercept::new(back, Asked::default()));
    let shared: Arc<dyn Store> = Arc::<Intercept<Asked, MemoryStore>>::clone(&back);
    let store = TieredStore::builder(front.clone(), shared).build().await.expect("builds");
    (front, back, store)
}

#[tokio::test(start_paused = true)]
async fn extras_are_removed_by_a_read_of_the_backend_for_many_and_a_write_meanwhile_stays() {
    let (front, back, store) = with_extras(1_000).await;
    *back.store.lock() = Some(store.clone());
    let (many, single) = (back.many.load(Ordering::Relaxed), back.single.load(Ordering::Relaxed));
    let report = store.sync(&FullSync, &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.copied, report.removed, report.failed), (1, 1_000, 0));
    let many = back.many.load(Ordering::Relaxed) - many;
    // 1,000 by 128, and the copy.
    assert_eq!((many, back.single.load(Ordering::Relaxed) - single), (9, 0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(front.snapshot().into_keys().collect::<Vec<_>>(), [extra(7), key("kept")]);
    assert_eq!(store.get(&extra(7)).await.expect("reads").expect("there").value(), "new");
    assert_eq!(store.stats().slots, 0);
}

#[tokio::test]
async fn extras_whose_look_failed_together_are_looked_at_by_themselves() {
    let (front, back, store) = with_extras(100).await;
    // Others wrote it to the backend, and its listing was before.
    back.is_down_once.store(1, Ordering::Relaxed);
    let report = store.sync(&FullSync, &SyncOptions::new().prefix("extra-")).await.expect("syncs");
    assert_eq!((report.removed, report.failed), (100, 0));
    assert!(front.snapshot().is_empty());
}

#[tokio::test]
async fn what_the_backend_has_again_is_not_removed() {
    /// A listing from before the key was written.
    #[derive(Debug)]
    struct Stale;

    #[async_trait]
    impl Interceptor for Stale {
        fn list(&self, inner: &dyn Store, options: tiered_core::ListOptions) -> tiered_core::ListStream {
            use futures_util::StreamExt as _;
            let is_listed = |listed: &Result<tiered_core::Listed>| {
                let is_listed = listed.as_ref().map_or(true, |listed| listed.key != extra(3));
                std::future::ready(is_listed)
            };
            Box::pin(inner.list(options).filter(is_listed))
        }
    }
    let (front, back) = (MemoryStore::new(), MemoryStore::new());
    for index in 0..10 {
        front.put(&extra(index), Put::new("old")).await.expect("written");
    }
    back.put(&extra(3), Put::new("new")).await.expect("written");
    let store =
        TieredStore::builder(front.clone(), Intercept::new(back, Stale)).build().await.expect("builds");
    let report = store.sync(&FullSync, &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.removed, report.skipped), (9, 1));
    assert_eq!(front.snapshot().into_keys().collect::<Vec<_>>(), [extra(3)]);
}
