//! The task that brings journaled writes to the backend, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{StreamExt as _, stream};

use super::WriteBehind;
use super::parking::Why;
use super::queue::{Queued, Unit};
use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::capability::Feature;
use crate::error::{Error, ErrorKind, Outcome};
use crate::journal::Sequence;
use crate::key::Key;
use crate::observe::{Count, Event};
use crate::sent::Sent;
use crate::store::Store as _;
use crate::sync_primitives::atomic::Ordering;
use crate::sync_primitives::time;
use crate::write::Progress;

/// So many keys at a time, where the backend has no atomic batches, and for the frontend.
const CONCURRENCY: usize = 16;

/// At most so many recovered units are tried without the last one, again and again, while a refused one is looked for.
const EXACT: usize = 1024;

/// How the flush of a prefix ended.
enum Flush {
    /// The backend has it. It was sent then.
    Done(Sent),
    /// The store was left first.
    Left,
    /// The backend refuses something in it, and has nothing of it.
    Refused(Error),
    /// The backend refuses these writes, and has the rest.
    Partly(Vec<(Sequence, Error)>, Sent),
    /// Another store owns the backend, which has nothing of it.
    Fenced,
}

/// How the attempts to apply operations ended.
pub(super) enum Attempted {
    Applied,
    Left,
    Refused(Error),
    Fenced,
}

/// A prefix that the backend has, and that the frontend is yet to be brought in step with.
#[derive(Debug)]
struct Applied {
    prefix: Vec<Unit>,
    /// When it was sent to the backend.
    sent: Sent,
}

/// How many units to take, while a refused one is looked for.
#[derive(Debug, Default)]
struct Search {
    limit: Option<usize>,
    /// What was refused together ends before this.
    refused_before: Sequence,
}

impl WriteBehind {
    /// Flushes until the store is left and nothing is queued, or the backend fails while it is being left. While the backend
    /// works on a prefix, the frontend is brought in step with the one before.
    pub(super) async fn flush_loop(self: Arc<Self>) {
        if !self.enter_mark_late().await {
            return;
        }
        let (mut search, mut applied) = (Search::default(), None);
        loop {
            if let Some(why) = self.lost.get().filter(|_| self.oldest().is_some()) {
                // It was being appended when the backend became another store's, or was retried since.
                self.land(applied.take()).await;
                self.park_rest(why).await;
            }
            let prefix = self.take_prefix(search.limit);
            if !prefix.is_empty() || applied.is_some() {
                let (flush, ()) = join(self.flush_prefix(&prefix), self.land(applied.take())).await;
                match flush {
                    Flush::Left => return,
                    flush => applied = self.after_flush(flush, prefix, &mut search).await,
                }
                continue;
            }
            if self.tasks.are_leaving() {
                return;
            }
            tokio::select! {
                biased;
                () = self.queued.notified() => {}
                () = self.tasks.left() => {}
            }
        }
    }

    /// Handles how the flush of a prefix ended. What the backend has now, if all of it is there.
    async fn after_flush(&self, flush: Flush, prefix: Vec<Unit>, search: &mut Search) -> Option<Applied> {
        match flush {
            Flush::Left => {}
            Flush::Done(sent) => {
                if prefix.last().is_some_and(|last| last.first() + 1 >= search.refused_before) {
                    // All that was refused together has been taken in parts.
                    search.limit = None;
                }
                self.in_flight.lock().applied();
                return Some(Applied { prefix, sent }).filter(|applied| !applied.prefix.is_empty());
            }
            Flush::Refused(error) if prefix.len() > 1 => {
                let recovered = self.queue.lock().recovered_of(&prefix);
                search.limit = Some(shorter(&prefix, &error, recovered));
                search.refused_before = prefix.last().map_or(0, |last| last.first() + 1);
                self.put_back(prefix);
            }
            Flush::Refused(error) => {
                search.limit = None;
                for unit in prefix {
                    self.park(unit, Why::refused(error.clone()));
                }
                self.parked_all().await;
            }
            Flush::Partly(refused, sent) => {
                let is_refused =
                    |step: &Queued| refused.iter().any(|(sequence, _)| *sequence == step.sequence());
                let steps = coalesce(&prefix).into_iter().filter(|step| !is_refused(step));
                self.update_frontend_of(steps, sent).await;
                self.park_part(prefix, &refused);
                self.parked_all().await;
            }
            Flush::Fenced => {
                self.put_back(prefix);
                self.fence().await;
            }
        }
        None
    }

    /// The backend has a prefix: brings the frontend in step with it, tells those who wait, and lets the journal forget it.
    async fn land(&self, applied: Option<Applied>) {
        let Some(Applied { prefix, sent }) = applied else { return };
        self.update_frontend_of(coalesce(&prefix).into_iter(), sent).await;
        self.unpark(&prefix);
        for unit in &prefix {
            self.complete(unit);
        }
        self.in_flight.lock().landed();
        self.advance().await;
        drop(prefix);
    }

