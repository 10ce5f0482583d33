//! A backend that refuses some values permanently unless a test allows them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tiered::adapter::BatchOutcomes;
use tiered::{Action, Batch, Error, ErrorKind, Key, Outcome, Put, Result, Store, Written};
use tiered_conformance::{Intercept, Interceptor};

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

/// Stands before the backend.
#[derive(Debug)]
pub(crate) struct Refusing(Leniency);

impl Refusing {
    /// `inner`, which refuses what `leniency` does not allow.
    pub(crate) fn over(inner: Arc<dyn Store>, leniency: &Leniency) -> Intercept<Self> {
        Intercept::new(inner, Self(leniency.clone()))
    }

    fn check(&self, key: &Key, put: &Put) -> Result<()> {
        let refused = |id: u64| value::is_refused(id) && !self.0.takes(id);
        if value::id(&put.value).is_some_and(refused) {
            return Err(Error::new(ErrorKind::TooLarge, "this backend does not take such values")
                .for_key(key)
                .outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Refusing {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.check(key, &put)?;
        inner.put(key, put).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        for (key, action) in batch.operations() {
            if let Action::Put(put) = action {
                self.check(key, put)?;
            }
        }
        inner.apply(batch).await
    }
}
