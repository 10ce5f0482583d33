//! The store over an embedded engine.

use std::fmt;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::{BatchOutcomes, Claim, Claims, Reads, Scope, check_mark, closed};
use tiered_core::{
    Action, Applied, Atomicity, Batch, ByteStream, Capabilities, Delete, Deleted, Error, ErrorKind, Feature,
    Key, ListOptions, ListStream, Lookup, Metadata, Operation, Outcome, Put, Read, ReadOptions, Result,
    Sharing, Slices, Store, Timestamp, Written,
};
use tokio::sync::{Semaphore, oneshot};

use crate::access::Access;
use crate::answer::{answer, head_of, mark_of, slices};
use crate::bound::{self, Usage};
use crate::engine::{Engine, Opening, Table, View};
use crate::inline::{Inlining, LARGEST};
use crate::layout::{chunk_bytes, read_record};
use crate::list;
use crate::reading::{self, READERS};
use crate::request::{Judging, Request};
use crate::settings::{Executor, Settings};
use crate::shared::Shared;
use crate::writer::Writer;

/// How long dropping a store waits for its engine: long enough for a last commit and its closing, not for a hanging
/// disk.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// A store over an embedded engine. Cloning shares it.
///
/// [`close`](Store::close) says whether everything is on disk. Without it, dropping the last clone closes the engine and
/// blocks until that is done, at most 10 s: an engine whose threads still run while the process ends may abort it.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    name: &'static str,
    shared: Arc<Shared>,
    capabilities: Capabilities,
    writing: Writing,
    inlining: Inlining,
    readers: Semaphore,
    claims: Claims,
}

/// How writes reach the engine.
enum Writing {
    Thread(WriterThread),
    Inline(Writer),
}

