//! The store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase as _};
use tiered_core::store::{check_mark, closed};
use tiered_core::{
    Action, Applied, Atomicity, Batch, BatchOutcomes, Capabilities, Delete, Deleted, Durability, Error,
    ErrorKind, Feature, Key, ListOptions, ListStream, Metadata, Operation, Outcome, Put, Read, ReadOptions,
    Result, Sharing, Stamp, Store, Timestamp, Written, store,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::codec::{CHUNKS, MARKS, META, read_record, read_value};
use crate::config::{RedbConfig, RedbDurability};
use crate::create::{self, contained};
use crate::error::map;
use crate::list;
use crate::writer::{self, Request};

const NAME: &str = "redb";

/// Reads at a time: redb's calls block, and more threads than this only wait for the same disk.
const READERS: usize = 16;

/// A store in one redb file. Cloning shares it.
#[derive(Clone)]
pub struct RedbStore(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    requests: mpsc::UnboundedSender<Request>,
    readers: Semaphore,
}

/// What readers and the writer share.
pub(crate) struct Shared {
    config: RedbConfig,
    pub(crate) durability: RedbDurability,
    pub(crate) stamp: Stamp,
    /// `None` when closed, or between a failure and the next use.
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.0.shared.config.path)
            .field("capabilities", &self.0.capabilities)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Runs `use_it` on the open database; opens it anew where a failure has closed it.
    pub(crate) fn with_database<T>(&self, use_it: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        {
            let database = self.database.read();
            if let Some(database) = database.as_ref() {
                return use_it(database);
            }
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed; open it again")
                .outcome_is(Outcome::NotApplied));
        }
        {
            let mut database = self.database.write();
            if database.is_none() {
                let opened =
                    create::open(&self.config).map_err(|error| error.outcome_is(Outcome::NotApplied))?;
                tracing::warn!(path = %self.config.path.display(), "opened the database anew after a failure");
                *database = Some(opened);
            }
        }
        match self.database.read().as_ref() {
            Some(database) => use_it(database),
            None => Err(Error::new(ErrorKind::Unavailable, "the database is being closed")
                .outcome_is(Outcome::NotApplied)),
        }
    }

    /// redb refuses everything after a failed disk operation: the next use opens the file anew.
    pub(crate) fn after_failure(&self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Full) {
            self.release();
        }
    }

    /// Closes the file.
    pub(crate) fn release(&self) {
        let database = self.database.write().take();
        if let Some(database) = database
            && let Err(error) = database.close()
        {
            tracing::warn!(%error, "the database was not closed cleanly; it is checked on the next opening");
        }
    }
}

impl RedbStore {
    pub(crate) async fn open(config: RedbConfig) -> Result<Self> {
        let failed = |error: Error| error.during(Operation::Open).in_tier(NAME);
        let opening = config.clone();
        let database = blocking(move || create::open(&opening)).await.map_err(failed)?;
        let durability = match config.durability {
            RedbDurability::Sync => Durability::PowerLoss,
            RedbDurability::Buffer => Durability::CleanClose,
        };
        let features = [
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
        ];
        let capabilities = features
            .into_iter()
            .fold(Capabilities::new(NAME, durability, Sharing::Exclusive), Capabilities::with)
            .max_value(config.max_value);
        let shared = Arc::new(Shared {
            durability: config.durability,
            stamp: config.stamp.clone(),
            config,
            database: RwLock::new(Some(database)),
            closed: AtomicBool::new(false),
        });
        let (requests, receiver) = mpsc::unbounded_channel();
        let writing = Arc::clone(&shared);
        // Not a task: a commit blocks for as long as the disk takes, and dropping the runtime must not wait for it.
        std::thread::Builder::new()
            .name("tiered-redb".to_owned())
            .spawn(move || writer::run(&writing, receiver))
            .map_err(|error| failed(crate::error::map_io(error)))?;
        Ok(Self(Arc::new(Inner { shared, capabilities, requests, readers: Semaphore::new(READERS) })))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.shared.stamp.now()
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.0.shared.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier(NAME));
        }
        Ok(())
    }

    /// Runs a read on a thread for blocking work.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        read: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_open(operation)?;
        let failed = |error: Error| error.during(operation).in_tier(NAME);
        let Ok(_permit) = self.0.readers.acquire().await else { return Err(failed(closed(operation))) };
        let shared = Arc::clone(&self.0.shared);
        let result = blocking(move || {
            let result = shared.with_database(|database| contained(|| read(database)));
            if let Err(error) = &result {
                shared.after_failure(error);
            }
            result
        });
        result.await.map_err(failed)
    }

    async fn ask<T>(
        &self,
        operation: Operation,
        make: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        self.check_open(operation)?;
        let (reply, answer) = oneshot::channel();
        let gone = |outcome| closed(operation).outcome_is(outcome).in_tier(NAME);
        self.0.requests.send(make(reply)).map_err(|_| gone(Outcome::NotApplied))?;
        // The writer answers every request, or drops those of a failed transaction, which left no trace.
        let answered = answer.await.map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the transaction failed; try again")
                .outcome_is(Outcome::NotApplied)
        });
        answered.and_then(|answer| answer).map_err(|error| error.during(operation).in_tier(NAME))
    }

    fn check(&self, key: &Key, action: &Action) -> Result<()> {
        self.0.capabilities.check_key(key)?;
        match action {
            Action::Put(put) => self.0.capabilities.check_value(put.value.len() as u64),
            Action::Delete(_) => Ok(()),
        }
    }

    async fn apply_one(&self, operation: Operation, key: &Key, action: Action) -> Result<Option<Applied>> {
        let run = async {
            self.check_open(operation)?;
            self.check(key, &action)?;
            let operations = vec![(key.clone(), action)];
            let outcomes = self.ask(operation, |reply| Request::Apply(operations, reply)).await?;
            outcomes.into_iter().next().transpose()
        };
        run.await.map_err(|error| error.during(operation).in_tier(NAME).for_key(key))
    }
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let task = tokio::runtime::Handle::current().spawn_blocking(run);
    task.await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Other, "a blocking call was lost").with_source(error))
    })
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Other, "the writer gave another answer than was asked for")
        .outcome_is(Outcome::Unknown)
}

