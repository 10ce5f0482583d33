//! A store whose calls a test sees, changes or answers itself.

use std::fmt;
use std::ops::Deref;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope};
use tiered_core::{
    AsStore, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Key, ListOptions, ListStream, Metadata,
    Put, Read, ReadOptions, Result, Slices, Store, Written, adapter,
};

/// Which method of an [`Interceptor`] answers [`head`](Store::head), [`get_many`](Store::get_many) and
/// [`read_stream`](Store::read_stream).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivedReads {
    /// The same method of the store inside.
    Inner,
    /// The interceptor's own [`load`](Interceptor::load), once for each key: what a test does to `load` happens to every
    /// read.
    Load,
}

/// What stands before a store in an [`Intercept`]. Each method passes the call on to `inner`; override those that a test
/// is about.
///
/// [`before_read`](Self::before_read), [`before_write`](Self::before_write) and [`around_write`](Self::around_write) see
/// every call of their kind, unless the method itself is overridden.
///
/// # Examples
/// ```
/// use async_trait::async_trait;
/// use tiered_conformance::{Intercept, Interceptor};
/// use tiered_core::{Error, ErrorKind, Key, MemoryStore, Outcome, Put, Result, Store, Written};
///
/// /// Refuses every put.
/// #[derive(Debug)]
/// struct Full;
///
/// #[async_trait]
/// impl Interceptor for Full {
///     async fn put(&self, _inner: &dyn Store, _key: &Key, _put: Put) -> Result<Written> {
///         Err(Error::new(ErrorKind::Full, "no room").outcome_is(Outcome::NotApplied))
///     }
/// }
///
/// # async fn example() -> Result<()> {
/// let store = Intercept::new(MemoryStore::new(), Full);
/// assert!(store.put(&"k".parse()?, Put::new("v")).await.is_err());
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Interceptor: fmt::Debug + Send + Sync + 'static {
    /// What the store declares.
    fn capabilities<'s>(&'s self, inner: &'s dyn Store) -> &'s Capabilities {
        inner.capabilities()
    }

    /// Before [`load`](Self::load), [`head`](Self::head), [`get_many`](Self::get_many),
    /// [`read_stream`](Self::read_stream) and [`mark`](Self::mark). An error is the call's answer.
    async fn before_read(&self) -> Result<()> {
        Ok(())
    }

    /// Before [`put`](Self::put), [`delete`](Self::delete), [`apply`](Self::apply), [`put_stream`](Self::put_stream) and
    /// [`set_mark`](Self::set_mark). An error is the call's answer.
    async fn before_write(&self) -> Result<()> {
        Ok(())
    }

    /// Carries out a write, which `call` does. `key` is `None` for [`apply`](Self::apply) and
    /// [`set_mark`](Self::set_mark). Here: [`before_write`](Self::before_write), then `call`.
    async fn around_write<T, F>(&self, _inner: &dyn Store, _key: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.before_write().await?;
        call.await
    }

    /// Which method answers [`head`](Self::head), [`get_many`](Self::get_many) and [`read_stream`](Self::read_stream).
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Inner
    }

    /// [`Store::load`].
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.before_read().await?;
        inner.load(key, options).await
    }

    /// [`Store::put`].
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.around_write(inner, Some(key), inner.put(key, put)).await
    }

    /// [`Store::delete`].
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.around_write(inner, Some(key), inner.delete(key, delete)).await
    }

    /// [`Store::list`].
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        inner.list(options)
    }

    /// [`Store::peek`].
    fn peek(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        inner.peek(key)
    }

    /// [`Store::peek_hidden`].
    fn peek_hidden(&self, inner: &dyn Store, key: &Key) -> Option<Entry> {
        inner.peek_hidden(key)
    }

    /// [`Store::head`].
    async fn head(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Arc<Metadata>>> {
        if self.derived_reads() == DerivedReads::Load {
            let mut options = options.clone();
            (options.unless, options.if_version, options.range) = (None, None, None);
            let read = self.load(inner, key, &options).await?;
            return Ok(read.entry().map(|entry| Arc::clone(entry.metadata())));
        }
        self.before_read().await?;
        inner.head(key, options).await
    }

    /// [`Store::get_many`].
    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        if self.derived_reads() == DerivedReads::Load {
            let mut reads = Reads::with_capacity(keys.len());
            for key in keys {
                reads.push(self.load(inner, key, options).await);
            }
            return reads;
        }
        match self.before_read().await {
            Ok(()) => inner.get_many(keys, options).await,
            Err(error) => adapter::all_failed(keys, &error),
        }
    }

    /// [`Store::get_ranges`]. Here: by [`load`](Self::load).
    async fn get_ranges(
        &self,
        inner: &dyn Store,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.load(inner, key, &options).await };
        adapter::load_ranges(ranges, options, adapter::NEAR, load).await
    }

    /// [`Store::apply`].
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.around_write(inner, None, inner.apply(batch)).await
    }

    /// [`Store::read_stream`].
    async fn read_stream(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        if self.derived_reads() == DerivedReads::Load {
            let mut options = options.clone();
            (options.unless, options.if_version) = (None, None);
            return Ok(self.load(inner, key, &options).await?.into_entry().map(|entry| {
                let metadata = Arc::clone(entry.metadata());
                let body: ByteStream = Box::pin(stream::iter([Ok(entry.into_value())]));
                (metadata, body)
            }));
        }
        self.before_read().await?;
        inner.read_stream(key, options).await
    }

    /// [`Store::put_stream`].
    async fn put_stream(&self, inner: &dyn Store, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.around_write(inner, Some(key), inner.put_stream(key, put, body)).await
    }

    /// [`Store::claim`].
    async fn claim(&self, inner: &dyn Store, scope: &Scope) -> Result<Claim> {
        inner.claim(scope).await
    }

    /// [`Store::changes`].
    fn changes(&self, inner: &dyn Store) -> Option<ChangeStream> {
        inner.changes()
    }

    /// [`Store::mark`].
    async fn mark(&self, inner: &dyn Store, name: &str) -> Result<Option<Bytes>> {
        self.before_read().await?;
        inner.mark(name).await
    }

    /// [`Store::mark_names`].
    async fn mark_names(&self, inner: &dyn Store, prefix: &str) -> Result<Vec<String>> {
        self.before_read().await?;
        inner.mark_names(prefix).await
    }

    /// [`Store::set_mark`].
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        self.around_write(inner, None, inner.set_mark(name, value)).await
    }

    /// [`Store::flush`].
    async fn flush(&self, inner: &dyn Store) -> Result<()> {
        inner.flush().await
    }

    /// [`Store::close`].
    async fn close(&self, inner: &dyn Store) -> Result<()> {
        inner.close().await
    }
}

