//! The random prefix under which a case works, and its removal.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tiered_core::{Batch, Delete, Key, ListOptions, Result, Store};

use crate::dice::entropy;

/// Longest suffix that cases append to the prefix, in bytes. A store whose longest key leaves less cannot be tested.
const SUFFIX: usize = 12;

/// How often a short prefix is drawn before every one counts as taken.
const DRAWS: usize = 16;

/// The prefix `conformance-<random>/<case>/`; only `<random>/` where keys are short; less of it, and looked for in the
/// store first, where they are very short. `None` where the longest key leaves no room for any.
pub(crate) async fn prefix(store: &Arc<dyn Store>, case: &str) -> Result<Option<String>> {
    let long = format!("conformance-{:016x}/{case}/", entropy());
    let short = format!("{:08x}/", entropy() >> 32);
    let limit = store.capabilities().max_key();
    let room = |prefix: &String| prefix.len() + SUFFIX <= limit;
    if let Some(prefix) = [long, short].into_iter().find(room) {
        return Ok(Some(prefix));
    }
    for _ in 0..DRAWS {
        // The case's own place in the list: no other case of the run has it.
        let place = crate::cases().position(|other| other.name == case).unwrap_or_default();
        let prefix = format!("{place:03x}{}/", entropy() % 10);
        if !room(&prefix) {
            return Ok(None);
        }
        if store.list(ListOptions::new().prefix(prefix.clone()).limit(1)).next().await.transpose()?.is_none()
        {
            return Ok(Some(prefix));
        }
    }
    Ok(None)
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
    let own: Vec<Key> = keys.into_iter().filter(|key| key.as_str().starts_with(prefix)).collect();
    for some in own.chunks(1_000) {
        let batch = some
            .iter()
            .fold(Batch::new().best_effort(), |batch, key| batch.delete(key.clone(), Delete::new()));
        match store.apply(batch).await {
            Ok(outcomes) => first_error = first_error.or(outcomes.into_iter().find_map(Result::err)),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}
