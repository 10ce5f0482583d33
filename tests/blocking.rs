//! The conformance suite through the blocking API: what it answers is what the store answers.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tiered::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope};
use tiered::blocking::{BlockingStore, Runtime};
use tiered::{
    Batch, ByteStream, Capabilities, Create, Delete, Deleted, Entry, Error, ErrorKind, Key, ListOptions,
    ListStream, Metadata, Put, Read, ReadOptions, Result, Slices, Store, TieredStore, Written,
};
use tiered_conformance::{Factory, Place, RunOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// An asynchronous store again: each call goes through the blocking API, on a thread that may block.
#[derive(Clone, Debug)]
struct Through(BlockingStore);

impl Through {
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BlockingStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.0.clone();
        spawn_blocking(move || call(&store)).await.map_err(|error| {
            Error::new(ErrorKind::Other, "the blocking call panicked, or the runtime ended")
                .with_source(error)
        })?
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Through {
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let (key, options) = (key.clone(), options.clone());
        self.call(move |store| store.load(&key, &options)).await
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        let key = key.clone();
        self.call(move |store| store.put(&key, put)).await
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        let key = key.clone();
        self.call(move |store| store.delete(&key, delete)).await
    }

    fn list(&self, options: ListOptions) -> ListStream {
        let listing = stream::unfold(self.0.list(options), |mut listing| async {
            spawn_blocking(move || listing.next().map(|listed| (listed, listing))).await.expect("no panic")
        });
        listing.boxed()
    }

    fn peek(&self, key: &Key) -> Option<Entry> {
        self.0.peek(key)
    }

    fn peek_hidden(&self, _key: &Key) -> Option<Entry> {
        // What is hidden is for engines, which do not block.
        None
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let (key, options) = (key.clone(), options.clone());
        self.call(move |store| store.head(&key, &options)).await
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let (keys, options) = (keys.to_vec(), options.clone());
        self.call(move |store| Ok(store.get_many(&keys, &options))).await.expect("no panic")
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let (key, ranges, options) = (key.clone(), ranges.to_vec(), options.clone());
        self.call(move |store| store.get_ranges(&key, &ranges, &options)).await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.call(move |store| store.apply(batch)).await
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let (key, options) = (key.clone(), options.clone());
        let found = self.call(move |store| store.read(&key, &options)).await?;
        Ok(found.map(|body| {
            let metadata = Arc::clone(body.metadata());
            let parts = stream::try_unfold(body, |mut body| async {
                spawn_blocking(move || Ok(body.next_part()?.map(|part| (part, body))))
                    .await
                    .expect("no panic")
            });
            (metadata, parts.boxed())
        }))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        // A reader of bytes cannot carry the body's own error: the store's stream is used as it is. A caller that
        // drops this future ends the wait: the body may never end.
        let (key, (caller, dropped)) = (key.clone(), oneshot::channel::<()>());
        let written = self.call(move |store| {
            store.runtime().wait(async {
                tokio::select! {
                    written = store.inner().put_stream(&key, put, body) => written,
                    _ = dropped => Err(Error::new(ErrorKind::Other, "the caller dropped the call")),
                }
            })
        });
        let written = written.await;
        drop(caller);
        written
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        let scope = scope.clone();
        self.call(move |store| store.runtime().wait(store.inner().claim(&scope))).await
    }

    fn changes(&self) -> Option<ChangeStream> {
        self.0.inner().changes()
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        let name = name.to_owned();
        self.call(move |store| store.mark(&name)).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        let name = name.to_owned();
        self.call(move |store| store.set_mark(&name, value)).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.call(move |store| store.mark_names(&prefix)).await
    }

    async fn flush(&self) -> Result<()> {
        self.call(BlockingStore::flush).await
    }

    async fn close(&self) -> Result<()> {
        self.call(BlockingStore::close).await
    }
}

/// Stores that are opened by the blocking API in folders of their own.
struct Blocking {
    runtime: Runtime,
    open: fn(&Runtime, &Path) -> Result<Arc<dyn Store>>,
    folder: TempDir,
    store: Through,
}

struct Folder {
    runtime: Runtime,
    open: fn(&Runtime, &Path) -> Result<Arc<dyn Store>>,
    files: TempDir,
}

fn opened(
    runtime: &Runtime,
    open: fn(&Runtime, &Path) -> Result<Arc<dyn Store>>,
    folder: &Path,
) -> Result<Through> {
    Ok(Through(BlockingStore::new(open(runtime, folder)?, runtime.clone())))
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let (runtime, open, folder) = (self.runtime.clone(), self.open, self.files.path().to_owned());
        let store = spawn_blocking(move || opened(&runtime, open, &folder)).await.expect("no panic")?;
        Ok(Arc::new(store))
    }
}

#[async_trait]
impl Factory for Blocking {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        let files = tempfile::tempdir().ok()?;
        Some(Arc::new(Folder { runtime: self.runtime.clone(), open: self.open, files }))
    }
}

fn run(open: fn(&Runtime, &Path) -> Result<Arc<dyn Store>>) {
    let runtime = Runtime::new().expect("starts");
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&runtime, open, folder.path()).expect("opens");
    let factory = Blocking { runtime, open, folder, store };
    assert!(factory.folder.path().is_dir(), "it lasts as long as the store");
    let suite = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let report = suite.expect("starts").block_on(tiered_conformance::run(factory, RunOptions::new()));
    assert!(report.is_ok(), "{report}");
    assert!(report.passed() >= 140, "{} passed: {report}", report.passed());
}

#[test]
fn an_embedded_store_passes_the_suite_through_the_blocking_api() {
    run(|runtime, folder| {
        let url = format!("redb:{}?durability=buffer&max_value=4MiB", folder.join("store").display());
        Ok(runtime.open(&url, Create::IfAbsent)?.into_inner())
    });
}

#[test]
fn a_tiered_store_passes_the_suite_through_the_blocking_api() {
    run(|runtime, folder| {
        let url = format!("redb:{}?durability=buffer&max_value=4MiB", folder.join("store").display());
        let frontend = runtime.open("moka:?capacity=256MiB&max_value=4MiB", Create::IfAbsent)?;
        let backend = runtime.open(&url, Create::IfAbsent)?;
        let builder = TieredStore::builder(frontend.into_inner(), backend.into_inner());
        Ok(Arc::new(runtime.wait(builder.build())?))
    });
}
