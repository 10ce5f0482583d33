//! Moving to another store while calls go on.
//!
//! Everything is copied by a sync, and the keys that are written meanwhile are noted. Those are copied again, in ever smaller
//! rounds. The last round is while no call is under way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tiered_core::sync::{FullSync, SyncOptions, SyncReport, sync, sync_keys};
use tiered_core::{
    AsStore, Delete, Error, ErrorKind, Feature, Key, ListOptions, ReadOptions, Result, Sharing, Store,
    ownership,
};
use tokio::time::{Instant, sleep};

use super::calls::Quiet;
use super::options::{MoveOptions, Moved};
use super::swap::{check_capabilities, run_to_end};
use super::writes::{Noting, Written};
use super::{Shared, Swappable, refused};

/// Of a store that data moves to: the id of the store where it comes from.
const MOVING: &str = "tiered.moving";

/// Keys that are left for the last round.
const LAST: usize = 1_000;

/// Rounds before the last one. Where writes come faster than they are copied, more would not help.
const ROUNDS: usize = 8;

impl Swappable {
    /// Moves everything to `target`, while calls go on, and then exchanges the store inside for it. Calls wait while the last of
    /// what was written meanwhile is copied: a thousand keys, or more where they are written faster than `target` takes
    /// them.
    ///
    /// Entries keep their versions. `target` takes over the id and the marks of the store inside, so that journals and frontends
    /// of stacks above stay in step with it. The store before gets a new id, so that none of them is opened over it by
    /// mistake. From then on open `target` in its place: **also when the program starts again.**
    ///
    /// A store that keeps marks is recognised when the move goes on after an error; any other target must be emptied first.
    ///
    /// `target` must be empty, or hold what an earlier call copied that did not end.
    ///
    /// # Errors
    /// The store inside is the one before after any of them, and `target` holds a part: [`ErrorKind::Config`] where `target` lacks what
    /// this store declares, where it holds other entries, or where other processes may write the store inside
    /// ([`declare_sole_writer`](MoveOptions::declare_sole_writer)); [`ErrorKind::Unsupported`] where the store inside lists only a part
    /// of what it holds; [`ErrorKind::Locked`] where `target` is claimed by someone
    /// else; [`ErrorKind::Corrupt`] where the store inside holds a damaged entry, which it names: repair it or delete it, and call
    /// again ([`max_failures`](MoveOptions::max_failures) says after how many it stops);
    /// those of the stores; and as [`swap`](Self::swap) for calls that do not end.
    ///
    /// # Cancel safety
    /// Dropped half-way it goes on to its end, in a task of the runtime that it was called in.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    /// use tiered_wrap::{MoveOptions, Swappable};
    ///
    /// let backend = Swappable::new(MemoryStore::new());
    /// let store = TieredStore::builder(MemoryStore::new(), backend.clone()).build().await?;
    /// store.set("users/42", "Ada").await?;
    ///
    /// let next = MemoryStore::new();
    /// backend.move_to(next.clone(), &MoveOptions::new()).await?;
    /// store.set("users/43", "Grace").await?;
    /// assert_eq!(next.keys("").await?.len(), 2);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn move_to(&self, target: impl AsStore, options: &MoveOptions) -> Result<Moved> {
        let (shared, target, options) = (Arc::clone(&self.0), target.into_store(), options.clone());
        run_to_end(async move { shared.move_to(target, &options).await }).await
    }
}

/// Where data moves from and to.
struct Move<'m> {
    shared: &'m Shared,
    from: Arc<dyn Store>,
    /// The store to move to, in a form that is claimed for this move.
    to: &'m Swappable,
    sync: SyncOptions,
    noting: Noting<'m>,
    copied: u64,
    copied_again: u64,
    bytes: u64,
}

