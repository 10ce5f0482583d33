//! Large and streamed values: uploaded in parts, and aborted when they are not completed.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tiered_core::adapter::Checksum;
use tiered_core::{
    ByteStream, Entry, Error, Key, Operation, Outcome, Precondition, Put, Result, Version, Written,
};
use tokio::runtime::Handle;

use crate::client::Client;
use crate::error::Failed;
use crate::head::headers;
use crate::store::S3Store;
use crate::write::{Guard, Sending};

/// Parts of a value, at most.
const PARTS: u64 = 10_000;

/// Parts that are sent at a time. A streamed value takes memory for so many.
const CONCURRENCY: usize = 3;

/// An upload that is aborted when it is dropped before its end, since its parts would be kept, and paid for.
pub(crate) struct Upload {
    client: Client,
    name: String,
    id: Option<String>,
    runtime: Handle,
}

/// A value whose parts were sent: nothing of it is visible before the upload is completed.
pub(crate) struct Staged {
    upload: Upload,
    parts: Vec<CompletedPart>,
    pub(crate) version: Version,
    /// Of the value.
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
}

impl Staged {
    /// Leaves the upload to its completion, where that has taken effect or may yet. Else it is aborted.
    pub(crate) fn settle<T>(mut self, completed: &Result<T>) {
        let undone = |error: &Error| error.write_outcome() == Outcome::NotApplied;
        if !completed.as_ref().err().is_some_and(undone) {
            self.upload.id = None;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (client, name) = (self.client.clone(), std::mem::take(&mut self.name));
        self.runtime.spawn(async move {
            let aborted = client.repeat(|| {
                let request = client.s3.abort_multipart_upload().bucket(&client.bucket).key(&name);
                client.once(0, request.upload_id(&id).send())
            });
            if let Err(failed) = aborted.await {
                tracing::warn!(
                    name,
                    error = %failed.into_error().chain(),
                    "an upload was not aborted; a lifecycle rule of the bucket should remove it"
                );
            }
        });
    }
}

impl S3Store {
    /// The size of a part: the configured one, or what brings the largest value into as many parts as S3 takes.
    fn part_size(&self) -> usize {
        let least = self.0.capabilities.max_value().div_ceil(PARTS);
        usize::try_from(self.0.multipart.max(least)).unwrap_or(usize::MAX)
    }

    /// Writes a value that is at hand.
    pub(crate) async fn put_in_parts(&self, key: &Key, entry: &Entry, value: Bytes) -> Result<()> {
        let body: ByteStream = Box::pin(stream::iter([Ok(value)]));
        let staged = self.stage(key, entry, entry.metadata().checksum, body).await?;
        self.complete_plainly(staged).await
    }

