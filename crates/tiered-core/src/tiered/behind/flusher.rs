//! The task that brings journaled writes to the backend, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream};

use super::{Behind, Engine, Flushed, Group, Queued};
use crate::backoff::Backoff;
use crate::batch::{Action, Batch};
use crate::capability::Feature;
use crate::error::{Error, ErrorKind, Outcome};
use crate::journal::Sequence;
use crate::key::Key;
use crate::observe::Event;
use crate::planted::Plant;
use crate::tiered::engine::sleep_unless;
use crate::write::Progress;

/// At most so many records in one flush: enough to amortise a round trip.
const MAX_RECORDS: usize = 512;
/// At most so many bytes of values in one flush: what is in memory twice while it runs.
const MAX_BYTES: u64 = 8 << 20;
/// So many keys at a time, where the backend has no atomic batches, and for the frontend.
const CONCURRENCY: usize = 16;

/// The last operation on a key within a prefix.
struct Step {
    key: Key,
    sequence: Sequence,
    action: Action,
}

impl Engine {
    /// Flushes until the store is left and nothing is queued, or the backend fails while it is being left.
    pub(in crate::tiered) async fn flush_loop(self: Arc<Self>) {
        let Some(behind) = &self.behind else { return };
        let mut leaving = self.leaving.subscribe();
        loop {
            let prefix = behind.take_prefix();
            if prefix.is_empty() {
                if *leaving.borrow() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = behind.queued.notified() => {}
                    _ = leaving.wait_for(|left| *left) => {}
                }
                continue;
            }
            if !self.flush_prefix(behind, prefix).await {
                return;
            }
        }
    }

    /// `false` when the store was left before the backend had the prefix.
    async fn flush_prefix(self: &Arc<Self>, behind: &Behind, prefix: Vec<Queued>) -> bool {
        let steps =
            if self.planted.has(Plant::FlushReordersKey) { reversed(&prefix) } else { coalesce(&prefix) };
        let (session, sent) = (self.session(), self.uptime_millis());
        let as_batch = self.backend.capabilities().has(Feature::AtomicBatch)
            && !self.planted.has(Plant::FlushReordersKey);
        let applied = if as_batch {
            let mut batch = Batch::new();
            for step in &steps {
                batch.push(step.key.clone(), step.action.clone());
            }
            self.until_applied(behind, batch).await
        } else {
            let width = if self.planted.has(Plant::FlushReordersKey) { 1 } else { CONCURRENCY };
            let mut singles = Vec::with_capacity(steps.len());
            for step in &steps {
                let mut batch = Batch::new().best_effort();
                batch.push(step.key.clone(), step.action.clone());
                singles.push(self.until_applied(behind, batch));
            }
            let applied: Vec<bool> = stream::iter(singles).buffered(width).collect().await;
            applied.into_iter().all(|applied| applied)
        };
        if !applied {
            return false;
        }
        let mut settled = Vec::with_capacity(steps.len());
        for step in &steps {
            settled.push(self.settle_step(step, sent, session));
        }
        stream::iter(settled).buffer_unordered(CONCURRENCY).collect::<Vec<()>>().await;
        self.forget(behind, &prefix).await;
        true
    }

    /// Applies operations until the backend has them. Repeating them is safe: they carry their ids, are
    /// unconditional, and nothing later is sent before them. `false` when the store is being left.
    async fn until_applied(&self, behind: &Behind, batch: Batch) -> bool {
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        loop {
            let Some(error) = self.attempt(batch.clone()).await else {
                behind.flushed.send_if_modified(|flushed| flushed.refused.take().is_some());
                return true;
            };
            self.counters.flush_retries.add(1);
            let mut delay = backoff.next_delay();
            match error.write_outcome() {
                // A request that may still be alive must not land on top of a later write of its key.
                Outcome::Unknown => delay = delay.max(self.backend.capabilities().lifetime()),
                Outcome::NotApplied if is_refusal(error.kind()) => {
                    tracing::error!(error = %error.chain(), "the backend refuses a journaled write; the flush halts");
                    if let Some(key) = error.key() {
                        self.events.send(|| Event::Parked { key: key.clone() });
                    }
                    let error = Arc::new(error);
                    behind.flushed.send_modify(|flushed: &mut Flushed| flushed.refused = Some(error));
                }
                Outcome::NotApplied | Outcome::Applied => {}
            }
            if sleep_unless(&mut leaving, delay).await {
                return false;
            }
        }
    }

    /// One attempt; its error, if any. An error that says the write was applied is none.
    async fn attempt(&self, batch: Batch) -> Option<Error> {
        match self.backend.apply(batch).await {
            Ok(outcomes) => outcomes.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        }
        .filter(|error| error.write_outcome() != Outcome::Applied)
    }

    /// Brings the frontend in step with a flushed write and clears the overlay, if it is still the latest.
    async fn settle_step(self: &Arc<Self>, step: &Step, sent: u64, session: u64) {
        let (key, sequence) = (&step.key, step.sequence);
        if self.planted.has(Plant::PendingClearedBeforeFrontend) {
            self.slots.clear_pending(key, sequence);
        }
        if self.slots.is_latest(key, sequence) || self.planted.has(Plant::PendingClearedBeforeFrontend) {
            let entry = match &step.action {
                Action::Put(put) => Some(self.entry_of(put)),
                Action::Delete(_) => None,
            };
            let change = self.change_for(key, entry.as_ref(), sent, session);
            self.settle_frontend(key, change).await;
        }
        if self.planted.has(Plant::PendingClearedThoughSuperseded) {
            self.slots.force_clear_pending(key);
        }
        self.slots.clear_pending(key, sequence);
    }

    /// Trims the journal and tells who waits.
    async fn forget(&self, behind: &Behind, prefix: &[Queued]) {
        let Some(last) = prefix.last().map(|queued| queued.sequence) else { return };
        if let Err(error) = behind.journal.trim(last).await {
            // The records are repeated after a restart, which changes nothing.
            tracing::warn!(error = %error.chain(), "the journal could not be trimmed; the next trim covers it");
        }
        for queued in prefix {
            queued.progress.send_replace(Progress::Committed);
            self.events.send(|| Event::Flushed { key: queued.record.key.clone() });
        }
        self.counters.flushed.add(prefix.len() as u64);
        behind.backlog.fetch_sub(prefix.len() as u64, Ordering::Relaxed);
        behind.flushed.send_modify(|flushed| flushed.before = last + 1);
    }
}

