//! The task that brings journaled writes to the backend, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::queue::{Queued, Unit};
use super::{Behind, Engine, InFlight};
use crate::backoff::Backoff;
use crate::batch::{Action, Batch};
use crate::capability::Feature;
use crate::error::{Error, ErrorKind, Outcome};
use crate::journal::Sequence;
use crate::key::Key;
use crate::observe::Event;
use crate::planted::Plant;
use crate::tiered::engine::sleep_unless;
use crate::tiered::health::contained;
use crate::write::Progress;

/// So many keys at a time, where the backend has no atomic batches, and for the frontend.
const CONCURRENCY: usize = 16;

/// At most so many recovered units are tried without the last one, again and again, while a refused one is looked for.
const EXACT: usize = 1024;

/// The last operation on a key within a prefix.
struct Step {
    key: Key,
    sequence: Sequence,
    action: Action,
}

/// How the flush of a prefix ended.
enum Flush {
    /// The backend has it.
    Done,
    /// The store was left first.
    Left,
    /// The backend refuses something in it, and has nothing of it.
    Refused(Error),
    /// The backend refuses these records, and has the rest.
    Partly(Vec<(Sequence, Error)>),
    /// Another store owns the backend, which has nothing of it.
    Fenced,
}

/// How the attempts to apply operations ended.
pub(super) enum Applied {
    Done,
    Left,
    Refused(Error),
    Fenced,
}

impl Engine {
    /// Flushes until the store is left and nothing is queued, or the backend fails while it is being left.
    pub(in crate::tiered) async fn flush_loop(self: Arc<Self>) {
        let Some(behind) = &self.behind else { return };
        if !self.enter_late(behind).await {
            return;
        }
        let mut leaving = self.leaving.subscribe();
        // So many units at most, while a refused one is looked for.
        let mut limit = None;
        let mut refused_before = 0;
        loop {
            if let Some(error) = behind.ousted.get().filter(|_| behind.oldest().is_some()) {
                // It was being appended when the backend became another's, or was retried since.
                self.park_rest(behind, error).await;
            }
            let prefix = behind.take_prefix(limit);
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
            match self.flush_prefix(behind, &prefix).await {
                Flush::Done => {
                    if prefix.last().is_some_and(|last| last.first() + 1 >= refused_before) {
                        // All that was refused together has been taken in parts.
                        limit = None;
                    }
                    self.forget(behind, prefix).await;
                }
                Flush::Left => return,
                Flush::Refused(error) if prefix.len() > 1 => {
                    limit = Some(shorter(&prefix, &error, behind.queue.lock().recovered_of(&prefix)));
                    refused_before = prefix.last().map_or(0, |last| last.first() + 1);
                    behind.put_back(prefix);
                }
                Flush::Refused(error) => {
                    limit = None;
                    for unit in prefix {
                        self.park(behind, unit, error.duplicate());
                    }
                    behind.landed();
                    self.advance(behind).await;
                }
                Flush::Partly(refused) => {
                    self.park_part(behind, prefix, &refused);
                    behind.landed();
                    self.advance(behind).await;
                }
                Flush::Fenced => {
                    behind.put_back(prefix);
                    self.fence(behind).await;
                }
            }
        }
    }

    async fn flush_prefix(self: &Arc<Self>, behind: &Behind, prefix: &[Unit]) -> Flush {
        let steps = match () {
            () if self.planted.has(Plant::FlushReordersKey) => reversed(prefix),
            () if self.planted.has(Plant::OrderFromWallClock) => by_clock(prefix),
            () => coalesce(prefix),
        };
        let (session, sent) = (self.session(), self.uptime_millis());
        let as_batch = self.backend.capabilities().has(Feature::AtomicBatch)
            && !self.planted.has(Plant::FlushReordersKey);
        let mut refused = Vec::new();
        if as_batch {
            let mut batch = Batch::new();
            for step in &steps {
                batch.push(step.key.clone(), step.action.clone());
            }
            let applied = match behind.lease.get() {
                Some(held) => {
                    self.until_applied_as_owner(behind, held, batch, behind.flushed_with(prefix)).await
                }
                None => self.until_applied(behind, batch).await,
            };
            match applied {
                Applied::Done => {}
                Applied::Left => return Flush::Left,
                Applied::Refused(error) => return Flush::Refused(error),
                Applied::Fenced => return Flush::Fenced,
            }
        } else {
            let width = if self.planted.has(Plant::FlushReordersKey) { 1 } else { CONCURRENCY };
            let mut singles = Vec::with_capacity(steps.len());
            for step in &steps {
                singles.push(self.apply_single(behind, prefix, step));
            }
            let applied: Vec<Option<Vec<(Sequence, Error)>>> =
                stream::iter(singles).buffered(width).collect().await;
            for applied in applied {
                let Some(of_key) = applied else { return Flush::Left };
                refused.extend(of_key);
            }
        }
        let is_refused = |step: &&Step| refused.iter().any(|(sequence, _)| *sequence == step.sequence);
        let mut settled = Vec::with_capacity(steps.len());
        for step in steps.iter().filter(|step| !is_refused(step)) {
            settled.push(self.settle_step(step, sent, session));
        }
        stream::iter(settled).buffer_unordered(CONCURRENCY).collect::<Vec<()>>().await;
        if refused.is_empty() { Flush::Done } else { Flush::Partly(refused) }
    }

