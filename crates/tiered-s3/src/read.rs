//! Reads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::{Checksum, Reads, Validator, clamp_range};
use tiered_core::{
    ByteStream, Entry, Error, ErrorKind, Key, Known, Lookup, Metadata, Operation, Read, ReadOptions, Result,
};

use crate::error::{Failed, changed, late, torn};
use crate::head::Head;
use crate::layout::BEHIND;
use crate::parts::Parts;
use crate::store::S3Store;

/// Reads at a time of one call for several keys.
const CONCURRENCY: usize = 16;

/// More bytes than any object has. Some servers refuse larger numbers in a range.
const LARGEST: u64 = 1 << 48;

/// How long a streamed value may stand still.
pub(crate) const STANDSTILL: Duration = Duration::from_secs(20);

/// The answer of a request that read an object.
struct Got {
    head: Head,
    body: Bytes,
}

impl S3Store {
    /// The headers of an object; `None` if it does not exist.
    pub(crate) async fn look(&self, key: &Key) -> Result<Option<Head>> {
        let name = self.0.client.name(key);
        self.0.client.repeat(|| self.look_once(&name)).await.map_err(Failed::into_error)
    }

    async fn look_once(&self, name: &str) -> Result<Option<Head>, Failed> {
        let client = &self.0.client;
        match client.once(0, client.s3.head_object().bucket(&client.bucket).key(name).send()).await {
            Ok(answer) => Head::of_head(&answer, self.0.layout).map(Some),
            Err(Failed::Missing) => Ok(None),
            // The answer carries no reason, so it does not prove that the write had no effect.
            Err(Failed::Error(error)) if error.kind() == ErrorKind::Other => {
                let message = "the server refuses to show the object's headers, and does not say why";
                let text = error.chain();
                let outcome = error.write_outcome();
                let error = Error::new(ErrorKind::Unavailable, message).with_source(text).outcome_is(outcome);
                Err(Failed::Error(error))
            }
            Err(failed) => Err(failed),
        }
    }

    /// What the headers of a live object say.
    pub(crate) async fn look_live(&self, key: &Key) -> Result<Option<Head>> {
        Ok(self.look(key).await?.filter(|head| head.is_live(self.0.stamp.now())))
    }

    async fn look_live_once(&self, name: &str) -> Result<Option<Head>, Failed> {
        Ok(self.look_once(name).await?.filter(|head| head.is_live(self.0.stamp.now())))
    }