/// The writer's thread, which closes the engine once the last sender is dropped. Both exist until the store is dropped.
struct WriterThread {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.leave();
        match &mut self.writing {
            Writing::Thread(writer) => {
                drop(writer.requests.take());
                // A stuck thread is not waited for.
                if self.shared.wait_for_end(LAST_COMMIT) {
                    writer.thread.take().map(JoinHandle::join);
                }
            }
            Writing::Inline(_) => self.shared.end(),
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("place", &self.0.shared.place)
            .field("capabilities", &self.0.capabilities)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens a store. `open` opens the engine, now and again after each failure of the disk.
    ///
    /// # Errors
    /// Those of `open`; [`ErrorKind::Config`] outside a tokio runtime, unless the executor is [`Executor::Inline`].
    ///
    /// # Cancel safety
    /// If dropped, the engine is opened and closed again.
    pub async fn open(
        settings: Settings,
        open: impl Fn(Opening) -> Result<Box<dyn Engine>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let Settings { name, durability, executor, reads, capacity, .. } = settings;
        let max_value = settings.max_value.min(capacity.map_or(u64::MAX, bound::largest));
        let failed = move |error: Error| error.during(Operation::Open).in_tier(name);
        let opening = move || Shared::new(settings, Box::new(open)).map(Arc::new);
        let shared = match executor {
            Executor::Threads => reading::blocking(opening).await,
            Executor::Inline => opening(),
        };
        let shared = shared.map_err(failed)?;
        let writing = match executor {
            Executor::Threads => Writing::Thread(start_writer(name, &shared).map_err(failed)?),
            Executor::Inline => {
                let writer = Writer::default();
                writer.reclaim_all(&shared);
                Writing::Inline(writer)
            }
        };
        let capabilities = [
            Feature::ConditionalPut,
            Feature::ConditionalDelete,
            Feature::AtomicBatch,
            Feature::KeepsMetadata,
            Feature::KeepsNotes,
            Feature::KeepsMarks,
            Feature::ListsMetadata,
            Feature::ListsExpiry,
            Feature::UniqueValidators,
            Feature::DetectsCorruption,
        ]
        .into_iter()
        .fold(Capabilities::new(name, durability, Sharing::Exclusive), Capabilities::with)
        .with_max_value(max_value);
        let capabilities = if shared.evicts { capabilities.with(Feature::Evicts) } else { capabilities };
        Ok(Self(Arc::new(Inner {
            name,
            shared,
            capabilities,
            writing,
            inlining: Inlining::new(reads),
            readers: Semaphore::new(READERS),
            claims: Claims::new(),
        })))
    }

    /// What it holds, and what has left it since it was opened; `None` for a store without a
    /// [capacity](Settings::capacity).
    ///
    /// # Examples
    /// ```no_run
    /// # fn watch(store: &tiered_embedded::EmbeddedStore) {
    /// if let Some(usage) = store.usage() {
    ///     println!("{} of {} bytes, {} evictions", usage.bytes, usage.capacity, usage.evictions);
    /// }
    /// # }
    /// ```
    pub fn usage(&self) -> Option<Usage> {
        self.0.shared.bound.as_ref().map(bound::Bound::usage)
    }

    /// An entry was used, if this read found it.
    pub(crate) fn note_use<T>(&self, key: &Key, read: &Read<T>) {
        if matches!(read.lookup, Lookup::Found(_) | Lookup::Unchanged) {
            self.touch(key);
        }
    }

    /// An entry was used.
    pub(crate) fn touch(&self, key: &Key) {
        if let Some(bound) = &self.0.shared.bound {
            bound.touch(key);
        }
    }

    /// Lets the writer remove what can go, if there is something. Waits for nothing.
    pub(crate) fn reclaim_soon(&self) {
        if self.0.shared.access == Access::ReadOnly || !self.0.shared.values.has_work() {
            return;
        }
        match &self.0.writing {
            Writing::Thread(writer) => {
                if let Some(requests) = &writer.requests {
                    // A writer that has ended leaves it to the next opening.
                    requests.send(Request::Reclaim).ok();
                }
            }
            Writing::Inline(writer) => writer.commit_one(&self.0.shared, Request::Reclaim),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.shared.stamp.now()
    }

    /// An error, with what failed and where.
    pub(crate) fn failed(&self, operation: Operation, error: Error) -> Error {
        error.during(operation).in_tier(self.0.name)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn inlining(&self) -> &Inlining {
        &self.0.inlining
    }

    /// Limits the reads on threads.
    pub(crate) fn readers(&self) -> &Semaphore {
        &self.0.readers
    }

    /// Whether everything runs in the caller's poll.
    pub(crate) fn polls_inline(&self) -> bool {
        matches!(self.0.writing, Writing::Inline(_))
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.0.shared.is_closed() {
            return Err(closed(operation).in_tier(self.0.name));
        }
        Ok(())
    }

    pub(crate) async fn ask<T>(
        &self,
        operation: Operation,
        make: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        self.check_open(operation)?;
        let read_only = |error: Error| error.during(operation).in_tier(self.0.name);
        self.0.shared.access.check_write().map_err(read_only)?;
        self.request(operation, make).await
    }

    async fn request<T>(
        &self,
        operation: Operation,
        make: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = |outcome| closed(operation).outcome_is(outcome).in_tier(self.0.name);
        match &self.0.writing {
            Writing::Thread(writer) => {
                let requests = writer.requests.as_ref().ok_or_else(|| gone(Outcome::NotApplied))?;
                requests.send(make(reply)).map_err(|_| gone(Outcome::NotApplied))?;
            }
            Writing::Inline(writer) => writer.commit_one(&self.0.shared, make(reply)),
        }
        // The writer answers every request; a request that it never received had no effect.
        let answered = answer.await.map_err(|_| gone(Outcome::NotApplied));
        answered.and_then(|answer| answer).map_err(|error| error.during(operation).in_tier(self.0.name))
    }

    /// Reads one key, which does not count as its use.
    async fn load_unnoted(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let now = self.now();
        let here = self.read_here(Operation::Load, |view| {
            let record = read_record(view, key)?;
            let bytes = record.as_ref().map_or(0, |record| chunk_bytes(key, record, options.range.as_ref()));
            if bytes > LARGEST {
                return Ok(None);
            }
            answer(view, key, record, options, now).map(Some)
        });
        if let Some(read) = here.await.map_err(|error| error.for_key(key))? {
            return Ok(read);
        }
        let (owned, options) = (key.clone(), options.clone());
        let read = self.read(Operation::Load, move |view| {
            answer(view, &owned, read_record(view, &owned)?, &options, now)
        });
        read.await.map_err(|error| error.for_key(key))
    }

    async fn apply_one(&self, operation: Operation, key: &Key, action: Action) -> Result<Applied> {
        let run = async {
            self.check_open(operation)?;
            self.0.capabilities.check_action(key, &action)?;
            let operations = vec![(key.clone(), action)];
            let apply = |reply| Request::Apply(operations, Judging::Together, reply);
            let outcomes = self.ask(operation, apply).await?;
            outcomes.into_iter().next().unwrap_or_else(|| Err(unexpected()))
        };
        run.await.map_err(|error| error.during(operation).in_tier(self.0.name).for_key(key))
    }
}

fn start_writer(name: &str, shared: &Arc<Shared>) -> Result<WriterThread> {
    let (requests, receiver) = mpsc::channel();
    let ending = Ending(Arc::clone(shared));
    // A thread and not a task: it lives as long as the store, and dropping the runtime would wait for a task.
    let thread = thread::Builder::new()
        .name(format!("tiered-{name}"))
        .spawn(move || {
            let Ending(shared) = &ending;
            Writer::default().run(shared, receiver);
        })
        .map_err(|error| {
            Error::new(ErrorKind::Unavailable, "no thread could be started").with_source(error)
        })?;
    Ok(WriterThread { requests: Some(requests), thread: Some(thread) })
}

/// Closes the engine when the writer ends, even by a panic.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Other, "the writer gave another answer than was asked for")
        .outcome_is(Outcome::Unknown)
}

#[async_trait]
impl Store for EmbeddedStore {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let read = self.load_unnoted(key, options).await?;
        self.note_use(key, &read);
        Ok(read)
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        match self.apply_one(Operation::Put, key, Action::Put(put)).await? {
            Applied::Put(written) => Ok(written),
            Applied::Delete(_) => Err(unexpected()),
        }
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        match self.apply_one(Operation::Delete, key, Action::Delete(delete)).await? {
            Applied::Delete(deleted) => Ok(deleted),
            Applied::Put(_) => Err(unexpected()),
        }
    }

    fn list(&self, options: ListOptions) -> ListStream {
        list::list(self.clone(), options)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let now = self.now();
        let here = self.read_here(Operation::Load, |view| head_of(view, key, options, now).map(Some));
        if let Some(found) = here.await.map_err(|error| error.for_key(key))? {
            return Ok(found);
        }
        let (owned, options) = (key.clone(), options.clone());
        let head = self.read(Operation::Load, move |view| head_of(view, &owned, &options, now));
        head.await.map_err(|error| error.for_key(key))
    }

    /// Many keys are read in pieces, each on one view.
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads = self.read_many(keys, options).await;
        for (key, read) in keys.iter().zip(&reads) {
            if let Ok(read) = read {
                self.note_use(key, read);
            }
        }
        reads
    }

