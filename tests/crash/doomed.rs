//! A tier, a journal and a journal's folder that end the process at a step.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered::adapter::BatchOutcomes;
use tiered::adapter::journal::{Aside, JournalRecord, Recovered};
use tiered::adapter::journal::{Journal, Sequence};
use tiered::journal::{File, Folder};
use tiered::{
    Batch, Delete, Deleted, Durability, Key, ListOptions, ListStream, Metadata, Put, Read, ReadOptions,
    Result, Store, Written,
};
use tiered_conformance::{Intercept, Interceptor};

use crate::step::{Doom, Moment};

/// Which tier a store is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tier {
    Frontend,
    Backend,
}

/// Makes the calls of a tier steps.
#[derive(Debug)]
pub(crate) struct DoomedTier {
    tier: Tier,
    doom: Doom,
}

impl DoomedTier {
    pub(crate) fn over(inner: Arc<dyn Store>, tier: Tier, doom: &Doom) -> Intercept<Self> {
        Intercept::new(inner, Self { tier, doom: doom.clone() })
    }

    /// Runs a call between its two steps.
    async fn step<T>(
        &self,
        frontend: &'static str,
        backend: &'static str,
        call: impl Future<Output = T>,
    ) -> T {
        let name = self.name(frontend, backend);
        self.doom.meet(name, Moment::Before);
        let ended = call.await;
        self.doom.meet(name, Moment::After);
        ended
    }

    fn name(&self, frontend: &'static str, backend: &'static str) -> &'static str {
        match self.tier {
            Tier::Frontend => frontend,
            Tier::Backend => backend,
        }
    }
}

#[async_trait]
impl Interceptor for DoomedTier {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.step("frontend.load", "backend.load", inner.load(key, options)).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.step("frontend.put", "backend.put", inner.put(key, put)).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.step("frontend.delete", "backend.delete", inner.delete(key, delete)).await
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let (doom, name) = (self.doom.clone(), self.name("frontend.list", "backend.list"));
        doom.meet(name, Moment::Before);
        let end = futures_util::stream::poll_fn(move |_| {
            doom.meet(name, Moment::After);
            std::task::Poll::Ready(None)
        });
        Box::pin(inner.list(options).chain(end))
    }
    async fn head(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Arc<Metadata>>> {
        self.step("frontend.head", "backend.head", inner.head(key, options)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.step("frontend.apply", "backend.apply", inner.apply(batch)).await
    }
    async fn mark(&self, inner: &dyn Store, name: &str) -> Result<Option<Bytes>> {
        self.step("frontend.mark", "backend.mark", inner.mark(name)).await
    }
    async fn set_mark(&self, inner: &dyn Store, name: &str, value: Option<Bytes>) -> Result<()> {
        self.step("frontend.set_mark", "backend.set_mark", inner.set_mark(name, value)).await
    }
    async fn flush(&self, inner: &dyn Store) -> Result<()> {
        self.step("frontend.flush", "backend.flush", inner.flush()).await
    }
    async fn close(&self, inner: &dyn Store) -> Result<()> {
        self.step("frontend.close", "backend.close", inner.close()).await
    }
}

/// A journal whose calls are steps.
#[derive(Debug)]
pub(crate) struct DoomedJournal<J> {
    inner: J,
    doom: Doom,
}

impl<J: Journal> DoomedJournal<J> {
    pub(crate) fn new(inner: J, doom: &Doom) -> Self {
        Self { inner, doom: doom.clone() }
    }

    async fn step<T>(&self, name: &'static str, call: impl Future<Output = T>) -> T {
        self.doom.meet(name, Moment::Before);
        let ended = call.await;
        self.doom.meet(name, Moment::After);
        ended
    }
}

#[async_trait]
impl<J: Journal> Journal for DoomedJournal<J> {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        self.step("journal.append", self.inner.append(records)).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.step("journal.trim", self.inner.trim(sequence)).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.step("journal.set_aside", self.inner.set_aside(aside)).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.step("journal.recover", self.inner.recover(backend)).await
    }
    async fn close(&self) -> Result<()> {
        self.step("journal.close", self.inner.close()).await
    }
}

/// A journal's folder whose calls, and those of its files, are steps.
#[derive(Debug)]
pub(crate) struct DoomedFolder<F> {
    inner: F,
    doom: Doom,
}

impl<F: Folder> DoomedFolder<F> {
    pub(crate) fn new(inner: F, doom: &Doom) -> Self {
        Self { inner, doom: doom.clone() }
    }

    fn file(&self, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(DoomedFile { inner, doom: self.doom.clone() })
    }
}

/// Runs a blocking call between its two steps.
fn between<T>(doom: &Doom, name: &'static str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    doom.meet(name, Moment::Before);
    let ended = call();
    doom.meet(name, Moment::After);
    ended
}

impl<F: Folder> Folder for DoomedFolder<F> {
    fn names(&self) -> io::Result<Vec<String>> {
        between(&self.doom, "folder.names", || self.inner.names())
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Box<dyn File>> {
        between(&self.doom, "folder.create", || self.inner.create(name, len)).map(|file| self.file(file))
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        between(&self.doom, "folder.open", || self.inner.open(name)).map(|file| self.file(file))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        between(&self.doom, "folder.remove", || self.inner.remove(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        between(&self.doom, "folder.rename", || self.inner.rename(from, to))
    }
    fn sync(&self) -> io::Result<()> {
        between(&self.doom, "folder.sync", || self.inner.sync())
    }
}

#[derive(Debug)]
struct DoomedFile {
    inner: Box<dyn File>,
    doom: Doom,
}

impl File for DoomedFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        between(&self.doom, "file.read", || self.inner.read())
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.doom.meet_half(|| {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            self.inner.write_at(half, offset).ok();
        });
        between(&self.doom, "file.write", || self.inner.write_at(bytes, offset))
    }
    fn sync(&self) -> io::Result<()> {
        between(&self.doom, "file.sync", || self.inner.sync())
    }
}
