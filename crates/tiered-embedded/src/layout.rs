//! How entries lie in the tables.

use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tiered_core::adapter::clamp_range;
use tiered_core::{Entry, Error, ErrorKind, Key, Metadata, Result};

use crate::engine::{Table, Transaction, View};
use crate::record::{self, Record};

/// Values up to this size lie in their record: larger ones would make listings read them.
const INLINE: usize = 1024;

/// A chunk with its key and header stays below 65,280 bytes: redb rounds runs of pages to powers of two, and one byte
/// more would take 128 KiB.
const PAIR: usize = 65_280;
const HEADER: usize = 4 + 4 + 16;

/// The memory that a value takes before any chunk of it was seen, in bytes: a record may claim any size.
const UNSEEN: usize = 8 << 20;

/// Up to this many chunks are removed by their numbers. Beyond it the table is scanned, because a damaged record may
/// claim any number.
const COUNTED: u32 = 1 << 16;

/// What a pair takes beside its bytes, as an engine's tables need it: lengths, its share of the pages above, and room that
/// pages leave free.
const AROUND: u64 = 64;

/// What an entry takes by the count that a capacity bounds: its key, its record, its chunks with their names, and what is
/// around each pair. `chunked` is the size of a value in chunks.
pub(crate) fn footprint(key: &Key, record: usize, chunked: Option<u64>) -> u64 {
    let name = key.len() as u64;
    let chunks = chunked.map_or(0, |size| size.div_ceil(chunk_size(key) as u64));
    let around_chunks = chunks.saturating_mul(name + CHUNK_NUMBER + CHUNK_SEAL + AROUND);
    (name + record as u64 + AROUND).saturating_add(around_chunks).saturating_add(chunked.unwrap_or(0))
}

/// What a chunk's name has behind the key, and what the chunk has before its content.
const CHUNK_NUMBER: u64 = 5;
const CHUNK_SEAL: u64 = 4;

fn chunk_size(key: &Key) -> usize {
    PAIR - HEADER - key.len()
}

fn chunk_key(key: &Key, index: u32) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 5);
    name.extend_from_slice(key.as_str().as_bytes());
    name.push(0);
    name.extend_from_slice(&index.to_be_bytes());
    name
}

/// The record of `key`, if there is one.
pub(crate) fn read_record(view: &(impl View + ?Sized), key: &Key) -> Result<Option<Record>> {
    let mut record = None;
    view.get(Table::Meta, key.as_str().as_bytes(), &mut |bytes| {
        record = Some(record::decode(key, bytes)?);
        Ok(())
    })?;
    Ok(record)
}

/// The value behind a record, or the part of it in `range`.
pub(crate) fn read_value(
    view: &dyn View,
    key: &Key,
    record: Record,
    range: Option<&Range<u64>>,
) -> Result<Entry> {
    let Record { metadata, inline } = record;
    let metadata = Arc::new(metadata);
    let wanted = match range {
        Some(range) => clamp_range(range, metadata.size)?,
        None => 0..metadata.size,
    };
    let value = match inline {
        // The whole: a slice of it would be another allocation.
        Some(inline) if wanted == (0..inline.len() as u64) => inline,
        Some(inline) => slice(&inline, &wanted, key)?,
        None => read_chunks(view, key, &metadata, &wanted)?,
    };
    let entry = Entry::from_parts(value, metadata);
    // The record's own checksum does not say that the value's is right: a record may be well made and still claim another.
    if entry.is_whole() {
        entry.verify().map_err(|error| error.for_key(key))?;
    }
    Ok(entry)
}

/// Bytes of the chunks that a read of the value behind `record`, or of the part of it in `range`, looks at.
pub(crate) fn chunk_bytes(key: &Key, record: &Record, range: Option<&Range<u64>>) -> u64 {
    let whole = record.metadata.size;
    if record.inline.is_some() {
        return 0;
    }
    let size = chunk_size(key) as u64;
    match range.map(|range| range.start..range.end.min(whole)) {
        Some(range) if range.is_empty() => 0,
        Some(range) => {
            let chunks = range.end.div_ceil(size) - range.start / size;
            chunks.saturating_mul(size).min(whole)
        }
        None => whole,
    }
}

