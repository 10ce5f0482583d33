//! Flushing and closing.

use std::sync::Arc;

use super::Rooms;
use crate::error::Result;
use crate::store::Store as _;
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
        if self.door.close().is_break() {
            // The first call learns how that ended.
            self.closed.cancelled().await;
            return Ok(());
        }
        let rooms = Arc::clone(self);
        // In a task of its own: dropped half-way it would leave the tiers open, and no later call closes them.
        let ended = self.closed.clone().drop_guard();
        self.tasks
            .join(async move {
                let _ended = ended;
                rooms.close_down().await
            })
            .await
    }

    async fn close_down(&self) -> Result<()> {
        let quiet = async {
            self.tasks.idle().await;
            self.slots.settled().await;
            match self.writes.behind() {
                Some(behind) => behind.drained().await,
                None => Ok(()),
            }
        };
        let drained = time::timeout(self.plan.settings().close_deadline, quiet).await;
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
}