#[async_trait]
impl Store for RedbStore {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let mut reads =
            self.get_many(std::slice::from_ref(key), options).await.map_err(|error| error.for_key(key))?;
        reads.pop().ok_or_else(unexpected)
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        match self.apply_one(Operation::Put, key, Action::Put(put)).await? {
            Some(Applied::Put(written)) => Ok(written),
            _ => Err(unexpected()),
        }
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        match self.apply_one(Operation::Delete, key, Action::Delete(delete)).await? {
            Some(Applied::Delete(deleted)) => Ok(deleted),
            _ => Err(unexpected()),
        }
    }

    fn list(&self, options: ListOptions) -> ListStream {
        list::list(self.clone(), options)
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let (owned, tombstones, now) = (key.clone(), options.tombstones, self.now());
        let record = self.read(Operation::Load, move |database| {
            let transaction = database.begin_read().map_err(map)?;
            read_record(&transaction.open_table(META).map_err(map)?, &owned)
        });
        let record = record.await.map_err(|error| error.for_key(key))?;
        Ok(record
            .filter(|record| record.metadata.is_visible(now, tombstones))
            .map(|record| Arc::new(record.metadata)))
    }

    /// All keys on one snapshot.
    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Read>> {
        let (keys, options, now) = (keys.to_vec(), options.clone(), self.now());
        self.read(Operation::Load, move |database| {
            let transaction = database.begin_read().map_err(map)?;
            let meta = transaction.open_table(META).map_err(map)?;
            let chunks = transaction.open_table(CHUNKS).map_err(map)?;
            let read = |key: &Key| -> Result<Read> {
                let record = read_record(&meta, key)?;
                let Some(record) = record.filter(|r| r.metadata.is_visible(now, options.tombstones)) else {
                    return Ok(Read::from_store(tiered_core::Lookup::Absent));
                };
                if options.unless.as_ref().is_some_and(|known| known.version == record.metadata.version) {
                    return Ok(Read::from_store(tiered_core::Lookup::Unchanged));
                }
                let entry = read_value(&chunks, key, &record, options.range.as_ref())?;
                Ok(Read::from_store(tiered_core::Lookup::Found(entry)))
            };
            keys.iter().map(|key| read(key).map_err(|error| error.for_key(key))).collect()
        })
        .await
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        // Always atomic, whatever was asked for.
        let (Atomicity::Required | Atomicity::BestEffort) = batch.atomicity();
        self.check_open(Operation::Apply)?;
        for (key, action) in batch.operations() {
            self.check(key, action)
                .map_err(|error| error.during(Operation::Apply).in_tier(NAME).for_key(key))?;
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(Operation::Apply, |reply| Request::Apply(batch.into_operations(), reply)).await
    }

    /// Part by part, each read on its own: the value must not be replaced meanwhile.
    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, store::ByteStream)>> {
        /// Bytes of a part: what is in memory at a time.
        const PART: u64 = 1 << 20;
        let Some(metadata) = self.head(key, options).await? else { return Ok(None) };
        let range = match &options.range {
            Some(range) => tiered_core::clamp_range(range, metadata.size)
                .map_err(|error| error.during(Operation::Load).in_tier(NAME).for_key(key))?,
            None => 0..metadata.size,
        };
        let state = (self.clone(), key.clone(), Arc::clone(&metadata), range, false);
        let body = futures_util::stream::unfold(state, |(store, key, metadata, range, failed)| async move {
            if range.is_empty() || failed {
                return None;
            }
            let part = range.start..range.end.min(range.start + PART);
            let rest = part.end..range.end;
            let options = ReadOptions::new().range(part).tombstones(tiered_core::Tombstones::Show);
            let read = match store.load(&key, &options).await.map(Read::into_entry) {
                Ok(Some(entry)) if *entry.version() == metadata.version => Ok(entry.into_value()),
                Ok(_) => Err(Error::new(
                    ErrorKind::Unavailable,
                    "the value was replaced while it was read; read it again",
                )
                .during(Operation::Load)
                .in_tier(NAME)
                .for_key(&key)),
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            Some((read, (store, key, metadata, rest, failed)))
        });
        Ok(Some((metadata, Box::pin(body))))
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        check_mark(name, None)?;
        let name = name.to_owned();
        self.read(Operation::Mark, move |database| {
            let transaction = database.begin_read().map_err(map)?;
            let marks = transaction.open_table(MARKS).map_err(map)?;
            let mark = marks.get(name.as_str()).map_err(map)?;
            Ok(mark.map(|mark| Bytes::copy_from_slice(mark.value())))
        })
        .await
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        check_mark(name, value.as_ref())?;
        self.ask(Operation::Mark, |reply| Request::Mark(name.to_owned(), value, reply)).await
    }

    async fn flush(&self) -> Result<()> {
        self.ask(Operation::Flush, Request::Flush).await
    }

    async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.0.shared.closed.swap(true, Ordering::AcqRel)
            || self.0.requests.send(Request::Close(reply)).is_err()
        {
            return Ok(());
        }
        match answer.await {
            Ok(closed) => closed.map_err(|error| error.during(Operation::Close).in_tier(NAME)),
            Err(_) => Ok(()),
        }
    }
}