impl Shared {
    async fn move_to(&self, target: Arc<dyn Store>, options: &MoveOptions) -> Result<Moved> {
        let _exchange = self.calls.begin_exchange()?;
        let from = Arc::clone(&self.calls.inside().store);
        self.check_target(&from, &target, options)?;
        let to = Swappable::declaring(Arc::clone(&target), |all| all)?;
        // Claimed until it is the store inside; each sync borrows it.
        let claimed = to.0.lent.beneath(&target).await?;
        begin_at(self.capabilities.has(Feature::KeepsMarks).then_some(&from), &target).await?;
        // From here on every write is noted: those under way before have ended.
        let (streams, noting);
        {
            streams = self.calls.without_streams().await?;
            let quiet = self.quiet(&streams).await?;
            noting = self.writes.note(&quiet);
        }
        drop(streams);
        let sync = options.sync.clone();
        let mut moving =
            Move { shared: self, from, to: &to, sync, noting, copied: 0, copied_again: 0, bytes: 0 };
        moving.whole().await?;
        let mut rest = moving.rounds().await?;
        let streams = self.calls.without_streams().await?;
        // More may have come while streams were waited for.
        rest.extend(moving.rounds().await?);
        let quiet = self.quiet(&streams).await?;
        self.calls.check_open(&quiet)?;
        let begun = Instant::now();
        let mut moved = moving.finish(rest, &target, &quiet).await?;
        if let Some(lent) = self.lent.give_back().await {
            lent.hold(claimed.take());
        }
        drop(claimed);
        self.calls.exchange(Arc::clone(&target), &quiet);
        moved.paused = begun.elapsed();
        if self.capabilities.has(Feature::KeepsMarks)
            && let Err(error) = target.set_mark(MOVING, None).await
        {
            tracing::warn!(error = %error.chain(), "a store that data moved to still has the mark of the move");
        }
        Ok(moved)
    }

    fn check_target(
        &self,
        from: &Arc<dyn Store>,
        target: &Arc<dyn Store>,
        options: &MoveOptions,
    ) -> Result<()> {
        if Arc::ptr_eq(from, target) {
            return Err(refused(ErrorKind::Config, "this is the store inside already; name another one"));
        }
        check_capabilities(target.capabilities(), &self.capabilities)?;
        if from.capabilities().has(Feature::PartialListings) {
            let message = "the store inside lists only a part of what it holds, as a stack that keeps writes in its frontend does, and the rest would be left behind; move its backend instead";
            return Err(refused(ErrorKind::Unsupported, message));
        }
        if from.capabilities().sharing() == Sharing::Shared && !options.is_sole_writer {
            let message = "other processes may write the store inside, and what they write while it moves would be left behind; stop them, and say so with declare_sole_writer()";
            return Err(refused(ErrorKind::Config, message));
        }
        Ok(())
    }
}

/// Refuses a target that holds something else, and marks it as one that data moves to.
async fn begin_at(from: Option<&Arc<dyn Store>>, target: &Arc<dyn Store>) -> Result<()> {
    let id = match from {
        Some(from) => ownership::ensure_id(from).await?.map(Bytes::from),
        None => None,
    };
    if let Some(id) = &id
        && target.mark(MOVING).await?.as_ref() == Some(id)
    {
        return Ok(());
    }
    if let Some(first) = target.list(ListOptions::new().limit(1)).next().await {
        let what = match first {
            Ok(listed) => format!("it has the key {:?}", listed.key),
            Err(error) if error.damaged_key().is_some() => error.chain(),
            Err(error) => return Err(error),
        };
        return Err(refused(
            ErrorKind::Config,
            format!("{} is not empty: {what}; move to an empty store", target.capabilities().name()),
        ));
    }
    match id {
        Some(id) => target.set_mark(MOVING, Some(id)).await,
        None => Ok(()),
    }
}