    /// Reads an object, or the bytes `range` of it. `None`: there is no live one; then the body is not read.
    /// [`Failed::Condition`]: it is another one than `only`.
    async fn get(
        &self,
        name: &str,
        range: Option<Range<u64>>,
        only: Option<&Known>,
    ) -> Result<Option<Got>, Failed> {
        let client = &self.0.client;
        let etag = only.and_then(|known| known.validator.as_ref()).map(Validator::as_str);
        let answer = match client.once(0, self.ask(name, range.as_ref(), etag).send()).await {
            Ok(answer) => answer,
            Err(Failed::Missing) => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let head = Head::of_get(&answer, self.0.layout)?;
        if !head.is_live(self.0.stamp.now()) {
            return Ok(None);
        }
        // An ETag is no version, and some servers ignore it: the body is not read where the headers name another one.
        is_wanted(&head, only)?;
        let length = length(&answer);
        if length > self.0.capabilities.max_value().saturating_add(self.0.layout.start() + BEHIND) {
            let message = "the object is larger than max_value; raise it";
            return Err(Failed::Error(Error::new(ErrorKind::TooLarge, message)));
        }
        let skipped = range.map_or(Ok(0), |range| skip(&answer, range.start))?;
        let body = tokio::time::timeout(client.limit(length), collect(answer.body, length)).await;
        let body = body.unwrap_or_else(|_| Err(Failed::Error(late(true))))?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(body.len());
        Ok(Some(Got { head, body: body.slice(skipped..) }))
    }

    /// The request for an object, or for the bytes `range` of it.
    fn ask(&self, name: &str, range: Option<&Range<u64>>, etag: Option<&str>) -> GetObjectFluentBuilder {
        let client = &self.0.client;
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        client
            .s3
            .get_object()
            .bucket(&client.bucket)
            .key(name)
            .set_range(range)
            .set_if_match(etag.map(str::to_owned))
    }

    pub(crate) async fn load_entry(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check_open(Operation::Load)?;
        self.check_key(key)?;
        if let Some(known) = &options.unless {
            // An ETag alone does not tell: equal bytes have an equal one, under whatever version.
            match self.look_live(key).await? {
                None => return Ok(Read::from_store(Lookup::Absent)),
                Some(head) if options.excludes(&head.version) => {
                    return Ok(Read::from_store(Lookup::Changed));
                }
                Some(head) if head.version == known.version => {
                    return Ok(Read::from_store(Lookup::Unchanged));
                }
                Some(_) => {}
            }
        }
        let (range, only) = (options.range.as_ref(), options.if_version.as_ref());
        let entry = match self.load_object(key, range, only).await {
            // The ETag tells whether it is worth sending anything. It can be another one under the same version.
            Err(Failed::Condition) if only.is_some_and(|known| known.validator.is_some()) => {
                let only = only.map(|known| Known::from(known.version.clone()));
                self.load_object(key, range, only.as_ref()).await
            }
            entry => entry,
        };
        match entry {
            Err(Failed::Condition) if only.is_some() => Ok(Read::from_store(Lookup::Changed)),
            Err(failed) => Err(failed.into_error()),
            Ok(entry) => Ok(Read::from_store(entry.map_or(Lookup::Absent, Lookup::Found))),
        }
    }

    /// An object, or a part of it. [`Failed::Condition`] where it is not the one that is asked for.
    async fn load_object(
        &self,
        key: &Key,
        range: Option<&Range<u64>>,
        only: Option<&Known>,
    ) -> Result<Option<Entry>, Failed> {
        let name = self.0.client.name(key);
        let client = &self.0.client;
        match range {
            None => client.repeat(|| self.whole_once(&name, only)).await,
            Some(range) => client.repeat(|| self.range_once(&name, range, only)).await,
        }
    }

    async fn whole_once(&self, name: &str, only: Option<&Known>) -> Result<Option<Entry>, Failed> {
        let Some(Got { head, body }) = self.get(name, None, only).await? else { return Ok(None) };
        let checksum = Checksum::of(&body);
        let opened = self.0.layout.open(&body);
        let (value, sealed) = opened.map_err(|error| head.damaged(error, checksum))?;
        let seen = Checksum::of(&value);
        if [head.checksum, sealed].into_iter().flatten().any(|stored| stored != seen) {
            return Err(head.damaged(mismatch(), checksum));
        }
        let metadata = head.metadata(Some(seen)).map_err(Failed::Error)?;
        Ok(Some(Entry::from_parts(value, Arc::new(metadata))))
    }

    async fn range_once(
        &self,
        name: &str,
        range: &Range<u64>,
        only: Option<&Known>,
    ) -> Result<Option<Entry>, Failed> {
        let offset = self.0.layout.start();
        if range.start < range.end.min(LARGEST) {
            let shifted = range.start + offset..range.end.min(LARGEST) + offset;
            match self.get(name, Some(shifted), only).await {
                Ok(None) => return Ok(None),
                Ok(Some(Got { head, body })) => {
                    let clamped = clamp_range(range, head.size).map_err(Failed::Error)?;
                    // What stands behind the value of an envelope may have come along.
                    let length = usize::try_from(clamped.end - clamped.start).unwrap_or(usize::MAX);
                    if body.len() < length {
                        return Err(Failed::Torn(torn("the part is shorter than the object has it")));
                    }
                    let value = body.slice(..length);
                    return part_of(head, value).map(Some);
                }
                // It begins at the end, or beyond: the size decides.
                Err(Failed::Range) => {}
                Err(failed) => return Err(failed),
            }
        }
        let Some(head) = self.look_live_once(name).await? else { return Ok(None) };
        is_wanted(&head, only)?;
        clamp_range(range, head.size).map_err(Failed::Error)?;
        part_of(head, Bytes::new()).map(Some)
    }

    /// The value's checksum, for a writer that looks whether the object is its own. Where no header has it, since it was
    /// streamed, it is read behind the value of an envelope, and a plain object is read through.
    pub(crate) async fn checksum(&self, name: &str, head: &Head) -> Result<Checksum, Failed> {
        if let Some(checksum) = head.checksum {
            return Ok(checksum);
        }
        let layout = self.0.layout;
        let start = layout.start();
        if start > 0 {
            let behind = start + head.size..start + head.size + BEHIND;
            let only = Known::from(&head.clone().metadata(None).map_err(Failed::Error)?);
            let got = self.get(name, Some(behind), Some(&only)).await.map_err(is_changed)?;
            let crc = got.and_then(|got| got.body.first_chunk::<4>().copied());
            let crc = crc.ok_or_else(|| Failed::Torn(changed()))?;
            return Ok(Checksum::from_u32(u32::from_be_bytes(crc)));
        }
        self.read_through(name, head).await.map_err(is_changed)
    }

    /// The checksum of a plain object's bytes, in the memory of one part.
    async fn read_through(&self, name: &str, head: &Head) -> Result<Checksum, Failed> {
        let client = &self.0.client;
        let mut body = client.once(0, self.ask(name, None, Some(&head.etag)).send()).await?.body;
        let (mut crc, mut seen) = (0, 0_u64);
        loop {
            let part = tokio::time::timeout(STANDSTILL, body.next()).await;
            match part.map_err(|_| Failed::Error(late(true)))? {
                None if seen != head.size => return Err(Failed::Torn(torn("the body has another length"))),
                None => return Ok(Checksum::from_u32(crc)),
                Some(Ok(part)) => {
                    seen += part.len() as u64;
                    crc = crc32c::crc32c_append(crc, &part);
                }
                Some(Err(error)) => return Err(Failed::Torn(torn(error))),
            }
        }
    }

    pub(crate) async fn head_entry(&self, key: &Key) -> Result<Option<Arc<Metadata>>> {
        self.check_open(Operation::Load)?;
        self.check_key(key)?;
        let name = self.0.client.name(key);
        let metadata = self.0.client.repeat(|| self.metadata_once(&name)).await;
        Ok(metadata.map_err(Failed::into_error)?.map(Arc::new))
    }

    async fn metadata_once(&self, name: &str) -> Result<Option<Metadata>, Failed> {
        let Some(head) = self.look_live_once(name).await? else { return Ok(None) };
        let checksum = head.checksum;
        head.metadata(checksum).map(Some).map_err(Failed::Error)
    }

    pub(crate) async fn load_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        let read = |key: Key| {
            let (store, options) = (self.clone(), options.clone());
            async move {
                let read = store.load_entry(&key, &options).await;
                read.map_err(|error| store.failed(error, Operation::LoadMany).for_key(&key))
            }
        };
        stream::iter(keys.to_vec()).map(read).buffered(CONCURRENCY).collect().await
    }

