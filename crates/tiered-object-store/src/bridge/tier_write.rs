//! Puts and deletes of a tier.
//!
//! A request is sent once by this tier; clients of `object_store` may repeat it by themselves. Where an answer was lost,
//! the version that the object has tells whether the write took effect.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tiered_core::adapter::{Checksum, precondition_failed};
use tiered_core::{
    ByteStream, Delete, Deleted, Entry, Error, ErrorKind, Existed, Expiry, Feature, Key, Operation, Outcome,
    Precondition, Put, Result, Store as _, Version, Written,
};
use tokio::runtime::Handle;

use super::attributes;
use super::failure::Failed;
use super::head::version_of;
use super::object_store::path::Path;
use super::object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions, UpdateVersion,
};
use super::tier::ObjectTier;
use crate::names::RECORD;
use crate::record;

/// How often a conditional write begins anew that met others: each of them got further.
const CONFLICTS: u32 = 20;

/// Bytes of a part of an upload.
const PART: usize = 8 << 20;

impl ObjectTier {
    /// Refuses what would be forgotten where metadata are not kept.
    fn check_kept(&self, put: &Put) -> Result<()> {
        let expires = matches!(put.expiry, Expiry::At(_) | Expiry::After(_));
        if self.keeps() || !expires && put.attributes.is_empty() {
            return Ok(());
        }
        let message =
            "the object store keeps no attributes: an entry can have neither an expiry nor attributes here";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// What is kept beside the object.
    fn record(&self, entry: &Entry, checksum: Option<Checksum>) -> Attributes {
        if !self.keeps() {
            return Attributes::new();
        }
        let mut kept = attributes::properties(&entry.metadata().attributes);
        let text = record::write(entry.metadata(), checksum);
        kept.insert(Attribute::Metadata(RECORD.into()), text.into());
        kept
    }

    pub(super) async fn put_entry(&self, key: &Key, put: &Put) -> Result<Written> {
        self.check_open(Operation::Put)?;
        let path = self.path(key)?;
        self.capabilities().check_value(put.value.len() as u64)?;
        self.capabilities().check_precondition(&put.precondition, Feature::ConditionalPut)?;
        self.check_kept(put)?;
        let entry = self.stamp().entry(put);
        let version = match &put.precondition {
            Precondition::None => self.put_plainly(&path, &entry).await?,
            condition => self.put_under(key, &path, &entry, condition).await?,
        };
        Ok(Written::committed(version))
    }

    /// One request.
    async fn send(&self, path: &Path, entry: &Entry, mode: PutMode) -> Result<Version, Failed> {
        let attributes = self.record(entry, entry.metadata().checksum);
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let written = self.objects().put_opts(path, entry.value().clone().into(), options).await?;
        Ok(self.version(entry, written.e_tag.as_deref())?)
    }

    /// The version that reads show of what was written.
    fn version(&self, entry: &Entry, etag: Option<&str>) -> Result<Version> {
        if self.keeps() { Ok(entry.version().clone()) } else { version_of(etag) }
    }

    async fn put_plainly(&self, path: &Path, entry: &Entry) -> Result<Version> {
        match self.send(path, entry, PutMode::Overwrite).await {
            Ok(version) => Ok(version),
            Err(failed) => self.find_out(path, entry, failed.into_error()).await,
        }
    }

    /// Looks for a write that failed: it may have taken effect.
    async fn find_out(&self, path: &Path, entry: &Entry, error: Error) -> Result<Version> {
        if error.write_outcome() == Outcome::NotApplied || !self.keeps() {
            return Err(error);
        }
        match self.look(path).await {
            Ok(Some(head)) if head.is_of(entry) => Ok(entry.version().clone()),
            // It may take effect later.
            _ => Err(error),
        }
    }

    /// A put under a precondition, begun anew where it met others.
    async fn put_under(
        &self,
        key: &Key,
        path: &Path,
        entry: &Entry,
        condition: &Precondition,
    ) -> Result<Version> {
        let not_sent = |error: Error| error.outcome_is(Outcome::NotApplied);
        let mut mode = matches!(condition, Precondition::Absent).then_some(PutMode::Create);
        for _ in 0..CONFLICTS {
            let mode = if let Some(mode) = mode.take() {
                mode
            } else {
                let head = self.look(path).await.map_err(not_sent)?;
                let live = head.as_ref().filter(|head| head.is_live(self.stamp().now()));
                if self.keeps() && live.is_some_and(|head| head.is_of(entry)) {
                    // Our own: the answer was lost, and the client sent it again.
                    return Ok(entry.version().clone());
                }
                if !condition.holds(live.map(|head| &head.version)) {
                    return Err(precondition_failed(key));
                }
                match head {
                    None => PutMode::Create,
                    Some(head) => PutMode::Update(UpdateVersion { e_tag: head.etag, version: None }),
                }
            };
            match self.send(path, entry, mode).await {
                Ok(version) => return Ok(version),
                // Another writer was faster: read again.
                Err(Failed::Condition | Failed::Missing) => {}
                Err(Failed::Error(error) | Failed::Blocked(error)) => {
                    return self.find_out(path, entry, error).await;
                }
            }
        }
        let message = "other writers of the key are faster each time; try again";
        Err(not_sent(Error::new(ErrorKind::Unavailable, message)))
    }

    pub(super) async fn delete_entry(&self, key: &Key, delete: &Delete) -> Result<Deleted> {
        self.check_open(Operation::Delete)?;
        let path = self.path(key)?;
        self.capabilities().check_precondition(&delete.precondition, Feature::ConditionalDelete)?;
        let mut existed = Existed::Unknown;
        if delete.reports_existed() {
            let head = self.look(&path).await.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
            let Some(head) = head else { return Ok(Deleted::committed(false)) };
            existed = head.is_live(self.stamp().now()).into();
        }
        match self.objects().delete(&path).await.map_err(Failed::from) {
            Ok(()) => Ok(Deleted::committed(existed)),
            Err(Failed::Missing | Failed::Blocked(_)) => Ok(Deleted::committed(false)),
            Err(failed) => Err(failed.into_error()),
        }
    }

    pub(super) async fn put_streamed(&self, key: &Key, put: Put, mut body: ByteStream) -> Result<Written> {
        self.check_open(Operation::Put)?;
        let path = self.path(key)?;
        self.capabilities().check_precondition(&put.precondition, Feature::ConditionalPut)?;
        self.check_kept(&put)?;
        let mut begun = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
            self.capabilities().check_value((begun.len() + part.len()) as u64)?;
            begun.extend_from_slice(&part);
            // A condition is judged with the value as a whole.
            if begun.len() > PART && put.precondition == Precondition::None {
                let entry = self.stamp().entry(&put.value(Bytes::new()));
                let version = self.upload(&path, &entry, begun, body).await?;
                return Ok(Written::committed(version));
            }
        }
        self.put_entry(key, &put.value(begun.freeze())).await
    }

