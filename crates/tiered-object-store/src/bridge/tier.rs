//! An `ObjectStore` as a store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tiered_core::adapter::{self, Claim, Reads, Scope, Stamp, check_mark, closed};
use tiered_core::{
    ByteStream, Capabilities, Delete, Deleted, Error, ErrorKind, Feature, Key, ListOptions, ListStream,
    Metadata, Operation, Put, Read, ReadOptions, Result, Sharing, Slices, Store, Written,
};
use tokio::runtime::Handle;

use super::config::ObjectTierConfig;
use super::failure::Failed;
use super::object_store::path::Path;
use super::object_store::{ObjectStore, ObjectStoreExt as _, PutMode};
use super::place::MARKS;
use super::probe;
use crate::names::RESERVED;
use crate::{Conditional, Keys, Order};

/// Ranges that are at most so many bytes apart are one request.
const NEAR: u64 = 1 << 20;

/// An `ObjectStore` as a [`Store`]: a backend. Cloning it shares the object store.
///
/// * A key is a path: as it stands, where keys that are no path are [`ErrorKind::InvalidKey`], or [flat](Keys::Flat).
///   Objects below `.tiered/` are the tier's own.
/// * Where the object store keeps attributes, version, time, expiry, attributes and checksum of an entry stand in one of
///   them, `tiered`. Elsewhere, and for objects that other programs wrote, the e-tag is the version; then an entry can have
///   neither an expiry nor attributes.
/// * Where no attributes are kept, an e-tag may come back with other bytes (that of a file is made of its time and size). Such
///   a tier declares [`Feature::RepeatsVersions`], and a stack keeps no blocks of its large values.
/// * Conditional writes are declared where the object store turned out to judge them. There are no conditional deletes in
///   the trait.
/// * A write whose answer was lost is looked for by its version, where attributes are kept.
/// * Listings are in the order of bytes: checked, or [sorted](Order::Sorted).
///
/// # Durability
/// As [configured](ObjectTierConfig::durability).
///
/// # Cancel safety
/// A write that is dropped may have taken effect, or yet take effect.
///
/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt, TieredStore};
/// use tiered_object_store::v0_14::ObjectTierConfig;
/// use tiered_object_store::v0_14::object_store::memory::InMemory;
///
/// let backend = ObjectTierConfig::new(InMemory::new()).open().await?;
/// let store = TieredStore::builder(MemoryStore::new(), backend).build().await?;
/// store.set("users/42", "Ada").await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct ObjectTier(Arc<Inner>);

struct Inner {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    order: Order,
    keys: Keys,
    capabilities: Capabilities,
    stamp: Stamp,
    runtime: Handle,
    closed: AtomicBool,
}

impl fmt::Debug for ObjectTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTier")
            .field("objects", &format_args!("{}", self.0.objects))
            .field("prefix", &self.0.prefix)
            .field("capabilities", &self.0.capabilities)
            .finish_non_exhaustive()
    }
}

/// The path of this text, where it is one as it stands.
pub(super) fn whole(text: &str) -> Option<Path> {
    Path::parse(text).ok().filter(|path| path.as_ref() == text)
}

