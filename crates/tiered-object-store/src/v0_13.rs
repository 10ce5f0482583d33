//! For `object_store` 0.13, whose results have no extensions: which tier answered is not told.

#[allow(clippy::duplicate_mod, reason = "one source for two versions of a crate")]
#[path = "bridge/mod.rs"]
mod bridge;

/// The crate whose traits these are.
pub use object_store_0_13 as object_store;

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
    _answer: Option<Answer>,
) -> GetResult {
    GetResult { payload, meta, range, attributes }
}

fn put_result(etag: String, _written: Written) -> PutResult {
    PutResult { e_tag: Some(etag), version: None }
}

fn list_result(objects: Vec<ObjectMeta>, common_prefixes: Vec<Path>) -> ListResult {
    ListResult { common_prefixes, objects }
}

fn has_tags(tags: &TagSet) -> bool {
    !tags.encoded().is_empty()
}

#[async_trait]
impl MultipartStore for ObjectView {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_upload(path, &PutMultipartOptions::default()).await
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
