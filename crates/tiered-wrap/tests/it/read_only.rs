//! What is only read.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, ByteStream, Delete, Deleted, ErrorKind, Key, MemoryStore, Outcome, Put, Result, Store,
    StoreExt as _, Written,
};
use tiered_wrap::ReadOnly;

/// Reads through a `ReadOnly`, and writes past it: the suite can fill it, and every read is the wrapper's.
#[derive(Debug)]
pub(crate) struct Past(Arc<dyn Store>);

/// The double over a `ReadOnly` of the store.
pub(crate) type Reads = Intercept<Past, ReadOnly>;

#[async_trait]
impl Interceptor for Past {
    async fn put(&self, _: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.0.put(key, put).await
    }

    async fn delete(&self, _: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.0.delete(key, delete).await
    }

    async fn apply(&self, _: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.0.apply(batch).await
    }

    async fn put_stream(&self, _: &dyn Store, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.0.put_stream(key, put, body).await
    }

    async fn set_mark(&self, _: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        self.0.set_mark(name, value).await
    }
}

/// The double of this module.
pub(crate) fn reads(inside: Arc<dyn Store>) -> Reads {
    Intercept::new(ReadOnly::new(Arc::clone(&inside)), Past(inside))
}

#[tokio::test]
async fn every_write_is_refused_and_changes_nothing() {
    let inside = MemoryStore::new();
    inside.set("k", "old").await.expect("written");
    inside.set_mark("m", Some("old".into())).await.expect("set");
    let before = inside.snapshot();
    let store = ReadOnly::new(inside.clone());
    let key = Key::new("k").expect("valid");
    let body: ByteStream = Box::pin(futures_util::stream::iter([Ok(Bytes::from("new"))]));
    let errors = [
        store.put(&key, Put::new("new")).await.map(drop),
        store.delete(&key, Delete::new()).await.map(drop),
        store.put_stream(&key, Put::new(""), body).await.map(drop),
        store.apply(Batch::new().put(key.clone(), "new")).await.map(drop),
        store.apply(Batch::new().best_effort().delete(key.clone(), Delete::new())).await.map(drop),
        store.set_mark("m", None).await,
    ];
    for error in errors {
        let error = error.expect_err("refused");
        assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PermissionDenied, Outcome::NotApplied));
    }
    assert_eq!(inside.snapshot(), before);
    assert_eq!(store.mark("m").await.expect("read").as_deref(), Some(&b"old"[..]));
    assert!(store.apply(Batch::new()).await.expect("nothing to do").is_empty());
}
