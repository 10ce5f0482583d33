//! A store in each of its forms: by itself, or shared.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteStream, ChangeStream, Store};
use crate::batch::{Batch, BatchOutcomes};
use crate::capability::Capabilities;
use crate::claim::{Claim, Scope};
use crate::entry::{Entry, Metadata};
use crate::error::Result;
use crate::key::Key;
use crate::list::{ListOptions, ListStream};
use crate::ranges::Slices;
use crate::read::{Read, ReadOptions, Reads};
use crate::write::{Delete, Deleted, Put, Written};

/// A store, in each form in which one is handed over: by itself, as `Arc<S>`, or as `Arc<dyn Store>`.
///
/// [`TieredStore::builder`](crate::TieredStore::builder) and the functions of [`sync`](crate::sync) take it. A store that is
/// shared already stays as it is: no second pointer stands before it.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use tiered_core::{AsStore, MemoryStore, Store};
///
/// let by_itself = MemoryStore::new();
/// let shared = Arc::new(MemoryStore::new());
/// let dynamic: Arc<dyn Store> = shared.clone();
/// for store in [by_itself.into_store(), shared.into_store(), dynamic.into_store()] {
///     assert_eq!(store.as_store().capabilities().name(), "memory");
/// }
/// ```
pub trait AsStore: Send + Sync + 'static {
    /// The store.
    fn as_store(&self) -> &dyn Store;

    /// The store, shared.
    fn into_store(self) -> Arc<dyn Store>
    where
        Self: Sized;
}

impl<S: Store> AsStore for S {
    fn as_store(&self) -> &dyn Store {
        // `Arc<dyn Store>` is a store itself, and comes here as well.
        match (self as &dyn Any).downcast_ref::<Arc<dyn Store>>() {
            Some(shared) => &**shared,
            None => self,
        }
    }

    fn into_store(self) -> Arc<dyn Store> {
        match (&self as &dyn Any).downcast_ref::<Arc<dyn Store>>() {
            Some(shared) => Arc::clone(shared),
            None => Arc::new(self),
        }
    }
}

impl AsStore for dyn Store {
    fn as_store(&self) -> &dyn Store {
        self
    }
}

impl<S: Store> AsStore for Arc<S> {
    fn as_store(&self) -> &dyn Store {
        &**self
    }

    fn into_store(self) -> Arc<dyn Store> {
        self
    }
}

/// A shared store is a store.
#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow an inner override")]
#[async_trait]
impl Store for Arc<dyn Store> {
    fn capabilities(&self) -> &Capabilities {
        (**self).capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        (**self).load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        (**self).put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        (**self).delete(key, delete).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        (**self).list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        (**self).peek(key)
    }
    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        (**self).peek_hidden(key)
    }
    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        (**self).head(key, options).await
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        (**self).get_many(keys, options).await
    }
    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        (**self).get_ranges(key, ranges, options).await
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        (**self).apply(batch).await
    }
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        (**self).read_stream(key, options).await
    }
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        (**self).put_stream(key, put, body).await
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        (**self).claim(scope).await
    }
    fn changes(&self) -> Option<ChangeStream> {
        (**self).changes()
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        (**self).mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        (**self).set_mark(name, value).await
    }
    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        (**self).mark_names(prefix).await
    }
    async fn flush(&self) -> Result<()> {
        (**self).flush().await
    }
    async fn close(&self) -> Result<()> {
        (**self).close().await
    }
}
