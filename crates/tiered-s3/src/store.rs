//! The store: what it declares, and how its methods are spread over this crate.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::{BatchOutcomes, ChangeStream, Claim, Reads, Scope, Stamp};
use tiered_core::adapter::{check_mark, closed};
use tiered_core::{
    Batch, ByteStream, Capabilities, Delete, Deleted, Durability, Error, ErrorKind, Feature, Key,
    ListOptions, ListStream, Metadata, Operation, Put, Read, ReadOptions, Result, Sharing, Slices, Store,
    Written, adapter,
};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::completion::Completion;
use crate::config::{BulkDelete, Conditional, Layout, S3Config};
use crate::error::{Failed, late, torn};
use crate::probe::{self, Abilities};

/// What objects of the store's own begin with, behind its prefix. Keys cannot.
pub(crate) const RESERVED: &str = ".tiered/";

/// Ranges that are at most so many bytes apart are one request: about what arrives in the time that one more takes.
const NEAR: u64 = 1 << 20;

/// How much longer than its timeout a request may still reach the server, on a way that delays it.
const ON_THE_WAY: Duration = Duration::from_secs(20);

/// A store in a bucket. Cloning it shares the connections.
///
/// # Durability
/// [`PowerLoss`](Durability::PowerLoss): the server answers when the object is kept.
///
/// # Cancel safety
/// A request that is dropped is cut off; a write may have taken effect. An upload in parts is aborted.
#[derive(Clone)]
pub struct S3Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) layout: Layout,
    pub(crate) multipart: u64,
    pub(crate) capabilities: Capabilities,
    pub(crate) stamp: Stamp,
    pub(crate) runtime: Handle,
    pub(crate) config_bulk: BulkDelete,
    /// The way of deleting in bulk that the server turned out to know.
    pub(crate) bulk: AtomicU8,
    /// What the server keeps of conditions of uploads, once that was probed.
    pub(crate) completion: OnceCell<Completion>,
    place: String,
    closed: AtomicBool,
}

impl Inner {
    pub(crate) fn bulk_delete(&self) -> BulkDelete {
        match self.bulk.load(Ordering::Relaxed) {
            way if way == BulkDelete::Md5 as u8 => BulkDelete::Md5,
            way if way == BulkDelete::Single as u8 => BulkDelete::Single,
            _ => BulkDelete::Crc,
        }
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("place", &self.0.place)
            .field("layout", &self.0.layout)
            .field("capabilities", &self.0.capabilities)
            .finish_non_exhaustive()
    }
}

impl S3Store {
    pub(crate) async fn open(config: S3Config, client: Client) -> Result<Self> {
        let create = config.create;
        probe::bucket(&client).await?;
        let store = Self::reached(config, client).await?;
        store.settle(create).await?;
        Ok(store)
    }

