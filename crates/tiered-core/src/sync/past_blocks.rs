//! Listings of a frontend that pass over the blocks of large values in one step.

use futures_util::{StreamExt as _, stream};

use crate::blocks::{is_block, past_blocks};
use crate::entry::Origin;
use crate::error::Result;
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};

/// A listing of a frontend, with its tombstones, without what is as good as nothing: notes of absence, stubs, blocks.
pub(crate) fn without_parts(listing: ListStream) -> ListStream {
    Box::pin(listing.filter(|listed| {
        let metadata = listed.as_ref().ok().and_then(|listed| listed.metadata.as_ref());
        let origin = metadata.map(|metadata| metadata.note.origin);
        futures_util::future::ready(!matches!(origin, Some(Origin::Absence | Origin::Part)))
    }))
}

/// A listing of a frontend without its blocks. `list` begins a listing, and is asked once more where the first one meets a block.
pub(crate) fn list_past_blocks(
    list: impl Fn(ListOptions) -> ListStream + Send + 'static,
    options: ListOptions,
) -> ListStream {
    let listing = list(options.clone());
    let before = Some((list, options));
    Box::pin(stream::unfold((listing, before), |(mut listing, mut before)| async move {
        loop {
            let listed = listing.next().await?;
            let meets_block = key_of(&listed).is_some_and(is_block);
            match (before.take(), past_blocks()) {
                (Some((list, options)), Ok(after)) if meets_block => {
                    listing = list(ListOptions { start_after: Some(after), ..options });
                }
                (Some((list, mut options)), _) => {
                    options.limit = options.limit.map(|limit| limit.saturating_sub(1));
                    return Some((listed, (listing, Some((list, options)))));
                }
                (None, _) => return Some((listed, (listing, None))),
            }
            before = None;
        }
    }))
}

/// The key that an item of a listing tells of.
fn key_of(listed: &Result<Listed>) -> Option<&Key> {
    match listed {
        Ok(listed) => Some(&listed.key),
        Err(error) => error.damaged_key(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::blocks::{Cut, Grid, Stub};
    use crate::entry::{Note, Tombstones};
    use crate::{MemoryStore, Metadata, Put, Store as _, Timestamp, Version};

    #[tokio::test]
    async fn a_listing_passes_blocks_in_one_step_and_leaves_stubs_out() {
        let store = MemoryStore::new();
        for name in [".", ".tiered/block0", "a", "z"] {
            store.put(&Key::new(name).expect("valid"), Put::new("v")).await.expect("written");
        }
        let metadata = Arc::new(Metadata::new(Version::from_u128(1), Timestamp::from_millis(1), 5_000));
        let large = Key::new("large").expect("valid");
        let cut = Cut::new(&large, &metadata, Grid::new(10));
        for index in 0..500 {
            let block = cut.entry("0123456789".into());
            store.put(&cut.name(index).expect("valid"), Put::verbatim(&block)).await.expect("written");
        }
        let stub = Stub::new(&metadata, Note::default()).entry();
        store.put(&large, Put::verbatim(&stub)).await.expect("written");
        let seen = Arc::new(AtomicUsize::new(0));
        let list = |options: ListOptions| {
            let (store, seen) = (store.clone(), Arc::clone(&seen));
            let list = move |options| {
                let seen = Arc::clone(&seen);
                let count = move |_: &Result<Listed>| {
                    seen.fetch_add(1, Ordering::Relaxed);
                };
                Box::pin(store.list(options).inspect(count)) as ListStream
            };
            let listing = without_parts(list_past_blocks(list, options.tombstones(Tombstones::Show)));
            listing.map(|listed| listed.expect("listed").key.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list(ListOptions::new()).await, [".", ".tiered/block0", "a", "z"]);
        assert_eq!(seen.load(Ordering::Relaxed), 6, "one block and one stub beside them");
        assert_eq!(list(ListOptions::new().limit(2)).await, [".", ".tiered/block0"]);
        assert_eq!(list(ListOptions::new().prefix(".tiered/block/")).await, Vec::<String>::new());
    }
}
