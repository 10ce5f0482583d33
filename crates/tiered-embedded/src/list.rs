//! Listings: page by page, each on a fresh view, so that nothing of the database is held between them.

use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use futures_util::stream;
use tiered_core::adapter::prefix_end;
use tiered_core::{ErrorKind, Key, ListOptions, ListStream, Listed, Operation, Result, Timestamp};

use crate::engine::{Table, View};
use crate::record::{self, Content, Record};
use crate::store::EmbeddedStore;

/// Keys of one page: a few hundred microseconds of reading.
const PAGE: usize = 512;

/// A page, and where the listing goes on.
struct Page {
    /// A damaged record is an error that names its key, in its place.
    listed: VecDeque<Result<Listed>>,
    /// The last key that was looked at, visible or not; `None` at the end.
    next: Option<Key>,
}

pub(crate) fn list(store: EmbeddedStore, options: ListOptions) -> ListStream {
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
                let listed = listed.map_err(|error| store.failed(Operation::List, error));
                return Some((listed, Some((store, options, page, left - 1, true))));
            }
            if !first {
                options.start_after = Some(page.next.take()?);
            }
            first = false;
            let asked = options.clone();
            let now = store.now();
            match store.read(Operation::List, move |view| read_page(view, &asked, now)).await {
                Ok(read) => page = read,
                Err(error) => return Some((Err(error), None)),
            }
        }
    }))
}

fn read_page(view: &dyn View, options: &ListOptions, now: Timestamp) -> Result<Page> {
    let from = match &options.start_after {
        Some(after) if after.as_str() >= options.prefix.as_str() => {
            Bound::Excluded(after.as_str().as_bytes())
        }
        _ => Bound::Included(options.prefix.as_bytes()),
    };
    let end = prefix_end(options.prefix.as_bytes());
    let mut page = Page { listed: VecDeque::new(), next: None };
    let mut seen = 0;
    let mut full = false;
    view.scan(Table::Meta, from, end.as_deref(), &mut |key, bytes| {
        if seen == PAGE {
            full = true;
            return Ok(ControlFlow::Break(()));
        }
        seen += 1;
        let key = key_of(key)?;
        match record::decode(&key, bytes) {
            Ok(Record { metadata, content }) if metadata.is_visible(now, options.tombstones) => {
                // What lies in the record has been read already.
                let value = match content {
                    Content::Inline(value) if options.wants_value(metadata.size) => Some(value),
                    _ => None,
                };
                let listed = Listed::with_metadata(key.clone(), Arc::new(metadata));
                page.listed.push_back(Ok(listed.with_value(value)));
            }
            Ok(_) => {}
            Err(error) => page.listed.push_back(Err(error)),
        }
        page.next = Some(key);
        Ok(ControlFlow::Continue(()))
    })?;
    if !full {
        page.next = None;
    }
    Ok(page)
}

/// The key that these bytes are.
pub(crate) fn key_of(bytes: &[u8]) -> Result<Key> {
    let damaged = || tiered_core::Error::new(ErrorKind::Corrupt, "a key of the listing is damaged");
    Key::new(std::str::from_utf8(bytes).map_err(|_| damaged())?).map_err(|_| damaged())
}
