//! A store as an `ObjectStore`.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tiered_core::adapter::VersionMint;
use tiered_core::{AsStore, Error, ErrorKind, Freshness, Key, Operation, ReadOptions, Store};

use super::error;
use super::object_store::path::Path;
use super::object_store::{
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use crate::names::UPLOADS;

/// Values up to so many bytes are read as a whole, and larger ones streamed.
const WHOLE: u64 = 8 << 20;

/// So many bytes of an upload are held in memory before its parts are staged.
const HELD: u64 = 16 << 20;

/// How long the parts of an upload are kept that is neither completed nor aborted.
const UPLOADS_LAST: Duration = Duration::from_hours(7 * 24);

/// A [`Store`] as an `ObjectStore`, a `MultipartStore` and a `PaginatedListStore`. Cloning it shares the store.
///
/// * A path is the key of the same text. Keys that are no path (`a//b`, `a/`, `/a`, `..`) are not listed.
/// * An e-tag is the version of the write: it is unique, and equal bytes do not share it. There is no `version` of an
///   object, since the store keeps the last write alone.
/// * `PutMode::Create` and `Update` are preconditions that the store judges. A rename removes its source only if it is
///   still what was copied. Where the store lacks what one of these needs, it is `NotSupported`.
/// * Attributes of an object are those of the entry: `ContentType` is `content-type`, and `Metadata("width")` is `width`.
///   Names must match `[a-z0-9._-]{1,64}`.
/// * An object is visible when its upload is completed. Parts beyond [`held_up_to`](Self::held_up_to) are entries of the
///   store below `.tiered-uploads/` until then. These are not listed, and cannot be read, by this view.
/// * Objects that expire by the store's settings are gone then.
///
/// A `GetOptions` may have a [`Freshness`] among its extensions. Errors of the store are the source of a `Generic` error.
///
/// # Cancel safety
/// Dropping the future of a read has no effect. A write that is dropped may have taken effect. An upload that is dropped
/// is aborted, where it was begun in a tokio runtime.
///
/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Freshness, MemoryStore};
/// use tiered_object_store::v0_14::ObjectView;
/// use tiered_object_store::v0_14::object_store::{ObjectStoreExt, PutMode, ObjectStore, path::Path};
///
/// let objects = ObjectView::new(MemoryStore::new()).freshness(Freshness::Authoritative);
/// let path = Path::from("manifest/1");
/// objects.put_opts(&path, "one".into(), PutMode::Create.into()).await?;
/// assert!(objects.put_opts(&path, "two".into(), PutMode::Create.into()).await.is_err());
/// assert_eq!(objects.get(&path).await?.bytes().await?, "one");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct ObjectView(Arc<Inner>);

/// How fresh a read of a path must be.
#[derive(Clone)]
enum Rule {
    All(Freshness),
    ByPath(Arc<dyn Fn(&Path) -> Freshness + Send + Sync>),
}

#[derive(Clone)]
struct Inner {
    store: Arc<dyn Store>,
    name: String,
    freshness: Rule,
    whole: u64,
    held: u64,
    uploads_last: Duration,
    ids: Arc<VersionMint>,
}

/// # Examples
/// ```
/// # #[cfg(feature = "v0_14")] {
/// use std::time::Duration;
/// use tiered_core::{MemoryStore, Store};
/// use tiered_object_store::v0_14::ObjectView;
///
/// let objects = ObjectView::new(MemoryStore::new())
///     .whole_up_to(1 << 20)
///     .held_up_to(64 << 20)
///     .uploads_last(Duration::from_hours(24));
/// assert_eq!(objects.store().capabilities().name(), "memory");
/// # }
/// ```
impl ObjectView {
    /// A view of `store`: a store, or one that is shared.
    pub fn new(store: impl AsStore) -> Self {
        let store = store.into_store();
        let name = format!("tiered({})", store.capabilities().name());
        Self(Arc::new(Inner {
            store,
            name,
            freshness: Rule::All(Freshness::Cached),
            whole: WHOLE,
            held: HELD,
            uploads_last: UPLOADS_LAST,
            ids: Arc::new(VersionMint::from_entropy()),
        }))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// How fresh reads must be that do not say it themselves; [`Freshness::Cached`] by default.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "v0_14")] {
    /// use tiered_core::{Freshness, MemoryStore};
    /// use tiered_object_store::v0_14::ObjectView;
    ///
    /// let objects = ObjectView::new(MemoryStore::new()).freshness(Freshness::Authoritative);
    /// # }
    /// ```
    #[must_use]
    pub fn freshness(self, freshness: Freshness) -> Self {
        self.with(|inner| inner.freshness = Rule::All(freshness))
    }

    /// How fresh reads of each path must be that do not say it themselves: for programs that keep files which they write once
    /// beside others which they replace. The last call of this and of [`freshness`](Self::freshness) counts.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "v0_14")] {
    /// use tiered_core::{Freshness, MemoryStore};
    /// use tiered_object_store::v0_14::ObjectView;
    ///
    /// // Tables are never replaced. What says which of them count is.
    /// let objects = ObjectView::new(MemoryStore::new()).freshness_of(|path| {
    ///     if path.as_ref().ends_with(".sst") { Freshness::Cached } else { Freshness::Authoritative }
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn freshness_of(self, rule: impl Fn(&Path) -> Freshness + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.freshness = Rule::ByPath(Arc::new(rule)))
    }

