//! Quarantine: a key for which the frontend may hold a wrong entry serves no hits until a removal has succeeded.

use std::sync::Arc;

use super::Frontend;
use crate::backoff::Backoff;
use crate::key::Key;
use crate::observe::Event;
use crate::slot::{Call, Gate};
use crate::sync_primitives::time;

impl Frontend {
    /// Stops hits of `key` until a removal that begins after now has succeeded. Past the bound on quarantined keys, puts
    /// every entry of the frontend in doubt instead.
    pub(crate) fn quarantine(self: &Arc<Self>, key: &Key) {
        self.count_failure();
        let Some(count) = self.slots.quarantine(key) else { return };
        self.recorder.send(|| Event::Quarantined { key: key.clone() });
        // Without revalidation a new session would be no protection.
        if count > self.plan.settings().max_quarantined && self.plan.revalidates() {
            tracing::warn!(count, "the frontend fails for too many keys; all its entries are in doubt");
            self.doubt_all();
            self.slots.release_all();
            return;
        }
        let (frontend, key) = (Arc::clone(self), key.clone());
        self.tasks.spawn(async move { frontend.repair(&key).await });
    }

    /// Compares every entry that was validated before now with the backend before its next use, and serves none without:
    /// the frontend may have missed a write of this store.
    pub(crate) fn doubt_all(&self) {
        self.sessions.begin_after_failure(&self.stamp);
    }

    /// Compares every entry that was validated before now with the backend before its next use: other processes may have
    /// written.
    pub(crate) fn doubt_others(&self) {
        self.sessions.begin_after_others(&self.stamp);
    }

    /// Retries the removal that ends a quarantine.
    async fn repair(self: Arc<Self>, key: &Key) {
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        while self.slots.is_quarantined(key) {
            let gate = Gate::close(&self.slots, key).await;
            // Taken before the removal begins: an earlier call must have returned.
            if let Ok(call) = Call::begin(&self.slots, key)
                && self.remove_wrong_copy(key, call).await
            {
                return;
            }
            drop(gate);
            if self.tasks.sleep(backoff.next_delay()).await.is_break() {
                return;
            }
        }
    }

    /// Removes what may be wrong and ends the quarantine; whether that succeeded.
    async fn remove_wrong_copy(self: &Arc<Self>, key: &Key, call: Call) -> bool {
        let (frontend, owned) = (Arc::clone(self), key.clone());
        let mut removal = Box::pin(async move {
            // What is local is not a wrong copy, and has nothing behind it.
            let result = match frontend.keeps_locally(&owned).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    frontend.retire_blocks(&owned, None);
                    frontend.tier.replace(&owned, None).await
                }
                Err(error) => Err(error),
            };
            (result, call)
        });
        match time::timeout(self.plan.settings().frontend_patience, removal.as_mut()).await {
            Ok((Ok(()), call)) => {
                self.tier.learn(None);
                self.slots.release(key);
                // Not before: a call that begins while the quarantine stands, and fails, begins none.
                drop(call);
                return true;
            }
            Ok((Err(error), call)) => {
                self.tier.learn(Some(&error));
                self.keep_registered(std::future::ready((Err(error), call)));
            }
            Err(_) => {
                self.tier.learn(Some(&self.late()));
                self.keep_registered(removal);
            }
        }
        self.count_failure();
        false
    }
}
