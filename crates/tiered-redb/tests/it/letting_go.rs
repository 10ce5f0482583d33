//! An opening waits for a place that its own process is releasing, and needs a runtime.

use futures_util::FutureExt as _;
use tiered_core::{ErrorKind, Key, MemoryStore, Put, Store, TieredStore, WritePolicy};
use tiered_redb::RedbConfig;

#[tokio::test]
async fn a_dropped_store_can_be_reopened_immediately() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    for round in 0..20 {
        let store = config.clone().open().await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        let (key, value) = (Key::new("k").expect("valid"), vec![7; 200_000]);
        store.put(&key, Put::new(value)).await.expect("written");
        drop(store);
    }
}

#[tokio::test]
async fn dropping_a_store_waits_for_a_running_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    for round in 0..5 {
        let store = config.clone().open().await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        let key = Key::new("k").expect("valid");
        // Begun, and left alone.
        assert!(store.put(&key, Put::new(vec![7; 1 << 20])).now_or_never().is_none());
        drop(store);
    }
}

#[tokio::test]
async fn a_dropped_stack_can_be_reopened_immediately() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    for round in 0..10 {
        let backend =
            config.clone().open().await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        let stack = TieredStore::builder(MemoryStore::new(), backend);
        let stack = stack.build().await.expect("builds");
        stack.put(&Key::new("k").expect("valid"), Put::new("v")).await.expect("written");
        drop(stack);
    }
}

#[tokio::test]
async fn a_refused_stack_releases_its_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    for round in 0..10 {
        let backend =
            config.clone().open().await.unwrap_or_else(|error| panic!("{round}: {}", error.chain()));
        let stack = TieredStore::builder(MemoryStore::new(), backend);
        // Write-behind without a journal.
        let refused = stack.write_policy(WritePolicy::WriteBehind).build().await.expect_err("no journal");
        assert_eq!(refused.kind(), ErrorKind::Config);
    }
}

#[test]
fn opening_without_a_runtime_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("d.redb");
    let opened = RedbConfig::new(&path).open().now_or_never().expect("answers at once");
    let error = opened.expect_err("no runtime");
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    assert!(!path.exists(), "nothing was made");
}

#[test]
fn using_a_store_without_a_runtime_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let config = RedbConfig::new(folder.path().join("d.redb"));
    let store = runtime.block_on(config.open()).expect("opens");
    let key = Key::new("k").expect("valid");
    let error = tiered_core::StoreExt::get(&store, &key).now_or_never().expect("answers").expect_err("none");
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
}
