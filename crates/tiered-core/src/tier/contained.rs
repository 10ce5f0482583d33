//! A store whose panics are errors.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::{Batch, BatchOutcomes};
use crate::capability::Capabilities;
use crate::claim::{Claim, Scope};
use crate::entry::{Entry, Metadata};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream};
use crate::panics;
use crate::ranges::Slices;
use crate::read::{Read, ReadOptions, Reads};
use crate::store::{ByteStream, ChangeStream, Store};
use crate::write::{Delete, Deleted, Put, Written};

/// A store of which a panicking call is an error, after which a write may have taken effect. What waits for the call (a
/// gate, a load, the flush) ends as after any other failure.
#[derive(Debug)]
pub(super) struct Contained(Arc<dyn Store>);

impl Contained {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Makes a call of the store.
    pub(super) async fn contain<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let called = panics::contained("the store panicked", call).await;
        let here = |error: Error| {
            if panics::is_panic(&error) { error.in_tier(self.0.capabilities().name()) } else { error }
        };
        called.map_err(here)
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow what the store does better")]
#[async_trait]
impl Store for Contained {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.contain(self.0.load(key, options)).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.contain(self.0.put(key, put)).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.contain(self.0.delete(key, delete)).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.0.list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        self.0.peek(key)
    }
    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.0.peek_hidden(key)
    }
    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.contain(self.0.head(key, options)).await
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads = self.contain(async { Ok(self.0.get_many(keys, options).await) }).await;
        reads.unwrap_or_else(|error| crate::adapter::all_failed(keys, &error))
    }
    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.contain(self.0.get_ranges(key, ranges, options)).await
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.contain(self.0.apply(batch)).await
    }
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.contain(self.0.read_stream(key, options)).await
    }
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.contain(self.0.put_stream(key, put, body)).await
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.contain(self.0.claim(scope)).await
    }
    fn changes(&self) -> Option<ChangeStream> {
        self.0.changes()
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.contain(self.0.mark(name)).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.contain(self.0.set_mark(name, value)).await
    }
    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.contain(self.0.mark_names(prefix)).await
    }
    async fn flush(&self) -> Result<()> {
        self.contain(self.0.flush()).await
    }
    async fn close(&self) -> Result<()> {
        self.contain(self.0.close()).await
    }
}
