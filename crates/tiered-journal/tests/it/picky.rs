//! A backend for tests: down at times, picky at times, and cut off in the middle of a call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Action, Batch, Capabilities, Delete, Deleted, Durability, Entry, Error, ErrorKind, Feature, Key,
    MemoryStore, Outcome, Put, Result, Sharing, Store, StoreExt as _, Written,
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
pub(crate) type Picky = Intercept<Tastes, MemoryStore>;

#[derive(Debug)]
pub(crate) struct Tastes {
    entries: MemoryStore,
    pub(crate) down: AtomicBool,
    /// Whether the mark that names the journals cannot be read, and whether it cannot be written.
    pub(crate) marks_down: [AtomicBool; 2],
    pub(crate) strict: AtomicBool,
    /// Whether a refusal says which key it is about.
    pub(crate) names: AtomicBool,
    /// Every value that came in, in order.
    pub(crate) history: Mutex<Vec<(Key, Bytes)>>,
    /// What it held after each batch, in order.
    pub(crate) states: Mutex<Vec<State>>,
    script: Mutex<Script>,
    /// Notified when a call is cut off or hangs, and when one that hung has ended.
    pub(crate) reached: Notify,
}

pub(crate) fn picky(atomic: bool) -> Picky {
    declaring(|all| if atomic { all } else { all.without(Feature::AtomicBatch) })
}

/// One that several processes can open at a time.
pub(crate) fn shared() -> Picky {
    declaring(|all| all.with_sharing(Sharing::Shared))
}

pub(crate) fn declaring(change: impl FnOnce(Capabilities) -> Capabilities) -> Picky {
    let entries =
        MemoryStore::new().declaring(|all| change(all.named("picky").with_durability(Durability::PowerLoss)));
    let tastes = Tastes {
        entries: entries.clone(),
        down: AtomicBool::new(false),
        marks_down: Default::default(),
        strict: AtomicBool::new(true),
        names: AtomicBool::new(true),
        history: Mutex::default(),
        states: Mutex::default(),
        script: Mutex::default(),
        reached: Notify::new(),
    };
    Intercept::new(entries, tastes)
}

impl Tastes {
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
        let entries = self.entries.snapshot().into_iter();
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
            // The answer is dropped, whether the write was accepted or refused.
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
        self.entries.get(&key(name)).await.expect("reads").map(Entry::into_value)
    }

    async fn take(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        if !inner.capabilities().has(Feature::AtomicBatch) {
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
        let outcomes = inner.apply(batch).await?;
        self.history.lock().extend(came);
        self.states.lock().push(self.state());
        Ok(outcomes)
    }
}

#[async_trait]
impl Interceptor for Tastes {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.check(key, &put.value)?;
        self.reach(inner.put(key, put)).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.check(key, b"")?;
        self.reach(inner.delete(key, delete)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.reach(self.take(inner, batch)).await
    }
    async fn mark(&self, inner: &dyn Store, name: &str) -> Result<Option<Bytes>> {
        let [reads_fail, _] = &self.marks_down;
        Self::check_mark(name, reads_fail)?;
        inner.mark(name).await
    }
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        let [_, writes_fail] = &self.marks_down;
        Self::check_mark(name, writes_fail)?;
        self.reach(inner.set_mark(name, value)).await
    }
    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        // The data outlive the handle.
        Ok(())
    }
}
