//! A store that fails in every way that the specification allows.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope};
use tiered_core::{
    AsStore, Batch, ByteStream, Capabilities, Delete, Deleted, Entry, Error, ErrorKind, Feature, Key,
    ListOptions, ListStream, Metadata, Outcome, Put, Read, ReadOptions, Result, Slices, Store, Written,
    adapter,
};

use crate::dice::Dice;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The call takes so long that many others come and go meanwhile.
    Slow,
    /// An error, and no effect.
    ErrorBefore,
    /// A write is refused permanently, as one that is too large; no effect. Another attempt may be accepted.
    Refuse,
    /// The effect, and an error of unknown outcome: the answer was lost.
    ErrorAfter,
    /// The effect, and an error that says so.
    ErrorApplied,
    /// An error of unknown outcome, and the effect later, within the declared lifetime.
    DelayedApply,
    /// The effect twice, as when a request is sent again after a lost answer.
    Duplicate,
    /// No answer for a long time, then an error; with the effect at once, at the end, or without it. What takes effect at
    /// the end does so although the call was dropped.
    Hang,
    /// A read finds the entry damaged.
    Corrupt,
    /// An entry vanishes, where the store is declared to evict.
    Evict,
    /// A listing that is overtaken by writes while it goes on.
    SlowList,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Slow,
        Self::ErrorBefore,
        Self::Refuse,
        Self::ErrorAfter,
        Self::ErrorApplied,
        Self::DelayedApply,
        Self::Duplicate,
        Self::Hang,
        Self::Corrupt,
        Self::Evict,
        Self::SlowList,
    ];
}

/// A call that a [`FaultStore`] has answered, for a trace.
#[derive(Clone, Debug)]
pub struct Call<'c> {
    /// The name that the store was given.
    pub store: &'c str,
    /// What was called.
    pub operation: &'static str,
    /// The key, or empty.
    pub key: &'c str,
    /// What was done to it, if anything.
    pub fault: Option<Fault>,
    /// Whether it ended well.
    pub ok: bool,
}

type Observer = dyn Fn(&Call<'_>) + Send + Sync;

/// Which faults happen how often, and whether they happen at all at the moment. Shared by the stores of one process.
pub struct Faults {
    dice: Mutex<Dice>,
    /// One call in so many meets the fault; 0: none.
    rates: [u64; Fault::ALL.len()],
    fired: [AtomicU64; Fault::ALL.len()],
    healthy: AtomicBool,
    without_power: AtomicBool,
    request_lifetime: Duration,
    hang: Duration,
    observer: Option<Box<Observer>>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("rates", &self.rates)
            .field("fired", &self.fired)
            .finish_non_exhaustive()
    }
}

