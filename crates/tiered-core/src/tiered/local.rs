//! The frontend-only policy: writes stay in the frontend, and the backend is never touched.

use std::sync::Arc;

use super::engine::Engine;
use super::health::contained;
use crate::entry::{Entry, Note, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::policy::WritePolicy;
use crate::read::ReadOptions;
use crate::store::precondition_failed;
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Put, Written};

/// What a reader of the stack sees under a key.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) version: Option<Version>,
    /// Whether the backend has the key.
    pub(super) in_backend: bool,
}

impl Engine {
    pub(super) async fn put_locally(
        self: &Arc<Self>,
        key: &Key,
        entry: Entry,
        precondition: Precondition,
    ) -> Result<Written> {
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.in_turn(self.gate(key), |gate| async move {
            if precondition != Precondition::None {
                engine.judge_locally(&owned, &precondition).await?;
            }
            let stored = engine.store_locally(&owned, &entry, Origin::Local).await;
            drop(gate);
            stored?;
            Ok(Written::committed(entry.version().clone()))
        })
        .await
    }

    pub(super) async fn delete_locally(self: &Arc<Self>, key: &Key, delete: Delete) -> Result<Deleted> {
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.in_turn(self.gate(key), |gate| async move {
            let current = engine.judge_locally(&owned, &delete.precondition).await?;
            let erased = engine.erase_locally(&owned, &delete, current.in_backend).await;
            drop(gate);
            erased?;
            Ok(Deleted::committed(current.version.is_some()))
        })
        .await
    }

    /// Stores an entry of the given origin, under a closed gate.
    pub(super) async fn store_locally(
        self: &Arc<Self>,
        key: &Key,
        entry: &Entry,
        origin: Origin,
    ) -> Result<()> {
        let Some(call) = self.begin_call(key).await else { return Err(self.frontend_hangs()) };
        let note = Note { session: self.session(), origin, ..Note::default() };
        let put = Put::verbatim(&entry.clone().with_note(note));
        let result = contained(&*self.frontend, self.frontend.put(key, put)).await.map(drop);
        self.await_unknown(&result).await;
        drop(call);
        result
    }

    /// Hides the backend's entry behind a tombstone, or just drops what only the frontend has.
    pub(super) async fn erase_locally(
        self: &Arc<Self>,
        key: &Key,
        delete: &Delete,
        in_backend: bool,
    ) -> Result<()> {
        if in_backend {
            let version = self.version_or_mint(delete.version.as_ref());
            let tombstone = self.stamp.entry(&Put::new("").with_version(version));
            return self.store_locally(key, &tombstone, Origin::Tombstone).await;
        }
        let Some(call) = self.begin_call(key).await else { return Err(self.frontend_hangs()) };
        let result = contained(&*self.frontend, self.frontend.delete(key, Delete::new())).await.map(drop);
        self.await_unknown(&result).await;
        drop(call);
        result
    }

    /// After an unknown outcome, waits until the frontend's request cannot be alive any more.
    async fn await_unknown(&self, result: &Result<()>) {
        if result.as_ref().is_err_and(|error| error.write_outcome() == Outcome::Unknown) {
            tokio::time::sleep(self.frontend.capabilities().lifetime()).await;
        }
    }

    /// Whether the frontend has a local entry or tombstone, which neither a fill nor a removal may take away.
    pub(super) async fn is_kept_locally(&self, key: &Key) -> Result<bool> {
        if self.settings.write_policy != WritePolicy::FrontendOnly {
            return Ok(false);
        }
        let options = ReadOptions::new().tombstones(Tombstones::Show);
        let held = contained(&*self.frontend, self.frontend.head(key, &options)).await?;
        Ok(held.is_some_and(|held| held.note.origin.is_local()))
    }

    fn frontend_hangs(&self) -> Error {
        Error::new(crate::ErrorKind::TimedOut, "an earlier call to the frontend has not returned")
            .in_tier(self.frontend.capabilities().name())
            .outcome_is(Outcome::NotApplied)
    }

    /// Judges a precondition against what a reader sees now.
    pub(super) async fn judge_locally(&self, key: &Key, precondition: &Precondition) -> Result<Current> {
        match self.current_locally(key).await {
            Ok(current) if precondition.holds(current.version.as_ref()) => Ok(current),
            Ok(_) => Err(precondition_failed(key)),
            Err(error) if error.kind() == ErrorKind::Corrupt && *precondition == Precondition::Damaged => {
                // Whether the backend has the key cannot be told: it is hidden as if it had.
                Ok(Current { version: None, in_backend: true })
            }
            Err(error) => Err(error),
        }
    }

    /// What a reader sees now: the local entry or tombstone, else the backend's.
    pub(super) async fn current_locally(&self, key: &Key) -> Result<Current> {
        let nothing_done = |error: Error| error.outcome_is(Outcome::NotApplied);
        let options = ReadOptions::new().range(0..0).tombstones(Tombstones::Show);
        let local =
            contained(&*self.frontend, self.frontend.load(key, &options)).await.map_err(nothing_done)?;
        let authoritative = ReadOptions::new().authoritative();
        let head = self.ask_backend(self.backend.head(key, &authoritative)).await.map_err(nothing_done)?;
        let version = match local.into_entry() {
            Some(entry) if entry.metadata().note.origin == Origin::Tombstone => None,
            Some(entry) if entry.metadata().note.origin == Origin::Local => Some(entry.version().clone()),
            _ => head.as_ref().map(|metadata| metadata.version.clone()),
        };
        Ok(Current { version, in_backend: head.is_some() })
    }
}
