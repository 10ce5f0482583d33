//! A backend for tests: down at times, picky at times, and cut off in the middle of a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tiered_core::{
    Action, Batch, BatchOutcomes, Capabilities, Claim, Delete, Deleted, Durability, Entry, Error, ErrorKind,
    Feature, Key, ListOptions, ListStream, MemoryStore, Outcome, Put, Read, ReadOptions, Result, Scope,
    Sharing, Store, StoreExt as _, Written,
};
use tokio::sync::Notify;

use crate::key;

/// What each key has, but for the record of a lease.
pub(crate) type State = BTreeMap<String, Bytes>;

/// How a call ends whose answer is not heard.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// It never returns, and had no effect.
    Before,
    /// It never returns, and took effect.
    After,
    /// It hangs until it is told to go on. Then it takes effect, where the backend accepts it, and times out.
    Late(Arc<Notify>),
    /// It hangs until it is told to go on, and times out without effect.
    Never(Arc<Notify>),
}

/// What becomes of the calls that change something.
#[derive(Debug, Default)]
struct Script {
    /// So many have arrived.
    calls: u64,
    /// The one of that number ends so.
    cut: Option<(u64, Cut)>,
}

/// A backend that outlives its handles, is down at times, and refuses keys and values that begin with `bad` at times.
#[derive(Clone, Debug)]
pub(crate) struct Picky {
    pub(crate) inner: MemoryStore,
    capabilities: Capabilities,
    pub(crate) down: Arc<AtomicBool>,
    /// Whether the mark that names the journals cannot be read, and whether it cannot be written.
    pub(crate) marks_down: Arc<[AtomicBool; 2]>,
    pub(crate) strict: Arc<AtomicBool>,
    /// Whether a refusal says which key it is about.
    pub(crate) names: Arc<AtomicBool>,
    /// Every value that came in, in order.
    pub(crate) history: Arc<Mutex<Vec<(Key, Bytes)>>>,
    /// What it held after each batch, in order.
    pub(crate) states: Arc<Mutex<Vec<State>>>,
    script: Arc<Mutex<Script>>,
    /// Notified when a call is cut off or hangs, and when one that hung has ended.
    pub(crate) reached: Arc<Notify>,
}

impl Picky {
    pub(crate) fn new(atomic: bool) -> Self {
        let inner = MemoryStore::new();
        let lasting = inner.capabilities().clone().named("picky").with_durability(Durability::PowerLoss);
        let capabilities = if atomic { lasting } else { lasting.without(Feature::AtomicBatch) };
        Self {
            inner,
            capabilities,
            down: Arc::new(AtomicBool::new(false)),
            marks_down: Arc::default(),
            strict: Arc::new(AtomicBool::new(true)),
            names: Arc::new(AtomicBool::new(true)),
            history: Arc::default(),
            states: Arc::default(),
            script: Arc::default(),
            reached: Arc::default(),
        }
    }

    /// One that several processes can open at a time.
    pub(crate) fn shared() -> Self {
        let mut shared = Self::new(true);
        shared.declare(|all| all.with_sharing(Sharing::Shared));
        shared
    }

    pub(crate) fn declare(&mut self, change: impl FnOnce(Capabilities) -> Capabilities) {
        self.capabilities = change(self.capabilities.clone());
    }

    /// The call that changes something after `calls` more of them ends so.
    pub(crate) fn cut_after(&self, calls: u64, cut: Cut) {
        let mut script = self.script.lock();
        script.cut = Some((script.calls + calls, cut));
    }

    /// Every call returns again; whether one had been cut off.
    pub(crate) fn mend(&self) -> bool {
        self.script.lock().cut.take().is_none()
    }

    /// What it holds, but for the record of a lease.
    pub(crate) fn state(&self) -> State {
        let entries = self.inner.snapshot().into_iter();
        let text = entries.map(|(key, entry)| (key.as_str().to_owned(), entry.into_value()));
        text.filter(|(key, _)| !key.starts_with(".tiered/")).collect()
    }

    async fn reach<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let cut = {
            let mut script = self.script.lock();
            script.calls += 1;
            let is_due = script.cut.as_ref().is_some_and(|(at, _)| script.calls > *at);
            if is_due { script.cut.take() } else { None }
        };
        let Some((_, cut)) = cut else { return call.await };
        if let Cut::Late(go_on) | Cut::Never(go_on) = &cut {
            self.reached.notify_one();
            go_on.notified().await;
        }
        if matches!(cut, Cut::After | Cut::Late(_)) {
            // Whether it was accepted or refused, no one hears of it.
            call.await.ok();
        }
        self.reached.notify_one();
        if matches!(cut, Cut::Before | Cut::After) {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::TimedOut, "no answer").outcome_is(Outcome::Unknown))
    }

    fn check(&self, key: &Key, value: &[u8]) -> Result<()> {
        Self::check_up(&self.down)?;
        let is_bad = key.as_str().starts_with("bad") || value.starts_with(b"bad");
        if self.strict.load(Ordering::Relaxed) && is_bad {
            let error = Error::new(ErrorKind::TooLarge, "no such keys").outcome_is(Outcome::NotApplied);
            return Err(if self.names.load(Ordering::Relaxed) { error.for_key(key) } else { error });
        }
        Ok(())
    }

    fn check_up(is_down: &AtomicBool) -> Result<()> {
        if is_down.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "down").outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }

    fn check_mark(name: &str, is_down: &AtomicBool) -> Result<()> {
        if name == "tiered.journals" { Self::check_up(is_down) } else { Ok(()) }
    }

    pub(crate) async fn value(&self, name: &str) -> Option<Bytes> {
        self.inner.get(&key(name)).await.expect("reads").map(Entry::into_value)
    }

    async fn take(&self, batch: Batch) -> Result<BatchOutcomes> {
        if !self.capabilities.has(Feature::AtomicBatch) {
            assert_eq!(batch.len(), 1, "one by one");
        }
        let value = |action: &Action| match action {
            Action::Put(put) => put.value.clone(),
            Action::Delete(_) => Bytes::new(),
        };
        for (key, action) in batch.operations() {
            self.check(key, &value(action))?;
        }
        let came: Vec<(Key, Bytes)> =
            batch.operations().iter().map(|(key, action)| (key.clone(), value(action))).collect();
        let outcomes = self.inner.apply(batch).await?;
        self.history.lock().extend(came);
        self.states.lock().push(self.state());
        Ok(outcomes)
    }
}

#[async_trait]
impl Store for Picky {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        match self.capabilities.sharing() {
            Sharing::Shared => Ok(Claim::shared()),
            Sharing::Exclusive => self.inner.claim(scope).await,
        }
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.inner.load(key, options).await
    }
    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.check(key, &put.value)?;
        self.reach(self.inner.put(key, put)).await
    }
    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.check(key, b"")?;
        self.reach(self.inner.delete(key, delete)).await
    }
    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.reach(self.take(batch)).await
    }
    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        let [reads_fail, _] = &*self.marks_down;
        Self::check_mark(name, reads_fail)?;
        self.inner.mark(name).await
    }
    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        let [_, writes_fail] = &*self.marks_down;
        Self::check_mark(name, writes_fail)?;
        self.reach(self.inner.set_mark(name, value)).await
    }
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
