//! How entries lie in the tables.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tiered_core::adapter::{Checksum, clamp_range};
use tiered_core::{Entry, Error, ErrorKind, Key, Metadata, Result};

use crate::engine::{Table, Transaction, View};
use crate::record::{self, Content, Owner, Record};
use crate::value::{self, AROUND, CONTENT, HEADER, PAIR, Place, SEAL, ValueId};
use crate::values::Values;

/// Values up to this size lie in their record: larger ones would make listings read them.
const INLINE: usize = 1024;

/// The memory that a value takes before any chunk of it was seen, in bytes: a record may claim any size.
const UNSEEN: usize = 8 << 20;

/// Up to this many chunks of a database of format 2 are removed by their numbers. Beyond it the table is scanned.
const COUNTED: u32 = 1 << 16;

/// What the name of a chunk had behind the key, in a database of format 2.
const NUMBER: u64 = 5;

/// What an entry takes by the count that a capacity bounds: its key, its record, its chunks with their names, and what is
/// around each pair.
pub(crate) fn footprint<T>(key: &Key, record: usize, content: &Content<T>, size: u64) -> u64 {
    let name = key.len() as u64;
    let chunks = match content {
        Content::Inline(_) => 0,
        Content::Apart(_) => value::bytes_of(size),
        Content::Keyed => {
            let chunks = size.div_ceil(keyed_size(key) as u64);
            chunks.saturating_mul(name + NUMBER + SEAL as u64 + AROUND).saturating_add(size)
        }
    };
    (name + record as u64 + AROUND).saturating_add(chunks)
}

/// Bytes of a value in a chunk of a database of format 2.
fn keyed_size(key: &Key) -> usize {
    PAIR - HEADER - key.len()
}

fn keyed_name(key: &Key, index: u32) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len() + 5);
    name.extend_from_slice(key.as_str().as_bytes());
    name.push(0);
    name.extend_from_slice(&index.to_be_bytes());
    name
}

/// How the chunks of a value are named, sized and sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks<'c> {
    key: &'c Key,
    owner: Owner<'c>,
}

impl<'c> Chunks<'c> {
    /// Those of the value of a record; `None` where it lies in the record.
    pub(crate) fn of(key: &'c Key, record: &'c Record) -> Option<Self> {
        match record.content {
            Content::Inline(_) => None,
            Content::Apart(id) => Some(Self { key, owner: Owner::Value(id) }),
            Content::Keyed => Some(Self { key, owner: Owner::Version(&record.metadata.version) }),
        }
    }

    fn size(&self) -> usize {
        match self.owner {
            Owner::Value(_) => CONTENT,
            Owner::Version(_) => keyed_size(self.key),
        }
    }

    fn name(&self, index: u32) -> Vec<u8> {
        match self.owner {
            Owner::Value(id) => Place::new(self.key, id).chunk(index),
            Owner::Version(_) => keyed_name(self.key, index),
        }
    }

    /// Shows the bytes of `wanted` piece by piece.
    fn visit(&self, view: &dyn View, wanted: &Range<u64>, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (key, size) = (self.key, self.size() as u64);
        let mut at = wanted.start;
        while at < wanted.end {
            let index = u32::try_from(at / size).map_err(|_| too_large(key))?;
            let begin = usize::try_from(at % size).unwrap_or(usize::MAX);
            let rest = usize::try_from(wanted.end - at).unwrap_or(usize::MAX);
            let mut read = 0;
            let found = view.get(Table::Chunks, &self.name(index), &mut |chunk| {
                let content = record::open_chunk(key, self.owner, index, chunk)
                    .ok_or_else(|| record::corrupt(key, "a chunk of its value is damaged"))?;
                let part = content.get(begin..).unwrap_or_default();
                let part = part.get(..part.len().min(rest)).unwrap_or_default();
                read = part.len();
                visit(part);
                Ok(())
            })?;
            if !found {
                return Err(record::corrupt(key, "a chunk of its value is missing"));
            }
            if read == 0 {
                return Err(record::corrupt(key, "a chunk of its value is too short"));
            }
            at += read as u64;
        }
        Ok(())
    }

