//! The journal in the backend's mark.

use super::append::GIVEN_UP;
use super::{Behind, Engine};
use crate::backoff::Backoff;
use crate::breaker::is_outage;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Recovered;
use crate::tiered::engine::sleep_unless;
use crate::tiered::health::contained;
use crate::tiered::ownership::{self, Entry, Standing, Tolerates};

/// A journal that was not looked up in the backend's mark yet, since the backend was out of reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotLookedUp {
    journal: u128,
    tolerates: Tolerates,
}

impl NotLookedUp {
    /// A journal that holds writes has not left the mark, which was durable before the first of them. Only a person can
    /// have taken it out, and the first flush waits until that is known.
    pub(super) fn of(recovered: &Recovered, tolerates: Tolerates, error: &Error) -> Option<Self> {
        let may_wait = is_outage(error.kind()) && recovered.marked && !recovered.records.is_empty();
        may_wait.then_some(Self { journal: recovered.journal, tolerates })
    }
}

impl Engine {
    /// Looks up what could not be looked up when the store was opened, until the backend answers; `false` when the store
    /// was left first.
    pub(super) async fn enter_late(&self, behind: &Behind) -> bool {
        let Some(entry) = behind.not_looked_up.get() else { return true };
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        let mut given_up = false;
        while let Err(error) = contained(&*self.backend, self.look_up(behind, entry, &mut given_up)).await {
            // Another journal took its place. Whatever else fails may be over at the next attempt.
            if error.kind() == ErrorKind::Locked {
                tracing::error!(error = %error.chain(), "the store does not own its backend and serves nothing any more");
                self.barred.store(true, std::sync::atomic::Ordering::Release);
                self.park_rest(behind, behind.ousted.get_or_init(|| error)).await;
                return true;
            }
            tracing::warn!(error = %error.chain(), "the backend did not say whether it names the journal; nothing is flushed");
            self.sound_alarm(behind);
            if sleep_unless(&mut leaving, backoff.next_delay()).await {
                return false;
            }
        }
        true
    }

    async fn look_up(&self, behind: &Behind, late: &NotLookedUp, given_up: &mut bool) -> Result<()> {
        let backend = self.backend.as_ref();
        ownership::check(backend, Some(late.journal), late.tolerates).await?;
        let entry = Entry::of(backend, late.journal, true).await?;
        if entry.standing == Standing::GivenUp && !*given_up {
            *given_up = true;
            tracing::error!("the journal was given up by name; everything that it holds is parked");
            self.park_given_up(behind).await;
        }
        entry.write(backend).await?;
        if *given_up {
            // Until the mark was written, other stores could write too.
            self.park_given_up(behind).await;
        }
        behind.id.set(late.journal).ok();
        Ok(())
    }

    /// Parks all that waits.
    pub(super) async fn park_rest(&self, behind: &Behind, error: &Error) {
        for unit in behind.take_rest() {
            self.park(behind, unit, error.duplicate());
        }
        self.advance(behind).await;
    }

    /// Parks all that waits, but for what a person retried who was told that the journal was given up.
    async fn park_given_up(&self, behind: &Behind) {
        for unit in behind.take_unless_retried(GIVEN_UP) {
            self.park(behind, unit, Error::new(ErrorKind::Locked, GIVEN_UP));
        }
        self.advance(behind).await;
    }
}