    pub(crate) async fn stream_entry(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.check_open(Operation::Load)?;
        self.check_key(key)?;
        let name = self.0.client.name(key);
        let begun = self.0.client.repeat(|| self.stream_once(&name, options.range.as_ref())).await;
        let Some((metadata, parts)) = begun.map_err(Failed::into_error)? else { return Ok(None) };
        let body: ByteStream = match parts {
            Some(parts) => parts.stream(key.clone()),
            None => Box::pin(stream::empty()),
        };
        Ok(Some((Arc::new(metadata), body)))
    }

    /// The metadata of an object, and its body; no body where none of it is asked for.
    async fn stream_once(
        &self,
        name: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Option<(Metadata, Option<Parts>)>, Failed> {
        let Some(head) = self.look_live_once(name).await? else { return Ok(None) };
        let all = 0..head.size;
        let range = clamp_range(range.unwrap_or(&all), head.size).map_err(Failed::Error)?;
        let whole = range == all;
        // An envelope has it behind the value: a few bytes, without which a whole value could not be verified.
        let checksum = match head.checksum {
            None if whole && self.0.layout.start() > 0 => Some(self.checksum(name, &head).await?),
            known => known,
        };
        let metadata = head.clone().metadata(checksum).map_err(Failed::Error)?;
        if range.is_empty() {
            return Ok(Some((metadata, None)));
        }
        let parts = Parts {
            body: self.body_of(name, &head, &range).await.map_err(is_changed)?,
            left: range,
            failures: 0,
            crc: 0,
            expected: checksum.filter(|_| whole),
            name: name.to_owned(),
            head,
            store: self.clone(),
        };
        Ok(Some((metadata, Some(parts))))
    }

    /// The bytes `range` of a value, if the object is still the one of `head`.
    pub(crate) async fn body_of(&self, name: &str, head: &Head, range: &Range<u64>) -> Result<Body, Failed> {
        let offset = self.0.layout.start();
        let shifted = range.start + offset..range.end + offset;
        let answer = self.0.client.once(0, self.ask(name, Some(&shifted), Some(&head.etag)).send()).await?;
        if skip(&answer, shifted.start)? > 0 || length(&answer) != range.end - range.start {
            return Err(Failed::Error(Error::new(
                ErrorKind::Unsupported,
                "the server gives another part of the object than the one asked for; use another",
            )));
        }
        Ok(answer.body)
    }

    /// Why a value that was streamed as a whole does not match its checksum: whether it was another writer.
    pub(crate) async fn blame(&self, name: &str, head: &Head, expected: Checksum) -> Error {
        let again = self.0.client.repeat(|| async {
            let now = self.look_once(name).await?;
            if now.is_none_or(|now| now.etag != head.etag || now.version != head.version) {
                return Err(Failed::Error(changed()));
            }
            if self.0.layout.start() > 0 { Ok(None) } else { self.read_through(name, head).await.map(Some) }
        });
        match again.await.map_err(is_changed) {
            Ok(Some(checksum)) if checksum == expected => changed(),
            Ok(_) => mismatch(),
            Err(failed) => failed.into_error(),
        }
    }
}

/// An entry of a part of the value, or of none of it.
fn part_of(head: Head, value: Bytes) -> Result<Entry, Failed> {
    let checksum = head.checksum;
    let metadata = head.metadata(checksum).map_err(Failed::Error)?;
    Ok(Entry::from_parts(value, Arc::new(metadata)))
}

/// Whether the object is the one that is asked for.
fn is_wanted(head: &Head, only: Option<&Known>) -> Result<(), Failed> {
    if only.is_none_or(|known| known.version == head.version) { Ok(()) } else { Err(Failed::Condition) }
}

/// Between two requests the object became another one, or none.
fn is_changed(failed: Failed) -> Failed {
    match failed {
        Failed::Condition | Failed::Missing | Failed::Range => Failed::Torn(changed()),
        failed => failed,
    }
}

pub(crate) fn mismatch() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the value does not match its checksum; restore it from another tier or a backup",
    )
}

/// How much of the body stands before the byte that was asked for: nothing where the server gives the part alone, all
/// that is before it where it gives the whole object.
fn skip(answer: &GetObjectOutput, start: u64) -> Result<u64, Failed> {
    let Some(range) = answer.content_range() else { return Ok(start) };
    let first = range.trim_start_matches("bytes").trim_start().split('-').next();
    let first: Option<u64> = first.and_then(|first| first.parse().ok());
    match first {
        Some(first) if first <= start => Ok(start - first),
        _ => Err(Failed::Torn(torn("the server gives another part than the one asked for"))),
    }
}

fn length(answer: &GetObjectOutput) -> u64 {
    answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0)
}

/// A whole body, which has as many bytes as were announced.
async fn collect(mut body: Body, length: u64) -> Result<Bytes, Failed> {
    let mut first = None;
    let mut all = BytesMut::new();
    let mut seen = 0_u64;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| Failed::Torn(torn(error)))?;
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
        return Err(Failed::Torn(torn("the body ended before its end")));
    }
    Ok(if all.is_empty() { first.unwrap_or_default() } else { all.freeze() })
}
