//! Flushing and closing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::engine::Engine;
use super::health::contained;
use super::ownership;
use super::session;
use crate::capability::Durability;
use crate::error::{Error, ErrorKind, Result};

impl Engine {
    /// Waits for the fills that have begun and for the writes that are journaled, then flushes the home tier.
    pub(super) async fn flush(&self) -> Result<()> {
        for under_way in self.slots.under_way() {
            under_way.ended().await;
        }
        if let Some(behind) = &self.behind {
            behind.drained().await?;
        }
        let home = self.home();
        contained(&**home, home.flush()).await
    }

    /// Refuses new calls, lets those under way end, drains what is pending, and closes both tiers.
    pub(super) async fn close(self: &Arc<Self>) -> Result<()> {
        let closing = self.closing.enter();
        if self.closed.swap(true, Ordering::AcqRel) {
            drop(closing);
            // Whoever closes it first learns how that ended.
            self.closing.idle().await;
            return Ok(());
        }
        self.barred.store(true, Ordering::Release);
        let engine = Arc::clone(self);
        // In a task of its own: dropped half-way it would leave the tiers open, and no later call closes them.
        let close_down = async move {
            let _closing = closing;
            engine.close_down().await
        };
        self.runtime.spawn(close_down).await.unwrap_or_else(|error| {
            let message = if error.is_panic() { "a store panicked" } else { "the runtime shut down" };
            Err(Error::new(ErrorKind::Other, message).with_source(error))
        })
    }

    async fn close_down(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + self.settings.close_deadline();
        let quiet = async {
            self.busy.idle().await;
            for under_way in self.slots.under_way() {
                under_way.ended().await;
            }
            match &self.behind {
                Some(behind) => behind.drained().await,
                None => Ok(()),
            }
        };
        let drained = tokio::time::timeout_at(deadline, quiet).await;
        self.leaving.send_replace(true);
        let in_time = drained.is_ok();
        let mut result = drained.unwrap_or(Ok(()));
        if let Some(behind) = &self.behind {
            let rest = behind.backlog();
            if rest > 0 && behind.journal.durability() == Durability::Volatile {
                let lost = Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "{rest} acknowledged writes did not reach the backend in time and are lost: the journal is volatile"
                    ),
                );
                result = Err(match result {
                    Ok(()) => lost,
                    Err(error) => lost.with_source(error),
                });
            } else if rest > 0 {
                tracing::warn!(
                    rest,
                    "closed with writes in the journal; they are flushed when the store is opened again"
                );
            }
            if rest == 0
                && let Err(error) = contained(&*self.backend, self.release_lease()).await
            {
                // The journal that holds it takes it again.
                tracing::warn!(error = %error.chain(), "the lease was not given back");
            }
            let emptied = behind.emptied();
            let closed = behind.journal.close().await;
            if let (Ok(()), Some(journal)) = (&closed, emptied) {
                let left = contained(&*self.backend, ownership::leave(self.backend.as_ref(), journal)).await;
                if let Err(error) = left {
                    // The backend then refuses others until the journal was opened again, which is safe.
                    tracing::warn!(error = %error.chain(), "the journal was not taken out of the backend's mark");
                }
            }
            result = result.and(closed);
        }
        if self.persistent && in_time && self.slots.quarantined() == 0 {
            // Without the mark the next session only trusts less.
            if let Err(error) = contained(&*self.frontend, session::end(&self.frontend, self.session())).await
            {
                tracing::warn!(error = %error.chain(), "the frontend's session was not ended cleanly");
            }
        }
        let frontend = contained(&*self.frontend, self.frontend.close()).await;
        let backend = contained(&*self.backend, self.backend.close()).await;
        self.borrowed.give_back();
        result.and(backend).and(frontend)
    }
}
