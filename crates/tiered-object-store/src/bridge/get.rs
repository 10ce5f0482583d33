//! Reads.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use tiered_core::{ByteStream, Known, Lookup, Metadata, ReadOptions};

use super::object_store::path::Path;
use super::object_store::{
    Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result,
};
use super::view::{ObjectView, replaced};
use super::{attributes, error, get_result};
use crate::{Answer, etag};

/// How often a read begins anew that found its object replaced.
const ATTEMPTS: usize = 8;

/// What `object_store` tells of an entry.
pub(super) fn meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: time(metadata),
        size: metadata.size,
        e_tag: Some(etag::of(&metadata.version)),
        version: None,
    }
}

fn time(metadata: &Metadata) -> DateTime<Utc> {
    let millis = i64::try_from(metadata.modified.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The only e-tag of a condition, where it is one of ours.
fn single(condition: Option<&String>) -> Option<Known> {
    condition.and_then(|condition| etag::parse(condition)).map(Known::from)
}

impl ObjectView {
    pub(super) async fn get_object(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = Self::key(location)?;
        if options.version.is_some() {
            return Err(error::unsupported("the store keeps no older versions of an object"));
        }
        let asked = self.options(location, &options.extensions);
        if options.head {
            let metadata =
                self.store().head(&key, &asked).await.map_err(|failed| error::of(failed, location))?;
            let metadata = metadata.ok_or_else(|| error::not_found(location))?;
            return Self::answer(
                location,
                &options,
                &metadata,
                whole(&metadata),
                Body::Whole(Bytes::new()),
                None,
            );
        }
        for _ in 0..ATTEMPTS {
            if let Some(result) = self.get_once(location, &options, &asked).await? {
                return Ok(result);
            }
        }
        Err(replaced(location))
    }

    /// One attempt; `None` where the object was replaced meanwhile.
    async fn get_once(
        &self,
        location: &Path,
        options: &GetOptions,
        asked: &ReadOptions,
    ) -> Result<Option<GetResult>> {
        let key = Self::key(location)?;
        let store = self.store();
        let failed = |failed| error::of(failed, location);
        // Of an object whose size does not matter nothing is to be known before it is read.
        let known = match &options.range {
            Some(GetRange::Bounded(_)) => None,
            None if store.capabilities().max_value() <= self.whole() => None,
            _ => {
                let metadata = store.head(&key, asked).await.map_err(failed)?;
                Some(metadata.ok_or_else(|| error::not_found(location))?)
            }
        };
        if let Some(metadata) = &known {
            options.check_preconditions(&meta(location.clone(), metadata))?;
        }
        let range = match (&options.range, &known) {
            (None, _) => None,
            (Some(range), None) => Some(resolved(range, u64::MAX)?),
            (Some(range), Some(metadata)) => Some(resolved(range, metadata.size)?),
        };
        let length = match (&range, &known) {
            (Some(range), _) => range.end - range.start,
            (None, Some(metadata)) => metadata.size,
            (None, None) => 0,
        };
        let mut asked = asked.clone();
        asked.range.clone_from(&range);
        if length > self.whole() {
            return self.get_streamed(location, options, &asked).await.map(Some);
        }
        // A range that was worked out from a size fits that version alone.
        let pinned = known.as_ref().filter(|_| range.is_some()).map(|metadata| Known::from(&**metadata));
        let replaceable = pinned.is_some();
        asked.if_version = pinned.or_else(|| single(options.if_match.as_ref()));
        asked.unless = single(options.if_none_match.as_ref());
        let read = store.load(&key, &asked).await.map_err(failed)?;
        let answer = Answer::of(&read);
        match read.lookup {
            Lookup::Absent => Err(error::not_found(location)),
            Lookup::Changed if replaceable => Ok(None),
            Lookup::Changed => Err(error::precondition(location, "the object is of another e-tag")),
            Lookup::Unchanged => Err(super::object_store::Error::NotModified {
                path: location.to_string(),
                source: "the object is still of this e-tag".into(),
            }),
            Lookup::Found(entry) => {
                let metadata = Arc::clone(entry.metadata());
                let range = within(range, &metadata)?;
                let body = Body::Whole(entry.into_value());
                Self::answer(location, options, &metadata, range, body, Some(answer)).map(Some)
            }
        }
    }

    async fn get_streamed(
        &self,
        location: &Path,
        options: &GetOptions,
        asked: &ReadOptions,
    ) -> Result<GetResult> {
        let key = Self::key(location)?;
        let read =
            self.store().read_stream(&key, asked).await.map_err(|failed| error::of(failed, location))?;
        let (metadata, body) = read.ok_or_else(|| error::not_found(location))?;
        let range = within(asked.range.clone(), &metadata)?;
        Self::answer(location, options, &metadata, range, Body::Streamed(body), None)
    }

    fn answer(
        location: &Path,
        options: &GetOptions,
        metadata: &Metadata,
        range: Range<u64>,
        body: Body,
        answer: Option<Answer>,
    ) -> Result<GetResult> {
        let meta = meta(location.clone(), metadata);
        options.check_preconditions(&meta)?;
        let attributes = attributes::to_object(&metadata.attributes);
        let location = location.clone();
        let payload = match body {
            Body::Whole(bytes) => stream::iter([Ok(bytes)]).boxed(),
            Body::Streamed(body) => {
                body.map(move |part| part.map_err(|failed| error::of(failed, &location))).boxed()
            }
        };
        Ok(get_result(GetResultPayload::Stream(payload), meta, range, attributes, answer))
    }

    pub(super) async fn get_parts(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let key = Self::key(location)?;
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        for range in ranges {
            resolved(&GetRange::Bounded(range.clone()), u64::MAX)?;
        }
        let options = self.options(location, &Extensions::new());
        let read = self.store().get_ranges(&key, ranges, &options).await;
        match read.map_err(|failed| error::of(failed, location))?.lookup {
            Lookup::Found(slices) => {
                for range in ranges {
                    within(Some(range.clone()), &slices.metadata)?;
                }
                Ok(slices.values)
            }
            Lookup::Absent => Err(error::not_found(location)),
            Lookup::Changed | Lookup::Unchanged => Err(replaced(location)),
        }
    }
}

/// What a read gives.
enum Body {
    Whole(Bytes),
    Streamed(ByteStream),
}

fn whole(metadata: &Metadata) -> Range<u64> {
    0..metadata.size
}

/// The bytes that a range means of an object of this size. Unlike a store's, it is not empty.
fn resolved(range: &GetRange, size: u64) -> Result<Range<u64>> {
    let (start, end) = match range {
        GetRange::Bounded(range) => (range.start, range.end),
        GetRange::Offset(start) => (*start, size),
        GetRange::Suffix(length) => (size.saturating_sub(*length), size),
    };
    let is_suffix = matches!(range, GetRange::Suffix(_));
    if start < end && start < size || is_suffix {
        return Ok(start..end.min(size));
    }
    Err(error::generic(format!("the range {range:?} is empty, or lies beyond the object")))
}

/// The part of a range that an object has.
fn within(range: Option<Range<u64>>, metadata: &Metadata) -> Result<Range<u64>> {
    match range {
        None => Ok(whole(metadata)),
        // What a suffix of nothing was worked out to.
        Some(range) if range.is_empty() => Ok(range),
        Some(range) => resolved(&GetRange::Bounded(range), metadata.size),
    }
}
