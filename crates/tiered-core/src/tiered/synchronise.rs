//! Synchronising the frontend of a live store: every copy is a fill with its token, every removal an invalidation
//! under its gate, so neither can undo a write.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesOrdered;

use super::{Rooms, TieredStore};
use crate::capability::Feature;
use crate::entry::{Entry, Tombstones};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::frontend::{Changed, Replaceable};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::observe::{Count, Event};
use crate::read::{Lookup, ReadOptions};
use crate::settings::OnConnectFailure;
use crate::slot::{Gate, Glance};
use crate::store::Store;
use crate::sync::{
    self, Attempt, Batched, Copied, Done, Over, Removed, SyncOptions, SyncReport, SyncStrategy, Target, Task,
    Theirs, Walk, WalkOptions, WalkReport, list_past_blocks, without_parts,
};
use crate::version::Version;

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
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::{PopulateMissing, SyncOptions};
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("users/42", "Ada").await?;
    /// let store = TieredStore::builder(MemoryStore::new(), backend).build().await?;
    /// let report = store.sync(&PopulateMissing, &SyncOptions::new().prefix("users/")).await?;
    /// assert_eq!(report.copied, 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn sync(&self, strategy: &dyn SyncStrategy, options: &SyncOptions) -> Result<SyncReport> {
        self.rooms.door.check(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.rooms));
        let report = sync::run(self.backend().as_ref(), &target, strategy, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.rooms.tell_of_failures(&report);
        Ok(report)
    }

    /// The sync on connecting.
    pub(super) async fn connect(&self, strategy: &dyn SyncStrategy) -> Result<()> {
        let report = self.sync(strategy, &SyncOptions::default()).await?;
        let failed = report.failed;
        let first = report.failures.first().cloned();
        self.rooms.connected.set(report).ok();
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
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::SyncOptions;
    /// use tiered_core::{Key, MemoryStore, StoreExt, TieredStore};
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("users/42", "Ada").await?;
    /// let store = TieredStore::builder(MemoryStore::new(), backend).build().await?;
    /// let report = store.sync_keys(&[Key::new("users/42")?], &SyncOptions::new()).await?;
    /// assert_eq!(report.copied, 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn sync_keys(&self, keys: &[Key], options: &SyncOptions) -> Result<SyncReport> {
        self.rooms.door.check(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.rooms));
        let report = sync::run_keys(self.backend().as_ref(), &target, keys, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.rooms.tell_of_failures(&report);
        Ok(report)
    }

    /// Copies to the frontend what is reachable from `roots` in the backend.
    ///
    /// # Errors
    /// As [`walk_sync`](crate::sync::walk_sync).
    ///
    /// # Cancel safety
    /// As [`walk_sync`](crate::sync::walk_sync).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::sync::WalkOptions;
    /// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt, TieredStore};
    ///
    /// let backend = MemoryStore::new();
    /// backend.set("root", "leaf").await?;
    /// backend.set("leaf", "").await?;
    /// let store = TieredStore::builder(MemoryStore::new(), backend).build().await?;
    /// let references = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
    ///     String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
    /// };
    /// let report = store.walk_sync(&[Key::new("root")?], &references, &WalkOptions::new()).await?;
    /// assert_eq!(report.sync.copied, 2);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn walk_sync(
        &self,
        roots: &[Key],
        walk: &dyn Walk,
        options: &WalkOptions,
    ) -> Result<WalkReport> {
        self.rooms.door.check(Operation::Sync)?;
        let target = Frontend(Arc::clone(&self.rooms));
        let report = sync::run_walk(self.backend().as_ref(), &target, roots, walk, options)
            .await
            .map_err(|error| error.during(Operation::Sync))?;
        self.rooms.tell_of_failures(&report.sync);
        Ok(report)
    }
}

impl Rooms {
    /// Counts the entries that a sync could not handle, and says so.
    fn tell_of_failures(&self, report: &SyncReport) {
        if report.failed == 0 {
            return;
        }
        self.recorder.add(Count::SyncFailure, report.failed);
        self.recorder.send(|| Event::SyncFailed { failed: report.failed });
        let first = report.failures.first().map(|failure| failure.error.as_str()).unwrap_or_default();
        tracing::warn!(failed = report.failed, first, "a sync of the frontend left entries out");
    }
}

/// Removals whose gates are closed together: reads of these keys go to the backend meanwhile.
const REMOVALS: usize = 128;

/// A key that the frontend has and the backend did not list, with the version in the frontend's listing.
type Extra = (Key, Option<Version>);

/// The frontend of a live store as the target of a sync from its backend.
struct Frontend(Arc<Rooms>);

