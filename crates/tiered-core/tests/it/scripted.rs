//! A store whose next calls end as a test says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, Error, ErrorKind, Feature, Key, MemoryStore, Outcome, Put, Read, ReadOptions, Result, Sharing,
    Store,
};

/// How a write ends.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It is lost on the way, unnoticed.
    RequestLost,
    /// It takes effect, and the error says so.
    Applied,
    /// It is lost on the way, and another process writes this value to the key meanwhile.
    Overtaken(&'static str),
}

/// What writes of one key meet, each time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// They take so long.
    Slow(Duration),
    /// They fail after so long.
    Fails(Duration),
}

/// What reads do; where they hang, writes do so too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Well,
    Down,
    Hangs,
}

/// A memory store with a script.
pub(crate) type Scripted = Intercept<Script, MemoryStore>;

/// What the next calls meet.
#[derive(Debug)]
pub(crate) struct Script {
    fates: Mutex<VecDeque<Fate>>,
    reading: Mutex<Reading>,
    reads: AtomicU64,
    writes: AtomicU64,
    troubles: Mutex<BTreeMap<Key, Trouble>>,
}

/// One that this process owns.
pub(crate) fn scripted() -> Scripted {
    over(MemoryStore::new(), Sharing::Exclusive)
}

/// A server that others write as well.
pub(crate) fn shared() -> Scripted {
    over(MemoryStore::new(), Sharing::Shared)
}

/// Without [`Feature::Peeks`]: every read counts.
pub(crate) fn over(inner: MemoryStore, sharing: Sharing) -> Scripted {
    let inner = inner.declaring(|all| all.named("scripted").with_sharing(sharing).without(Feature::Peeks));
    let script = Script {
        fates: Mutex::default(),
        reading: Mutex::new(Reading::Well),
        reads: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        troubles: Mutex::default(),
    };
    Intercept::new(inner, script)
}

impl Script {
    /// The next write ends so, then the one after it.
    pub(crate) fn then(&self, fate: Fate) -> &Self {
        self.fates.lock().push_back(fate);
        self
    }

    /// Writes of the key meet this from now on.
    pub(crate) fn trouble(&self, key: &Key, trouble: Trouble) {
        self.troubles.lock().insert(key.clone(), trouble);
    }

    /// Nothing is slow or fails any more.
    pub(crate) fn untroubled(&self) {
        self.troubles.lock().clear();
    }

    pub(crate) fn reads_are(&self, reading: Reading) {
        *self.reading.lock() = reading;
    }

    /// Reads that arrived here.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Writes that arrived here.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    async fn read(&self) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let reading = *self.reading.lock();
        match reading {
            Reading::Well => Ok(()),
            Reading::Down => Err(Error::new(ErrorKind::Unavailable, "down")),
            Reading::Hangs => std::future::pending().await,
        }
    }

    async fn write<T>(
        &self,
        inner: &dyn Store,
        key: Option<&Key>,
        apply: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if *self.reading.lock() == Reading::Hangs {
            std::future::pending::<()>().await;
        }
        let trouble = key.and_then(|key| self.troubles.lock().get(key).copied());
        match trouble {
            Some(Trouble::Slow(time)) => tokio::time::sleep(time).await,
            Some(Trouble::Fails(time)) => {
                tokio::time::sleep(time).await;
                return Err(Error::new(ErrorKind::Unavailable, "in trouble").outcome_is(Outcome::NotApplied));
            }
            None => {}
        }
        let fate = self.fates.lock().pop_front();
        match fate {
            None => return apply.await,
            Some(Fate::AnswerLost) => drop(apply.await?),
            Some(Fate::Applied) => {
                apply.await?;
                return Err(Error::new(ErrorKind::Unavailable, "applied").outcome_is(Outcome::Applied));
            }
            Some(Fate::RequestLost) => {}
            Some(Fate::Overtaken(value)) => {
                if let Some(key) = key {
                    inner.put(key, Put::new(value)).await?;
                }
            }
        }
        Err(Error::new(ErrorKind::TimedOut, "no answer").outcome_is(Outcome::Unknown))
    }
}

#[async_trait]
impl Interceptor for Script {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.read().await?;
        inner.load(key, options).await
    }

    async fn around_write<T, F>(&self, inner: &dyn Store, key: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.write(inner, key, call).await
    }

    /// A batch meets what the writes of its keys would: a failure where one of them does.
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let mut met: Option<(Key, Trouble)> = None;
        for (key, _) in batch.operations() {
            let trouble = self.troubles.lock().get(key).copied();
            let fails = |trouble: &Trouble| matches!(trouble, Trouble::Fails(_));
            if let Some(trouble) = trouble.filter(|one| met.is_none() || fails(one)) {
                met = Some((key.clone(), trouble));
            }
        }
        self.write(inner, met.as_ref().map(|(key, _)| key), inner.apply(batch)).await
    }

    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        inner.set_mark(name, value).await
    }

    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        // The data outlive the handle.
        Ok(())
    }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).expect("a valid key")
}
