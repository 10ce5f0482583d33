//! A store that is only read.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope};
use tiered_core::{
    AsStore, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Error, ErrorKind, Key, ListOptions,
    ListStream, Metadata, Operation, Outcome, Put, Read, ReadOptions, Result, Slices, Store, Written,
};

/// A store whose every write is refused with [`ErrorKind::PermissionDenied`] and [`Outcome::NotApplied`], before the store
/// inside is called. Reads, listings, marks that are read, the feed of changes, `flush` and `close` are those of the store
/// inside.
///
/// It declares the capabilities of the store inside, as an embedded store on a write-protected file does: they say what
/// kind of data it holds, and which of them are listed. The refusal comes first.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{ErrorKind, MemoryStore, StoreExt};
/// use tiered_wrap::ReadOnly;
///
/// let store = MemoryStore::new();
/// store.set("users/42", "Ada").await?;
/// let view = ReadOnly::new(store);
/// assert_eq!(view.get("users/42").await?.expect("still there").value(), "Ada");
/// let error = view.set("users/42", "Grace").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::PermissionDenied);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ReadOnly(Arc<dyn Store>);

impl ReadOnly {
    /// `store`, without its writes.
    pub fn new(store: impl AsStore) -> Self {
        Self(store.into_store())
    }

    fn refused(&self, operation: Operation) -> Error {
        let message = "the store is wrapped as read-only; write to the store inside";
        Error::new(ErrorKind::PermissionDenied, message)
            .during(operation)
            .in_tier(self.0.capabilities().name())
            .outcome_is(Outcome::NotApplied)
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow the store's own")]
#[async_trait]
impl Store for ReadOnly {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.load(key, options).await
    }

    async fn put(&self, key: &Key, _put: Put) -> Result<Written> {
        Err(self.refused(Operation::Put).for_key(key))
    }

    async fn delete(&self, key: &Key, _delete: Delete) -> Result<Deleted> {
        Err(self.refused(Operation::Delete).for_key(key))
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
        self.0.head(key, options).await
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
        self.0.get_ranges(key, ranges, options).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        Err(self.refused(Operation::Apply))
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.0.read_stream(key, options).await
    }

    async fn put_stream(&self, key: &Key, _put: Put, _body: ByteStream) -> Result<Written> {
        Err(self.refused(Operation::Put).for_key(key))
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

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.mark_names(prefix).await
    }

    async fn set_mark(&self, _name: &str, _value: Option<Bytes>) -> Result<()> {
        Err(self.refused(Operation::Mark))
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
