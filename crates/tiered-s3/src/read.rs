//! Reads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tiered_core::{
    ByteStream, Checksum, Entry, Error, ErrorKind, Key, Lookup, Metadata, Operation, Read, ReadOptions,
    Result, clamp_range,
};

use crate::client::repeat;
use crate::error::{Failed, late};
use crate::head::Head;
use crate::store::S3Store;

/// Reads at a time of one call for several keys.
const CONCURRENCY: usize = 16;

/// More bytes than any object has. Some servers refuse larger numbers in a range.
const LARGEST: u64 = 1 << 48;

/// How long a streamed value may stand still.
const STANDSTILL: Duration = Duration::from_secs(20);

/// The answer of a request that read an object.
struct Got {
    head: Head,
    body: Bytes,
}

impl S3Store {
    /// What the headers of an object say; `None` where there is none.
    pub(crate) async fn look(&self, key: &Key) -> Result<Option<Head>> {
        let client = &self.0.client;
        let name = client.name(key);
        let looked =
            repeat(|| client.once(0, client.s3.head_object().bucket(&client.bucket).key(&name).send())).await;
        match looked {
            Ok(answer) => Head::of_head(&answer, self.0.layout).map(Some),
            Err(Failed::Missing) => Ok(None),
            Err(failed) => Err(failed.into_error()),
        }
    }

    /// What the headers of a live object say.
    pub(crate) async fn look_live(&self, key: &Key) -> Result<Option<Head>> {
        Ok(self.look(key).await?.filter(|head| head.is_live(self.0.stamp.now())))
    }

