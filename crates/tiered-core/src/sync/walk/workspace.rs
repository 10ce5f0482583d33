//! The store in which a walk keeps what it knows.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::batch::Batch;
use crate::capability::Feature;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::ListOptions;
use crate::read::{Read, ReadOptions};
use crate::store::Store;
use crate::write::Delete;

/// Reads and writes that are sent as one request.
pub(super) const TOGETHER: usize = 1_000;

/// A store in which nothing else writes.
#[derive(Clone)]
pub(super) struct Workspace {
    store: Arc<dyn Store>,
    label: Option<String>,
}

impl Workspace {
    /// With a label, a later walk with the same one goes on from what is there.
    pub(super) const fn new(store: Arc<dyn Store>, label: Option<String>) -> Self {
        Self { store, label }
    }

    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub(super) async fn get(&self, names: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let reads = self.store.get_many(names, &ReadOptions::new()).await;
        let value = |read: Result<Read>| {
            let entry = read.map(Read::into_entry).map_err(in_workspace)?;
            Ok(entry.map(|entry| entry.value().clone()))
        };
        reads.into_iter().map(value).collect()
    }

    pub(super) async fn put(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        for outcome in self.store.apply(batch).await.map_err(in_workspace)? {
            outcome.map_err(in_workspace)?;
        }
        Ok(())
    }

    /// What was written so far is found by a later walk.
    pub(super) async fn flush(&self) -> Result<()> {
        self.store.flush().await.map_err(in_workspace)
    }

    /// Refuses a store with entries.
    pub(super) async fn check_empty(&self) -> Result<()> {
        let found = self.store.list(ListOptions::new().limit(1)).next().await.transpose();
        if found.map_err(in_workspace)?.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            "the workspace of the walk has entries; give it an empty store, which nothing else uses",
        ))
    }

    /// Refuses a store that a walk which is stopped could leave with a part of a batch.
    pub(super) fn check_batches(&self) -> Result<()> {
        if self.store.capabilities().has(Feature::AtomicBatch) {
            return Ok(());
        }
        let name = self.store.capabilities().name();
        let message = format!(
            "{name} has no atomic batches, and a walk that is stopped could leave a part of one there; keep what the walk knows in an embedded store, such as redb"
        );
        Err(Error::new(ErrorKind::Config, message))
    }

    /// Removes everything after `name`.
    pub(super) async fn clear(&self, name: Key) -> Result<()> {
        let all = ListOptions::new().start_after(name);
        let mut listing = self.store.list(all).map_ok(|listed| listed.key).try_chunks(TOGETHER);
        while let Some(keys) = listing.next().await {
            let mut batch = Batch::new();
            for key in keys.map_err(|error| in_workspace(error.1))? {
                batch.push(key, Delete::new().into());
            }
            self.put(batch).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workspace").field("store", &self.store).field("label", &self.label).finish()
    }
}

/// Said where the store has something that no walk wrote, or lacks what one did.
pub(super) fn foreign() -> Error {
    Error::new(
        ErrorKind::Foreign,
        "the workspace of the walk has lost entries, or others wrote to it; give it an empty store, which nothing else uses and which does not evict",
    )
}

fn in_workspace(error: Error) -> Error {
    Error::new(error.kind(), "the workspace of the walk failed").with_source(error)
}
