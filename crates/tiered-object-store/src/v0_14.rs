//! For `object_store` 0.14.

#[allow(clippy::duplicate_mod, reason = "one source for two versions of a crate")]
#[path = "bridge/mod.rs"]
mod bridge;

/// The crate whose traits these are.
pub use object_store_0_14 as object_store;

pub use bridge::{ObjectTier, ObjectTierConfig, ObjectView};

use std::ops::Range;

use async_trait::async_trait;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attributes, GetResult, GetResultPayload, ListResult, MultipartId, ObjectMeta, PutMultipartOptions,
    PutPayload, PutResult, Result, TagSet,
};
use tiered_core::Written;

use crate::Answer;

fn get_result(
    payload: GetResultPayload,
    meta: ObjectMeta,
    range: Range<u64>,
    attributes: Attributes,
    answer: Option<Answer>,
) -> GetResult {
    let mut extensions = object_store::Extensions::new();
    if let Some(answer) = answer {
        extensions.insert(answer);
    }
    GetResult { payload, meta, range, attributes, extensions }
}

/// With what is to be known further of the write.
fn put_result(etag: String, written: Written) -> PutResult {
    let mut extensions = object_store::Extensions::new();
    extensions.insert(written);
    PutResult { e_tag: Some(etag), version: None, extensions }
}

fn list_result(objects: Vec<ObjectMeta>, common_prefixes: Vec<Path>) -> ListResult {
    ListResult { common_prefixes, objects, extensions: object_store::Extensions::new() }
}

fn has_tags(tags: &TagSet) -> bool {
    !tags.is_empty()
}

#[async_trait]
impl MultipartStore for ObjectView {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_upload(path, &PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<MultipartId> {
        self.create_upload(path, &opts).await
    }
    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.upload_part(path, id, part_idx, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.complete_upload(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.abort_upload(path, id).await
    }
}
