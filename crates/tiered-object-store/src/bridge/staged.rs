//! Parts of uploads, as entries of the store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tiered_core::{
    Batch, ByteStream, Delete, Error, ErrorKind, Feature, Key, ListOptions, Lookup, Outcome, Put,
    ReadOptions, Result, Store, Version,
};

use super::view::ObjectView;
use crate::names::UPLOADS;

/// The name of the entry that says what an upload is of.
const HEAD: &str = "head";

/// Keys in a batch.
const BATCH: usize = 256;

/// Where the parts of an upload are.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    view: ObjectView,
    prefix: String,
}

/// A part of an upload.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Held(Bytes),
    Staged { key: Key, version: Version, size: u64 },
}

impl Part {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Staged { size, .. } => *size,
        }
    }
}

impl Stage {
    pub(super) fn new(view: &ObjectView, id: &str) -> Self {
        Self { view: view.clone(), prefix: format!("{UPLOADS}{id}/") }
    }

    fn store(&self) -> &Arc<dyn Store> {
        self.view.store()
    }

    fn key(&self, name: &str) -> Result<Key> {
        Key::new(format!("{}{name}", self.prefix))
    }

    pub(super) fn part_key(&self, number: usize) -> Result<Key> {
        self.key(&format!("{number:010}"))
    }

    /// Adds an expiry where the store keeps one: nothing else removes the parts of a writer that was killed.
    fn lasting(&self, put: Put) -> Put {
        if self.store().capabilities().has(Feature::KeepsMetadata) {
            put.expires_in(self.view.lifetime_of_uploads())
        } else {
            put
        }
    }

    /// Writes one part, whatever others do.
    pub(super) async fn put(&self, number: usize, bytes: Bytes) -> Result<Part> {
        let (key, size) = (self.part_key(number)?, bytes.len() as u64);
        let written = self.store().put(&key, self.lasting(Put::new(bytes))).await?;
        Ok(Part::Staged { key, version: written.version, size })
    }

    /// Notes what the upload is of.
    pub(super) async fn begin(&self, location: &str, attributes: tiered_core::Attributes) -> Result<()> {
        let put = self.lasting(Put::new(location.to_owned()).attributes(attributes));
        self.store().put(&self.key(HEAD)?, put).await.map(drop)
    }

    /// The attributes of the object, where this is an upload of it.
    pub(super) async fn begun(&self, location: &str) -> Result<tiered_core::Attributes> {
        let read = self.store().load(&self.key(HEAD)?, &authoritative()).await?;
        match read.into_entry() {
            Some(entry) if entry.value() == location.as_bytes() => Ok(entry.metadata().attributes.clone()),
            _ => Err(Error::new(ErrorKind::InvalidInput, "there is no such upload of this path")),
        }
    }

    /// The part of this number and version, without its bytes.
    pub(super) async fn part(&self, number: usize, version: Version) -> Result<Part> {
        let key = self.part_key(number)?;
        let head = self.store().head(&key, &authoritative()).await?;
        match head {
            Some(head) if head.version == version => Ok(Part::Staged { key, version, size: head.size }),
            _ => Err(gone(number)),
        }
    }

    /// The bytes of all parts, one part in memory at a time.
    pub(super) fn body(&self, parts: Vec<Part>) -> ByteStream {
        let stage = self.clone();
        Box::pin(stream::iter(parts.into_iter().enumerate()).then(move |(number, part)| {
            let stage = stage.clone();
            async move { stage.bytes(number, part).await }
        }))
    }

    async fn bytes(&self, number: usize, part: Part) -> Result<Bytes> {
        match part {
            Part::Held(bytes) => Ok(bytes),
            Part::Staged { key, version, .. } => {
                let options = authoritative().if_version(version);
                match self.store().load(&key, &options).await?.lookup {
                    Lookup::Found(entry) => Ok(entry.into_value()),
                    Lookup::Absent | Lookup::Changed | Lookup::Unchanged => Err(gone(number)),
                }
            }
        }
    }

    /// Removes all that the upload has in the store.
    pub(super) async fn clear(&self) -> Result<()> {
        let listed: Vec<_> = self.store().list(ListOptions::new().prefix(&self.prefix)).try_collect().await?;
        for listed in listed.chunks(BATCH) {
            let batch = listed.iter().fold(Batch::new().per_item(), |batch, listed| {
                batch.delete(listed.key.clone(), Delete::new())
            });
            self.store().apply(batch).await?.into_iter().collect::<Result<Vec<_>>>()?;
        }
        Ok(())
    }

    /// Removes it where that is of no consequence to what the caller did.
    pub(super) async fn clear_quietly(&self) {
        if let Err(error) = self.clear().await {
            tracing::warn!(
                prefix = self.prefix,
                error = %error.chain(),
                "the parts of an upload were not removed; they expire"
            );
        }
    }
}

fn authoritative() -> ReadOptions {
    ReadOptions::new().authoritative()
}

fn gone(number: usize) -> Error {
    let message = format!("part {number} of the upload is gone, or another one; upload the object again");
    Error::new(ErrorKind::InvalidInput, message).outcome_is(Outcome::NotApplied)
}