    /// Reads an object, or the bytes `range` of it. `None`: there is no live one; then the body is not read.
    async fn get(
        &self,
        name: &str,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Option<Got>, Failed> {
        let client = &self.0.client;
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let request = client
            .s3
            .get_object()
            .bucket(&client.bucket)
            .key(name)
            .set_range(range)
            .set_if_match(etag.map(str::to_owned));
        let answer = match client.once(0, request.send()).await {
            Ok(answer) => answer,
            Err(Failed::Missing) => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let head = Head::of_get(&answer, self.0.layout).map_err(Failed::Error)?;
        if !head.is_live(self.0.stamp.now()) {
            return Ok(None);
        }
        let length = length(&answer);
        if length > self.0.capabilities.value_limit().saturating_add(self.0.layout.start() + 4) {
            let message = "the object is larger than max_value; raise it";
            return Err(Failed::Error(Error::new(ErrorKind::TooLarge, message)));
        }
        let body = tokio::time::timeout(client.limit(length), collect(answer.body, length)).await;
        let body = body.unwrap_or_else(|_| Err(late())).map_err(Failed::Error)?;
        Ok(Some(Got { head, body }))
    }

    pub(crate) async fn load_entry(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open(Operation::Load)?;
        self.check_key(key)?;
        if let Some(known) = &options.unless {
            // An ETag alone does not tell: equal bytes have an equal one, under whatever version.
            match self.look_live(key).await? {
                None => return Ok(Read::from_store(Lookup::Absent)),
                Some(head) if head.version == known.version => {
                    return Ok(Read::from_store(Lookup::Unchanged));
                }
                Some(_) => {}
            }
        }
        let entry = match &options.range {
            None => self.load_whole(key).await?,
            Some(range) => self.load_range(key, range).await?,
        };
        Ok(Read::from_store(entry.map_or(Lookup::Absent, Lookup::Found)))
    }

    async fn load_whole(&self, key: &Key) -> Result<Option<Entry>> {
        let name = self.0.client.name(key);
        let got = repeat(|| self.get(&name, None, None)).await.map_err(Failed::into_error)?;
        let Some(Got { head, body }) = got else { return Ok(None) };
        let (value, sealed) = self.0.layout.open(&body)?;
        let seen = Checksum::of(&value);
        if [head.checksum, sealed].into_iter().flatten().any(|stored| stored != seen) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the value does not match its checksum; restore it from another tier or a backup",
            ));
        }
        self.remember(&head, seen);
        Ok(Some(Entry::from_parts(value, Arc::new(head.metadata(seen)?))))
    }

    async fn load_range(&self, key: &Key, range: &Range<u64>) -> Result<Option<Entry>> {
        let name = self.0.client.name(key);
        let offset = self.0.layout.start();
        if range.start < range.end.min(LARGEST) {
            let shifted = range.start + offset..range.end.min(LARGEST) + offset;
            match repeat(|| self.get(&name, Some(shifted.clone()), None)).await {
                Ok(None) => return Ok(None),
                Ok(Some(Got { head, body })) => {
                    let clamped = clamp_range(range, head.size)?;
                    // What stands behind the value of an envelope may have come along.
                    let length = usize::try_from(clamped.end - clamped.start).unwrap_or(usize::MAX);
                    let value = body.slice(..length.min(body.len()));
                    return self.complete(&name, head, value).await.map(Some);
                }
                // It begins at the end, or beyond: the size decides.
                Err(Failed::Range) => {}
                Err(failed) => return Err(failed.into_error()),
            }
        }
        let Some(head) = self.look_live(key).await? else { return Ok(None) };
        clamp_range(range, head.size)?;
        self.complete(&name, head, Bytes::new()).await.map(Some)
    }

    /// An entry of a part of the value, or of none of it.
    async fn complete(&self, name: &str, head: Head, value: Bytes) -> Result<Entry> {
        let checksum = self.checksum(name, &head).await?;
        Ok(Entry::from_parts(value, Arc::new(head.metadata(checksum)?)))
    }

    /// The value's checksum. Where no header has it, since another client wrote the object or it was streamed, the
    /// object is read through, once: it is remembered.
    async fn checksum(&self, name: &str, head: &Head) -> Result<Checksum> {
        if let Some(checksum) = head.checksum.or_else(|| self.recall(head)) {
            return Ok(checksum);
        }
        let layout = self.0.layout;
        let start = layout.start();
        if start > 0 {
            let behind = start + head.size..start + head.size + crate::layout::BEHIND;
            let got = repeat(|| self.get(name, Some(behind.clone()), Some(&head.etag))).await;
            let crc = got.map_err(changed)?.and_then(|got| got.body.first_chunk::<4>().copied());
            let crc = crc.ok_or_else(|| changed(Failed::Missing))?;
            return Ok(Checksum::from_u32(u32::from_be_bytes(crc)));
        }
        let checksum = repeat(|| self.read_through(name, head)).await.map_err(changed)?;
        self.remember(head, checksum);
        Ok(checksum)
    }

    /// The checksum of an object's bytes, in the memory of one part.
    async fn read_through(&self, name: &str, head: &Head) -> Result<Checksum, Failed> {
        let client = &self.0.client;
        let request = client.s3.get_object().bucket(&client.bucket).key(name).if_match(&head.etag);
        let mut body = client.once(0, request.send()).await?.body;
        let mut crc = 0;
        loop {
            let part =
                tokio::time::timeout(STANDSTILL, body.next()).await.map_err(|_| Failed::Error(late()))?;
            match part {
                None => return Ok(Checksum::from_u32(crc)),
                Some(Ok(part)) => crc = crc32c::crc32c_append(crc, &part),
                Some(Err(error)) => return Err(Failed::Error(broken(error))),
            }
        }
    }

    pub(crate) async fn head_entry(&self, key: &Key) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        self.check_key(key)?;
        let Some(head) = self.look_live(key).await? else { return Ok(None) };
        let checksum = self.checksum(&self.0.client.name(key), &head).await?;
        Ok(Some(Arc::new(head.metadata(checksum)?)))
    }

    pub(crate) async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<Read>> {
        let mut reads = Vec::with_capacity(keys.len());
        let mut running = stream::iter(keys.to_vec())
            .map(|key| {
                let (store, options) = (self.clone(), options.clone());
                async move { store.load_entry(&key, &options).await.map_err(|error| error.for_key(&key)) }
            })
            .buffered(CONCURRENCY);
        while let Some(read) = running.next().await {
            reads.push(read?);
        }
        Ok(reads)
    }

    pub(crate) async fn stream_entry(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let Some(metadata) = self.head_entry(key).await? else { return Ok(None) };
        let all = 0..metadata.size;
        let range = clamp_range(options.range.as_ref().unwrap_or(&all), metadata.size)?;
        if range.is_empty() {
            return Ok(Some((metadata, Box::pin(stream::empty()))));
        }
        let whole = range == all;
        let client = &self.0.client;
        let offset = self.0.layout.start();
        let etag = metadata.note.validator.as_ref().map(|validator| validator.as_str().to_owned());
        let answer = repeat(|| {
            let request = client
                .s3
                .get_object()
                .bucket(&client.bucket)
                .key(client.name(key))
                .range(format!("bytes={}-{}", range.start + offset, range.end + offset - 1))
                .set_if_match(etag.clone());
            client.once(0, request.send())
        });
        let answer = answer.await.map_err(changed)?;
        let expected = whole.then_some(metadata.checksum);
        let parts = Parts {
            body: answer.body,
            left: range.end - range.start,
            crc: 0,
            expected,
            store: self.clone(),
            key: key.clone(),
        };
        Ok(Some((metadata, parts.stream())))
    }
}