    pub(crate) async fn put_streamed(&self, key: &Key, put: Put, mut body: ByteStream) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.check_key(key)?;
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        let mut whole = false;
        let mut begun = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(not_applied)?;
            self.0.capabilities.check_value((begun.len() + part.len()) as u64)?;
            begun.extend_from_slice(&part);
            if begun.len() as u64 > self.0.multipart && !whole {
                // What cannot be completed under its condition is sent as a whole.
                whole = !self.completes_under(key, &put.precondition).await.map_err(not_applied)?;
                if !whole {
                    let begun: ByteStream = Box::pin(stream::iter([Ok(begun.freeze())]));
                    return self.put_staged(key, put, Box::pin(begun.chain(body))).await;
                }
            }
        }
        self.put_entry(key, &put.value(begun.freeze())).await
    }

    /// Sends a value in parts, and completes it under the put's condition.
    async fn put_staged(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let condition = put.precondition.clone();
        let entry = self.0.stamp.entry(&put.value(Bytes::new()));
        let staged = self.stage(key, &entry, None, body).await?;
        if condition == Precondition::None {
            self.complete_plainly(staged).await?;
        } else {
            let completed = self.put_under(key, &Sending::Parts(&staged), &condition).await;
            staged.settle(&completed);
            completed?;
        }
        Ok(Written::committed(entry.version().clone()))
    }

    async fn complete_plainly(&self, staged: Staged) -> Result<()> {
        let completed = self.complete(&staged, &Guard::None).await.map_err(Failed::into_error);
        staged.settle(&completed);
        completed
    }

    /// Makes an object of what was sent.
    pub(crate) async fn complete(&self, staged: &Staged, guard: &Guard) -> Result<(), Failed> {
        let (client, upload) = (&self.0.client, &staged.upload);
        let completed = CompletedMultipartUpload::builder().set_parts(Some(staged.parts.clone())).build();
        let request = client
            .s3
            .complete_multipart_upload()
            .bucket(&client.bucket)
            .key(&upload.name)
            .set_upload_id(upload.id.clone())
            .multipart_upload(completed);
        let request = match guard {
            Guard::None => request,
            Guard::Absent => request.if_none_match("*"),
            Guard::Etag(etag) => request.if_match(etag),
        };
        client.once(0, request.send()).await.map(drop)
    }

    /// Sends `body`, whose checksum may not be known yet. Whatever becomes of that, nothing of it is visible.
    pub(crate) async fn stage(
        &self,
        key: &Key,
        entry: &Entry,
        checksum: Option<Checksum>,
        body: ByteStream,
    ) -> Result<Staged> {
        let client = &self.0.client;
        let name = client.name(key);
        let (metadata, content_type) = headers(entry, checksum);
        let begun = client.repeat(|| {
            let request = client.s3.create_multipart_upload().bucket(&client.bucket).key(&name);
            let request = request.set_metadata(Some(metadata.clone())).set_content_type(content_type.clone());
            client.once(0, request.send())
        });
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        let begun = begun.await.map_err(|failed| not_applied(failed.into_error()))?;
        let id = begun.upload_id().unwrap_or_default().to_owned();
        let upload = Upload { client: client.clone(), name, id: Some(id), runtime: self.0.runtime.clone() };
        let (parts, seen) = self.parts(&upload, entry, body).await.map_err(not_applied)?;
        let (size, checksum) = (seen.bytes, Checksum::from_u32(seen.crc));
        Ok(Staged { upload, parts, version: entry.version().clone(), size, checksum })
    }

    /// Sends the envelope and the value in parts, a few at a time.
    async fn parts(
        &self,
        upload: &Upload,
        entry: &Entry,
        body: ByteStream,
    ) -> Result<(Vec<CompletedPart>, Seen)> {
        let layout = self.0.layout;
        let before = layout.before(entry.version(), self.0.stamp.versions());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let pieces = Pieces {
            store: self.clone(),
            body: Some(body),
            part: Bytes::new(),
            buffer: BytesMut::from(before),
            seen: Arc::clone(&seen),
            size: self.part_size(),
        };
        let sent = stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.next().await.transpose()?;
            Some((piece, pieces))
        })
        .enumerate()
        .map(|(index, piece)| async move {
            let (piece, number) = (piece?, i32::try_from(index + 1).unwrap_or(i32::MAX));
            let client = &upload.client;
            let sent = client.repeat(|| {
                let request = client
                    .s3
                    .upload_part()
                    .bucket(&client.bucket)
                    .key(&upload.name)
                    .set_upload_id(upload.id.clone())
                    .part_number(number)
                    .body(Body::from(piece.clone()));
                client.once(piece.len() as u64, request.send())
            });
            let sent = sent.await.map_err(Failed::into_error)?;
            Ok::<_, Error>(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag().map(str::to_owned))
                    .build(),
            )
        })
        .buffered(CONCURRENCY);
        let mut parts = Vec::new();
        let mut sent = Box::pin(sent);
        while let Some(part) = sent.next().await {
            parts.push(part?);
        }
        let seen = *seen.lock();
        Ok((parts, seen))
    }
}

/// A body cut into pieces of equal size, except the last.
struct Pieces {
    store: S3Store,
    body: Option<ByteStream>,
    /// What is left of a part of the body.
    part: Bytes,
    buffer: BytesMut,
    seen: Arc<Mutex<Seen>>,
    size: usize,
}

/// What was seen of a value.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    bytes: u64,
    crc: u32,
}

impl Pieces {
    fn see(&self, part: &[u8]) -> Seen {
        let mut seen = self.seen.lock();
        seen.bytes += part.len() as u64;
        seen.crc = crc32c::crc32c_append(seen.crc, part);
        *seen
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        // No more than a piece: what grows by doubling would take twice as much.
        self.buffer.reserve(self.size.saturating_sub(self.buffer.len()));
        while self.buffer.len() < self.size {
            if self.part.is_empty() && !self.take_part().await? {
                break;
            }
            let room = self.size - self.buffer.len();
            let taken = self.part.split_to(room.min(self.part.len()));
            self.buffer.extend_from_slice(&taken);
        }
        let size = self.buffer.len().min(self.size);
        Ok(Some(self.buffer.split_to(size).freeze()).filter(|piece| !piece.is_empty()))
    }

    /// Takes a part of the body, and at its end what stands behind the value; false after that.
    async fn take_part(&mut self) -> Result<bool> {
        let Some(body) = self.body.as_mut() else { return Ok(false) };
        if let Some(part) = body.next().await {
            self.part = part?;
            let seen = self.see(&self.part);
            self.store.0.capabilities.check_value(seen.bytes)?;
        } else {
            self.body = None;
            let checksum = Checksum::from_u32(self.see(&[]).crc);
            self.part = self.store.0.layout.behind(checksum);
        }
        Ok(true)
    }
}
