//! A backend that refuses some values for good, unless it is in a lenient mood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tiered::{
    Action, Batch, BatchOutcomes, Capabilities, Delete, Deleted, Error, ErrorKind, Key, ListOptions,
    ListStream, Outcome, Put, Read, ReadOptions, Result, Store, Written,
};

use crate::value;

/// The backend. Only what an engine calls of a backend is passed on.
#[derive(Debug)]
pub(crate) struct Refusing {
    inner: Arc<dyn Store>,
    lenient: Arc<AtomicBool>,
}

impl Refusing {
    /// It refuses nothing while `lenient` is set.
    pub(crate) fn new(inner: Arc<dyn Store>, lenient: &Arc<AtomicBool>) -> Self {
        Self { inner, lenient: Arc::clone(lenient) }
    }

    fn check(&self, key: &Key, put: &Put) -> Result<()> {
        let refused = value::id(&put.value).is_some_and(value::is_refused);
        if refused && !self.lenient.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::TooLarge, "this backend does not take such values")
                .for_key(key)
                .outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Refusing {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.inner.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.check(key, &put)?;
        self.inner.put(key, put).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.inner.delete(key, delete).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        for (key, action) in batch.operations() {
            if let Action::Put(put) = action {
                self.check(key, put)?;
            }
        }
        self.inner.apply(batch).await
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.inner.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        self.inner.set_mark(name, value).await
    }
    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
