//! Parked writes: what a dropped one uncovers, and decisions that meet a flush under way.

use std::sync::atomic::Ordering;

use tiered_core::{Batch, Key, OnPark, Put, Store as _, TieredStore};

use crate::engine::{Picky, open, read};
use crate::key;

/// Puts `value` under `k` and, so that the backend refuses both, under a key of bad name.
async fn refused(store: &TieredStore, bad: &str, value: &'static str) {
    let batch = Batch::new().put(key("k"), Put::new(value)).put(key(bad), Put::new(value));
    store.apply(batch).await.expect("acknowledged");
}

async fn drop_last(store: &TieredStore) {
    let last = store.parked().pop().expect("parked").sequence();
    store.drop_parked(last).await.expect("given up");
}

/// While a parked write lay over the key, others were flushed below it, past the frontend.
#[tokio::test]
async fn a_dropped_write_uncovers_what_was_flushed_below_it() {
    for on_park in [OnPark::Halt, OnPark::Skip] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
        let store = open(folder.path(), &back, on_park).await;
        store.put(&key("k"), Put::new("1")).await.expect("acknowledged");
        store.flush().await.expect("drains");
        back.down.store(true, Ordering::Relaxed);
        store.put(&key("k"), Put::new("2")).await.expect("acknowledged");
        refused(&store, "bad", "3").await;
        back.down.store(false, Ordering::Relaxed);
        store.flush().await.expect_err("refused");
        assert_eq!(read(&store, "k").await.expect("shown"), "3");
        drop_last(&store).await;
        assert_eq!(back.value("k").await.expect("flushed"), "2");
        assert_eq!(read(&store, "k").await.expect("the backend's"), "2", "{on_park:?}");
    }
}

/// Reads go on showing what is parked.
#[tokio::test]
async fn a_dropped_write_uncovers_one_that_is_parked() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
    let store = open(folder.path(), &back, OnPark::Skip).await;
    store.put(&key("k"), Put::new("1")).await.expect("acknowledged");
    for (bad, value) in [("bad2", "2"), ("bad3", "3")] {
        refused(&store, bad, value).await;
        store.flush().await.expect_err("refused");
    }
    drop_last(&store).await;
    assert_eq!(read(&store, "k").await.expect("shown"), "2");
    drop(store);
    let store = open(folder.path(), &back, OnPark::Skip).await;
    assert_eq!(read(&store, "k").await.expect("shown"), "2");
    // It can still be retried.
    back.strict.store(false, Ordering::Relaxed);
    store.retry_parked(store.parked()[0].sequence()).expect("is in line");
    store.flush().await.expect("accepted");
    assert_eq!(back.value("k").await.expect("flushed"), "2");
    let name = Key::new("bad3").expect("valid");
    assert!(store.head(&name, &tiered_core::ReadOptions::new()).await.expect("reads").is_none());
}