    /// All ranges on one view.
    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let (owned, now) = (key.clone(), self.now());
        let (wanted, ranges, options) = (ranges, ranges.to_vec(), options.clone());
        let answer = move |view: &dyn View| slices(view, &owned, &ranges, &options, now);
        let asked = answer.clone();
        let here = self.read_here(Operation::Load, |view| {
            let bytes = read_record(view, key)?.map_or(0, |record| {
                let of = |range| chunk_bytes(key, &record, Some(range));
                wanted.iter().map(of).fold(0, u64::saturating_add)
            });
            if bytes > LARGEST { Ok(None) } else { asked(view).map(Some) }
        });
        if let Some(read) = here.await.map_err(|error| error.for_key(key))? {
            self.note_use(key, &read);
            return Ok(read);
        }
        let read = self.read(Operation::Load, answer).await.map_err(|error| error.for_key(key))?;
        self.note_use(key, &read);
        Ok(read)
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.check_open(Operation::Apply)?;
        let failed = |error: Error| error.during(Operation::Apply).in_tier(self.0.name);
        let check =
            |key: &Key, action: &Action| self.0.capabilities.check_action(key, action).map_err(failed);
        let (batch, refused) = batch.checked(check)?;
        if batch.is_empty() {
            return Ok(refused.among(Vec::new()));
        }
        // One transaction, whatever was asked for.
        let judging = match batch.atomicity() {
            Atomicity::Required | Atomicity::BestEffort => Judging::Together,
            Atomicity::PerItem => Judging::Alone,
        };
        let outcomes = self
            .ask(Operation::Apply, |reply| Request::Apply(batch.into_operations(), judging, reply))
            .await?;
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(failed)).collect();
        Ok(refused.among(outcomes))
    }

    /// Part by part. A value that is replaced meanwhile is read to its end; in a store with a capacity, where it makes room at
    /// once, the stream ends with [`ErrorKind::Unavailable`].
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.read_streamed(key, options).await
    }

    /// Part by part, without a sync; a small commit at the end makes an entry of them.
    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.put_streamed(key, put, body).await
    }

    async fn claim(&self, scope: &Scope) -> Result<Claim> {
        self.0.claims.claim(self.0.name, scope).await
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        check_mark(name, None)?;
        if let Some(mark) = self.read_here(Operation::Mark, |view| mark_of(view, name).map(Some)).await? {
            return Ok(mark);
        }
        let name = name.to_owned();
        self.read(Operation::Mark, move |view| mark_of(view, &name)).await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        check_mark(name, value.as_ref())?;
        self.ask(Operation::Mark, |reply| Request::Mark(name.to_owned(), value, reply)).await
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.as_bytes().to_vec();
        self.read(Operation::Mark, move |view| {
            let mut names = Vec::new();
            let end = tiered_core::adapter::prefix_end(&prefix);
            view.scan(Table::Marks, Bound::Included(&prefix), end.as_deref(), &mut |name, _| {
                if !bound::is_mark(name) {
                    return Ok(ControlFlow::Continue(()));
                }
                let name = std::str::from_utf8(name).map_err(|_| {
                    Error::new(ErrorKind::Corrupt, "the name of a mark is damaged; restore it from a backup")
                })?;
                names.push(name.to_owned());
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(names)
        })
        .await
    }

    async fn flush(&self) -> Result<()> {
        if self.0.shared.access == Access::ReadOnly {
            return self.check_open(Operation::Flush);
        }
        self.ask(Operation::Flush, Request::Flush).await
    }

    async fn close(&self) -> Result<()> {
        if !self.0.shared.begin_closing() {
            return Ok(());
        }
        match self.request(Operation::Close, Request::Close).await {
            // The writer had ended already.
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            closed => closed,
        }
    }
}
