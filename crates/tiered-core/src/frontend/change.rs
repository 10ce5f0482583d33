//! Changing the frontend: one call per key at a time, each of which ends or leaves the key in quarantine.

use std::sync::Arc;

use super::patience::within;
use super::{Changed, Frontend};
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::observe::Count;
use crate::sent::Sent;
use crate::settings::FrontendFailure;
use crate::slot::Call;
use crate::sync_primitives::time;

impl Frontend {
    /// The copy of a written entry that the frontend is to keep; `None` if it keeps none. The backend has the entry since
    /// `sent` or later.
    pub(crate) fn copy_of(&self, key: &Key, entry: Option<&Entry>, sent: Sent) -> Option<Entry> {
        let entry = entry.filter(|_| self.plan.keeps_written())?;
        if !entry.is_whole() || !self.fits(key, entry.size()) {
            return None;
        }
        Some(entry.clone().with_note(sent.note(entry.metadata())))
    }

    /// Waits for a call that changes `key` in the frontend, then takes its place. `None`: patience ran out, and the key is
    /// in quarantine.
    pub(crate) async fn reserve(self: &Arc<Self>, key: &Key) -> Option<Call> {
        let turn = async {
            loop {
                match Call::begin(&self.slots, key) {
                    Ok(call) => return call,
                    Err(earlier) => earlier.ended().await,
                }
            }
        };
        let call = within(self.plan.settings().frontend_patience, turn).await;
        if call.is_none() {
            self.quarantine(key);
        }
        call
    }

    /// As [`reserve`](Self::reserve), before a write: no fill begins until the write has updated the frontend. A key in
    /// quarantine needs no place.
    pub(crate) async fn reserve_for_write(self: &Arc<Self>, key: &Key) -> Option<Call> {
        if self.slots.is_quarantined(key) { None } else { self.reserve(key).await }
    }

    /// Brings the frontend in step with a write that the backend has: installs `copy`, or removes what is there.
    ///
    /// # Errors
    /// Where the frontend failed and [`FrontendFailure::Fail`] was chosen.
    pub(crate) async fn update(
        self: &Arc<Self>,
        key: &Key,
        copy: Option<Entry>,
        call: Option<Call>,
    ) -> Result<()> {
        let changed = match call {
            Some(call) => self.change(key, copy, call).await,
            None => Changed::Quarantined,
        };
        if changed == Changed::Quarantined && self.plan.settings().frontend_failure == FrontendFailure::Fail {
            return Err(Error::new(ErrorKind::Unavailable, "the backend has the write, the frontend failed")
                .in_tier(self.tier.name())
                .outcome_is(Outcome::Applied));
        }
        Ok(())
    }

    /// As [`update`](Self::update), for a key that no call is reserved for. Its gate is closed, or its write is pending.
    pub(crate) async fn update_unreserved(self: &Arc<Self>, key: &Key, copy: Option<Entry>) -> Changed {
        match self.reserve_for_write(key).await {
            Some(call) => self.change(key, copy, call).await,
            None => Changed::Quarantined,
        }
    }

    /// Changes the frontend, unless its breaker is open: the key is in quarantine then.
    pub(crate) async fn change(self: &Arc<Self>, key: &Key, copy: Option<Entry>, call: Call) -> Changed {
        if self.tier.admits() {
            return self.call(key, copy, call).await;
        }
        self.quarantine(key);
        Changed::Quarantined
    }

    /// Calls the frontend. The call runs to its end even if its caller is dropped.
    pub(super) async fn call(self: &Arc<Self>, key: &Key, copy: Option<Entry>, call: Call) -> Changed {
        let (frontend, owned) = (Arc::clone(self), key.clone());
        let mut running = Box::pin(async move {
            let result = frontend.tier.replace(&owned, copy.as_ref()).await;
            if result.is_ok() {
                frontend.retire_blocks(&owned, copy.as_ref());
            }
            (result, call)
        });
        match within(self.plan.settings().frontend_patience, running.as_mut()).await {
            Some((Ok(()), _call)) => {
                self.tier.learn(None);
                Changed::Done
            }
            Some((Err(error), call)) => {
                self.tier.learn(Some(&error));
                tracing::warn!(key = %key, error = %error.chain(), "the frontend failed; the key is quarantined");
                self.quarantine(key);
                self.keep_registered(std::future::ready((Err(error), call)));
                Changed::Quarantined
            }
            None => {
                self.tier.learn(Some(&self.late()));
                tracing::warn!(key = %key, "the frontend does not answer; the key is quarantined");
                self.quarantine(key);
                // Whatever it answers, a removal that begins after this decides.
                self.keep_registered(running);
                Changed::Quarantined
            }
        }
    }

    /// Keeps an abandoned call registered until it can no longer take effect: until it has returned and, if its outcome is
    /// unknown, for the lifetime of the request. Another call before that could be undone by it.
    pub(super) fn keep_registered(
        self: &Arc<Self>,
        call: impl Future<Output = (Result<()>, Call)> + Send + 'static,
    ) {
        let frontend = Arc::clone(self);
        self.tasks.spawn(async move {
            let (result, call) = call.await;
            if result.is_err_and(|error| error.write_outcome() == Outcome::Unknown) {
                time::sleep(frontend.tier.capabilities().request_lifetime()).await;
            }
            drop(call);
        });
    }

    pub(super) fn count_failure(&self) {
        self.recorder.count(Count::FrontendError);
    }
}