impl Move<'_> {
    /// Copies everything.
    async fn whole(&mut self) -> Result<()> {
        let report = sync(&self.from, self.to, &FullSync, &self.sync).await.map_err(stopped)?;
        self.count(&report)?;
        self.settle().await;
        Ok(())
    }

    /// Waits until no write to the target can take effect any more that was tried and did not end well: it would come on top of
    /// what is copied later.
    async fn settle(&self) {
        sleep(self.to.0.writes.late_for()).await;
    }

    /// Copies what is written meanwhile, until little of it is left, which it returns.
    async fn rounds(&mut self) -> Result<Vec<Key>> {
        for _ in 0..ROUNDS {
            match self.noting.take() {
                Written::TooMany => self.whole().await?,
                Written::These(keys) if keys.len() <= LAST => return Ok(keys.into_iter().collect()),
                Written::These(keys) => {
                    let mut keys: Vec<Key> = keys.into_iter().collect();
                    keys.sort_unstable();
                    self.again(&keys).await?;
                }
            }
        }
        Ok(Vec::new())
    }

    /// Copies the rest, and gives the target what makes it stand in. Calls wait meanwhile, so it is as fast as the stores are.
    async fn finish(mut self, mut rest: Vec<Key>, target: &Arc<dyn Store>, quiet: &Quiet) -> Result<Moved> {
        self.sync.bytes_per_second = None;
        match self.noting.take_all(quiet) {
            Written::TooMany => self.whole().await?,
            Written::These(keys) => {
                rest.extend(keys);
                rest.sort_unstable();
                rest.dedup();
                self.again(&rest).await?;
            }
        }
        if self.shared.capabilities.has(Feature::KeepsMarks) {
            self.hand_over(target).await?;
        } else {
            target.flush().await?;
        }
        Ok(Moved {
            copied: self.copied,
            bytes: self.bytes,
            copied_again: self.copied_again,
            paused: Duration::ZERO,
            before: self.from,
        })
    }

    /// Gives the target the id and the marks. The last write of that, which gives the store before a new id, may take effect after it has
    /// failed: then the target is the store to go on with.
    async fn hand_over(&self, target: &Arc<dyn Store>) -> Result<()> {
        let id = ownership::id(&self.from).await?;
        let Err(error) = ownership::hand_over(&self.from, target).await else { return Ok(()) };
        sleep(self.from.capabilities().request_lifetime()).await;
        let is_done = ownership::id(target).await? == id && ownership::id(&self.from).await? != id;
        if is_done { Ok(()) } else { Err(error) }
    }

    /// Brings these keys in step.
    async fn again(&mut self, keys: &[Key]) -> Result<()> {
        for some in keys.chunks(self.sync.batch.max(1)) {
            let report = sync_keys(&self.from, self.to, some, &self.sync).await.map_err(stopped)?;
            self.copied_again += report.copied;
            self.count(&report)?;
            if report.vanished > 0 {
                self.remove_absent(some).await?;
            }
        }
        self.settle().await;
        Ok(())
    }

    /// Removes those of these keys that were deleted.
    async fn remove_absent(&self, keys: &[Key]) -> Result<()> {
        let heads = self.from.get_many(keys, &ReadOptions::new().range(0..0)).await;
        for (key, head) in keys.iter().zip(heads) {
            let is_absent = match head {
                Ok(head) => head.entry().is_none(),
                // It is there, and empty ranges of it are not.
                Err(error) if error.kind() == ErrorKind::InvalidRange => false,
                Err(error) => return Err(error),
            };
            if is_absent {
                self.to.delete(key, Delete::new()).await?;
            }
        }
        Ok(())
    }

    fn count(&mut self, report: &SyncReport) -> Result<()> {
        self.copied += report.copied;
        self.bytes += report.bytes;
        let Some(first) = report.failures.first() else { return Ok(()) };
        let kind = if report.damaged > 0 { ErrorKind::Corrupt } else { ErrorKind::Other };
        let message = format!(
            "{} entries could not be copied, and nothing was exchanged; the first is {:?}: {}",
            report.failed, first.key, first.error
        );
        Err(Error::new(kind, message).for_key(&first.key))
    }
}

/// A copy that was stopped by an entry is as damaged as that.
fn stopped(error: Error) -> Error {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
    let Some(key) = error.key().cloned().filter(|_| error.kind() == ErrorKind::Other) else { return error };
    let is_damaged = cause.is_some_and(|cause| cause.kind() == ErrorKind::Corrupt);
    let kind = if is_damaged { ErrorKind::Corrupt } else { ErrorKind::Other };
    let message =
        format!("too many entries could not be copied, and nothing was exchanged; the last is {key:?}");
    Error::new(kind, message).for_key(&key).with_source(error)
}
