//! A backend that refuses some values for good, unless it is talked into them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tiered::{
    Action, Batch, BatchOutcomes, Capabilities, Delete, Deleted, Error, ErrorKind, Key, ListOptions,
    ListStream, Outcome, Put, Read, ReadOptions, Result, Store, Written,
};

use crate::value;

/// Which of the values that it refuses a backend takes for now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leniency(Arc<Mutex<Exceptions>>);

#[derive(Debug, Default)]
struct Exceptions {
    all: bool,
    ids: BTreeSet<u64>,
}

impl Leniency {
    /// It takes everything from now on.
    pub(crate) fn for_all(&self) {
        self.with(|exceptions| exceptions.all = true);
    }

    /// It takes what these operations wrote, and nothing else that it refuses; until the next call.
    pub(crate) fn for_these(&self, ids: BTreeSet<u64>) {
        self.with(|exceptions| exceptions.ids = ids);
    }

    fn takes(&self, id: u64) -> bool {
        self.with(|exceptions| exceptions.all || exceptions.ids.contains(&id))
    }

    fn with<T>(&self, run: impl FnOnce(&mut Exceptions) -> T) -> T {
        run(&mut self.0.lock().expect("a panic ends the process"))
    }
}

/// The backend. Only what an engine calls of a backend is passed on.
#[derive(Debug)]
pub(crate) struct Refusing {
    inner: Arc<dyn Store>,
    leniency: Leniency,
}

impl Refusing {
    pub(crate) fn new(inner: Arc<dyn Store>, leniency: &Leniency) -> Self {
        Self { inner, leniency: leniency.clone() }
    }

    fn check(&self, key: &Key, put: &Put) -> Result<()> {
        let refused = |id: u64| value::is_refused(id) && !self.leniency.takes(id);
        if value::id(&put.value).is_some_and(refused) {
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
    async fn claim(&self, scope: &tiered::Scope) -> Result<tiered::Claim> {
        self.inner.claim(scope).await
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