    async fn flush_prefix(&self, prefix: &[Unit]) -> Flush {
        let sent = self.frontend.sent();
        if prefix.is_empty() {
            return Flush::Done(sent);
        }
        let steps = coalesce(prefix);
        if self.backend.capabilities().has(Feature::AtomicBatch) {
            return match self.apply_together(prefix, &steps).await {
                Attempted::Applied => Flush::Done(sent),
                Attempted::Left => Flush::Left,
                Attempted::Refused(error) => Flush::Refused(error),
                Attempted::Fenced => Flush::Fenced,
            };
        }
        let mut refused = Vec::new();
        let singles: Vec<_> = steps.iter().map(|step| self.apply_single(prefix, step)).collect();
        let applied: Vec<Option<Vec<(Sequence, Error)>>> =
            stream::iter(singles).buffered(CONCURRENCY).collect().await;
        for applied in applied {
            let Some(of_key) = applied else { return Flush::Left };
            refused.extend(of_key);
        }
        if refused.is_empty() { Flush::Done(sent) } else { Flush::Partly(refused, sent) }
    }

    /// Brings the frontend in step with flushed writes, each the last of its key.
    async fn update_frontend_of<'q>(&self, steps: impl Iterator<Item = &'q Queued> + Send, sent: Sent) {
        let updates: Vec<_> = steps.map(|step| self.update_frontend(step, sent)).collect();
        stream::iter(updates).buffer_unordered(CONCURRENCY).collect::<Vec<()>>().await;
    }

    async fn apply_together(&self, prefix: &[Unit], steps: &[&Queued]) -> Attempted {
        let mut batch = Batch::new();
        for step in steps {
            batch.push(step.key().clone(), step.write().action());
        }
        match self.lease.get() {
            Some(held) => self.until_applied_as_owner(held, batch, self.flushed_with(prefix)).await,
            None => self.until_applied(batch).await,
        }
    }

    /// Applies the last operation on a key; where it is refused, the one before it, until one is accepted. What was
    /// refused; `None` when the store was left first.
    async fn apply_single(&self, prefix: &[Unit], step: &Queued) -> Option<Vec<(Sequence, Error)>> {
        let mut refused = Vec::new();
        // Of a batch only its last operation on the key: the others never take effect.
        let is_of_key = |queued: &&Queued| queued.key() == step.key();
        for queued in prefix.iter().rev().filter_map(|unit| unit.writes().iter().rfind(is_of_key)) {
            let mut batch = Batch::new().best_effort();
            batch.push(step.key().clone(), queued.write().action());
            match self.until_applied(batch).await {
                Attempted::Applied => break,
                // Batches under a lease are atomic, so that nothing under one comes here.
                Attempted::Left | Attempted::Fenced => return None,
                Attempted::Refused(error) => refused.push((queued.sequence(), error)),
            }
        }
        Some(refused)
    }

    /// Applies operations until the backend has them or refuses them definitely. Repeating them is safe: they carry
    /// their ids, are unconditional, and nothing later is sent before them.
    async fn until_applied(&self, batch: Batch) -> Attempted {
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        loop {
            let Some(error) = self.watched_attempt(batch.clone()).await else { return Attempted::Applied };
            if error.write_outcome() == Outcome::NotApplied && is_refusal(error.kind()) {
                return Attempted::Refused(error);
            }
            self.recorder.count(Count::FlushRetry);
            let mut delay = backoff.next_delay();
            if error.write_outcome() == Outcome::Unknown {
                // A request that may still be alive must not land on top of a later write of its key.
                delay = delay.max(self.backend.capabilities().request_lifetime());
            }
            tracing::debug!(error = %error.chain(), ?delay, "a flush failed and is tried again");
            self.sound_alarm();
            if self.tasks.sleep(delay).await.is_break() {
                return Attempted::Left;
            }
        }
    }

    /// An attempt, during which the alarm goes off when the oldest pending write becomes overdue. Its error, if any.
    pub(super) async fn watched_attempt(&self, batch: Batch) -> Option<Error> {
        let attempt = self.attempt(batch);
        let (Some(limit), Some(since)) = (self.plan.settings().max_pending_age, self.oldest()) else {
            return attempt.await;
        };
        let mut attempt = std::pin::pin!(attempt);
        let age = self.stamp.since(since);
        tokio::select! {
            biased;
            ended = &mut attempt => return ended,
            () = time::sleep(limit.saturating_sub(age)) => self.sound_alarm(),
        }
        attempt.await
    }

    /// Says so where the oldest pending write is older than it should be.
    pub(super) fn sound_alarm(&self) {
        if let Some(age) = self.overdue() {
            tracing::warn!(?age, backlog = self.backlog(), "journaled writes wait for the backend");
            self.recorder.send(|| Event::Overdue { age });
        }
    }

    /// How old the oldest pending write is, where that is older than it should be.
    pub(super) fn overdue(&self) -> Option<Duration> {
        let (limit, since) = (self.plan.settings().max_pending_age?, self.oldest()?);
        let age = self.stamp.since(since);
        (age >= limit).then_some(age)
    }

    /// One attempt; its error, if any. An error that says the write was applied is none.
    async fn attempt(&self, batch: Batch) -> Option<Error> {
        match self.backend.past_breaker().apply(batch).await {
            Ok(outcomes) => outcomes.into_iter().find_map(Result::err),
            Err(error) => Some(error),
        }
        .filter(|error| error.write_outcome() != Outcome::Applied)
    }

    /// Brings the frontend in step with a flushed write, then clears the pending write if it is still that one.
    async fn update_frontend(&self, step: &Queued, sent: Sent) {
        let (key, sequence) = (step.key(), step.sequence());
        if self.slots.is_latest(key, sequence) {
            let copy = self.frontend.copy_of(key, step.write().entry(), sent);
            self.frontend.update_unreserved(key, copy).await;
        }
        self.slots.clear_pending(key, sequence);
    }

    /// Parks what the backend refused of a prefix. The rest of it is done.
    fn park_part(&self, prefix: Vec<Unit>, refused: &[(Sequence, Error)]) {
        let error_of = |queued: &Queued| {
            refused.iter().find(|(refused, _)| *refused == queued.sequence()).map(|(_, error)| error)
        };
        for mut unit in prefix {
            let parked = unit.extract(|queued| error_of(queued).is_some());
            let error = parked.writes().first().and_then(error_of).cloned();
            self.complete(&unit);
            self.unpark(&[unit]);
            if let Some(error) = error {
                self.park(parked, Why::refused(error));
            }
        }
    }

    /// Tells the receipts of a unit that the backend has it.
    fn complete(&self, unit: &Unit) {
        unit.tell(&Progress::Committed);
        for queued in unit.writes() {
            self.recorder.send(|| Event::Flushed { key: queued.key().clone() });
        }
        self.recorder.add(Count::Flushed, unit.len() as u64);
        self.backlog.fetch_sub(unit.len() as u64, Ordering::Relaxed);
    }

    /// Nothing of the units that were taken last is under way: they are parked.
    async fn parked_all(&self) {
        self.in_flight.lock().ended();
        self.advance().await;
    }

    /// Trims the journal and moves the barrier.
    pub(super) async fn advance(&self) {
        // Records that stay are repeated after a restart, which changes nothing.
        self.trim().await;
        self.move_barrier();
    }

    /// Trims the journal up to what is queued, once what is parked is in its list; `false` where that failed.
    pub(super) async fn trim(&self) -> bool {
        let journaled = self.flushed.borrow().journaled;
        let before = self.first_waiting().unwrap_or(journaled);
        let Some(last) = before.checked_sub(1) else { return true };
        if !self.write_list().await {
            return false;
        }
        let trimmed = self.journal.trim(last).await;
        if let Err(error) = &trimmed {
            tracing::warn!(error = %error.chain(), "the journal could not be trimmed; the next trim covers it");
        }
        trimmed.is_ok()
    }

    /// How far the journal is flushed once the backend has `prefix`. No further while something was parked whose place in
    /// the journal's list is not durable: a restart finds it in the journal alone.
    fn flushed_with(&self, prefix: &[Unit]) -> Sequence {
        if !self.parking.lock().is_durable() {
            return 0;
        }
        let last = prefix.last().and_then(|unit| unit.writes().last());
        last.map_or(0, |queued| queued.sequence() + 1)
    }

    /// The next contiguous units; none while the flush has halted.
    fn take_prefix(&self, limit: Option<usize>) -> Vec<Unit> {
        if self.is_halted() {
            return Vec::new();
        }
        let mut queue = self.queue.lock();
        let prefix = queue.take_prefix(limit);
        // Under the queue's lock: the barrier never sees units that are in neither.
        self.in_flight.lock().begin(&prefix);
        prefix
    }

    /// Puts units back that were taken last.
    fn put_back(&self, prefix: Vec<Unit>) {
        let mut queue = self.queue.lock();
        queue.put_back(prefix);
        self.in_flight.lock().ended();
    }
}

/// How many units of a refused prefix to try next. An error that names a key tells exactly. Without it a half, or,
/// where the backend may have more than that of the `recovered` ones and would go back in history, one unit less.
fn shorter(prefix: &[Unit], error: &Error, recovered: usize) -> usize {
    let is_named = |unit: &Unit| unit.writes().iter().any(|queued| Some(queued.key()) == error.key());
    let half = prefix.len() / 2;
    match prefix.iter().rposition(is_named) {
        Some(named) => named.max(1),
        None if recovered > half && prefix.len() <= EXACT => prefix.len() - 1,
        None => half,
    }
}

/// The last write of each key, in the order of those.
fn coalesce(prefix: &[Unit]) -> Vec<&Queued> {
    let all = || prefix.iter().flat_map(Unit::writes);
    let last: HashMap<&Key, Sequence> = all().map(|queued| (queued.key(), queued.sequence())).collect();
    all().filter(|queued| last.get(queued.key()) == Some(&queued.sequence())).collect()
}

/// Whether the backend refuses this very operation, rather than all of them for now.
pub(super) const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidKey
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::PreconditionFailed
    )
}
