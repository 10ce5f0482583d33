//! Large and streamed values: uploaded in parts, and aborted when they are not completed.

use aws_sdk_s3::primitives::ByteStream as Body;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::Checksum;
use tiered_core::{ByteStream, Entry, Error, Key, Operation, Outcome, Precondition, Put, Result, Written};
use tokio::runtime::Handle;

use crate::client::Client;
use crate::error::Failed;
use crate::head::headers;
use crate::store::S3Store;

/// Parts of a value, at most.
const PARTS: u64 = 10_000;

/// Parts that are sent at a time. A streamed value takes memory for so many.
const CONCURRENCY: usize = 3;

/// An upload that is aborted when it is dropped before its end, since its parts would be kept, and paid for.
struct Upload {
    client: Client,
    name: String,
    id: Option<String>,
    runtime: Handle,
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
        self.upload(key, entry, entry.metadata().checksum, body).await.map(drop)
    }

    pub(crate) async fn put_streamed(&self, key: &Key, put: Put, mut body: ByteStream) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.check_key(key)?;
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        let whole = put.precondition != Precondition::None;
        let mut begun = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(not_applied)?;
            self.0.capabilities.check_value((begun.len() + part.len()) as u64)?;
            begun.extend_from_slice(&part);
            // A condition is judged with the value as a whole.
            if begun.len() as u64 > self.0.multipart && !whole {
                let begun: ByteStream = Box::pin(stream::iter([Ok(begun.freeze())]));
                let entry = self.0.stamp.entry(&put.value(Bytes::new()));
                self.upload(key, &entry, None, Box::pin(begun.chain(body))).await?;
                return Ok(Written::committed(entry.version().clone()));
            }
        }
        self.put_entry(key, &put.value(begun.freeze())).await
    }

    /// Uploads `body`, whose checksum may not be known yet.
    async fn upload(
        &self,
        key: &Key,
        entry: &Entry,
        checksum: Option<Checksum>,
        body: ByteStream,
    ) -> Result<()> {
        let client = &self.0.client;
        let name = client.name(key);
        let (metadata, content_type) = headers(entry, checksum);
        let begun = client.repeat(|| {
            let request = client.s3.create_multipart_upload().bucket(&client.bucket).key(&name);
            let request = request.set_metadata(Some(metadata.clone())).set_content_type(content_type.clone());
            client.once(0, request.send())
        });
        // Nothing is visible before the upload is completed.
        let not_applied = |failed: Failed| failed.into_error().outcome_is(Outcome::NotApplied);
        let id = begun.await.map_err(not_applied)?.upload_id().unwrap_or_default().to_owned();
        let mut upload =
            Upload { client: client.clone(), name, id: Some(id), runtime: self.0.runtime.clone() };
        let parts =
            self.parts(&upload, entry, body).await.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        let completed = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = client
            .s3
            .complete_multipart_upload()
            .bucket(&client.bucket)
            .key(&upload.name)
            .set_upload_id(upload.id.clone())
            .multipart_upload(completed);
        let ended = client.once(0, request.send()).await;
        if ended.is_ok()
            || matches!(&ended, Err(Failed::Error(error)) if error.outcome() != Some(Outcome::NotApplied))
        {
            // An upload whose outcome is unknown is not aborted: it may complete.
            upload.id = None;
        }
        ended.map(drop).map_err(Failed::into_error)
    }

    /// Sends the envelope and the value in parts, a few at a time.
    async fn parts(&self, upload: &Upload, entry: &Entry, body: ByteStream) -> Result<Vec<CompletedPart>> {
        let layout = self.0.layout;
        let before = layout.before(entry.version(), self.0.stamp.versions());
        let pieces = Pieces {
            store: self.clone(),
            body: Some(body),
            buffer: BytesMut::from(before),
            crc: 0,
            seen: 0,
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
        Ok(parts)
    }
}

/// A body cut into pieces of equal size, except the last.
struct Pieces {
    store: S3Store,
    body: Option<ByteStream>,
    buffer: BytesMut,
    crc: u32,
    seen: u64,
    size: usize,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(body) = self.body.as_mut().filter(|_| self.buffer.len() < self.size) {
            if let Some(part) = body.next().await {
                let part = part?;
                self.seen += part.len() as u64;
                self.store.0.capabilities.check_value(self.seen)?;
                self.crc = crc32c::crc32c_append(self.crc, &part);
                self.buffer.extend_from_slice(&part);
            } else {
                self.body = None;
                self.buffer.extend_from_slice(&self.store.0.layout.behind(Checksum::from_u32(self.crc)));
            }
        }
        let size = self.buffer.len().min(self.size);
        Ok(Some(self.buffer.split_to(size).freeze()).filter(|piece| !piece.is_empty()))
    }
}