/// A store with an [`Interceptor`] before it, whose fields and methods it lends (`store.field`). Clones share the
/// interceptor.
#[derive(Debug)]
pub struct Intercept<I, S = Arc<dyn Store>> {
    inner: S,
    by: Arc<I>,
}

impl<I, S: Clone> Clone for Intercept<I, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), by: Arc::clone(&self.by) }
    }
}

impl<I, S> Intercept<I, S> {
    /// `inner` behind `by`.
    pub fn new(inner: S, by: I) -> Self {
        Self { inner, by: Arc::new(by) }
    }

    /// The store itself, past the interceptor.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<I, S> Deref for Intercept<I, S> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.by
    }
}

#[deny(clippy::missing_trait_methods, reason = "no provided body may shadow the store's own")]
#[async_trait]
impl<I: Interceptor, S: AsStore + fmt::Debug> Store for Intercept<I, S> {
    fn capabilities(&self) -> &Capabilities {
        self.by.capabilities(self.inner.as_store())
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.by.load(self.inner.as_store(), key, options).await
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.by.put(self.inner.as_store(), key, put).await
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.by.delete(self.inner.as_store(), key, delete).await
    }

    fn list(&self, options: ListOptions) -> ListStream {
        self.by.list(self.inner.as_store(), options)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.by.peek(self.inner.as_store(), key)
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.by.peek_hidden(self.inner.as_store(), key)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.by.head(self.inner.as_store(), key, options).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        self.by.get_many(self.inner.as_store(), keys, options).await
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.by.get_ranges(self.inner.as_store(), key, ranges, options).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.by.apply(self.inner.as_store(), batch).await
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.by.read_stream(self.inner.as_store(), key, options).await
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.by.put_stream(self.inner.as_store(), key, put, body).await
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.by.claim(self.inner.as_store(), scope).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.by.changes(self.inner.as_store())
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.by.mark(self.inner.as_store(), name).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.by.mark_names(self.inner.as_store(), prefix).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.by.set_mark(self.inner.as_store(), name, value).await
    }

    async fn flush(&self) -> Result<()> {
        self.by.flush(self.inner.as_store()).await
    }

    async fn close(&self) -> Result<()> {
        self.by.close(self.inner.as_store()).await
    }
}
