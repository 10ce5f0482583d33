//! Reads: whole entries, ranges by frame, heads.

use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::{NEAR, Reads, clamp_range, load_ranges};
use tiered_core::{
    Entry, Error, ErrorKind, Key, Known, Lookup, Metadata, Operation, Read, ReadOptions, Result, Slices,
};

use super::codec::{Codec, Head};
use super::frames::{self, Opened};
use super::{Sealed, cut, outside};
use crate::facts;

/// How much of a value is read for its head. The head of a compressed value of 256 MiB is that long, and a value that is no
/// longer takes one read.
const PROBE: u64 = 16 << 10;

/// How often a read that found its value replaced begins anew.
const ATTEMPTS: usize = 8;

/// After so many attempts, a value of at most [`SMALL`] bytes is read whole: one read is of one version. Nested wrappers would
/// multiply their attempts.
const BY_PARTS: usize = 2;
const SMALL: u64 = 16 << 20;

/// Ranges of several keys that are read at a time.
const CONCURRENCY: usize = 8;

/// What a read that consists of several found.
enum Found<T> {
    Here(T),
    /// The version was replaced or deleted in between.
    Gone(Lookup),
}

impl<C: Codec> Sealed<C> {
    pub(crate) async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        if let Some(range) = &options.range {
            return self.load_part(key, options, range).await;
        }
        let mut read = self.inner().load(key, options).await?;
        if let Lookup::Found(entry) = &read.lookup {
            read.lookup = Lookup::Found(self.whole(Operation::Load, key, entry).await?);
        }
        Ok(read)
    }

    /// A whole entry, from the whole entry inside.
    pub(super) async fn whole(&self, operation: Operation, key: &Key, entry: &Entry) -> Result<Entry> {
        let whole = frames::whole(&self.0.codec, key, entry).await;
        whole.map_err(|error| self.failed(operation, key, error))
    }

    async fn load_part(&self, key: &Key, options: &ReadOptions, range: &Range<u64>) -> Result<Read> {
        let first = options.clone().range(0..PROBE);
        for attempt in 0..ATTEMPTS {
            let mut read = self.inner().load(key, &first).await?;
            let Lookup::Found(entry) = &read.lookup else { return Ok(read) };
            if attempt >= BY_PARTS && entry.size() <= SMALL {
                return self.part_of_whole(key, options, range).await;
            }
            let found = self.part(key, options, entry, range).await;
            match found.map_err(|error| self.failed(Operation::Load, key, error))? {
                Found::Here(part) => read.lookup = Lookup::Found(part),
                Found::Gone(lookup) if options.if_version.is_some() => read.lookup = lookup,
                Found::Gone(_) => continue,
            }
            return Ok(read);
        }
        Err(self.failed(Operation::Load, key, replaced()))
    }

    async fn part_of_whole(&self, key: &Key, options: &ReadOptions, range: &Range<u64>) -> Result<Read> {
        let mut options = options.clone();
        options.range = None;
        let mut read = self.inner().load(key, &options).await?;
        if let Lookup::Found(entry) = &read.lookup {
            let whole = self.whole(Operation::Load, key, entry).await?;
            let part = whole.slice(range).map_err(|error| self.failed(Operation::Load, key, error))?;
            read.lookup = Lookup::Found(part);
        }
        Ok(read)
    }

    /// A range of the value, of which the beginning was read.
    async fn part(
        &self,
        key: &Key,
        options: &ReadOptions,
        begun: &Entry,
        range: &Range<u64>,
    ) -> Result<Found<Entry>> {
        let (bytes, head) = match self.head_of(key, options, begun).await? {
            Found::Here(opened) => opened,
            Found::Gone(lookup) => return Ok(Found::Gone(lookup)),
        };
        let facts = head.facts();
        let metadata = outside(begun.metadata(), facts)?;
        let range = clamp_range(range, facts.size)?;
        if range.is_empty() {
            return Ok(Found::Here(Entry::from_parts(bytes::Bytes::new(), metadata)));
        }
        let span = frames::span(&head, &frames::touched(&range));
        let (bytes, base) = if span.end <= bytes.len() as u64 {
            (bytes, 0)
        } else {
            match self.more(key, options, begun, span.clone()).await? {
                Found::Here(entry) => (entry.into_value(), span.start),
                Found::Gone(lookup) => return Ok(Found::Gone(lookup)),
            }
        };
        let value = frames::decode(&head, &bytes, base, &range).await?;
        Ok(Found::Here(Entry::from_parts(value, metadata)))
    }

    /// The head of a value of which the beginning was read, and what was read of the value.
    async fn head_of(
        &self,
        key: &Key,
        options: &ReadOptions,
        begun: &Entry,
    ) -> Result<Found<(bytes::Bytes, C::Head)>> {
        let mut bytes = begun.value().clone();
        loop {
            match frames::open(&self.0.codec, key, begun.version(), &bytes, begun.size()).await? {
                Opened::Head(head) => return Ok(Found::Here((bytes, head))),
                Opened::Needs(len) => match self.more(key, options, begun, 0..len as u64).await? {
                    Found::Here(entry) if entry.value().len() == len => bytes = entry.into_value(),
                    Found::Here(_) => return Err(cut()),
                    Found::Gone(lookup) => return Ok(Found::Gone(lookup)),
                },
            }
        }
    }

    /// Another range of what is stored, of the same version.
    async fn more(
        &self,
        key: &Key,
        options: &ReadOptions,
        begun: &Entry,
        range: Range<u64>,
    ) -> Result<Found<Entry>> {
        let mut same = options.clone().range(range).if_version(Known::of(begun));
        same.unless = None;
        Ok(match self.inner().load(key, &same).await?.lookup {
            Lookup::Found(entry) => Found::Here(entry),
            other => Found::Gone(other),
        })
    }

    /// The metadata of a key, and the head of its value. Conditions of the options are ignored.
    pub(crate) async fn open(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, C::Head)>> {
        let mut options = options.clone().range(0..PROBE);
        (options.unless, options.if_version) = (None, None);
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.inner().load(key, &options).await?.into_entry() else { return Ok(None) };
            if let Found::Here((_, head)) = self.head_of(key, &options, &entry).await? {
                return Ok(Some((Arc::clone(entry.metadata()), head)));
            }
        }
        Err(replaced())
    }

    pub(crate) async fn head(&self, key: &Key, options: &ReadOptions) -> Result<Option<Arc<Metadata>>> {
        let failed = |error| self.failed(Operation::Load, key, error);
        let Some(metadata) = self.inner().head(key, options).await? else { return Ok(None) };
        if let Some(metadata) = self.noted(key, &metadata).await.map_err(failed)? {
            return Ok(Some(metadata));
        }
        match self.open(key, options).await.map_err(failed)? {
            Some((metadata, head)) => Ok(Some(outside(&metadata, head.shown()).map_err(failed)?)),
            None => Ok(None),
        }
    }

    /// The metadata that the caller sees, where those inside tell size and checksum.
    pub(super) async fn noted(&self, key: &Key, metadata: &Metadata) -> Result<Option<Arc<Metadata>>> {
        let (_, Some(text)) = facts::take(&metadata.attributes)? else { return Ok(None) };
        let Some(facts) = self.0.codec.facts(key, &metadata.version, &text).await else { return Ok(None) };
        outside(metadata, facts).map(Some)
    }

    pub(crate) async fn get_many(&self, keys: &[Key], options: &ReadOptions) -> Reads {
        if options.range.is_some() {
            let loads: Vec<_> = keys.iter().map(|key| self.load(key, options)).collect();
            return stream::iter(loads).buffered(CONCURRENCY).collect().await;
        }
        let mut reads = self.inner().get_many(keys, options).await;
        for (key, read) in keys.iter().zip(&mut reads) {
            let Ok(found) = read else { continue };
            let Lookup::Found(entry) = &found.lookup else { continue };
            match self.whole(Operation::LoadMany, key, entry).await {
                Ok(entry) => found.lookup = Lookup::Found(entry),
                Err(error) => *read = Err(error),
            }
        }
        reads
    }

    pub(crate) async fn get_ranges(
        &self,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let load = |options: ReadOptions| async move { self.load(key, &options).await };
        let read = load_ranges(ranges, options, NEAR, load).await;
        read.map_err(|error| self.failed(Operation::Load, key, error))
    }
}

/// The error of a read whose value changes faster than it is read.
pub(super) fn replaced() -> Error {
    Error::new(ErrorKind::Unavailable, "the value was replaced each time it was read; read it again")
}
