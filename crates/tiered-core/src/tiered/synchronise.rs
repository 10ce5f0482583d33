//! Synchronising the frontend of a live store: every copy is a fill under its lease, every removal an invalidation
//! under its gate, so neither can undo a write.

use std::sync::Arc;

use async_trait::async_trait;

use super::TieredStore;
use super::engine::{Change, Changed, Engine};
use super::read::Replaces;
use super::settings::OnConnectFailure;
use crate::entry::Tombstones;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::observe::Event;
use crate::planted::Plant;
use crate::policy::Freshness;
use crate::read::{Lookup, ReadOptions};
use crate::slot::Boarding;
use crate::store::Store;
use crate::sync::{
    self, Copied, Removed, SyncOptions, SyncReport, SyncStrategy, Target, Theirs, Walk, WalkReport,
    without_absences,
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
        let report = sync::run(self.backend(), &target, strategy, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.engine.tell_of_failures(&report);
        Ok(report)
    }

    /// The sync on connecting.
    pub(super) async fn connect(&self, strategy: &dyn SyncStrategy) -> Result<()> {
        let report = self.sync(strategy, &SyncOptions::default()).await?;
        let failed = report.failed;
        let first = report.failures.first().cloned();
        self.engine.connected.set(report).ok();
        if failed == 0 || self.settings().on_connect_failure == OnConnectFailure::Report {
            return Ok(());
        }
        let message = format!(
            "{failed} entries could not be copied on connecting; on-connect-failure = report builds the store all the same"
        );
        let error = Error::new(ErrorKind::Unavailable, message).during(Operation::Sync);
        Err(match first {
            Some(first) => error.for_key(&first.key).with_source(first.error),
            None => error,
        })
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
        let report = sync::run_keys(self.backend(), &target, keys, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.engine.tell_of_failures(&report);
        Ok(report)
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
        let report = sync::run_walk(self.backend(), &target, roots, walk, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.engine.tell_of_failures(&report.sync);
        Ok(report)
    }
}

impl Engine {
    /// Counts the entries that a sync could not handle, and says so.
    fn tell_of_failures(&self, report: &SyncReport) {
        if report.failed == 0 {
            return;
        }
        self.counters.sync_failures.add(report.failed);
        self.events.send(|| Event::SyncFailed { failed: report.failed });
        let first = report.failures.first().map(|failure| failure.error.as_str()).unwrap_or_default();
        tracing::warn!(failed = report.failed, first, "a sync of the frontend left entries out");
    }
}

/// Whether the backend has the key, be it damaged.
async fn is_there(backend: &dyn Store, key: &Key) -> Result<bool> {
    match backend.head(key, &ReadOptions::new().authoritative()).await {
        Ok(head) => Ok(head.is_some()),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error),
    }
}

/// The frontend of a live store as the target of a sync from its backend.
struct Frontend(Arc<Engine>);

#[async_trait]
impl Target for Frontend {
    fn list(&self, options: ListOptions) -> ListStream {
        without_absences(self.0.frontend.list(options.tombstones(Tombstones::Show)))
    }

    async fn copy(&self, key: &Key, _: Option<&Listed>, theirs: Theirs<'_>) -> Result<Copied> {
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
        let replaces = match theirs {
            Theirs::Nothing => Replaces::Nothing,
            Theirs::Listed(_) | Theirs::Damaged => Replaces::Damaged,
        };
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
                    Lookup::Unchanged | Lookup::Changed | Lookup::Absent => Copied::Vanished,
                })
            }
        }
    }

    async fn remove(&self, key: &Key, theirs: Theirs<'_>) -> Result<Removed> {
        let (engine, key) = (Arc::clone(&self.0), key.clone());
        let version = match theirs {
            Theirs::Listed(listed) => listed.version.clone(),
            Theirs::Nothing | Theirs::Damaged => None,
        };
        let gate = engine.slots.close_gate(&key).await;
        let task = Arc::clone(&engine);
        engine
            .run_to_end(async move {
                // Under the gate nobody writes the key through this store; a pending write is not extra.
                let pending = !matches!(
                    task.slots.glance(&key),
                    crate::slot::Glance::Gated | crate::slot::Glance::Clear
                );
                if pending || is_there(task.backend.as_ref(), &key).await? {
                    return Ok(Removed::Overtaken);
                }
                // A local write after the listing is not extra either.
                let shown = ReadOptions::new().tombstones(Tombstones::Show);
                let is_listed = match task.frontend.head(&key, &shown).await {
                    Ok(held) => held.is_some_and(|held| version.is_none_or(|listed| listed == held.version)),
                    Err(error) if error.kind() == ErrorKind::Corrupt => version.is_none(),
                    Err(error) => return Err(error),
                };
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