    /// The bytes of `wanted`.
    pub(crate) fn read(&self, view: &dyn View, wanted: &Range<u64>) -> Result<Bytes> {
        let len = usize::try_from(wanted.end - wanted.start).map_err(|_| too_large(self.key))?;
        let mut value = BytesMut::with_capacity(len.min(UNSEEN));
        self.visit(view, wanted, &mut |part| value.extend_from_slice(part))?;
        Ok(value.freeze())
    }
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
    let wanted = match range {
        Some(range) => clamp_range(range, record.metadata.size)?,
        None => 0..record.metadata.size,
    };
    let chunked = Chunks::of(key, &record).map(|chunks| chunks.read(view, &wanted)).transpose()?;
    let value = match (chunked, record.content) {
        (Some(value), _) => value,
        // The whole: a slice of it would be another allocation.
        (None, Content::Inline(inline)) if wanted == (0..inline.len() as u64) => inline,
        (None, Content::Inline(inline)) => slice(&inline, &wanted, key)?,
        (None, Content::Apart(_) | Content::Keyed) => Bytes::new(),
    };
    let entry = Entry::from_parts(value, Arc::new(record.metadata));
    // The record's own checksum does not say that the value's is right: a record may be well made and still claim another.
    if entry.is_whole() {
        entry.verify().map_err(|error| error.for_key(key))?;
    }
    Ok(entry)
}

/// Whether the value behind a good record can be read. Reads it chunk by chunk.
pub(crate) fn is_value_sound(view: &dyn View, key: &Key, record: &Record) -> Result<bool> {
    let Some(chunks) = Chunks::of(key, record) else {
        return Ok(!is_damaged(read_value(view, key, record.clone(), None))?);
    };
    let mut crc = 0;
    let whole = 0..record.metadata.size;
    let read = chunks.visit(view, &whole, &mut |part| crc = crc32c::crc32c_append(crc, part));
    let matches = |checksum| Checksum::from_u32(crc) == checksum;
    Ok(!is_damaged(read)? && record.metadata.checksum.is_none_or(matches))
}

fn is_damaged<T>(read: Result<T>) -> Result<bool> {
    match read {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error),
    }
}

/// Bytes of the chunks that a read of the value behind `record`, or of the part of it in `range`, looks at.
pub(crate) fn chunk_bytes(key: &Key, record: &Record, range: Option<&Range<u64>>) -> u64 {
    let whole = record.metadata.size;
    let Some(chunks) = Chunks::of(key, record) else { return 0 };
    let size = chunks.size() as u64;
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

/// Stores an entry, replacing what is there. A value that does not fit its record gets the id that `mint` gives.
pub(crate) fn write_entry(
    transaction: &mut dyn Transaction,
    key: &Key,
    entry: &Entry,
    values: &Values,
    mint: &mut dyn FnMut() -> ValueId,
) -> Result<Stored> {
    let value = entry.value();
    let content = if value.len() <= INLINE { Content::Inline(&value[..]) } else { Content::Apart(mint()) };
    let stored = write_record(transaction, key, entry.metadata(), &content, values)?;
    if let Content::Apart(id) = content {
        for (index, content) in value.chunks(CONTENT).enumerate() {
            let index = u32::try_from(index).map_err(|_| too_large(key))?;
            let sealed = record::seal_chunk(key, id, index, content);
            transaction.put(Table::Chunks, &Place::new(key, id).chunk(index), &sealed)?;
        }
    }
    Ok(stored)
}

/// Stores the record of an entry, and removes what it replaces.
pub(crate) fn write_record(
    transaction: &mut dyn Transaction,
    key: &Key,
    metadata: &Metadata,
    content: &Content<&[u8]>,
    values: &Values,
) -> Result<Stored> {
    let name = key.as_str().as_bytes();
    let record = record::encode(key, metadata, content);
    let mut before = Before::Nothing;
    match transaction.replace(Table::Meta, name, &record, &mut |old| before = Before::of(key, old)) {
        // What cannot be read is replaced all the same.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            before = Before::Damaged;
            transaction.put(Table::Meta, name, &record)?;
        }
        replaced => replaced?,
    }
    before.remove_value(transaction, key, values)?;
    let in_chunks = !matches!(content, Content::Inline(_));
    Ok(Stored { in_chunks, bytes: footprint(key, record.len(), content, metadata.size) })
}

/// Removes an entry, whatever state it is in.
pub(crate) fn remove_entry(transaction: &mut dyn Transaction, key: &Key, values: &Values) -> Result<()> {
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
    before.remove_value(transaction, key, values)?;
    transaction.delete(Table::Meta, name)
}

/// What a key had before a write.
enum Before {
    /// No entry, or one whose value lies in its record.
    Nothing,
    /// A value of this size.
    Value(Content<()>, u64),
    /// A record that cannot be read. It must not leave its chunks behind.
    Damaged,
}