    /// Applies the last operation on a key; where it is refused, the one before it, until one is accepted. What was
    /// refused; `None` when the store was left first.
    async fn apply_single(
        &self,
        behind: &Behind,
        prefix: &[Unit],
        step: &Step,
    ) -> Option<Vec<(Sequence, Error)>> {
        let mut refused = Vec::new();
        // Of a batch only its last operation on the key: the others never take effect.
        let is_of_key = |queued: &&Queued| queued.record.key == step.key;
        for queued in prefix.iter().rev().filter_map(|unit| unit.records.iter().rfind(is_of_key)) {
            let mut batch = Batch::new().best_effort();
            batch.push(step.key.clone(), queued.record.action.clone());
            match self.until_applied(behind, batch).await {
                Applied::Done => break,
                // Batches under a lease are atomic, so that nothing under one comes here.
                Applied::Left | Applied::Fenced => return None,
                Applied::Refused(error) => refused.push((queued.sequence, error)),
            }
        }
        Some(refused)
    }

    /// Applies operations until the backend has them or refuses them for good. Repeating them is safe: they carry
    /// their ids, are unconditional, and nothing later is sent before them.
    async fn until_applied(&self, behind: &Behind, batch: Batch) -> Applied {
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        loop {
            let Some(error) = self.watched_attempt(behind, batch.clone()).await else { return Applied::Done };
            let parks = is_refusal(error.kind()) || self.planted.has(Plant::OutageParks);
            if error.write_outcome() == Outcome::NotApplied && parks {
                return Applied::Refused(error);
            }
            self.counters.flush_retries.add(1);
            let mut delay = backoff.next_delay();
            if error.write_outcome() == Outcome::Unknown {
                // A request that may still be alive must not land on top of a later write of its key.
                delay = delay.max(self.backend.capabilities().lifetime());
            }
            tracing::debug!(error = %error.chain(), ?delay, "a flush failed and is tried again");
            self.sound_alarm(behind);
            if sleep_unless(&mut leaving, delay).await {
                return Applied::Left;
            }
        }
    }

    /// An attempt, during which the alarm goes off when the oldest pending write comes of age.
    pub(super) async fn watched_attempt(&self, behind: &Behind, batch: Batch) -> Option<Error> {
        let attempt = self.attempt(batch);
        let (Some(limit), Some(since)) = (self.settings.max_pending_age(), behind.oldest()) else {
            return attempt.await;
        };
        let mut attempt = std::pin::pin!(attempt);
        let rest = limit.saturating_sub(Duration::from_millis(self.uptime_millis().saturating_sub(since)));
        tokio::select! {
            biased;
            ended = &mut attempt => return ended,
            () = tokio::time::sleep(rest) => self.sound_alarm(behind),
        }
        attempt.await
    }

    /// Says so where the oldest pending write is older than it should be.
    pub(super) fn sound_alarm(&self, behind: &Behind) {
        if let Some(age) = self.overdue(behind) {
            tracing::warn!(?age, backlog = behind.backlog(), "journaled writes wait for the backend");
            self.events.send(|| Event::Overdue { age });
        }
    }

    /// How old the oldest pending write is, where that is older than it should be.
    pub(super) fn overdue(&self, behind: &Behind) -> Option<Duration> {
        let (limit, since) = (self.settings.max_pending_age()?, behind.oldest()?);
        let age = Duration::from_millis(self.uptime_millis().saturating_sub(since));
        (age >= limit).then_some(age)
    }