impl Faults {
    /// No faults yet; choices follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Mutex::new(Dice::new(seed)),
            rates: Default::default(),
            fired: Default::default(),
            healthy: AtomicBool::new(false),
            without_power: AtomicBool::new(false),
            request_lifetime: Duration::from_secs(1),
            hang: Duration::from_secs(10),
            observer: None,
        }
    }

    /// One call in `rarity` that can meet `fault` does; 0 for none.
    #[must_use]
    pub fn with(mut self, fault: Fault, rarity: u64) -> Self {
        if let Some(rate) = self.rates.get_mut(fault as usize) {
            *rate = rarity;
        }
        self
    }

    /// How long a request can still take effect after its call returned. The store declares it.
    #[must_use]
    pub fn request_lifetime(mut self, lifetime: Duration) -> Self {
        self.request_lifetime = lifetime;
        self
    }

    /// How long a call hangs. The store declares it as well: a call that was dropped may still take effect.
    #[must_use]
    pub fn hang(mut self, hang: Duration) -> Self {
        self.hang = hang;
        self
    }

    /// Shows every call to `observer`, when it is answered.
    #[must_use]
    pub fn observed(mut self, observer: impl Fn(&Call<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Ends all faults. What has hung goes on hanging for its time.
    pub fn heal(&self) {
        self.healthy.store(true, Ordering::Relaxed);
    }

    /// Begins the faults again.
    pub fn resume(&self) {
        self.healthy.store(false, Ordering::Relaxed);
    }

    /// The process is dead: from now on no call reaches a store, and no call is answered. This is final.
    pub fn cut_power(&self) {
        self.without_power.store(true, Ordering::Relaxed);
    }

    /// How often `fault` happened.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.fired.get(fault as usize).map_or(0, |fired| fired.load(Ordering::Relaxed))
    }

    fn below(&self, bound: u64) -> u64 {
        self.dice.lock().below(bound)
    }

    /// Throws for one fault out of `candidates`.
    fn draw(&self, candidates: &[Fault]) -> Option<Fault> {
        if self.healthy.load(Ordering::Relaxed) {
            return None;
        }
        let drawn = candidates.iter().copied().find(|fault| {
            let rarity = self.rates.get(*fault as usize).copied().unwrap_or_default();
            rarity > 0 && self.below(rarity) == 0
        })?;
        Some(drawn)
    }

    /// Counts a fault, when it happens.
    fn fire(&self, fault: Fault) {
        if let Some(fired) = self.fired.get(fault as usize) {
            fired.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call takes a few milliseconds, or many. Nothing goes on without power.
    async fn pause(&self, fault: Option<Fault>) {
        let bound = if fault == Some(Fault::Slow) { 80 } else { 4 };
        tokio::time::sleep(Duration::from_millis(self.below(bound))).await;
        self.live().await;
    }

    async fn live(&self) {
        if self.without_power.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn hang_on(&self) {
        tokio::time::sleep(self.hang).await;
        self.live().await;
    }
}

/// A store whose calls take time, and fail as [`Faults`] say. Cloning shares it.
///
/// It declares what its faults make true: [`Feature::Evicts`] where entries vanish, and a request lifetime where writes
/// can take effect late. Time is tokio's, so that a paused clock makes it virtual.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use tiered_conformance::{Fault, FaultStore, Faults};
/// use tiered_core::{Key, MemoryStore, Outcome, Put, Store};
///
/// let faults = Arc::new(Faults::new(7).with(Fault::ErrorAfter, 1));
/// let store = FaultStore::new("backend", MemoryStore::new(), faults);
/// let error = store.put(&Key::new("k")?, Put::new("v")).await.expect_err("every answer is lost");
/// assert_eq!(error.write_outcome(), Outcome::Unknown);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FaultStore {
    name: Arc<str>,
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
    capabilities: Capabilities,
    /// Whether closing is for this handle alone, as with a server.
    remote: bool,
}

impl FaultStore {
    /// A store around `inner`. `name` is for the trace.
    pub fn new(name: &str, inner: impl AsStore, faults: Arc<Faults>) -> Self {
        let inner = inner.into_store();
        let mut capabilities = inner.capabilities().clone();
        let happens = |fault: Fault| faults.rates.get(fault as usize).is_some_and(|rate| *rate > 0);
        if happens(Fault::Evict) {
            capabilities = capabilities.with(Feature::Evicts);
        }
        // What hangs may take effect at its end, although the call was dropped.
        let lifetimes = [(Fault::DelayedApply, faults.request_lifetime), (Fault::Hang, faults.hang)];
        if let Some((_, lifetime)) =
            lifetimes.into_iter().filter(|(fault, _)| happens(*fault)).max_by_key(|(_, t)| *t)
        {
            capabilities = capabilities.with_request_lifetime(lifetime);
        }
        Self { name: name.into(), inner, faults, capabilities, remote: false }
    }

    /// As a client of a server, which goes on when the client is closed.
    #[must_use]
    pub fn remote(mut self) -> Self {
        self.remote = true;
        self
    }

    /// The store inside, for looking past the faults.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    fn happens(&self, fault: Fault) -> bool {
        self.faults.rates.get(fault as usize).is_some_and(|rate| *rate > 0)
    }

    fn seen<T>(
        &self,
        operation: &'static str,
        key: &str,
        fault: Option<Fault>,
        result: Result<T>,
    ) -> Result<T> {
        if let Some(observer) = &self.faults.observer {
            observer(&Call { store: &self.name, operation, key, fault, ok: result.is_ok() });
        }
        result
    }

    fn unavailable(&self, outcome: Outcome) -> Error {
        Error::new(ErrorKind::Unavailable, "a fault").in_tier(&self.name).outcome_is(outcome)
    }

    async fn evict(&self, key: &Key) {
        if self.happens(Fault::Evict) && self.faults.draw(&[Fault::Evict]).is_some() {
            self.faults.fire(Fault::Evict);
            self.inner.delete(key, Delete::new()).await.ok();
        }
    }

    async fn reading<T>(
        &self,
        operation: &'static str,
        key: &str,
        read: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let fault = self.faults.draw(&[Fault::Slow, Fault::ErrorBefore, Fault::Hang, Fault::Corrupt]);
        self.faults.pause(fault).await;
        let result = match fault {
            Some(Fault::ErrorBefore) => Err(self.unavailable(Outcome::NotApplied)),
            Some(Fault::Hang) => {
                self.faults.hang_on().await;
                Err(self.unavailable(Outcome::NotApplied))
            }
            Some(Fault::Corrupt) => Err(Error::new(ErrorKind::Corrupt, "a fault").in_tier(&self.name)),
            _ => {
                let result = read.await;
                self.faults.pause(fault).await;
                result
            }
        };
        if let Some(fault) = fault {
            self.faults.fire(fault);
        }
        self.seen(operation, key, fault, result)
    }

    /// Runs a write, which `apply` carries out each time it is called; given the answer of the first time, only what took
    /// effect then. `has_all` says whether all of it took effect.
    async fn writing<T, F>(
        &self,
        operation: &'static str,
        key: &str,
        apply: impl Fn(Arc<dyn Store>, Option<&T>) -> F + Send,
        has_all: fn(&T) -> bool,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let fault = self.faults.draw(&[
            Fault::Slow,
            Fault::ErrorBefore,
            Fault::Refuse,
            Fault::ErrorAfter,
            Fault::ErrorApplied,
            Fault::DelayedApply,
            Fault::Duplicate,
            Fault::Hang,
        ]);
        self.faults.pause(fault).await;
        let inner = || Arc::clone(&self.inner);
        let result = match fault {
            Some(Fault::ErrorBefore) => Err(self.unavailable(Outcome::NotApplied)),
            Some(Fault::Refuse) => Err(Error::new(ErrorKind::TooLarge, "a fault")
                .in_tier(&self.name)
                .outcome_is(Outcome::NotApplied)),
            Some(Fault::ErrorAfter) => {
                apply(inner(), None).await.ok();
                Err(self.unavailable(Outcome::Unknown))
            }
            Some(Fault::DelayedApply) => {
                let millis = u64::try_from(self.faults.request_lifetime.as_millis()).unwrap_or(u64::MAX);
                let delay = Duration::from_millis(self.faults.below(millis));
                let late = apply(inner(), None);
                tokio::runtime::Handle::current().spawn(async move {
                    tokio::time::sleep(delay).await;
                    late.await.ok();
                });
                Err(self.unavailable(Outcome::Unknown))
            }
            Some(Fault::Duplicate) => {
                let first = apply(inner(), None).await;
                self.faults.pause(None).await;
                // The answer is that of the first; the second finds the writer's own write. What was refused is not
                // sent again: if it took effect then, the answer would be wrong, which no store may be.
                if let Ok(answer) = &first {
                    let again = apply(inner(), Some(answer));
                    again.await.ok();
                }
                first
            }
            Some(Fault::ErrorApplied) => match apply(inner(), None).await {
                Ok(applied) if has_all(&applied) => Err(self.unavailable(Outcome::Applied)),
                refused => refused,
            },
            Some(Fault::Hang) => {
                let at_once = self.faults.below(3) == 0;
                if at_once {
                    apply(inner(), None).await.ok();
                }
                let (hang, late) = (self.faults.hang, apply(inner(), None));
                if !at_once && self.faults.below(2) == 0 {
                    // A task of its own: the request is on its way, whether the caller waits or not.
                    let late = tokio::runtime::Handle::current().spawn(async move {
                        tokio::time::sleep(hang).await;
                        late.await.ok();
                    });
                    late.await.ok();
                    self.faults.live().await;
                } else {
                    self.faults.hang_on().await;
                }
                Err(self.unavailable(Outcome::Unknown))
            }
            _ => {
                let result = apply(inner(), None).await;
                self.faults.pause(fault).await;
                result
            }
        };
        if let Some(fault) = fault {
            self.faults.fire(fault);
        }
        self.seen(operation, key, fault, result)
    }
}

/// What of a batch took effect: of the operations on a key only the last one does.
fn took_effect(batch: &Batch, outcomes: &BatchOutcomes) -> Batch {
    let operations = batch.operations();
    let mut again = Batch::of(batch.atomicity());
    for (index, ((key, action), outcome)) in operations.iter().zip(outcomes).enumerate() {
        let is_last = !operations.iter().skip(index + 1).any(|(later, _)| later == key);
        if is_last && outcome.is_ok() {
            again.push(key.clone(), action.clone());
        }
    }
    again
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for FaultStore {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.evict(key).await;
        self.reading("load", key.as_str(), self.inner.load(key, options)).await
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let apply = |inner: Arc<dyn Store>, _: Option<&_>| {
            let (key, put) = (key.clone(), put.clone());
            async move { inner.put(&key, put).await }
        };
        self.writing("put", key.as_str(), apply, |_| true).await
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let apply = |inner: Arc<dyn Store>, _: Option<&_>| {
            let (key, delete) = (key.clone(), delete.clone());
            async move { inner.delete(&key, delete).await }
        };
        self.writing("delete", key.as_str(), apply, |_| true).await
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let fault = self.faults.draw(&[Fault::SlowList, Fault::ErrorBefore]);
        if let Some(fault) = fault {
            self.faults.fire(fault);
        }
        if fault == Some(Fault::ErrorBefore) {
            return Box::pin(stream::iter([Err(self.unavailable(Outcome::NotApplied))]));
        }
        let faults = Arc::clone(&self.faults);
        let listing = self.inner.list(options).then(move |listed| {
            let faults = Arc::clone(&faults);
            async move {
                if fault == Some(Fault::SlowList) {
                    faults.pause(Some(Fault::Slow)).await;
                }
                faults.live().await;
                listed
            }
        });
        Box::pin(listing)
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        if self.faults.without_power.load(Ordering::Relaxed) { None } else { self.inner.peek(key) }
    }

    fn peek_hidden(&self, key: &Key) -> Option<Entry> {
        if self.faults.without_power.load(Ordering::Relaxed) { None } else { self.inner.peek_hidden(key) }
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.evict(key).await;
        self.reading("head", key.as_str(), self.inner.head(key, options)).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads =
            self.reading("get_many", "", async { Ok(self.inner.get_many(keys, options).await) }).await;
        reads.unwrap_or_else(|error| adapter::all_failed(keys, &error))
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        self.evict(key).await;
        self.reading("get_ranges", key.as_str(), self.inner.get_ranges(key, ranges, options)).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        let apply = |inner: Arc<dyn Store>, first: Option<&BatchOutcomes>| {
            let batch = first.map_or_else(|| batch.clone(), |outcomes| took_effect(&batch, outcomes));
            async move { inner.apply(batch).await }
        };
        self.writing("apply", "", apply, |outcomes| outcomes.iter().all(Result::is_ok)).await
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.reading("read_stream", key.as_str(), self.inner.read_stream(key, options)).await
    }

    /// A stream cannot be sent twice: it fails before it begins, or not at all.
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let fault = self.faults.draw(&[Fault::Slow, Fault::ErrorBefore]);
        self.faults.pause(fault).await;
        if let Some(fault) = fault {
            self.faults.fire(fault);
        }
        let result = match fault {
            Some(Fault::ErrorBefore) => Err(self.unavailable(Outcome::NotApplied)),
            _ => self.inner.put_stream(key, put, body).await,
        };
        self.seen("put_stream", key.as_str(), fault, result)
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.inner.claim(scope).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.inner.changes()
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        self.reading("mark", name, self.inner.mark(name)).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        let apply = |inner: Arc<dyn Store>, _: Option<&_>| {
            let (name, value) = (name.to_owned(), value.clone());
            async move { inner.set_mark(&name, value).await }
        };
        self.writing("set_mark", name, apply, |()| true).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.reading("mark_names", prefix, self.inner.mark_names(prefix)).await
    }

    async fn flush(&self) -> Result<()> {
        self.faults.pause(None).await;
        self.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.faults.live().await;
        if self.remote { self.inner.flush().await } else { self.inner.close().await }
    }
}