    /// A store in a bucket that was reached, whatever is in it.
    pub(crate) async fn reached(config: S3Config, client: Client) -> Result<Self> {
        let place = config.place();
        let abilities = match config.conditional {
            Conditional::Probe => probe::probe(&client, config.stamp.versions()).await?,
            Conditional::Off => Abilities::default(),
        };
        let mut capabilities = Capabilities::new("s3", Durability::PowerLoss, Sharing::Shared)
            .with(Feature::KeepsMetadata)
            .with(Feature::KeepsMarks)
            .with_max_key(Key::MAX_LEN - config.prefix.len())
            .with_max_value(config.max_value)
            .with_request_lifetime(config.timeout.saturating_add(ON_THE_WAY));
        for (feature, has) in [
            (Feature::ConditionalPut, abilities.conditional_put),
            (Feature::ConditionalDelete, abilities.conditional_delete),
            (Feature::UniqueValidators, config.layout == Layout::Enveloped),
        ] {
            if has {
                capabilities = capabilities.with(feature);
            }
        }
        Ok(Self(Arc::new(Inner {
            client,
            layout: config.layout,
            multipart: config.multipart,
            capabilities,
            stamp: config.stamp,
            runtime: Handle::current(),
            config_bulk: config.bulk_delete,
            bulk: AtomicU8::new(config.bulk_delete as u8),
            completion: OnceCell::new(),
            place,
            closed: AtomicBool::new(false),
        })))
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier(self.0.capabilities.name()));
        }
        Ok(())
    }

    pub(crate) fn check_key(&self, key: &Key) -> Result<()> {
        if key.as_str().starts_with(RESERVED) {
            let message = "keys that begin with .tiered/ are reserved in this store; use another key";
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        self.0.capabilities.check_key(key)
    }

    pub(crate) fn failed(&self, error: Error, operation: Operation) -> Error {
        error.during(operation).in_tier(self.0.capabilities.name())
    }

    fn mark_name(&self, name: &str) -> String {
        format!("{}{RESERVED}marks/{name}", self.0.client.prefix)
    }

    async fn read_mark(&self, name: &str) -> Result<Option<Bytes>> {
        let (client, name) = (&self.0.client, self.mark_name(name));
        let got = client.repeat(|| async {
            let request = client.s3.get_object().bucket(&client.bucket).key(&name);
            let answer = client.once(0, request.send()).await?;
            let collected = tokio::time::timeout(client.timeout, answer.body.collect()).await;
            let collected = collected.map_err(|_| Failed::Error(late(true)))?;
            let collected = collected.map(aws_sdk_s3::primitives::AggregatedBytes::into_bytes);
            collected.map_err(|error| Failed::Torn(torn(error)))
        });
        match got.await {
            Ok(value) => Ok(Some(value)),
            Err(Failed::Missing) => Ok(None),
            Err(failed) => Err(failed.into_error()),
        }
    }

    /// Page by page. A mark's name has no character that a listing escapes.
    async fn list_marks(&self, prefix: &str) -> Result<Vec<String>> {
        let client = &self.0.client;
        let (all, wanted) = (self.mark_name(""), self.mark_name(prefix));
        let (mut names, mut token): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let answer = client.repeat(|| {
                let request = client.s3.list_objects_v2().bucket(&client.bucket).prefix(&wanted);
                client.once(0, request.set_continuation_token(token.clone()).send())
            });
            let answer = answer.await.map_err(Failed::into_error)?;
            let found = answer.contents().iter().filter_map(|object| object.key()?.strip_prefix(&all));
            names.extend(found.map(str::to_owned));
            token = answer.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                // Whatever order the server has.
                names.sort_unstable();
                return Ok(names);
            }
        }
    }

    pub(crate) async fn write_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        let (client, name) = (&self.0.client, self.mark_name(name));
        let written = match value {
            Some(value) => {
                let request = client.s3.put_object().bucket(&client.bucket).key(&name);
                client.once(0, request.body(value.into()).send()).await.map(drop)
            }
            None => client
                .once(0, client.s3.delete_object().bucket(&client.bucket).key(&name).send())
                .await
                .map(drop),
        };
        match written {
            Ok(()) | Err(Failed::Missing) => Ok(()),
            Err(failed) => Err(failed.into_error()),
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "each method is what S3 does best, or none is provided")]
#[async_trait]
impl Store for S3Store {
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

    async fn head(&self, key: &Key, _options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        self.head_entry(key).await.map_err(|error| self.failed(error, Operation::Load).for_key(key))
    }

    async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        self.load_many(keys, options).await
    }

    async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.load_entry(key, &options).await };
        let read = adapter::load_ranges(ranges, options, NEAR, load).await;
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
        None
    }

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        check_mark(name, None)?;
        self.check_open(Operation::Mark)?;
        self.read_mark(name).await.map_err(|error| self.failed(error, Operation::Mark))
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
        // An answered request is kept.
        self.check_open(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        self.0.closed.store(true, Ordering::Release);
        Ok(())
    }
}