impl Behind {
    /// The next contiguous records, in whole groups.
    fn take_prefix(&self) -> Vec<Queued> {
        let mut queue = self.queue.lock();
        let mut prefix: Group = Vec::new();
        let mut bytes = 0;
        while let Some(group) = queue.front() {
            let size: u64 = group.iter().map(|queued| size_of_action(&queued.record.action)).sum();
            let full = prefix.len() + group.len() > MAX_RECORDS || bytes + size > MAX_BYTES;
            if full && !prefix.is_empty() {
                break;
            }
            bytes += size;
            prefix.extend(queue.pop_front().unwrap_or_default());
        }
        prefix
    }
}

fn size_of_action(action: &Action) -> u64 {
    match action {
        Action::Put(put) => put.value.len() as u64,
        Action::Delete(_) => 0,
    }
}

/// The last operation on each key, in the order of those.
fn coalesce(prefix: &[Queued]) -> Vec<Step> {
    let last: HashMap<&Key, Sequence> =
        prefix.iter().map(|queued| (&queued.record.key, queued.sequence)).collect();
    prefix.iter().filter(|queued| last.get(&queued.record.key) == Some(&queued.sequence)).map(step).collect()
}

/// Every operation, backwards: a deliberate bug.
fn reversed(prefix: &[Queued]) -> Vec<Step> {
    prefix.iter().rev().map(step).collect()
}

fn step(queued: &Queued) -> Step {
    Step { key: queued.record.key.clone(), sequence: queued.sequence, action: queued.record.action.clone() }
}

/// Whether the backend refuses this very operation, rather than all of them for now.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidKey
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::PreconditionFailed
    )
}
