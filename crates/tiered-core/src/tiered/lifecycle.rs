//! Flushing, closing, and taking a store apart.

use std::sync::Arc;

use super::Rooms;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::ownership;
use crate::plan::Side;
use crate::quantity::format_duration;
use crate::store::{Store as _, closed};
use crate::sync_primitives::time;

impl Rooms {
    /// Waits for the fills that have begun and for the writes that are journaled, then flushes the home tier.
    pub(super) async fn flush(&self) -> Result<()> {
        self.slots.settled().await;
        if let Some(behind) = self.writes.behind() {
            behind.drained().await?;
        }
        self.home().past_breaker().flush().await
    }

    /// Refuses new calls, lets those under way end, drains what is pending, and closes both tiers. A second call waits for
    /// the first.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        let turn = Arc::clone(&self.ending).lock_owned().await;
        if self.door.close().is_break() {
            // The first call learnt how that ended.
            return Ok(());
        }
        let rooms = Arc::clone(self);
        // In a task of its own: dropped half-way it would leave the tiers open, and no later call closes them.
        self.tasks
            .join(async move {
                let _turn = turn;
                rooms.close_down().await
            })
            .await
    }

    async fn close_down(&self) -> Result<()> {
        let drained = time::timeout(self.plan.settings().close_deadline, self.quiet()).await;
        self.tasks.leave();
        let in_time = drained.is_ok();
        let result = match self.writes.behind() {
            Some(behind) => behind.close(drained.ok()).await,
            None => drained.unwrap_or(Ok(())),
        };
        if in_time {
            self.frontend.end_session().await;
        }
        let frontend = self.frontend.close().await;
        let backend = self.backend.past_breaker().close().await;
        self.tasks.give_back();
        result.and(backend).and(frontend)
    }

    /// Waits until no call is under way and nothing is pending.
    async fn quiet(&self) -> Result<()> {
        self.tasks.idle().await;
        self.slots.settled().await;
        match self.writes.behind() {
            Some(behind) => behind.drained().await,
            None => Ok(()),
        }
    }

    /// Drains what is pending while calls go on, then refuses them and takes the store apart. The backend stays open.
    pub(super) async fn detach(self: &Arc<Self>) -> Result<()> {
        if self.plan.home() == Side::Frontend {
            let message = "writes stay in the frontend of this store, which detaching would lose; copy them to the backend with sync::sync_keys, then close the store";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        self.flush().await?;
        let turn = Arc::clone(&self.ending).lock_owned().await;
        if self.door.close().is_break() {
            return Err(closed(Operation::Close));
        }
        let rooms = Arc::clone(self);
        self.tasks
            .join(async move {
                let _turn = turn;
                let Err(error) = rooms.take_apart().await else { return Ok(()) };
                rooms.tasks.go_on();
                rooms.door.reopen();
                Err(error)
            })
            .await
    }

    /// Leaves the backend as the only tier, or all as it was.
    async fn take_apart(&self) -> Result<()> {
        let deadline = self.plan.settings().close_deadline;
        time::timeout(deadline, self.quiet()).await.unwrap_or_else(|_| {
            let message = format!(
                "the store was not drained within {}, and is open again; raise close_deadline, or try again when its backend is faster",
                format_duration(deadline)
            );
            Err(Error::new(ErrorKind::TimedOut, message))
        })?;
        ownership::refuse_above(self.backend.past_breaker()).await?;
        self.tasks.leave();
        // The backend has everything: what fails from here on loses nothing.
        if let Some(behind) = self.writes.behind()
            && let Err(error) = behind.close(Some(Ok(()))).await
        {
            tracing::warn!(error = %error.chain(), "the journal of a store that was detached did not close");
        }
        // Its session is not ended: others write the backend now, so that nothing in it may be trusted later.
        if let Err(error) = self.frontend.close().await {
            tracing::warn!(error = %error.chain(), "the frontend of a store that was detached did not close");
        }
        self.tasks.give_back();
        Ok(())
    }
}
