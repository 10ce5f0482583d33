//! One tier as the engine calls it: a panic is an error, and a circuit breaker keeps calls from a tier that fails.
//!
//! The rooms call their stores through this module alone.

mod contained;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Action, Applied, Batch, BatchOutcomes};
use crate::breaker::{Breaker, Limits, is_outage};
use crate::capability::Capabilities;
use crate::clock::Stamp;
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::observe::{Count, Recorder};
use crate::panics::is_panic;
use crate::read::{Read, ReadOptions, Reads};
use crate::settings::BreakerSettings;
use crate::store::{ByteStream, ChangeStream, Store};
use crate::sync_primitives::Mutex;
use crate::version::Version;
use crate::write::{Delete, Put, Written};

use contained::Contained;

/// A tier of a tiered store.
#[derive(Debug)]
pub(crate) struct Tier {
    store: Arc<dyn Store>,
    contained: Contained,
    /// Without settings every call goes through, and that costs nothing.
    breaker: Option<(Limits, Mutex<Breaker>)>,
    stamp: Stamp,
    recorder: Arc<Recorder>,
}

impl Tier {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        breaker: Option<BreakerSettings>,
        stamp: Stamp,
        recorder: Arc<Recorder>,
    ) -> Self {
        let breaker = breaker.map(|settings| {
            let limits = Limits::new(settings.failures, settings.pause);
            (limits, Mutex::new(Breaker::new()))
        });
        Self { contained: Contained::new(Arc::clone(&store)), store, breaker, stamp, recorder }
    }

    /// The store as the user gave it.
    pub(crate) const fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The store for calls that are made whatever the breaker says. A panic in an asynchronous call is an error as well.
    pub(crate) const fn past_breaker(&self) -> &impl Store {
        &self.contained
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.store.capabilities()
    }

    /// The name of the store, for errors.
    pub(crate) fn name(&self) -> &str {
        self.store.capabilities().name()
    }

    #[inline]
    pub(crate) fn peek(&self, key: &Key) -> Option<Entry> {
        self.store.peek(key)
    }

    pub(crate) fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        self.store.peek_hidden(key)
    }

    pub(crate) fn changes(&self) -> Option<ChangeStream> {
        self.store.changes()
    }

    pub(crate) async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.ask(self.store.load(key, options)).await
    }

    pub(crate) async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.ask(self.store.head(key, options)).await
    }

    /// The version that the tier has now.
    pub(crate) async fn version(&self, key: &Key) -> Result<Option<Version>> {
        let head = self.head(key, &ReadOptions::new().authoritative()).await?;
        Ok(head.map(|metadata| metadata.version.clone()))
    }

    /// Whether the tier has the key; a damaged entry counts.
    pub(crate) async fn is_there(&self, key: &Key) -> Result<bool> {
        match self.past_breaker().head(key, &ReadOptions::new().authoritative()).await {
            Ok(head) => Ok(head.is_some()),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// Where no key at all could be read because the tier is out of reach.
    pub(crate) async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Reads> {
        self.ask(async {
            let reads = self.store.get_many(keys, options).await;
            match out_of_reach(&reads) {
                Some(error) => Err(error.clone()),
                None => Ok(reads),
            }
        })
        .await
    }

    pub(crate) async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.ask(self.store.read_stream(key, options)).await
    }

    pub(crate) async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.ask(self.store.put_stream(key, put, body)).await
    }

    /// Sends one write.
    pub(crate) async fn write(&self, key: &Key, action: Action) -> Result<Applied> {
        match action {
            Action::Put(put) => self.ask(self.store.put(key, put)).await.map(Applied::Put),
            Action::Delete(delete) => self.ask(self.store.delete(key, delete)).await.map(Applied::Delete),
        }
    }

    pub(crate) async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.ask(self.store.apply(batch)).await
    }

    /// Stores `entry` verbatim, or removes what is there, whatever the breaker says. The caller asks
    /// [`admits`](Self::admits) before and tells the breaker by [`learn`](Self::learn) afterwards, since it may stop
    /// waiting.
    pub(crate) async fn replace(&self, key: &Key, entry: Option<&Entry>) -> Result<()> {
        match entry {
            Some(entry) => self.contained.contain(self.store.put(key, Put::verbatim(entry))).await.map(drop),
            None => self.contained.contain(self.store.delete(key, Delete::new())).await.map(drop),
        }
    }

    /// Whether the breaker lets a call through, which is then to be made.
    pub(crate) fn admits(&self) -> bool {
        self.admit().is_ok()
    }

    /// Tells the breaker of a call that was late or made past it.
    pub(crate) fn learn(&self, error: Option<&Error>) {
        if let Some((limits, breaker)) = &self.breaker {
            let failed = error.is_some_and(|error| is_outage(error.kind()) || is_panic(error));
            breaker.lock().learn(failed, self.uptime(), *limits);
        }
    }

    fn admit(&self) -> Result<()> {
        let Some((limits, breaker)) = &self.breaker else { return Ok(()) };
        let admitted = breaker.lock().admit(self.uptime(), *limits);
        admitted.map_err(|error| {
            self.recorder.count(Count::RejectedByBreaker);
            error.in_tier(self.name())
        })
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.admit()?;
        let result = self.contained.contain(call).await;
        self.learn(result.as_ref().err());
        result
    }

    fn uptime(&self) -> Duration {
        self.stamp.clock().uptime()
    }
}

/// Why no key at all could be read, where the tier was out of reach.
fn out_of_reach(reads: &Reads) -> Option<&Error> {
    let all_failed = reads.iter().all(|read| read.as_ref().is_err_and(|error| is_outage(error.kind())));
    reads.first().filter(|_| all_failed)?.as_ref().err()
}