impl Before {
    fn of(key: &Key, record: &[u8]) -> Self {
        match record::value_apart(key, record) {
            Ok(None) => Self::Nothing,
            Ok(Some((content, size))) => Self::Value(content, size),
            Err(_) => Self::Damaged,
        }
    }

    fn remove_value(self, transaction: &mut dyn Transaction, key: &Key, values: &Values) -> Result<()> {
        let (content, size) = match self {
            Self::Nothing => return Ok(()),
            Self::Value(content, size) => (content, size),
            Self::Damaged => {
                remove_keyed(transaction, key)?;
                return remove_values_of(transaction, key, values);
            }
        };
        match content {
            Content::Inline(()) => Ok(()),
            Content::Apart(id) => remove_value(transaction, Place::new(key, id), size, values),
            Content::Keyed => {
                let count = size.div_ceil(keyed_size(key) as u64);
                match u32::try_from(count).ok().filter(|count| *count <= COUNTED) {
                    Some(count) => (0..count)
                        .try_for_each(|index| transaction.delete(Table::Chunks, &keyed_name(key, index))),
                    None => remove_keyed(transaction, key),
                }
            }
        }
    }
}

/// Removes a value that has no record any more: now, or later by the mark that it gets.
fn remove_value(transaction: &mut dyn Transaction, place: Place, size: u64, values: &Values) -> Result<()> {
    let loose = value::Loose::new(size)?;
    if values.goes_at_once(place, u64::from(loose.chunks)) {
        return (0..loose.chunks)
            .try_for_each(|index| transaction.delete(Table::Chunks, &place.chunk(index)));
    }
    let name = place.loose();
    transaction.put(Table::Chunks, &name, &loose.encode(&name))
}

/// Removes the chunks of `key` without its record's help, where they lie under the key.
fn remove_keyed(transaction: &mut dyn Transaction, key: &Key) -> Result<()> {
    let first = keyed_name(key, 0);
    let mut end = key.as_str().as_bytes().to_vec();
    end.push(1);
    let mut found = Vec::new();
    transaction.scan(Table::Chunks, Bound::Included(&first), Some(&end), &mut |name, _| {
        found.push(name.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    found.iter().try_for_each(|name| transaction.delete(Table::Chunks, name))
}

/// Removes the values of `key` without its record's help, where they lie apart from it. Loose ones are removed elsewhere.
fn remove_values_of(transaction: &mut dyn Transaction, key: &Key, values: &Values) -> Result<()> {
    let (first, last) = (value::first_chunk_of(key), value::last_chunk_of(key));
    // Chunks by their value, and whether one of them says that the value is the key's: others may have the same hash.
    let mut found: BTreeMap<Place, (Vec<Vec<u8>>, bool)> = BTreeMap::new();
    transaction.scan(Table::Chunks, Bound::Included(&first), Some(&last), &mut |name, chunk| {
        if let Some((place, index)) = Place::of_chunk(name) {
            let (names, ours) = found.entry(place).or_default();
            *ours |= record::open_chunk(key, Owner::Value(place.id), index, chunk).is_some();
            names.push(name.to_vec());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (place, (names, ours)) in found {
        let is_loose = transaction.get(Table::Chunks, &place.loose(), &mut |_| Ok(()))?;
        if ours && !is_loose && !values.is_live(place.id) {
            names.iter().try_for_each(|name| transaction.delete(Table::Chunks, name))?;
        }
    }
    Ok(())
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
        let chunk = CONTENT as u64;
        let mut metadata = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        metadata.size = 10 * chunk;
        let mut record = Record { metadata, content: Content::Apart(ValueId::from_bytes([7; 16])) };
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
        record.content = Content::Inline(Bytes::new());
        assert_eq!(chunk_bytes(&key, &record, None), 0);
    }

    #[test]
    fn a_wrong_size_in_a_record_allocates_no_memory() {
        let key = Key::new("k").expect("valid");
        let mut metadata = (**Stamp::system().entry(&Put::new("")).metadata()).clone();
        metadata.size = u64::MAX / 2;
        for content in [Content::Keyed, Content::Apart(ValueId::from_bytes([7; 16]))] {
            let read = read_value(&Bare, &key, Record { metadata: metadata.clone(), content }, None);
            assert_eq!(read.expect_err("no chunk is there").kind(), ErrorKind::Corrupt);
        }
    }
}
