//! Reads within bounds of time, and stale answers where the backend cannot be asked.

use std::pin::pin;
use std::sync::Arc;

use super::Reader;
use crate::blocks::Stub;
use crate::breaker::is_outage;
use crate::entry::{Entry, clamp_range};
use crate::error::{Error, ErrorKind, Result};
use crate::frontend::{Found, Replaceable};
use crate::key::Key;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::{Read, ReadOptions};
use crate::settings::ServeStale;
use crate::slot::Glance;
use crate::sync_primitives::time;

impl Reader {
    /// One attempt, as [`load_once`](Self::load_once), within the settings' bounds of time; where the backend cannot be
    /// asked, or not soon enough, a stale entry.
    pub(super) async fn load_in_time(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<Read>> {
        let settings = self.plan.settings();
        let (soft, hard) = (self.plan.soft_read_timeout(), settings.read_timeout);
        if hard.is_none() && settings.serve_stale == ServeStale::Never {
            return self.load_once(key, options).await;
        }
        // Dropping it drops a waiter; a load that has begun goes on and fills the frontend.
        let mut attempt = pin!(self.bounded(self.load_once(key, options)));
        let ended = match soft.filter(|soft| hard.is_none_or(|hard| *soft < hard)) {
            None => attempt.await,
            Some(soft) => match time::timeout(soft, attempt.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => match self.stale_answer(key, options).await {
                    Some(stale) => return Ok(Some(stale)),
                    None => attempt.await,
                },
            },
        };
        match ended {
            Err(error) if is_outage(error.kind()) => match self.stale_answer(key, options).await {
                Some(stale) => Ok(Some(stale)),
                None => Err(error),
            },
            ended => ended,
        }
    }

    /// The read, or an error when it has taken longer than the settings allow.
    pub(super) async fn bounded<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(limit) = self.plan.settings().read_timeout else { return read.await };
        time::timeout(limit, read).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut, format!("no answer within {limit:?}"))
                .in_tier(self.backend.name()))
        })
    }

    /// What the frontend has, although it is older than it may be. It is in step with every write of this store.
    async fn stale_answer(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Option<Read> {
        let oldest = self.plan.oldest_stale_answer()?;
        if options.freshness != Freshness::Cached || !matches!(self.slots.glance(key), Glance::Clear) {
            return None;
        }
        let entry = match self.frontend.look(key, options).await.ok()? {
            Found::Fresh(entry) if options.excludes(entry.version()) && !self.is_last_word(&entry) => {
                return None;
            }
            Found::Fresh(entry) => return Some(self.answer_hit(entry, options)),
            Found::Stub(stub) | Found::Stale(Replaceable::Stub(stub)) => {
                return self.stale_answer_by_blocks(key, &stub, options, oldest).await;
            }
            Found::Stale(Replaceable::Doubtful(entry)) => entry,
            Found::Stale(Replaceable::Damaged | Replaceable::Nothing) => return None,
        };
        if options.excludes(entry.version()) || !self.frontend.may_serve_stale(entry.metadata(), oldest) {
            return None;
        }
        self.recorder.count(Count::StaleAnswer);
        Some(Read { stale: true, ..self.answer_from_frontend(entry, options) })
    }

    /// The same for a range of a value of which the frontend has the metadata: only where it has every block.
    async fn stale_answer_by_blocks(
        self: &Arc<Self>,
        key: &Key,
        stub: &Stub,
        options: &ReadOptions,
        oldest: u64,
    ) -> Option<Read> {
        let metadata = stub.metadata();
        let range = clamp_range(options.range.as_ref()?, metadata.size).ok()?;
        if options.excludes(&metadata.version) || !self.frontend.may_serve_stale(metadata, oldest) {
            return None;
        }
        let value = self.blocks_at_hand(key, metadata, &range, self.plan.grid()?).await?;
        self.recorder.count(Count::StaleAnswer);
        let entry = Entry::from_parts(value, Arc::clone(metadata));
        Some(Read { stale: true, ..self.answer_from_frontend(entry, options) })
    }
}
