//! Owning the backend late: it was out of reach when the store was opened.

use super::parking::Why;
use super::{NotLookedUp, WriteBehind};
use crate::backoff::Backoff;
use crate::error::{ErrorKind, Result};
use crate::journal::ParkReason;
use crate::ownership::{self, Registration, Standing};

impl WriteBehind {
    /// Looks up what could not be looked up when the store was opened, until the backend answers; `false` when the store
    /// was left first.
    pub(super) async fn enter_mark_late(&self) -> bool {
        let Some(late) = self.late.get() else { return true };
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        let mut abandoned = false;
        while let Err(error) = self.look_up(late, &mut abandoned).await {
            // Another journal took its place. Whatever else fails may be over at the next attempt.
            if error.kind() == ErrorKind::Locked {
                tracing::error!(error = %error.chain(), "the store does not own its backend and serves nothing any more");
                self.door.lose(error.clone());
                self.park_rest(self.lost.get_or_init(|| Why::refused(error))).await;
                return true;
            }
            tracing::warn!(error = %error.chain(), "the backend did not say whether it names the journal; nothing is flushed");
            self.sound_alarm();
            if self.tasks.sleep(backoff.next_delay()).await.is_break() {
                return false;
            }
        }
        true
    }

    async fn look_up(&self, late: &NotLookedUp, abandoned: &mut bool) -> Result<()> {
        let backend = self.backend.past_breaker();
        ownership::check(backend, Some(late.journal), late.tolerates).await?;
        let registration = Registration::of(backend, late.journal, true).await?;
        if registration.standing() == Standing::Abandoned && !*abandoned {
            *abandoned = true;
            tracing::error!("the journal was abandoned by name; everything that it holds is parked");
            self.park_abandoned().await;
        }
        registration.write(backend).await?;
        if *abandoned {
            // Until the mark was written, other stores could write too.
            self.park_abandoned().await;
        }
        self.id.set(late.journal).ok();
        Ok(())
    }

    /// Parks all that waits.
    pub(super) async fn park_rest(&self, why: &Why) {
        let rest = self.queue.lock().take_all();
        for unit in rest {
            self.park(unit, why.clone());
        }
        self.advance().await;
    }

    /// Parks all that waits, but for what an operator retried who was told that the journal was abandoned.
    async fn park_abandoned(&self) {
        let rest = {
            let parking = self.parking.lock();
            self.queue.lock().extract(|unit| !parking.is_retried_though_abandoned(unit.first()))
        };
        for unit in rest {
            self.park(unit, Why::lost(ParkReason::Abandoned));
        }
        self.advance().await;
    }
}
