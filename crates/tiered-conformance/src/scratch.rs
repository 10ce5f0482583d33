//! The random prefix under which a case works, and its removal.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tiered_core::{Capabilities, Delete, Key, ListOptions, Result, Store};

use crate::dice::entropy;

/// Longest suffix that cases append to the prefix, in bytes. A store whose longest key leaves less cannot be tested.
pub(crate) const SUFFIX: usize = 20;

/// The prefix `conformance-<random>/<case>/`; only `<random>/` where keys are short.
pub(crate) fn prefix(capabilities: &Capabilities, case: &str) -> Option<String> {
    let long = format!("conformance-{:016x}/{case}/", entropy());
    let short = format!("{:08x}/", entropy() >> 32);
    let room = |prefix: &String| prefix.len() + SUFFIX <= capabilities.key_limit();
    [long, short].into_iter().find(room)
}

/// Removes every key under `prefix`.
pub(crate) async fn clean(store: &Arc<dyn Store>, prefix: &str) -> Result<()> {
    let mut listing = store.list(ListOptions::new().prefix(prefix));
    let mut keys: Vec<Key> = Vec::new();
    let mut first_error = None;
    while let Some(listed) = listing.next().await {
        match listed {
            Ok(listed) => keys.push(listed.key),
            Err(error) => {
                first_error = Some(error);
                break;
            }
        }
    }
    drop(listing);
    // A broken store may list keys of others: they are not ours to delete.
    for key in keys.iter().filter(|key| key.as_str().starts_with(prefix)) {
        if let Err(error) = store.delete(key, Delete::new()).await {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}