    /// One attempt; its error, if any. An error that says the write was applied is none.
    async fn attempt(&self, batch: Batch) -> Option<Error> {
        match contained(&*self.backend, self.backend.apply(batch)).await {
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

    /// Parks what the backend refused of a prefix. The rest of it is done.
    fn park_part(&self, behind: &Behind, prefix: Vec<Unit>, refused: &[(Sequence, Error)]) {
        for mut unit in prefix {
            let error_of = |sequence: Sequence| {
                refused.iter().find(|(refused, _)| *refused == sequence).map(|(_, error)| error)
            };
            let parked: Vec<Queued> =
                unit.records.extract_if(.., |queued| error_of(queued.sequence).is_some()).collect();
            let error = parked.first().and_then(|queued| error_of(queued.sequence)).map(Error::duplicate);
            let parked = Unit { records: parked, since: unit.since, room: unit.room.clone() };
            self.complete(behind, &unit);
            behind.unpark(&[unit]);
            if let Some(error) = error {
                self.park(behind, parked, error);
            }
        }
    }

    /// Tells who waits that the backend has a prefix, and trims the journal.
    async fn forget(&self, behind: &Behind, prefix: Vec<Unit>) {
        behind.unpark(&prefix);
        for unit in &prefix {
            self.complete(behind, unit);
        }
        behind.landed();
        self.advance(behind).await;
    }

    /// Tells who waits that the backend has a unit.
    fn complete(&self, behind: &Behind, unit: &Unit) {
        for queued in &unit.records {
            queued.progress.send_replace(Progress::Committed);
            self.events.send(|| Event::Flushed { key: queued.record.key.clone() });
        }
        self.counters.flushed.add(unit.records.len() as u64);
        behind.backlog.fetch_sub(unit.records.len() as u64, Ordering::Relaxed);
    }

    /// Trims the journal up to what is queued, once what is set aside is in its list, and moves the barrier.
    pub(super) async fn advance(&self, behind: &Behind) {
        let journaled = behind.flushed.borrow().journaled;
        let before = behind.queue.lock().first().unwrap_or(journaled);
        if let Some(last) = before.checked_sub(1)
            && self.write_aside(behind).await
            && let Err(error) = behind.journal.trim(last).await
        {
            // The records are repeated after a restart, which changes nothing.
            tracing::warn!(error = %error.chain(), "the journal could not be trimmed; the next trim covers it");
        }
        behind.move_barrier();
    }
}

impl Behind {
    /// How far the journal is flushed once the backend has `prefix`. No further while something was parked whose place in
    /// the journal's list is not durable: a restart finds it in the journal alone.
    fn flushed_with(&self, prefix: &[Unit]) -> Sequence {
        let last = prefix.last().and_then(|unit| unit.records.last());
        if self.parking.lock().is_dirty() { 0 } else { last.map_or(0, |queued| queued.sequence + 1) }
    }

    /// All that waits.
    pub(super) fn take_rest(&self) -> Vec<Unit> {
        self.queue.lock().take_all()
    }

    /// All that waits, but for what was parked for `reason` and is in line again.
    pub(super) fn take_unless_retried(&self, reason: &str) -> Vec<Unit> {
        let parking = self.parking.lock();
        self.queue.lock().extract(|unit| !parking.is_retried(unit.first(), reason))
    }

    /// The next contiguous units; none while the flush has halted.
    fn take_prefix(&self, limit: Option<usize>) -> Vec<Unit> {
        if self.is_halted() {
            return Vec::new();
        }
        let mut queue = self.queue.lock();
        let prefix = queue.take_prefix(limit);
        // Under the queue's lock: the barrier never sees units that are in neither.
        *self.in_flight.lock() =
            prefix.first().map(|unit| InFlight { first: unit.first(), since: unit.since });
        prefix
    }

    /// Puts units back that were taken last.
    fn put_back(&self, prefix: Vec<Unit>) {
        let mut queue = self.queue.lock();
        queue.put_back(prefix);
        *self.in_flight.lock() = None;
    }

    /// The units that were taken last are in the backend, or parked.
    fn landed(&self) {
        *self.in_flight.lock() = None;
    }
}

/// How many units of a refused prefix to try next. The backend's word for the key tells exactly. Without it a half, or,
/// where the backend may have more than that of the `recovered` ones and would go back in history, one unit less.
fn shorter(prefix: &[Unit], error: &Error, recovered: usize) -> usize {
    let is_named = |unit: &Unit| unit.records.iter().any(|queued| Some(&queued.record.key) == error.key());
    let half = prefix.len() / 2;
    match prefix.iter().rposition(is_named) {
        Some(named) => named.max(1),
        None if recovered > half && prefix.len() <= EXACT => prefix.len() - 1,
        None => half,
    }
}

/// The last operation on each key, in the order of those.
fn coalesce(prefix: &[Unit]) -> Vec<Step> {
    let all = || prefix.iter().flat_map(|unit| &unit.records);
    let last: HashMap<&Key, Sequence> = all().map(|queued| (&queued.record.key, queued.sequence)).collect();
    all().filter(|queued| last.get(&queued.record.key) == Some(&queued.sequence)).map(step).collect()
}

/// The operation on each key that was modified last, by the writer's clock: a deliberate bug.
fn by_clock(prefix: &[Unit]) -> Vec<Step> {
    let modified = |queued: &Queued| match &queued.record.action {
        Action::Put(put) => crate::adapter::metadata_of(put).map(|metadata| metadata.modified),
        Action::Delete(_) => None,
    };
    let mut last: HashMap<&Key, &Queued> = HashMap::new();
    for queued in prefix.iter().flat_map(|unit| &unit.records) {
        let kept = last.entry(&queued.record.key).or_insert(queued);
        if modified(queued) > modified(kept) {
            *kept = queued;
        }
    }
    let mut steps: Vec<Step> = last.into_values().map(step).collect();
    steps.sort_by_key(|step| step.sequence);
    steps
}

/// Every operation, backwards: a deliberate bug.
fn reversed(prefix: &[Unit]) -> Vec<Step> {
    let mut steps: Vec<Step> = prefix.iter().flat_map(|unit| &unit.records).map(step).collect();
    steps.reverse();
    steps
}

fn step(queued: &Queued) -> Step {
    Step { key: queued.record.key.clone(), sequence: queued.sequence, action: queued.record.action.clone() }
}

/// Whether the backend refuses this very operation, rather than all of them for now.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidKey
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::Unsupported
            | ErrorKind::PreconditionFailed
    )
}