#[async_trait]
impl Target for Frontend {
    fn list(&self, options: ListOptions) -> ListStream {
        let rooms = Arc::clone(&self.0);
        let list = move |options| rooms.frontend.tier().past_breaker().list(options);
        without_parts(list_past_blocks(list, options.tombstones(Tombstones::Show)))
    }

    /// A fill reads the backend after it got its token: what was listed before is too old.
    fn takes_listed_values(&self) -> Option<u64> {
        None
    }

    fn keeps_versions(&self) -> bool {
        true
    }

    fn takes_entries(&self) -> bool {
        false
    }

    async fn versions(&self, keys: &[Key]) -> Vec<Option<Version>> {
        let heads =
            self.0.frontend.tier().past_breaker().get_many(keys, &ReadOptions::new().range(0..0)).await;
        heads.into_iter().map(|head| Some(head.ok()?.entry()?.version().clone())).collect()
    }

    async fn add_together(&self, _: Vec<(Key, Entry)>, _: Over) -> Option<Vec<Copied>> {
        None
    }

    async fn lacks(&self, keys: &[Key]) -> Vec<bool> {
        let shown = ReadOptions::new().range(0..0).tombstones(Tombstones::Show);
        let heads = self.0.frontend.tier().past_breaker().get_many(keys, &shown).await;
        heads.into_iter().map(|head| head.is_ok_and(|head| head.entry().is_none())).collect()
    }

    fn batches(&self) -> bool {
        self.0.backend.capabilities().has(Feature::AtomicBatch)
    }

    /// Copies by one read of the backend; each is a fill of its own. Removals wait for the gates of their keys, and look at both
    /// sides by one read each.
    async fn carry_out(&self, tasks: &[Task]) -> Vec<Batched> {
        let copies = tasks.iter().filter_map(|task| {
            let (_, theirs) = task.copies().filter(|_| !self.0.plan.reserves(task.key()))?;
            Some((task.key().clone(), replaced(theirs)))
        });
        let mut refilled = self.0.reader.refill_many(copies.collect()).await.into_iter();
        let extras =
            tasks.iter().filter_map(|task| Some((task.key().clone(), listed_version(task.removes()?))));
        let mut removed = self.remove_together(extras.collect()).await.into_iter();
        let mut ended = Vec::with_capacity(tasks.len());
        for task in tasks {
            ended.push(if task.removes().is_some() {
                removed.next().unwrap_or(Batched::Alone(Attempt::First))
            } else if task.copies().is_none() {
                Batched::Alone(Attempt::First)
            } else if self.0.plan.reserves(task.key()) {
                Batched::Ended(Ok(Done::Copied(Copied::Same)))
            } else {
                match refilled.next().flatten() {
                    // It may be that all were out of reach for a moment.
                    Some(Err(error)) if error.kind() != ErrorKind::Corrupt => Batched::Alone(Attempt::First),
                    answer => Batched::Ended(self.copied(task.key(), answer).map(Done::Copied)),
                }
            });
        }
        ended
    }

    async fn copy(&self, key: &Key, _: Option<&Listed>, theirs: Theirs<'_>, _: Attempt) -> Result<Copied> {
        if self.0.plan.reserves(key) {
            return Ok(Copied::Same);
        }
        self.copied(key, self.0.reader.refill(key, replaced(theirs)).await)
    }

    async fn remove(&self, key: &Key, theirs: Theirs<'_>, _: Attempt) -> Result<Removed> {
        let listed = listed_version(theirs);
        let gate = Gate::close(&self.0.slots, key).await;
        let (rooms, key) = (Arc::clone(&self.0), key.clone());
        let remove = async move {
            let removed = rooms.remove_extra(&key, listed.as_ref()).await;
            drop(gate);
            removed
        };
        self.0.tasks.run_to_end(remove).await
    }
}

/// The listed entry is replaced whatever it is: a fill that removes where the backend has nothing.
const fn replaced(theirs: Theirs<'_>) -> Replaceable {
    match theirs {
        Theirs::Nothing => Replaceable::Nothing,
        Theirs::Listed(_) | Theirs::Damaged => Replaceable::Damaged,
    }
}

/// The version in the frontend's listing.
fn listed_version(theirs: Theirs<'_>) -> Option<Version> {
    match theirs {
        Theirs::Listed(listed) => listed.version.clone(),
        Theirs::Nothing | Theirs::Damaged => None,
    }
}