    /// Values, and parts of values, of up to so many bytes are read in one piece; larger ones are streamed. 8 MiB by
    /// default. Streamed ones take little memory, and do not tell which tier answered. Where the store takes no larger
    /// value than this, a read asks it once instead of twice.
    #[must_use]
    pub fn whole_up_to(self, bytes: u64) -> Self {
        self.with(|inner| inner.whole = bytes)
    }

    /// So many bytes of an upload are held in memory; further parts are written to the store, below
    /// `.tiered-uploads/`, and read again when the upload is completed. 16 MiB by default.
    #[must_use]
    pub fn held_up_to(self, bytes: u64) -> Self {
        self.with(|inner| inner.held = bytes)
    }

    /// After so long the parts of an upload expire that was neither completed nor aborted; 7 days by default. A store that
    /// does not keep expiries keeps them.
    #[must_use]
    pub fn uploads_last(self, time: Duration) -> Self {
        self.with(|inner| inner.uploads_last = time)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    pub(super) fn whole(&self) -> u64 {
        self.0.whole
    }

    pub(super) fn held(&self) -> u64 {
        self.0.held
    }

    pub(super) fn lifetime_of_uploads(&self) -> Duration {
        self.0.uploads_last
    }

    /// An id for an upload.
    pub(super) fn mint(&self) -> String {
        self.0.ids.mint().to_string()
    }

    /// The options of a read; a request may say itself how fresh it must be.
    pub(super) fn options(&self, location: &Path, extensions: &Extensions) -> ReadOptions {
        let asked = extensions.get::<Freshness>().copied();
        ReadOptions::new().freshness(asked.unwrap_or_else(|| self.0.freshness.of(location)))
    }

    /// The key of a path.
    pub(super) fn key(location: &Path) -> Result<Key> {
        if location.as_ref().starts_with(UPLOADS) {
            return Err(error::unsupported(
                "paths that begin with .tiered-uploads/ are reserved; use another",
            ));
        }
        Key::new(location.as_ref()).map_err(|failed| error::of(failed, location))
    }

    /// Refuses what the store could only seem to do.
    pub(super) fn require(&self, feature: tiered_core::Feature, what: &str) -> Result<()> {
        let capabilities = self.0.store.capabilities();
        if capabilities.has(feature) {
            return Ok(());
        }
        Err(error::unsupported(&format!("{what} needs {feature:?}, which {} lacks", capabilities.name())))
    }
}

impl Rule {
    fn of(&self, path: &Path) -> Freshness {
        match self {
            Self::All(freshness) => *freshness,
            Self::ByPath(rule) => rule(path),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(freshness) => freshness.fmt(f),
            Self::ByPath(_) => f.write_str("by path"),
        }
    }
}

/// The error of a value that others replace faster than it is read.
pub(super) fn replaced(location: &Path) -> super::object_store::Error {
    let failed =
        Error::new(ErrorKind::Unavailable, "the object was replaced each time it was read; read it again");
    error::of(failed.during(Operation::Load), location)
}

impl fmt::Debug for ObjectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectView")
            .field("store", &self.0.store)
            .field("freshness", &self.0.freshness)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ObjectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[deny(clippy::missing_trait_methods, reason = "each is what the store does best")]
#[async_trait]
impl ObjectStore for ObjectView {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.put_object(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.begin_upload(location, &opts)?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.get_object(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.get_parts(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.delete_objects(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_objects(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_objects(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.list_level(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.copy_object(from, to, &options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.rename_object(from, to, &options).await
    }
}