fn slice(inline: &Bytes, wanted: &Range<u64>, key: &Key) -> Result<Bytes> {
    let bounds = usize::try_from(wanted.start).ok().zip(usize::try_from(wanted.end).ok());
    match bounds {
        Some((start, end)) if start <= end && end <= inline.len() => Ok(inline.slice(start..end)),
        _ => Err(record::corrupt(key, "its record is shorter than it says")),
    }
}

fn read_chunks(view: &dyn View, key: &Key, metadata: &Metadata, wanted: &Range<u64>) -> Result<Bytes> {
    let size = chunk_size(key) as u64;
    let len = usize::try_from(wanted.end - wanted.start).map_err(|_| too_large(key))?;
    let mut value = BytesMut::with_capacity(len.min(UNSEEN));
    let mut at = wanted.start;
    while at < wanted.end {
        let index = u32::try_from(at / size).map_err(|_| too_large(key))?;
        let begin = usize::try_from(at % size).unwrap_or(usize::MAX);
        let rest = usize::try_from(wanted.end - at).unwrap_or(usize::MAX);
        let before = value.len();
        let found = view.get(Table::Chunks, &chunk_key(key, index), &mut |chunk| {
            let content = record::open_chunk(key, &metadata.version, index, chunk)?;
            let part = content.get(begin..).unwrap_or_default();
            value.extend_from_slice(part.get(..part.len().min(rest)).unwrap_or_default());
            Ok(())
        })?;
        if !found {
            return Err(record::corrupt(key, "a chunk of its value is missing"));
        }
        if value.len() == before {
            return Err(record::corrupt(key, "a chunk of its value is too short"));
        }
        at += (value.len() - before) as u64;
    }
    Ok(value.freeze())
}

fn too_large(key: &Key) -> Error {
    Error::new(ErrorKind::TooLarge, "the value does not fit this machine's memory").for_key(key)
}

/// How an entry was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Whether its value is in chunks.
    pub(crate) in_chunks: bool,
    /// Its [`footprint`].
    pub(crate) bytes: u64,
}

/// Stores an entry, replacing what is there.
pub(crate) fn write_entry(transaction: &mut dyn Transaction, key: &Key, entry: &Entry) -> Result<Stored> {
    let inline = entry.value().len() <= INLINE;
    let name = key.as_str().as_bytes();
    let record = record::encode(key, entry.metadata(), inline.then_some(entry.value()));
    let mut before = Before::Nothing;
    match transaction.replace(Table::Meta, name, &record, &mut |old| before = Before::of(key, old)) {
        // What cannot be read is replaced all the same.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            before = Before::Damaged;
            transaction.put(Table::Meta, name, &record)?;
        }
        replaced => replaced?,
    }
    before.remove_chunks(transaction, key)?;
    if !inline {
        for (index, content) in entry.value().chunks(chunk_size(key)).enumerate() {
            let index = u32::try_from(index).map_err(|_| too_large(key))?;
            let sealed = record::seal_chunk(key, entry.version(), index, content);
            transaction.put(Table::Chunks, &chunk_key(key, index), &sealed)?;
        }
    }
    let chunked = (!inline).then_some(entry.value().len() as u64);
    Ok(Stored { in_chunks: !inline, bytes: footprint(key, record.len(), chunked) })
}