impl ObjectTier {
    pub(super) async fn open(config: ObjectTierConfig, runtime: Handle) -> Result<Self> {
        let name = format!("{}{RESERVED}probe-{}", config.prefix, config.stamp.versions().mint());
        let path = Path::parse(name)
            .map_err(|error| Failed::from(super::object_store::Error::from(error)).into_error())?;
        let abilities =
            probe::probe(&config.objects, &path, config.conditional == Conditional::Probe).await?;
        let room = Key::MAX_LEN.saturating_sub(config.prefix.len()).max(1);
        let longest = match config.keys {
            Keys::Paths => room,
            Keys::Flat => room / 2,
        };
        let mut capabilities = Capabilities::new("object-store", config.durability, Sharing::Shared)
            .with(Feature::KeepsMarks)
            .with_max_key(config.max_key.min(longest))
            .with_max_value(config.max_value)
            .with_request_lifetime(config.request_lifetime);
        // Without attributes the version is an e-tag, which may be made of a time and a size.
        for (feature, has) in [
            (Feature::KeepsMetadata, abilities.attributes),
            (Feature::ConditionalPut, abilities.conditional),
            (Feature::RepeatsVersions, !abilities.attributes),
        ] {
            if has {
                capabilities = capabilities.with(feature);
            }
        }
        Ok(Self(Arc::new(Inner {
            objects: config.objects,
            prefix: config.prefix,
            order: config.order,
            keys: config.keys,
            capabilities,
            stamp: config.stamp,
            runtime,
            closed: AtomicBool::new(false),
        })))
    }

    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.0.objects
    }

    pub(super) fn order(&self) -> Order {
        self.0.order
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.0.stamp
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Whether the metadata of entries are kept.
    pub(super) fn keeps(&self) -> bool {
        self.0.capabilities.has(Feature::KeepsMetadata)
    }

    pub(super) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(closed(operation).in_tier(self.0.capabilities.name()));
        }
        Ok(())
    }

    pub(super) fn failed(&self, error: Error, operation: Operation) -> Error {
        error.during(operation).in_tier(self.0.capabilities.name())
    }

    /// The path of a key.
    pub(super) fn path(&self, key: &Key) -> Result<Path> {
        self.0.capabilities.check_key(key)?;
        if key.as_str().starts_with(RESERVED) {
            let message = "keys that begin with .tiered/ are reserved in this store; use another key";
            return Err(Error::new(ErrorKind::InvalidKey, message));
        }
        whole(&self.written(key.as_str())).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidKey,
                "the key is no path: it has an empty part, or one that is . or ..; use another key, or flat keys",
            )
        })
    }

    /// What a path begins with whose key begins with this.
    pub(super) fn written(&self, key: &str) -> String {
        format!("{}{}", self.0.prefix, self.0.keys.write(key))
    }

    /// The key of a path; `None` for what is no key of this store.
    pub(super) fn key(&self, path: &Path) -> Option<Key> {
        let text = path.as_ref().strip_prefix(&self.0.prefix)?;
        if text.starts_with(RESERVED) {
            return None;
        }
        Key::new(self.0.keys.read(text)?).ok()
    }

    /// The path of an object of the tier's own.
    fn own_path(&self, rest: &str) -> Result<Path, Failed> {
        let path = Path::parse(format!("{}{RESERVED}{rest}", self.0.prefix));
        path.map_err(|error| Failed::from(super::object_store::Error::from(error)))
    }

    async fn read_mark(&self, name: &str) -> Result<Option<Bytes>, Failed> {
        match self.0.objects.get(&self.own_path(&format!("{MARKS}{name}"))?).await.map_err(Failed::from) {
            Ok(got) => Ok(Some(got.bytes().await?)),
            Err(Failed::Missing | Failed::Blocked(_)) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    pub(super) async fn put_own(&self, rest: &str, value: Bytes, mode: PutMode) -> Result<(), Failed> {
        let path = self.own_path(rest)?;
        Ok(self.0.objects.put_opts(&path, value.into(), mode.into()).await.map(drop)?)
    }

    async fn write_mark(&self, name: &str, value: Option<Bytes>) -> Result<(), Failed> {
        let path = self.own_path(&format!("{MARKS}{name}"))?;
        let written = match value {
            Some(value) => self.0.objects.put(&path, value.into()).await.map(drop),
            None => self.0.objects.delete(&path).await,
        };
        match written.map_err(Failed::from) {
            Ok(()) | Err(Failed::Missing) => Ok(()),
            Err(failed) => Err(failed),
        }
    }

    async fn list_marks(&self, prefix: &str) -> Result<Vec<String>, Failed> {
        let folder = self.own_path(MARKS)?;
        let found: Vec<_> = self.0.objects.list(Some(&folder)).try_collect().await?;
        let names = found.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<String> =
            names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }
}

#[async_trait]
impl Store for ObjectTier {
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

    async fn mark(&self, name: &str) -> Result<Option<Bytes>> {
        check_mark(name, None)?;
        self.check_open(Operation::Mark)?;
        self.read_mark(name).await.map_err(|failed| self.failed(failed.into_error(), Operation::Mark))
    }

    async fn set_mark(&self, name: &str, value: Option<Bytes>) -> Result<()> {
        check_mark(name, value.as_ref())?;
        self.check_open(Operation::Mark)?;
        self.write_mark(name, value).await.map_err(|failed| self.failed(failed.into_error(), Operation::Mark))
    }

    async fn mark_names(&self, prefix: &str) -> Result<Vec<String>> {
        self.check_open(Operation::Mark)?;
        self.list_marks(prefix).await.map_err(|failed| self.failed(failed.into_error(), Operation::Mark))
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
