//! Following the backend's feed of changes: what other processes wrote leaves the frontend.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::Semaphore;

use crate::entry::Origin;
use crate::frontend::{Changed, Frontend};
use crate::key::Key;
use crate::observe::{Count, Event, Recorder};
use crate::slot::{Doubt, Gate, Slots};
use crate::store::{Change, ChangeStream};
use crate::tasks::Tasks;
use crate::version::Version;

/// Changes that wait for their keys at a time. Beyond it every entry is put in doubt instead, which takes no memory.
const WAITING: usize = 1024;

/// What the feed of changes reaches.
#[derive(Debug)]
pub(super) struct Follower {
    slots: Arc<Slots>,
    frontend: Arc<Frontend>,
    tasks: Tasks,
    recorder: Arc<Recorder>,
}

impl Follower {
    pub(super) fn new(
        slots: Arc<Slots>,
        frontend: Arc<Frontend>,
        tasks: Tasks,
        recorder: Arc<Recorder>,
    ) -> Arc<Self> {
        Arc::new(Self { slots, frontend, tasks, recorder })
    }

    /// Follows the feed until the store is left.
    pub(super) async fn follow(self: Arc<Self>, mut feed: ChangeStream) {
        let waiting = Arc::new(Semaphore::new(WAITING));
        loop {
            let change = tokio::select! {
                biased;
                () = self.tasks.left() => return,
                // A feed that panics has ended.
                change = AssertUnwindSafe(feed.next()).catch_unwind() => change.unwrap_or_default(),
            };
            match change {
                // One's own write, in step already: no gate, which would cost hits.
                Some(Change::Key { key, version }) if self.has_in_memory(&key, version.as_ref()) => {}
                Some(Change::Key { key, version }) => match Arc::clone(&waiting).try_acquire_owned() {
                    Ok(permit) => {
                        let follower = Arc::clone(&self);
                        let doubt = Doubt::new(&self.slots, &key);
                        // A key whose write is under way keeps only itself waiting.
                        self.tasks.spawn(async move {
                            follower.learn(&key, version.as_ref(), doubt).await;
                            drop(permit);
                        });
                    }
                    Err(_) => self.resync(),
                },
                Some(Change::Resync) => self.resync(),
                None => {
                    self.resync();
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
        version.is_some() && self.frontend.peek_any(key).is_some_and(|entry| Some(entry.version()) == version)
    }

    /// Changes may have been missed: every entry is compared with the backend before its next use.
    fn resync(&self) {
        self.frontend.doubt_others();
        self.recorder.count(Count::Resync);
    }

    /// Drops what the frontend has of `key`, unless it is this version already: one's own write comes back as well.
    async fn learn(&self, key: &Key, version: Option<&Version>, doubt: Doubt) {
        let gate = Gate::close(&self.slots, key).await;
        drop(doubt);
        // An install that has begun may be of before the change: it ends first, so that it is seen here. What is in
        // quarantine serves no hits until a removal that is yet to come.
        let Some(call) = self.frontend.reserve_for_write(key).await else { return };
        let stays = match &self.frontend.held(key).await {
            Ok(None) => true,
            Ok(Some(held)) if held.note.origin == Origin::Absence => version.is_none(),
            Ok(Some(held)) => held.note.origin.is_local() || Some(&held.version) == version,
            Err(_) => false,
        };
        if !stays && self.frontend.change(key, None, call).await == Changed::Done {
            self.recorder.count(Count::Invalidation);
            self.recorder.send(|| Event::Invalidated { key: key.clone() });
        }
        drop(gate);
    }
}