/// Removes an entry, whatever state it is in.
pub(crate) fn remove_entry(transaction: &mut dyn Transaction, key: &Key) -> Result<()> {
    let name = key.as_str().as_bytes();
    let mut before = Before::Nothing;
    let read = transaction.get(Table::Meta, name, &mut |old| {
        before = Before::of(key, old);
        Ok(())
    });
    match read {
        Err(error) if error.kind() == ErrorKind::Corrupt => before = Before::Damaged,
        // A delete of an absent key writes nothing: some engines keep delete markers for long, and every scan reads them.
        Ok(false) => return Ok(()),
        read => drop(read?),
    }
    before.remove_chunks(transaction, key)?;
    transaction.delete(Table::Meta, name)
}

/// What a key had before a write.
enum Before {
    /// No entry.
    Nothing,
    /// A value in the record.
    Inline,
    /// A value of this size in chunks.
    Chunks(u64),
    /// A record that cannot be read. It must not leave its chunks behind.
    Damaged,
}

impl Before {
    fn of(key: &Key, record: &[u8]) -> Self {
        match record::size_in_chunks(key, record) {
            Ok(None) => Self::Inline,
            Ok(Some(size)) => Self::Chunks(size),
            Err(_) => Self::Damaged,
        }
    }

    fn remove_chunks(self, transaction: &mut dyn Transaction, key: &Key) -> Result<()> {
        let size = match self {
            Self::Nothing | Self::Inline => return Ok(()),
            Self::Chunks(size) => size,
            Self::Damaged => return remove_all_chunks(transaction, key),
        };
        let count = size.div_ceil(chunk_size(key) as u64);
        match u32::try_from(count).ok().filter(|count| *count <= COUNTED) {
            Some(count) => {
                (0..count).try_for_each(|index| transaction.delete(Table::Chunks, &chunk_key(key, index)))
            }
            None => remove_all_chunks(transaction, key),
        }
    }
}

/// Removes the chunks of `key` without its record's help.
fn remove_all_chunks(transaction: &mut dyn Transaction, key: &Key) -> Result<()> {
    let first = chunk_key(key, 0);
    let mut end = key.as_str().as_bytes().to_vec();
    end.push(1);
    let mut found = Vec::new();
    transaction.scan(Table::Chunks, Bound::Included(&first), Some(&end), &mut |name, _| {
        found.push(name.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    found.iter().try_for_each(|name| transaction.delete(Table::Chunks, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Visit;
    use tiered_core::Put;
    use tiered_core::adapter::Stamp;

    /// An engine without chunks.
    struct Bare;

    impl View for Bare {
        fn get(&self, _: Table, _: &[u8], _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
            Ok(false)
        }

        fn scan(&self, _: Table, _: Bound<&[u8]>, _: Option<&[u8]>, _: &mut Visit<'_>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_range_costs_the_chunks_that_it_touches() {
        let key = Key::new("k").expect("valid");
        let chunk = chunk_size(&key) as u64;
        let mut metadata = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        metadata.size = 10 * chunk;
        let mut record = Record { metadata, inline: None };
        let bytes = |range: Range<u64>| chunk_bytes(&key, &record, Some(&range));
        assert_eq!(bytes(0..0), 0);
        assert_eq!(bytes(5..5), 0);
        assert_eq!(bytes(u64::MAX..u64::MAX), 0);
        assert_eq!(bytes(0..1), chunk);
        assert_eq!(bytes(chunk - 1..chunk + 1), 2 * chunk);
        assert_eq!(bytes(9 * chunk..u64::MAX), chunk);
        assert_eq!(chunk_bytes(&key, &record, None), 10 * chunk);
        record.metadata.size = 2000;
        assert_eq!(chunk_bytes(&key, &record, Some(&(0..10))), 2000);
        record.inline = Some(Bytes::new());
        assert_eq!(chunk_bytes(&key, &record, None), 0);
    }

    #[test]
    fn a_wrong_size_in_a_record_allocates_no_memory() {
        let key = Key::new("k").expect("valid");
        let mut metadata = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        metadata.size = u64::MAX / 2;
        let read = read_value(&Bare, &key, Record { metadata, inline: None }, None);
        assert_eq!(read.expect_err("no chunk is there").kind(), ErrorKind::Corrupt);
    }
}
