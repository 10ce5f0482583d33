//! Local entries: what is written under the frontend-only policy stays in the frontend, and is no copy of the backend's.

use std::sync::Arc;

use super::Frontend;
use crate::entry::{Entry, Metadata, Note, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::read::ReadOptions;
use crate::store::Store as _;
use crate::sync_primitives::time;

impl Frontend {
    /// Whether the frontend has a local entry or tombstone, which neither a fill nor a removal may take away.
    pub(super) async fn keeps_locally(&self, key: &Key) -> Result<bool> {
        if !self.plan.is_local() {
            return Ok(false);
        }
        let held = self.held(key).await?;
        Ok(held.is_some_and(|held| held.note.origin.is_local()))
    }

    /// The metadata of what the frontend has, tombstones and notes of absence included.
    pub(crate) async fn held(&self, key: &Key) -> Result<Option<Arc<Metadata>>> {
        if let Some(entry) = self.tier.peek(key) {
            return Ok(Some(Arc::clone(entry.metadata())));
        }
        let options = ReadOptions::new().tombstones(Tombstones::Show);
        self.tier.past_breaker().head(key, &options).await
    }

    /// The metadata of what the frontend has, read with its entry, so that a damaged one is an error.
    pub(crate) async fn held_entry(&self, key: &Key) -> Result<Option<Arc<Metadata>>> {
        let options = ReadOptions::new().range(0..0).tombstones(Tombstones::Show);
        let read = self.tier.past_breaker().load(key, &options).await?;
        Ok(read.entry().map(|entry| Arc::clone(entry.metadata())))
    }

    /// Stores an entry of the given local origin, under a closed gate.
    pub(crate) async fn store_locally(
        self: &Arc<Self>,
        key: &Key,
        entry: &Entry,
        origin: Origin,
    ) -> Result<()> {
        let note = Note { session: self.sessions.current(), origin, ..Note::default() };
        self.replace_locally(key, Some(&entry.clone().with_note(note))).await
    }

    /// Removes what the frontend has, under a closed gate.
    pub(crate) async fn remove_locally(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.replace_locally(key, None).await
    }

    async fn replace_locally(self: &Arc<Self>, key: &Key, entry: Option<&Entry>) -> Result<()> {
        let Some(call) = self.reserve(key).await else {
            return Err(Error::new(ErrorKind::TimedOut, "an earlier call to the frontend has not returned")
                .in_tier(self.tier.name())
                .outcome_is(Outcome::NotApplied));
        };
        self.retire_blocks(key, None);
        let result = self.tier.replace(key, entry).await;
        if result.as_ref().is_err_and(|error| error.write_outcome() == Outcome::Unknown) {
            // The request may still take effect, and nothing may come between.
            time::sleep(self.tier.capabilities().request_lifetime()).await;
        }
        drop(call);
        result
    }
}
