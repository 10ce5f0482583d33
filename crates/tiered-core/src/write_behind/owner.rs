//! Flushing under a lease.

use super::WriteBehind;
use super::flusher::{Attempted, is_refusal};
use super::parking::Why;
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::journal::{ParkReason, Sequence};
use crate::observe::Count;
use crate::ownership::{Attempt, Held, Verdict};
use crate::store::Store as _;

impl WriteBehind {
    /// Applies a batch as the owner, until the backend has it or refuses it, or another store is the owner. Everything
    /// before `flushed` is in the backend then.
    ///
    /// After an attempt of unknown outcome nothing is waited for: whichever of two attempts comes first keeps the other
    /// from taking effect.
    pub(super) async fn until_applied_as_owner(
        &self,
        held: &Held,
        batch: Batch,
        flushed: Sequence,
    ) -> Attempted {
        let attempt = || held.attempt(batch.clone(), flushed, &self.stamp);
        let mut sent = attempt();
        // Whether an attempt may have taken effect, or may yet.
        let mut open = false;
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        loop {
            let Some(error) = self.watched_attempt(sent.batch()).await else {
                held.applied(sent);
                return Attempted::Applied;
            };
            let is_stale = error.kind() == ErrorKind::PreconditionFailed;
            if error.write_outcome() == Outcome::NotApplied && is_refusal(error.kind()) {
                if !open && !is_stale {
                    return Attempted::Refused(error);
                }
                // The record decides what became of an attempt of unknown outcome.
                match held.judge(self.backend.past_breaker(), &sent).await {
                    Ok(Verdict::Applied) => {
                        held.applied(sent);
                        return Attempted::Applied;
                    }
                    Ok(Verdict::Fenced) => return Attempted::Fenced,
                    Ok(Verdict::Void) if !is_stale => return Attempted::Refused(error),
                    Ok(Verdict::Void) => (sent, open) = (attempt(), false),
                    // Before a refused batch is divided, no attempt at the whole of it may be under way.
                    Ok(Verdict::Open) if !is_stale && self.renew(held).await => {
                        return Attempted::Refused(error);
                    }
                    Ok(Verdict::Open) | Err(_) => {}
                }
            }
            open |= error.write_outcome() == Outcome::Unknown;
            if self.pause_before_retry(&error, &mut backoff).await.is_break() {
                return Attempted::Left;
            }
        }
    }

    async fn pause_before_retry(&self, error: &Error, backoff: &mut Backoff) -> std::ops::ControlFlow<()> {
        self.recorder.count(Count::FlushRetry);
        tracing::debug!(error = %error.chain(), "a flush failed and is tried again");
        self.sound_alarm();
        self.tasks.sleep(backoff.next_delay()).await
    }

    /// Replaces the record alone, so that no earlier attempt can take effect; whether that is certain.
    async fn renew(&self, held: &Held) -> bool {
        let renewal = held.renewal(&self.stamp);
        let Some(error) = self.watched_attempt(renewal.batch()).await else {
            held.applied(renewal);
            return true;
        };
        if error.write_outcome() == Outcome::Unknown {
            held.may_be_renewed(renewal);
        }
        false
    }

    /// Another store is the owner: everything that is not flushed is parked, and the store serves nothing any more.
    pub(super) async fn fence(&self) {
        if let Some(held) = self.lease.get() {
            if held.fence().is_continue() {
                tracing::error!("another store took over the lease; this one serves nothing any more");
            }
            self.door.lose(held.lost());
        }
        self.park_rest(self.lost.get_or_init(|| Why::lost(ParkReason::LeaseLost))).await;
    }

    /// Gives the lease back, when nothing is pending any more.
    pub(super) async fn release_lease(&self) {
        let Some(held) = self.lease.get().filter(|held| !held.is_fenced()) else { return };
        if let Err(error) = self.apply_release(held.release(&self.stamp)).await {
            // The journal that holds it takes it again.
            tracing::warn!(error = %error.chain(), "the lease was not given back");
        }
    }

    async fn apply_release(&self, release: Attempt) -> Result<()> {
        let outcomes = self.backend.past_breaker().apply(release.batch()).await;
        let released =
            outcomes.and_then(|outcomes| outcomes.into_iter().find_map(Result::err).map_or(Ok(()), Err));
        match released {
            // Late, it would take effect while no other store holds it, or not at all.
            Err(error) if error.kind() != ErrorKind::PreconditionFailed => Err(error),
            _ => Ok(()),
        }
    }
}
