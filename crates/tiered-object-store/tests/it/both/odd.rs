//! An object store in memory that behaves as some servers do.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tiered_core::adapter::async_trait;

use super::bridge::object_store::memory::InMemory;
use super::bridge::object_store::path::Path;
use super::bridge::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Objects in memory, with faults.
#[derive(Debug, Default)]
pub(super) struct Odd {
    inner: InMemory,
    /// What happens to the next put: 0 nothing, 1 its answer is lost, 2 the request is.
    next: AtomicU8,
    ignores_conditions: bool,
    lists_backwards: bool,
}

impl Odd {
    pub(super) fn ignoring_conditions() -> Self {
        Self { ignores_conditions: true, ..Self::default() }
    }

    pub(super) fn listing_backwards() -> Self {
        Self { lists_backwards: true, ..Self::default() }
    }

    pub(super) fn lose_an_answer(&self) {
        self.next.store(1, Ordering::SeqCst);
    }

    pub(super) fn lose_a_request(&self) {
        self.next.store(2, Ordering::SeqCst);
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        if self.ignores_conditions {
            opts.mode = PutMode::Overwrite;
        }
        let next = self.next.swap(0, Ordering::SeqCst);
        let written =
            if next == 2 { None } else { Some(self.inner.put_opts(location, payload, opts).await?) };
        let lost = || Error::Generic { store: "Odd", source: "connection reset".into() };
        written.filter(|_| next == 0).ok_or_else(lost)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = self.inner.list(prefix);
        if !self.lists_backwards {
            return listing;
        }
        let backwards = async move {
            let mut all: Vec<ObjectMeta> = listing.try_collect().await.expect("memory lists");
            all.reverse();
            stream::iter(all.into_iter().map(Ok))
        };
        stream::once(backwards).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