impl Frontend {
    /// Removes what the frontend has and the backend does not, under the gates of some keys at a time. Those whose removal did not
    /// begin are left to be removed by themselves.
    async fn remove_together(&self, mut extras: Vec<Extra>) -> Vec<Batched> {
        let mut ended = Vec::with_capacity(extras.len());
        while !extras.is_empty() {
            let some: Vec<Extra> = extras.drain(..extras.len().min(REMOVALS)).collect();
            let count = some.len();
            let keys = some.iter().map(|(key, _)| key.clone()).collect();
            let gates = Gate::close_all(&self.0.slots, keys).await;
            let rooms = Arc::clone(&self.0);
            let removing = async move {
                let removed = rooms.remove_extras(some).await;
                drop(gates);
                Ok(removed)
            };
            match self.0.tasks.run_to_end(removing).await {
                Ok(removed) => ended.extend(removed),
                Err(_) => ended.extend((0..count).map(|_| Batched::Alone(Attempt::First))),
            }
        }
        ended
    }

    /// How a copy ended, from the answer of its load. Without one, a write that is under way or pending brings the
    /// frontend in step itself.
    fn copied(&self, key: &Key, answer: Option<Result<Lookup>>) -> Result<Copied> {
        let Some(answer) = answer else { return Ok(Copied::Same) };
        Ok(match answer? {
            Lookup::Found(entry) if !self.0.frontend.fits(key, entry.size()) => Copied::Same,
            Lookup::Found(entry) => Copied::Done(entry.size()),
            Lookup::Unchanged | Lookup::Changed | Lookup::Absent => Copied::Vanished,
        })
    }
}

impl Rooms {
    /// Removes what the frontend has and the backend does not, under a closed gate: no other write of this store comes
    /// between. `listed` is the version in the frontend's listing.
    async fn remove_extra(&self, key: &Key, listed: Option<&Version>) -> Result<Removed> {
        // A pending write is not extra.
        let is_pending = !matches!(self.slots.glance(key), Glance::Gated | Glance::Clear);
        if is_pending || self.backend.is_there(key).await? {
            return Ok(Removed::Overtaken);
        }
        // A local write after the listing is not extra either.
        let shown = ReadOptions::new().tombstones(Tombstones::Show);
        let held = self.frontend.tier().past_breaker().head(key, &shown).await;
        let held = held.map(|held| held.map(|held| held.version.clone()));
        if is_still(held, listed)? { self.drop_extra(key).await } else { Ok(Removed::Overtaken) }
    }

    /// The same for several keys, under their closed gates.
    async fn remove_extras(&self, extras: Vec<Extra>) -> Vec<Batched> {
        let keys: Vec<Key> = extras.iter().map(|(key, _)| key.clone()).collect();
        let empty = ReadOptions::new().range(0..0);
        let (there, held) = (empty.clone().authoritative(), empty.tombstones(Tombstones::Show));
        let there = self.backend.past_breaker().get_many(&keys, &there);
        let held = self.frontend.tier().past_breaker().get_many(&keys, &held);
        let (there, held) = join(there, held).await;
        let mut running = FuturesOrdered::new();
        for ((key, listed), (there, held)) in extras.into_iter().zip(there.into_iter().zip(held)) {
            running.push_back(async move {
                let held = held.map(|held| held.entry().map(|entry| entry.version().clone()));
                let is_pending = !matches!(self.slots.glance(&key), Glance::Gated | Glance::Clear);
                let is_there = match there {
                    Ok(there) => there.entry().is_some(),
                    Err(error) if error.kind() == ErrorKind::Corrupt => true,
                    // It may be that all were out of reach for a moment.
                    Err(_) => return Batched::Alone(Attempt::First),
                };
                let removed = match is_still(held, listed.as_ref()) {
                    _ if is_pending || is_there => Ok(Removed::Overtaken),
                    Ok(true) => self.drop_extra(&key).await,
                    Ok(false) => Ok(Removed::Overtaken),
                    Err(_) => return Batched::Alone(Attempt::First),
                };
                Batched::Ended(removed.map(Done::Removed))
            });
        }
        running.collect().await
    }

    async fn drop_extra(&self, key: &Key) -> Result<Removed> {
        if self.frontend.update_unreserved(key, None).await == Changed::Done {
            return Ok(Removed::Done);
        }
        Err(Error::new(ErrorKind::Unavailable, "the frontend did not drop the key").for_key(key))
    }
}

/// Whether the frontend has what it listed, or still something that is damaged.
fn is_still(held: Result<Option<Version>>, listed: Option<&Version>) -> Result<bool> {
    match held {
        Ok(held) => Ok(held.is_some_and(|held| listed.is_none_or(|listed| *listed == held))),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(listed.is_none()),
        Err(error) => Err(error),
    }
}
