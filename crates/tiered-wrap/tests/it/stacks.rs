//! Tiered stores around wrapped tiers, and wrappers around tiered stores.

use std::sync::Arc;

use tiered_conformance::{Effort, RunOptions, run};
use tiered_core::{
    Atomicity, Batch, Key, MemoryStore, Put, Store, StoreExt as _, TieredStore, VolatileJournal, WritePolicy,
};
use tiered_moka::MokaConfig;
use tiered_wrap::{Compressed, Compression, Encrypted, EncryptionKey, Keys};

fn keys() -> Keys {
    Keys::new(EncryptionKey::new("a", [1; 32]).expect("valid"))
}

fn moka() -> tiered_moka::MokaStore {
    MokaConfig::new(256 << 20).max_value(4 << 20).build().expect("builds")
}

/// The suite over a stack whose tiers are wrapped, for each write policy.
async fn passes(policy: WritePolicy) {
    let frontend = Encrypted::new(moka(), keys()).expect("wraps");
    let memory = MemoryStore::new().declaring(|all| all.with_max_value(4 << 20));
    let backend = Compressed::new(memory, Compression::Lz4).expect("wraps");
    let builder = TieredStore::builder(frontend, backend).write_policy(policy);
    let builder = match policy {
        WritePolicy::WriteBehind => builder.journal(VolatileJournal::new()),
        _ => builder,
    };
    let store: Arc<dyn Store> = Arc::new(builder.build().await.expect("builds"));
    let factory = move || {
        let store = Arc::clone(&store);
        async move { store }
    };
    let report = run(factory, RunOptions::new().effort(Effort::Brief)).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrapped_tiers_pass_the_suite_under_write_through() {
    passes(WritePolicy::WriteThrough).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrapped_tiers_pass_the_suite_under_write_behind() {
    passes(WritePolicy::WriteBehind).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_stack_passes_the_suite() {
    let memory = MemoryStore::new().declaring(|all| all.with_max_value(4 << 20));
    let stack = TieredStore::builder(moka(), memory).build().await.expect("builds");
    let store: Arc<dyn Store> = Arc::new(Encrypted::new(stack, keys()).expect("wraps"));
    let factory = move || {
        let store = Arc::clone(&store);
        async move { store }
    };
    let report = run(factory, RunOptions::new().effort(Effort::Brief)).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test]
async fn a_batch_fails_as_a_whole_and_names_the_operation_that_was_refused() {
    let inside = MemoryStore::new();
    let store = Encrypted::new(inside.clone(), keys()).expect("wraps");
    let key = |name: &str| Key::new(name).expect("valid");
    let attributes = tiered_core::Attributes::new().with("wrap-9", "x").expect("valid");
    let batch = |atomicity| {
        let mut batch = Batch::of(atomicity);
        batch.push(key("good"), Put::new("v").into());
        batch.push(key("bad"), Put::new("v").attributes(attributes.clone()).into());
        batch
    };
    let error = store.apply(batch(Atomicity::Required)).await.expect_err("refused");
    assert_eq!((error.kind(), error.key()), (tiered_core::ErrorKind::InvalidInput, Some(&key("bad"))));
    assert!(inside.snapshot().is_empty());
    let outcomes = store.apply(batch(Atomicity::PerItem)).await.expect("judged one by one");
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    assert_eq!(store.keys("").await.expect("lists"), [key("good")]);
}
