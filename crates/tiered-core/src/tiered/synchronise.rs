//! Synchronising the frontend of a live store: every copy is a fill under its lease, every removal an invalidation
//! under its gate, so neither can undo a write.

use std::sync::Arc;

use async_trait::async_trait;

use super::TieredStore;
use super::engine::{Change, Changed, Engine};
use super::read::Replaces;
use crate::entry::Tombstones;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::planted::Plant;
use crate::policy::Freshness;
use crate::read::{Lookup, ReadOptions};
use crate::slot::Boarding;
use crate::sync::{
    self, Copied, Removed, SyncOptions, SyncReport, SyncStrategy, Target, Walk, WalkReport, without_absences,
};
use crate::write::Put;

impl TieredStore {
    /// Brings the frontend in step with the backend.
    ///
    /// Safe while the store is used: a copy is a fill that a concurrent write revokes, and a removal waits for the
    /// key's gate. An evicting frontend may drop what was copied.
    ///
    /// # Errors
    /// As [`sync()`](crate::sync::sync()).
    ///
    /// # Cancel safety
    /// As [`sync()`](crate::sync::sync()).
    pub async fn sync(&self, strategy: &dyn SyncStrategy, options: &SyncOptions) -> Result<SyncReport> {
        self.engine.check_open(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.engine));
        sync::run(self.backend(), &target, strategy, options)
            .await
            .map_err(|error| error.during(Operation::Sync))
    }

    /// Copies the named keys from the backend to the frontend.
    ///
    /// # Errors
    /// As [`sync_keys`](crate::sync::sync_keys).
    ///
    /// # Cancel safety
    /// As [`sync()`](crate::sync::sync()).
    pub async fn sync_keys(&self, keys: &[Key], options: &SyncOptions) -> Result<SyncReport> {
        self.engine.check_open(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.engine));
        sync::run_keys(self.backend(), &target, keys, options)
            .await
            .map_err(|error| error.during(Operation::Sync))
    }

    /// Copies to the frontend what is reachable from `roots` in the backend.
    ///
    /// # Errors
    /// As [`walk_sync`](crate::sync::walk_sync).
    ///
    /// # Cancel safety
    /// As [`walk_sync`](crate::sync::walk_sync).
    pub async fn walk_sync(
        &self,
        roots: &[Key],
        walk: &dyn Walk,
        options: &SyncOptions,
    ) -> Result<WalkReport> {
        self.engine.check_open(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.engine));
        sync::run_walk(self.backend(), &target, roots, walk, options)
            .await
            .map_err(|error| error.during(Operation::Sync))
    }
}

/// The frontend of a live store as the target of a sync from its backend.
struct Frontend(Arc<Engine>);

#[async_trait]
impl Target for Frontend {
    fn list(&self, options: ListOptions) -> ListStream {
        without_absences(self.0.frontend.list(options.tombstones(Tombstones::Show)))
    }

    async fn copy(&self, key: &Key, _: Option<&Listed>, listed: Option<&Listed>) -> Result<Copied> {
        let engine = &self.0;
        if engine.keeps_for_itself(key) {
            return Ok(Copied::Same);
        }
        if engine.planted.has(Plant::SyncCopiesOverNewer)
            && let Some(entry) = engine.backend.load(key, &ReadOptions::new()).await?.into_entry()
        {
            let note = Engine::note(engine.session(), engine.uptime_millis(), entry.metadata());
            let copy = Put::verbatim(&entry.clone().with_note(note));
            engine.frontend.put(key, copy).await?;
            return Ok(Copied::Done(entry.size()));
        }
        // The listed entry is replaced whatever it is: a fill that removes where the backend has nothing.
        let replaces = if listed.is_some() { Replaces::Damaged } else { Replaces::Nothing };
        match engine.slots.board(key, true) {
            // A write is under way or pending: it brings the frontend in step itself.
            Boarding::Look | Boarding::Join(_) => Ok(Copied::Same),
            Boarding::Lead(flight, pilot) => {
                let (engine, owned) = (Arc::clone(engine), key.clone());
                let runtime = engine.runtime.clone();
                runtime
                    .spawn(async move { engine.fly(pilot, owned, replaces, Freshness::Authoritative).await });
                let answer = flight.clone().answer().await.map_err(|error| error.duplicate())?;
                flight.ended().await;
                Ok(match answer {
                    Lookup::Found(entry) if !self.0.fits_frontend(key, entry.size()) => Copied::Same,
                    Lookup::Found(entry) => Copied::Done(entry.size()),
                    Lookup::Unchanged | Lookup::Absent => Copied::Vanished,
                })
            }
        }
    }

    async fn remove(&self, listed: &Listed) -> Result<Removed> {
        let (engine, key, version) = (Arc::clone(&self.0), listed.key.clone(), listed.version.clone());
        let gate = engine.slots.close_gate(&key).await;
        let task = Arc::clone(&engine);
        engine
            .run_to_end(async move {
                // Under the gate nobody writes the key through this store; a pending write is not extra.
                let pending = !matches!(
                    task.slots.glance(&key),
                    crate::slot::Glance::Gated | crate::slot::Glance::Clear
                );
                let fresh = ReadOptions::new().authoritative();
                if pending || task.backend.head(&key, &fresh).await?.is_some() {
                    return Ok(Removed::Overtaken);
                }
                // A local write after the listing is not extra either.
                let shown = ReadOptions::new().tombstones(Tombstones::Show);
                let held = task.frontend.head(&key, &shown).await?;
                let is_listed = held.is_some_and(|held| version.is_none_or(|listed| listed == held.version));
                if !is_listed && !task.planted.has(Plant::FullSyncRemovesWritten) {
                    return Ok(Removed::Overtaken);
                }
                let changed = task.settle_frontend(&key, Change::Remove).await;
                drop(gate);
                if changed == Changed::Done {
                    return Ok(Removed::Done);
                }
                Err(Error::new(ErrorKind::Unavailable, "the frontend did not drop the key").for_key(&key))
            })
            .await
    }
}
