//! How entries lie in the tables.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use redb::{ReadableTable, Table, TableDefinition};
use tiered_core::record::{self, Record};
use tiered_core::{Entry, Error, Key, Metadata, Result, clamp_range};

use crate::error::map;

/// Key → record.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Key and number → piece of the value.
pub(crate) const CHUNKS: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("chunks");
/// The store's marks.
pub(crate) const MARKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("marks");
/// What says that the file is ours.
pub(crate) const MARKER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiered");
pub(crate) const FORMAT: &str = "format";
pub(crate) const FORMAT_VERSION: &[u8] = b"1";

/// Values up to this size lie in their record: larger ones would make listings read them.
const INLINE: usize = 1024;

/// A chunk with its key and header stays below 65,280 bytes: redb rounds runs of pages to powers of two, and one byte
/// more would take 128 KiB.
const PAIR: usize = 65_280;
const HEADER: usize = 4 + 4 + 16;

fn chunk_size(key: &Key) -> usize {
    PAIR - HEADER - key.len()
}

type MetaTable<'txn> = Table<'txn, &'static str, &'static [u8]>;
type ChunkTable<'txn> = Table<'txn, (&'static str, u32), &'static [u8]>;

/// The record of `key`, if there is one.
pub(crate) fn read_record(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &Key,
) -> Result<Option<Record>> {
    let found = meta.get(key.as_str()).map_err(map)?;
    found.map(|bytes| record::decode(key, bytes.value())).transpose()
}

/// The value behind a record, or the part of it in `range`.
pub(crate) fn read_value(
    chunks: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    key: &Key,
    record: &Record,
    range: Option<&Range<u64>>,
) -> Result<Entry> {
    let metadata = Arc::new(record.metadata.clone());
    let wanted = match range {
        Some(range) => clamp_range(range, metadata.size)?,
        None => 0..metadata.size,
    };
    let value = match &record.inline {
        Some(inline) => slice(inline, &wanted, key)?,
        None => read_chunks(chunks, key, &metadata, &wanted)?,
    };
    let entry = Entry::from_parts(value, metadata);
    if entry.is_whole() {
        entry.verify().map_err(|error| error.for_key(key))?;
    }
    Ok(entry)
}

fn slice(inline: &Bytes, wanted: &Range<u64>, key: &Key) -> Result<Bytes> {
    let bounds = usize::try_from(wanted.start).ok().zip(usize::try_from(wanted.end).ok());
    match bounds {
        Some((start, end)) if start <= end && end <= inline.len() => Ok(inline.slice(start..end)),
        _ => Err(record::corrupt(key, "its record is shorter than it says")),
    }
}

fn read_chunks(
    chunks: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    key: &Key,
    metadata: &Metadata,
    wanted: &Range<u64>,
) -> Result<Bytes> {
    let size = chunk_size(key) as u64;
    let len = usize::try_from(wanted.end - wanted.start).map_err(|_| too_large(key))?;
    let mut value = BytesMut::with_capacity(len);
    let mut at = wanted.start;
    while at < wanted.end {
        let index = u32::try_from(at / size).map_err(|_| too_large(key))?;
        let found = chunks.get((key.as_str(), index)).map_err(map)?;
        let found = found.ok_or_else(|| record::corrupt(key, "a chunk of its value is missing"))?;
        let content = record::open_chunk(key, &metadata.version, index, found.value())?;
        let begin = usize::try_from(at % size).unwrap_or(usize::MAX);
        let rest = usize::try_from(wanted.end - at).unwrap_or(usize::MAX);
        let part = content.get(begin..).unwrap_or_default();
        let part = part.get(..part.len().min(rest)).unwrap_or_default();
        if part.is_empty() {
            return Err(record::corrupt(key, "a chunk of its value is too short"));
        }
        value.extend_from_slice(part);
        at += part.len() as u64;
    }
    Ok(value.freeze())
}

fn too_large(key: &Key) -> Error {
    Error::new(tiered_core::ErrorKind::TooLarge, "the value does not fit this machine's memory").for_key(key)
}

/// Stores an entry, replacing what is there.
pub(crate) fn write_entry(
    meta: &mut MetaTable<'_>,
    chunks: &mut ChunkTable<'_>,
    key: &Key,
    entry: &Entry,
) -> Result<()> {
    remove_chunks(chunks, key)?;
    let inline = entry.value().len() <= INLINE;
    if !inline {
        for (index, content) in entry.value().chunks(chunk_size(key)).enumerate() {
            let index = u32::try_from(index).map_err(|_| too_large(key))?;
            let sealed = record::seal_chunk(key, entry.version(), index, content);
            chunks.insert((key.as_str(), index), sealed.as_slice()).map_err(map)?;
        }
    }
    let record = record::encode(key, entry.metadata(), inline.then_some(entry.value()));
    meta.insert(key.as_str(), record.as_slice()).map_err(map)?;
    Ok(())
}

/// Removes an entry, whatever state it is in.
pub(crate) fn remove_entry(meta: &mut MetaTable<'_>, chunks: &mut ChunkTable<'_>, key: &Key) -> Result<()> {
    remove_chunks(chunks, key)?;
    meta.remove(key.as_str()).map_err(map)?;
    Ok(())
}

fn remove_chunks(chunks: &mut ChunkTable<'_>, key: &Key) -> Result<()> {
    // By the table, not by the record: a damaged record must not leave its chunks behind.
    loop {
        let first = {
            let mut range = chunks.range((key.as_str(), 0)..=(key.as_str(), u32::MAX)).map_err(map)?;
            match range.next() {
                Some(found) => Some(found.map_err(map)?.0.value().1),
                None => None,
            }
        };
        let Some(index) = first else { return Ok(()) };
        chunks.remove((key.as_str(), index)).map_err(map)?;
    }
}
