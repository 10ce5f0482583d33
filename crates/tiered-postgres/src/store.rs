//! The store: what it declares, and how its methods are spread over this crate.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope, Stamp};
use tiered_core::adapter::{check_mark, closed};
use tiered_core::{
    Batch, ByteStream, Capabilities, Delete, Deleted, Error, Feature, Key, ListOptions, ListStream, Metadata,
    Operation, Put, Read, ReadOptions, Result, Sharing, Slices, Store, Written, adapter,
};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::config::PostgresConfig;
use crate::schema::{self, Names};
use crate::sql::{Prepared, Statements};
use crate::{feed, sweep};

/// A store in a table of Postgres. Cloning it shares the connections.
///
/// # Durability
/// As the server's: [`PowerLoss`](tiered_core::Durability::PowerLoss) with `fsync` and `synchronous_commit` on, as
/// they are by default, [`ProcessKill`](tiered_core::Durability::ProcessKill) otherwise.
///
/// # Cancel safety
/// A call that is dropped leaves its statement to run to its end in a task; the connection is then given back.
#[derive(Clone)]
pub struct PostgresStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) statements: Statements,
    pub(crate) capabilities: Capabilities,
    pub(crate) stamp: Stamp,
    pub(crate) config: PostgresConfig,
    /// The channel of announcements, where writes are announced.
    pub(crate) channel: Option<String>,
    pub(crate) closed: AtomicBool,
    /// Cancelled when the store is closed or its last handle is dropped.
    pub(crate) leaving: CancellationToken,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("place", &self.0.config.place())
            .field("capabilities", &self.0.capabilities)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.leaving.cancel();
    }
}

impl PostgresStore {
    pub(crate) async fn open(config: PostgresConfig) -> Result<Self> {
        let names = Names::of(&config);
        let client = Client::new(&config)?;
        let durability = schema::inspect(&client, config.limits()).await?;
        schema::prepare(&client, &names, config.create).await?;
        client.opened();
        let mut capabilities = [
            Feature::ConditionalPut,
            Feature::ConditionalDelete,
            Feature::AtomicBatch,
            Feature::KeepsMetadata,
            Feature::KeepsNotes,
            Feature::KeepsMarks,
            Feature::ListsMetadata,
            Feature::ListsExpiry,
            Feature::UniqueValidators,
        ]
        .into_iter()
        .fold(Capabilities::new("postgres", durability, Sharing::Shared), Capabilities::with)
        .with_max_value(config.max_value)
        .with_request_lifetime(Client::request_lifetime(config.timeout));
        if config.has_feed() {
            capabilities = capabilities.with(Feature::Changes);
        }
        let prepared = if config.is_pooled() { Prepared::Unnamed } else { Prepared::Kept };
        let inner = Arc::new(Inner {
            client,
            statements: Statements::new(&names, config.has_feed(), prepared),
            capabilities,
            stamp: config.stamp.clone(),
            channel: config.has_feed().then(|| config.channel()),
            closed: AtomicBool::new(false),
            leaving: CancellationToken::new(),
            config,
        });
        if let Some(every) = inner.config.sweep {
            sweep::start(&inner, every);
        }
        Ok(Self(inner))
    }

    /// Removes expired rows now, as the background task does periodically; returns their number. Values in chunks are
    /// removed as well that were replaced or deleted a minute ago, or whose upload has given no sign for longer than it
    /// may.
    ///
    /// # Errors
    /// The server's.
    ///
    /// # Cancel safety
    /// Dropping it leaves some of them for later.
    pub async fn sweep(&self) -> Result<u64> {
        self.check_open(Operation::Delete)?;
        sweep::sweep(&self.0).await.map_err(|error| self.failed(error, Operation::Delete))
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier(self.0.capabilities.name()));
        }
        Ok(())
    }

    pub(crate) fn failed(&self, error: Error, operation: Operation) -> Error {
        error.during(operation).in_tier(self.0.capabilities.name())
    }
}

#[deny(clippy::missing_trait_methods, reason = "each method is one statement, or none is provided")]
#[async_trait]
impl Store for PostgresStore {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.load_entry(key, options).await.map_err(|error| self.failed(error, Operation::Load).for_key(key))
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.put_entry(key, &put).await.map_err(|error| self.failed(error, Operation::Put).for_key(key))
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.delete_entry(key, &delete)
            .await
            .map_err(|error| self.failed(error, Operation::Delete).for_key(key))
    }

    fn list(&self, options: ListOptions) -> ListStream {
        self.list_entries(options)
    }

    fn peek(&self, _key: &Key) -> Option<tiered_core::Entry> {
        None
    }

    fn peek_hidden(&self, _key: &Key) -> Option<tiered_core::Entry> {
        None
    }

    async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.head_entry(key, options).await.map_err(|error| self.failed(error, Operation::Load).for_key(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads =
            self.load_many(keys, options).await.unwrap_or_else(|error| adapter::all_failed(keys, &error));
        reads.into_iter().map(|read| read.map_err(|error| self.failed(error, Operation::LoadMany))).collect()
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let read = self.load_slices(key, ranges, options).await;
        read.map_err(|error| self.failed(error, Operation::Load).for_key(key))
    }

    async fn apply(&self, batch: Batch) -> Result<BatchOutcomes> {
        self.apply_batch(batch).await.map_err(|error| self.failed(error, Operation::Apply))
    }

    async fn read_stream(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.stream_entry(key, options)
            .await
            .map_err(|error| self.failed(error, Operation::Load).for_key(key))
    }

    async fn put_stream(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        self.put_streamed(key, put, body)
            .await
            .map_err(|error| self.failed(error, Operation::Put).for_key(key))
    }

    async fn claim(&self, _scope: &Scope) -> Result<Claim> {
        // The store is shared: every claim is granted.
        Ok(Claim::shared())
    }

    fn changes(&self) -> Option<ChangeStream> {
        feed::changes(&self.0)
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        check_mark(name, None)?;
        self.check_open(Operation::Mark)?;
        self.get_mark(name).await.map_err(|error| self.failed(error, Operation::Mark))
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        check_mark(name, value.as_ref())?;
        self.check_open(Operation::Mark)?;
        self.write_mark(name, value).await.map_err(|error| self.failed(error, Operation::Mark))
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.check_open(Operation::Mark)?;
        self.list_marks(prefix).await.map_err(|error| self.failed(error, Operation::Mark))
    }

    async fn flush(&self) -> Result<()> {
        // A statement that returned is committed.
        self.check_open(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        if !self.0.closed.swap(true, Ordering::AcqRel) {
            self.0.leaving.cancel();
            self.0.client.close();
        }
        Ok(())
    }
}