/// A streamed value, checked at its end.
struct Parts {
    body: Body,
    left: u64,
    crc: u32,
    /// The checksum, where the whole value is streamed.
    expected: Option<Checksum>,
    store: S3Store,
    key: Key,
}

impl Parts {
    fn stream(self) -> ByteStream {
        Box::pin(stream::unfold(Some(self), |parts| async move {
            let mut parts = parts?;
            match parts.next().await {
                Ok(Some(part)) => Some((Ok(part), Some(parts))),
                Ok(None) => None,
                Err(error) => {
                    let error = parts.store.failed(error, Operation::Load).for_key(&parts.key);
                    Some((Err(error), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let part = tokio::time::timeout(STANDSTILL, self.body.next()).await.map_err(|_| late())?;
        match part {
            Some(Ok(part)) => {
                self.left = self.left.saturating_sub(part.len() as u64);
                self.crc = crc32c::crc32c_append(self.crc, &part);
                Ok(Some(part))
            }
            Some(Err(error)) => Err(broken(error)),
            None if self.left > 0 => Err(broken("the body ended before its end")),
            None if self.expected.is_some_and(|expected| expected != Checksum::from_u32(self.crc)) => {
                Err(Error::new(
                    ErrorKind::Corrupt,
                    "the value does not match its checksum; restore it from another tier or a backup",
                ))
            }
            None => Ok(None),
        }
    }
}

/// Between two requests the object became another one, or none.
fn changed(failed: Failed) -> Error {
    match failed {
        Failed::Condition | Failed::Missing | Failed::Range => Error::new(
            ErrorKind::Unavailable,
            "the entry was replaced while it was read in parts; read it again",
        ),
        failed => failed.into_error(),
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke within the value").with_source(error)
}

fn length(answer: &GetObjectOutput) -> u64 {
    answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}

/// A whole body, which has as many bytes as were announced.
async fn collect(mut body: Body, length: u64) -> Result<Bytes> {
    let mut first = None;
    let mut all = BytesMut::new();
    let mut seen = 0_u64;
    while let Some(part) = body.next().await {
        let part = part.map_err(broken)?;
        seen += part.len() as u64;
        match &first {
            None => first = Some(part),
            Some(before) => {
                if all.is_empty() {
                    all.reserve(usize::try_from(length).unwrap_or(0).min(64 << 20));
                    all.extend_from_slice(before);
                }
                all.extend_from_slice(&part);
            }
        }
    }
    if seen != length {
        return Err(broken("the body ended before its end"));
    }
    Ok(if all.is_empty() { first.unwrap_or_default() } else { all.freeze() })
}
