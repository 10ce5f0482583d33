//! Following the backend's feed of changes: what others wrote leaves the frontend.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;

use super::engine::{Change as FrontendChange, Changed, Engine};
use super::health::contained;
use crate::entry::{Origin, Tombstones};
use crate::key::Key;
use crate::observe::Event;
use crate::policy::ReadPolicy;
use crate::read::ReadOptions;
use crate::store::{Change, ChangeStream};
use crate::version::Version;

/// Changes that wait for their keys at a time. Beyond it every entry is put in doubt instead, which takes no memory.
const WAITING: usize = 1024;

impl Engine {
    /// The backend's feed, where it has one and the frontend's entries are compared at all.
    pub(super) fn feed(&self) -> Option<ChangeStream> {
        match self.settings.read_policy {
            ReadPolicy::FrontendFirst => self.backend.changes(),
            ReadPolicy::FrontendOnly => None,
        }
    }

    /// Follows the feed until the store is left.
    pub(super) async fn follow(self: Arc<Self>, mut feed: ChangeStream) {
        let mut leaving = self.leaving.subscribe();
        let waiting = Arc::new(Semaphore::new(WAITING));
        loop {
            let change = tokio::select! {
                biased;
                _ = leaving.wait_for(|left| *left) => return,
                // A feed that panics has ended.
                change = AssertUnwindSafe(feed.next()).catch_unwind() => change.unwrap_or_default(),
            };
            match change {
                // One's own write, in step already: no gate, which would cost hits.
                Some(Change::Key { key, version }) if self.has_in_memory(&key, version.as_ref()) => {}
                Some(Change::Key { key, version }) => match Arc::clone(&waiting).try_acquire_owned() {
                    Ok(permit) => {
                        let engine = Arc::clone(&self);
                        // A key whose write is under way keeps only itself waiting.
                        self.runtime.spawn(async move {
                            engine.learn(&key, version.as_ref()).await;
                            drop(permit);
                        });
                    }
                    Err(_) => self.doubt_all(),
                },
                Some(Change::Resync) => self.doubt_all(),
                None => {
                    self.doubt_all();
                    tracing::warn!(
                        "the backend's feed of changes ended; others' writes are noticed by age alone"
                    );
                    return;
                }
            }
        }
    }

    /// Whether a memory tier holds this very version.
    fn has_in_memory(&self, key: &Key, version: Option<&Version>) -> bool {
        version.is_some() && self.frontend.peek(key).is_some_and(|entry| Some(entry.version()) == version)
    }

    /// Changes may have been missed: every entry is compared with the backend on its next use.
    fn doubt_all(&self) {
        self.counters.resyncs.add(1);
        self.doubt_others();
    }

    /// Drops what the frontend has of `key`, unless it is this version already: one's own write comes back as well.
    async fn learn(self: &Arc<Self>, key: &Key, version: Option<&Version>) {
        // Revokes the lease of a read that began before the change.
        let gate = self.slots.close_gate(key).await;
        // What is in quarantine serves no hits until a removal that is yet to come.
        if self.slots.is_quarantined(key) {
            return;
        }
        // An install that has begun may be of before the change: it ends first, so that it is seen here.
        let Some(call) = self.begin_call(key).await else { return };
        let options = ReadOptions::new().tombstones(Tombstones::Show);
        let held = match self.frontend.peek(key) {
            Some(entry) => Ok(Some(Arc::clone(entry.metadata()))),
            None => contained(&*self.frontend, self.frontend.head(key, &options)).await,
        };
        let stays = match &held {
            Ok(None) => true,
            Ok(Some(held)) if held.note.origin == Origin::Absence => version.is_none(),
            Ok(Some(held)) => held.note.origin.is_local() || Some(&held.version) == version,
            Err(_) => false,
        };
        if stays {
            return;
        }
        if self.change_frontend(key, FrontendChange::Remove, call).await == Changed::Done {
            self.counters.invalidations.add(1);
            self.events.send(|| Event::Invalidated { key: key.clone() });
        }
        drop(gate);
    }
}