    /// Uploads `begun` and the rest of `body`, whose checksum is not known before its end.
    async fn upload(&self, path: &Path, entry: &Entry, begun: BytesMut, body: ByteStream) -> Result<Version> {
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        let options =
            PutMultipartOptions { attributes: self.record(entry, None), ..PutMultipartOptions::default() };
        let upload = self.objects().put_multipart_opts(path, options).await;
        let upload = upload.map_err(|error| not_applied(Failed::from(error).into_error()))?;
        let mut upload = Upload { upload: Some(upload), runtime: self.runtime().clone() };
        // Nothing is visible before the upload is completed.
        self.send_parts(&mut upload, begun, body).await.map_err(not_applied)?;
        let Some(mut whole) = upload.upload.take() else { return Err(gone()) };
        let written = whole.complete().await.map_err(|error| Failed::from(error).into_error())?;
        self.version(entry, written.e_tag.as_deref())
    }

    async fn send_parts(&self, upload: &mut Upload, mut begun: BytesMut, mut body: ByteStream) -> Result<()> {
        let mut seen = begun.len() as u64;
        loop {
            while begun.len() < PART {
                let Some(part) = body.next().await.transpose()? else {
                    return upload.send(begun.freeze()).await;
                };
                seen += part.len() as u64;
                self.capabilities().check_value(seen)?;
                begun.extend_from_slice(&part);
            }
            upload.send(begun.split_to(PART).freeze()).await?;
        }
    }
}

/// An upload that is aborted when it is dropped before its end.
struct Upload {
    upload: Option<Box<dyn MultipartUpload>>,
    runtime: Handle,
}

impl Upload {
    async fn send(&mut self, part: Bytes) -> Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        let Some(upload) = &mut self.upload else { return Err(gone()) };
        upload.put_part(part.into()).await.map_err(|error| Failed::from(error).into_error())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        self.runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::warn!(%error, "an upload was not aborted; a rule of the bucket should remove it");
            }
        });
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Other, "the upload has ended already")
}
