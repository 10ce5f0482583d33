//! Dropping keys from the frontend alone.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Rooms, TieredStore};
use crate::entry::Tombstones;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::frontend::Changed;
use crate::key::{AsKey, Key};
use crate::list::{ListOptions, Listed};
use crate::observe::{Count, Event};
use crate::slot::Gate;
use crate::store::Store as _;
use crate::sync::list_past_blocks;

/// Keys that are dropped at the same time: enough to keep a frontend on disk busy.
const CONCURRENTLY: usize = 16;

/// What an invalidation drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drops {
    /// What the frontend has.
    All,
    /// Copies of the backend's entries. What was written to the frontend alone stays.
    Copies,
}

impl TieredStore {
    /// Drops `key` from the frontend. A fill that is under way does not bring it back.
    ///
    /// # Errors
    /// The frontend's, after which the key serves no hits until a removal has succeeded.
    ///
    /// # Cancel safety
    /// As a write.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// store.invalidate("users/42").await?;
    /// assert!(!store.frontend().contains("users/42").await?);
    /// assert!(store.contains("users/42").await?, "read from the backend");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn invalidate(&self, key: impl AsKey) -> Result<()> {
        self.rooms.door.check(Operation::Delete)?;
        self.rooms.invalidate(&*key.as_key()?).await
    }

    /// Drops every key that begins with `prefix` from the frontend; how many. The backend is not touched.
    ///
    /// After it no read is answered by what the frontend had of these keys before: fills under way do not bring it back.
    /// It waits for writes of these keys that are under way; what they write may stay. With
    /// [`WritePolicy::FrontendOnly`](crate::WritePolicy) local entries and damaged ones stay; drop them one by one with
    /// [`invalidate`](Self::invalidate).
    ///
    /// It lists the frontend: its time grows with the number of matching keys, its memory does not.
    ///
    /// # Errors
    /// The frontend's. What was dropped before stays so.
    ///
    /// # Cancel safety
    /// Dropping it stops it; each key is dropped or not.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// store.set("orders/1", "paid").await?;
    /// assert_eq!(store.invalidate_prefix("users/").await?, 1);
    /// assert!(!store.frontend().contains("users/42").await?);
    /// assert!(store.frontend().contains("orders/1").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn invalidate_prefix(&self, prefix: &str) -> Result<u64> {
        self.rooms.door.check(Operation::Delete)?;
        self.rooms.invalidate_prefix(prefix).await
    }

    /// [`invalidate_prefix`](Self::invalidate_prefix) for every key.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt, TieredStore};
    ///
    /// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
    /// store.set("users/42", "Ada").await?;
    /// assert_eq!(store.invalidate_all().await?, 1);
    /// assert!(store.frontend().keys("").await?.is_empty());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn invalidate_all(&self) -> Result<u64> {
        self.invalidate_prefix("").await
    }
}

impl Rooms {
    pub(super) async fn invalidate(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.drop_key(key, Drops::All).await?;
        Ok(())
    }

    /// Drops the copies of the keys that begin with `prefix`; how many.
    pub(super) async fn invalidate_prefix(self: &Arc<Self>, prefix: &str) -> Result<u64> {
        // What is being filled may not be listed yet.
        self.slots.revoke_fills(prefix).await;
        let options = ListOptions::new().prefix(prefix).tombstones(Tombstones::Show);
        let rooms = Arc::clone(self);
        let list = move |options| rooms.frontend.tier().past_breaker().list(options);
        let dropped = list_past_blocks(list, options).map(|listed| async move {
            let key = match listed {
                Ok(listed) if is_local(&listed) => return Ok(0),
                Ok(listed) => listed.key,
                Err(error) => error.damaged_key().cloned().ok_or(error)?,
            };
            self.drop_key(&key, Drops::Copies).await
        });
        let dropped = dropped
            .buffer_unordered(CONCURRENTLY)
            .try_fold(0, |sum, one| async move { Ok(sum + one) })
            .await?;
        if prefix.is_empty() {
            self.frontend.remove_all_blocks().await?;
        }
        Ok(dropped)
    }

    /// Drops a key; how many were dropped.
    async fn drop_key(self: &Arc<Self>, key: &Key, drops: Drops) -> Result<u64> {
        let gate = Gate::close(&self.slots, key).await;
        let (rooms, key) = (Arc::clone(self), key.clone());
        self.tasks
            .run_to_end(async move {
                if drops == Drops::Copies && rooms.is_written_here(&key).await? {
                    return Ok(0);
                }
                let changed = match rooms.frontend.reserve(&key).await {
                    Some(call) => rooms.frontend.change(&key, None, call).await,
                    None => Changed::Quarantined,
                };
                drop(gate);
                if changed == Changed::Quarantined {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "the frontend did not drop the key; it serves no hits until it has",
                    )
                    .in_tier(rooms.frontend.tier().name())
                    .outcome_is(Outcome::Unknown));
                }
                rooms.recorder.count(Count::Invalidation);
                rooms.recorder.send(|| Event::Invalidated { key: key.clone() });
                Ok(1)
            })
            .await
    }

    /// Whether the frontend has a local write of the key, whose gate is closed.
    async fn is_written_here(&self, key: &Key) -> Result<bool> {
        if !self.plan.is_local() {
            return Ok(false);
        }
        match self.frontend.held_entry(key).await {
            Ok(held) => Ok(held.is_some_and(|held| held.note.origin.is_local())),
            // It may be: what it was cannot be told.
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether an entry was written here and nowhere else.
fn is_local(listed: &Listed) -> bool {
    listed.metadata.as_ref().is_some_and(|metadata| metadata.note.origin.is_local())
}
