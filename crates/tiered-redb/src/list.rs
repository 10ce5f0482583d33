//! Listings: page by page, each on a fresh snapshot, so that no page of the file is held between them.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream;
use redb::{Database, ReadableDatabase as _};
use tiered_core::{Key, ListOptions, ListStream, Listed, Operation, Result, Timestamp, record};

use crate::codec::META;
use crate::error::map;
use crate::store::RedbStore;

/// Keys of one page: a few hundred microseconds of reading.
const PAGE: usize = 512;

/// A page, and whether the listing goes on behind it.
struct Page {
    listed: VecDeque<Listed>,
    /// The last key that was looked at, visible or not.
    next: Option<Key>,
}

pub(crate) fn list(store: RedbStore, options: ListOptions) -> ListStream {
    let left = options.limit.unwrap_or(usize::MAX);
    let page = Page { listed: VecDeque::new(), next: None };
    let state = Some((store, options, page, left, false));
    Box::pin(stream::unfold(state, |state| async move {
        let (store, mut options, mut page, left, begun) = state?;
        if left == 0 {
            return None;
        }
        let mut first = !begun;
        loop {
            if let Some(listed) = page.listed.pop_front() {
                return Some((Ok(listed), Some((store, options, page, left - 1, true))));
            }
            if !first {
                options.start_after = Some(page.next.take()?);
            }
            first = false;
            let asked = options.clone();
            let now = store.now();
            match store.read(Operation::List, move |database| read_page(database, &asked, now)).await {
                Ok(read) => page = read,
                Err(error) => return Some((Err(error), None)),
            }
        }
    }))
}

fn read_page(database: &Database, options: &ListOptions, now: Timestamp) -> Result<Page> {
    let transaction = database.begin_read().map_err(map)?;
    let meta = transaction.open_table(META).map_err(map)?;
    let from = match &options.start_after {
        Some(after) if after.as_str() >= options.prefix.as_str() => Bound::Excluded(after.as_str()),
        _ => Bound::Included(options.prefix.as_str()),
    };
    let mut page = Page { listed: VecDeque::new(), next: None };
    for (seen, found) in meta.range::<&str>((from, Bound::Unbounded)).map_err(map)?.enumerate() {
        let (key, bytes) = found.map_err(map)?;
        if !key.value().starts_with(&options.prefix) {
            break;
        }
        if seen == PAGE {
            return Ok(page);
        }
        let key = Key::new(key.value())?;
        let record = record::decode(&key, bytes.value())?;
        if record.metadata.is_visible(now, options.tombstones) {
            page.listed.push_back(Listed::with_metadata(key.clone(), Arc::new(record.metadata)));
        }
        page.next = Some(key);
    }
    // The end of the prefix, or of the table: nothing follows.
    page.next = None;
    Ok(page)
}
