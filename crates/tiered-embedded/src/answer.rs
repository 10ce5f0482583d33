//! Answers to reads, from a view of the engine.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tiered_core::{Key, Lookup, Metadata, Read, ReadOptions, Result, Slices, Timestamp};

use crate::engine::{Table, View};
use crate::layout::{read_record, read_value};
use crate::record::Record;

/// The answer to a read of `key`, whose record was found.
pub(crate) fn answer(
    view: &dyn View,
    key: &Key,
    record: Option<Record>,
    options: &ReadOptions,
    now: Timestamp,
) -> Result<Read> {
    let Some(record) = record.filter(|record| record.metadata.is_visible(now, options.tombstones)) else {
        return Ok(Read::from_store(Lookup::Absent));
    };
    if options.excludes(&record.metadata.version) {
        return Ok(Read::from_store(Lookup::Changed));
    }
    if options.unless.as_ref().is_some_and(|known| known.version == record.metadata.version) {
        return Ok(Read::from_store(Lookup::Unchanged));
    }
    let entry = read_value(view, key, record, options.range.as_ref())?;
    Ok(Read::from_store(Lookup::Found(entry)))
}

/// The answer to a read of several ranges.
pub(crate) fn slices(
    view: &dyn View,
    key: &Key,
    ranges: &[Range<u64>],
    options: &ReadOptions,
    now: Timestamp,
) -> Result<Read<Slices>> {
    let record = read_record(view, key)?;
    // Conditions and visibility, and no byte of the value.
    let options = options.clone().range(0..0);
    answer(view, key, record.clone(), &options, now)?.try_map(|entry| {
        let mut values = Vec::with_capacity(ranges.len());
        for range in ranges {
            let Some(record) = record.clone() else { break };
            values.push(read_value(view, key, record, Some(range))?.into_value());
        }
        Ok(Slices::new(Arc::clone(entry.metadata()), values))
    })
}

/// The answer to a read of the metadata of `key`.
pub(crate) fn head_of(
    view: &dyn View,
    key: &Key,
    options: &ReadOptions,
    now: Timestamp,
) -> Result<Option<Arc<Metadata>>> {
    let record = read_record(view, key)?;
    Ok(record
        .filter(|record| record.metadata.is_visible(now, options.tombstones))
        .map(|record| Arc::new(record.metadata)))
}

/// The mark `name`.
pub(crate) fn mark_of(view: &dyn View, name: &str) -> Result<Option<Bytes>> {
    let mut mark = None;
    view.get(Table::Marks, name.as_bytes(), &mut |value| {
        mark = Some(Bytes::copy_from_slice(value));
        Ok(())
    })?;
    Ok(mark)
}
