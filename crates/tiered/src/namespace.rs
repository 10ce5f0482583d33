//! The keys and marks under a prefix, as a place of its own: looked for, and removed.
//!
//! Their removal is many steps. The mark [`DESTROYING`] is durable before the first and goes with the last, so that what
//! is half removed is not opened as a whole.

use futures_util::StreamExt as _;
use tiered_core::adapter::{Scope, Tombstones};
use tiered_core::{
    Action, Atomicity, Batch, Delete, Durability, Error, ErrorKind, Feature, Key, ListOptions, Operation,
    Result, Store,
};

/// The mark of a place whose removal has begun.
const DESTROYING: &str = "tiered.destroying";

/// Keys that are removed by one batch.
const TOGETHER: usize = 1_000;

/// Whether the store keeps anything beyond the process.
pub(crate) fn lasts(store: &dyn Store) -> bool {
    store.capabilities().durability() > Durability::Volatile
}

fn keeps_marks(store: &dyn Store) -> bool {
    store.capabilities().has(Feature::KeepsMarks)
}

/// Whether there is any key or mark.
pub(crate) async fn holds_anything(store: &dyn Store) -> Result<bool> {
    if keeps_marks(store) && !store.mark_names("").await?.is_empty() {
        return Ok(true);
    }
    let one = ListOptions::new().limit(1).tombstones(Tombstones::Show);
    match store.list(one).next().await {
        None => Ok(false),
        Some(Err(error)) if error.damaged_key().is_none() => Err(error),
        Some(_) => Ok(true),
    }
}

/// Refuses a place that is half removed.
pub(crate) async fn check_whole(store: &dyn Store) -> Result<()> {
    if keeps_marks(store) && store.mark(DESTROYING).await?.is_some() {
        let message = "the removal of this store was interrupted, and a part of it is gone; destroy it again";
        return Err(Error::new(ErrorKind::Corrupt, message).during(Operation::Open));
    }
    Ok(())
}

/// Removes every key and every mark. What is interrupted is finished by the next call.
pub(crate) async fn empty(store: &dyn Store) -> Result<()> {
    let _claim = store.claim(&Scope::Whole).await?;
    if keeps_marks(store) {
        store.set_mark(DESTROYING, Some(bytes::Bytes::from_static(b"1"))).await?;
    }
    let mut listing = store.list(ListOptions::new().tombstones(Tombstones::Show));
    let mut keys: Vec<Key> = Vec::new();
    while let Some(listed) = listing.next().await {
        keys.push(match listed {
            Ok(listed) => listed.key,
            Err(error) => error.damaged_key().cloned().ok_or(error)?,
        });
        if keys.len() == TOGETHER {
            remove(store, std::mem::take(&mut keys)).await?;
        }
    }
    remove(store, keys).await?;
    store.flush().await?;
    if keeps_marks(store) {
        for name in store.mark_names("").await?.iter().filter(|name| *name != DESTROYING) {
            store.set_mark(name, None).await?;
        }
        store.set_mark(DESTROYING, None).await?;
    }
    store.flush().await
}

async fn remove(store: &dyn Store, keys: Vec<Key>) -> Result<()> {
    let mut batch = Batch::of(Atomicity::PerItem);
    for key in keys {
        batch.push(key, Action::Delete(Delete::new()));
    }
    store.apply(batch).await?.into_iter().try_for_each(|outcome| outcome.map(drop))
}
