//! Uploads in parts.
//!
//! Each part is kept by itself, in memory or in the store, so that parts may be written and awaited in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tiered_core::{Attributes, Key, Put, Written};
use tokio::runtime::Handle;

use super::object_store::multipart::PartId;
use super::object_store::path::Path;
use super::object_store::{
    MultipartId, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, Result, UploadPart,
};
use super::put::check_tags;
use super::staged::{Part, Stage};
use super::view::ObjectView;
use super::{attributes, error, put_result};
use crate::etag;

/// An upload that is aborted when it is dropped before its end.
#[derive(Debug)]
pub(super) struct Upload {
    location: Path,
    key: Key,
    attributes: Attributes,
    view: ObjectView,
    stage: Stage,
    parts: Arc<Mutex<Parts>>,
    /// The number of the next part.
    next: usize,
    ended: bool,
    runtime: Option<Handle>,
}

/// The parts that have been written.
#[derive(Debug, Default)]
struct Parts {
    written: BTreeMap<usize, Part>,
    /// Bytes in memory, and in all.
    held: u64,
    total: u64,
    /// Whether the store may have some.
    staged: bool,
}

impl ObjectView {
    pub(super) fn begin_upload(&self, location: &Path, opts: &PutMultipartOptions) -> Result<Upload> {
        check_tags(&opts.tags)?;
        Ok(Upload {
            location: location.clone(),
            key: Self::key(location)?,
            attributes: attributes::to_entry(&opts.attributes)?,
            view: self.clone(),
            stage: Stage::new(self, &self.mint()),
            parts: Arc::default(),
            next: 0,
            ended: false,
            runtime: Handle::try_current().ok(),
        })
    }

    /// Writes the object of these parts.
    async fn publish(
        &self,
        location: &Path,
        key: &Key,
        attributes: Attributes,
        stage: &Stage,
        parts: Vec<Part>,
    ) -> Result<PutResult> {
        let total = parts.iter().map(Part::size).sum();
        let failed = |failed| error::of(failed, location);
        self.store().capabilities().check_value(total).map_err(failed)?;
        let put = Put::new("").attributes(attributes);
        let written: Written = match held(&parts) {
            Some(value) => self.store().put(key, put.value(value)).await,
            None => self.store().put_stream(key, put, stage.body(parts)).await,
        }
        .map_err(failed)?;
        Ok(put_result(etag::of(&written.version), written))
    }
}

/// The value, where all of it is in memory.
fn held(parts: &[Part]) -> Option<Bytes> {
    let held = |part: &Part| match part {
        Part::Held(bytes) => Some(bytes.clone()),
        Part::Staged { .. } => None,
    };
    let parts: Vec<Bytes> = parts.iter().map(held).collect::<Option<_>>()?;
    match parts.as_slice() {
        [one] => Some(one.clone()),
        several => {
            let mut value = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
            for part in several {
                value.extend_from_slice(part);
            }
            Some(value.freeze())
        }
    }
}

impl Upload {
    fn check_open(&self) -> Result<()> {
        if self.ended {
            return Err(error::generic("the upload was completed or aborted already"));
        }
        Ok(())
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let opened = self.check_open();
        let number = self.next;
        self.next += 1;
        let (parts, stage) = (Arc::clone(&self.parts), self.stage.clone());
        let (location, view) = (self.location.clone(), self.view.clone());
        Box::pin(async move {
            opened?;
            let bytes = Bytes::from(data);
            let size = bytes.len() as u64;
            let holds = {
                let mut parts = parts.lock();
                let total = parts.total + size;
                let checked = view.store().capabilities().check_value(total);
                checked.map_err(|failed| error::of(failed, &location))?;
                parts.total = total;
                let holds = parts.held + size <= view.held();
                if holds {
                    parts.held += size;
                } else {
                    parts.staged = true;
                }
                holds
            };
            let part = if holds {
                Part::Held(bytes)
            } else {
                stage.put(number, bytes).await.map_err(|failed| error::of(failed, &location))?
            };
            parts.lock().written.insert(number, part);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.check_open()?;
        let (parts, staged) = {
            let parts = self.parts.lock();
            (parts.written.values().cloned().collect::<Vec<_>>(), parts.staged)
        };
        if parts.len() != self.next {
            return Err(error::generic("a part of the upload was not written; await all of them first"));
        }
        let attributes = self.attributes.clone();
        let result = self.view.publish(&self.location, &self.key, attributes, &self.stage, parts).await?;
        self.ended = true;
        *self.parts.lock() = Parts::default();
        if staged {
            self.stage.clear_quietly().await;
        }
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.ended = true;
        let parts = std::mem::take(&mut *self.parts.lock());
        if parts.staged {
            self.stage.clear().await.map_err(|failed| error::of(failed, &self.location))?;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.ended || !self.parts.lock().staged {
            return;
        }
        if let Some(runtime) = &self.runtime {
            let stage = self.stage.clone();
            runtime.spawn(async move { stage.clear_quietly().await });
        }
    }
}

/// Uploads that several processes may carry on: all of an upload is in the store.
impl ObjectView {
    pub(crate) async fn create_upload(&self, path: &Path, opts: &PutMultipartOptions) -> Result<MultipartId> {
        Self::key(path)?;
        check_tags(&opts.tags)?;
        let attributes = attributes::to_entry(&opts.attributes)?;
        let id = self.mint();
        let begun = Stage::new(self, &id).begin(path.as_ref(), attributes).await;
        begun.map_err(|failed| error::of(failed, path))?;
        Ok(id)
    }

    pub(crate) async fn upload_part(
        &self,
        path: &Path,
        id: &str,
        number: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let stage = Stage::new(self, id);
        let failed = |failed| error::of(failed, path);
        stage.begun(path.as_ref()).await.map_err(failed)?;
        match stage.put(number, Bytes::from(data)).await.map_err(failed)? {
            Part::Staged { version, .. } => Ok(PartId { content_id: version.to_string() }),
            Part::Held(_) => Err(error::generic("the part was not staged")),
        }
    }

    pub(crate) async fn complete_upload(&self, path: &Path, id: &str, ids: Vec<PartId>) -> Result<PutResult> {
        let (key, stage) = (Self::key(path)?, Stage::new(self, id));
        let failed = |failed| error::of(failed, path);
        let attributes = stage.begun(path.as_ref()).await.map_err(failed)?;
        let mut parts = Vec::with_capacity(ids.len());
        for (number, id) in ids.into_iter().enumerate() {
            let version = id.content_id.parse().map_err(failed)?;
            parts.push(stage.part(number, version).await.map_err(failed)?);
        }
        let result = self.publish(path, &key, attributes, &stage, parts).await?;
        stage.clear_quietly().await;
        Ok(result)
    }

    pub(crate) async fn abort_upload(&self, path: &Path, id: &str) -> Result<()> {
        Stage::new(self, id).clear().await.map_err(|failed| error::of(failed, path))
    }
}
