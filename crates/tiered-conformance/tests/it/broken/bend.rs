//! A store that is the reference but for what a fault bends.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::{
    Batch, BatchOutcomes, ByteStream, Capabilities, ChangeStream, Claim, Delete, Deleted, Entry, Key,
    ListOptions, ListStream, MemoryStore, Metadata, Put, Read, ReadOptions, Reads, Result, Scope, Slices,
    Stamp, Store, Written, adapter,
};

/// Largest value and longest key that the stores declare, in bytes.
pub(super) const LARGEST: u64 = 2 << 20;
pub(super) const LONGEST: usize = 200;

/// The reference with the limits of these tests.
pub(super) fn reference(stamp: &Stamp) -> MemoryStore {
    MemoryStore::with_stamp(stamp.clone()).declaring(|all| all.max_key(LONGEST).max_value(LARGEST))
}

/// What a fault bends; the rest is the store inside.
#[async_trait]
pub(super) trait Bend: Debug + Send + Sync + 'static {
    fn inner(&self) -> &MemoryStore;
    fn capabilities(&self) -> &Capabilities {
        self.inner().capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.inner().load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.inner().put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.inner().delete(key, delete).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner().list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        self.inner().peek(key)
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let mut reads = Reads::new();
        for key in keys {
            reads.push(self.load(key, options).await);
        }
        reads
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.inner().apply(batch).await
    }
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.inner().read_stream(key, options).await
    }
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.inner().put_stream(key, put, body).await
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.inner().claim(scope).await
    }
    fn changes(&self) -> Option<ChangeStream> {
        self.inner().changes()
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner().mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.inner().set_mark(name, value).await
    }
    async fn close(&self) -> Result<()> {
        self.inner().close().await
    }
}

/// A bent store.
#[derive(Debug)]
pub(super) struct Bent<B>(pub(super) B);

#[deny(clippy::missing_trait_methods, reason = "no provided body may stand in for the store inside")]
#[async_trait]
impl<B: Bend> Store for Bent<B> {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.0.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.0.delete(key, delete).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.0.list(options)
    }
    fn peek(&self, key: &Key) -> Option<Entry> {
        self.0.peek(key)
    }
    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        // Through `load`, so that its faults are those of `head`.
        let whole = ReadOptions::new().freshness(options.freshness).tombstones(options.tombstones);
        Ok(self.0.load(key, &whole).await?.into_entry().map(|entry| Arc::clone(entry.metadata())))
    }
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        self.0.get_many(keys, options).await
    }
    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.0.load(key, &options).await };
        adapter::load_ranges(ranges, options, adapter::NEAR, load).await.map_err(|error| error.for_key(key))
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.0.apply(batch).await
    }
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.0.read_stream(key, options).await
    }
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.0.put_stream(key, put, body).await
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.0.claim(scope).await
    }
    fn changes(&self) -> Option<ChangeStream> {
        self.0.changes()
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.0.set_mark(name, value).await
    }
    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.inner().mark_names(prefix).await
    }
    async fn flush(&self) -> Result<()> {
        self.0.inner().flush().await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
