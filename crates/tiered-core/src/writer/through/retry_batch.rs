//! Batches that are retried until their outcome is known: an atomic one as a whole, another one key by key.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Through;
use super::retry::Attempts;
use crate::backoff::Backoff;
use crate::batch::{Applied, Atomicity, BatchOutcomes, fail_with_last};
use crate::breaker::is_outage;
use crate::capability::Feature;
use crate::effect::{Write, batch_of, is_last_on_key, keys_of};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::observe::Count;
use crate::panics::is_panic;
use crate::store::precondition_failed;
use crate::version::{Precondition, Version};
use crate::writer::ended::{EndedBatch, Leftover};

/// Looks at the backend at a time.
const CONCURRENCY: usize = 16;

/// What the backend has, by key.
type Versions = BTreeMap<Key, Option<Version>>;

/// What is to be done after an attempt at a batch.
enum Next {
    /// Try again, conditional on the same versions or on those that are there then.
    Again(Option<Versions>),
    Ended(EndedBatch),
}

/// An atomic batch that is retried.
struct Retry<'w> {
    through: &'w Through,
    writes: &'w [Write],
    atomicity: Atomicity,
    attempts: Attempts,
    /// Keys for which an attempt may be under way that no version keeps from taking effect.
    unfenced: Vec<Key>,
}

impl Through {
    /// Applies a batch until the outcome is known. Its keys' gates are closed.
    pub(super) async fn retry_batch_until_known(&self, writes: &[Write], atomicity: Atomicity) -> EndedBatch {
        match (self.backend.capabilities().has(Feature::AtomicBatch), atomicity) {
            (false, _) => self.retry_separately(writes).await,
            (true, Atomicity::PerItem) => self.retry_per_item(writes).await,
            (true, Atomicity::Required | Atomicity::BestEffort) => {
                self.retry_together(writes, atomicity).await
            }
        }
    }

    async fn retry_together(&self, writes: &[Write], atomicity: Atomicity) -> EndedBatch {
        let (attempts, unfenced) = (Attempts::Void, Vec::new());
        let mut retry = Retry { through: self, writes, atomicity, attempts, unfenced };
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        let mut seen = None;
        loop {
            match retry.attempt(seen.take()).await {
                Next::Again(versions) => seen = versions,
                Next::Ended(ended) => return ended.but(retry.unfenced, Leftover::Attempt),
            }
            if self.tasks.sleep(backoff.next_delay()).await.is_break() {
                let ended = EndedBatch::as_answered(Err(closed_over(retry.attempts)));
                return ended.but(retry.unfenced, Leftover::Attempt);
            }
        }
    }

    async fn retry_separately(&self, writes: &[Write]) -> EndedBatch {
        // All are judged against the state before the batch.
        let mut singles = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let replaced = !is_last_on_key(writes, index);
            singles.push(async move { if replaced { Some(self.judge(write).await) } else { None } });
        }
        let judged: Vec<Option<Result<Applied>>> =
            stream::iter(singles).buffered(CONCURRENCY).collect().await;
        let mut retried = Vec::with_capacity(writes.len());
        for (write, judged) in writes.iter().zip(judged) {
            retried.push(async move {
                match judged {
                    Some(judged) => (judged, Leftover::AsAnswered),
                    None => self.retry_until_known(write).await.into_parts(),
                }
            });
        }
        let retried: Vec<_> = stream::iter(retried).buffered(CONCURRENCY).collect().await;
        let mut outcomes = Vec::with_capacity(retried.len());
        let mut leftovers = Vec::with_capacity(retried.len());
        for (write, (result, leftover)) in writes.iter().zip(retried) {
            outcomes.push(result);
            leftovers.push((write.key().clone(), leftover));
        }
        fail_with_last(writes.iter().map(Write::key), &mut outcomes);
        leftovers
            .into_iter()
            .fold(EndedBatch::as_answered(Ok(outcomes)), |ended, (key, leftover)| ended.but([key], leftover))
    }

    /// Sets the operations aside whose preconditions do not hold, and retries the others as one atomic batch. Where another
    /// process wrote in between, all are judged anew.
    async fn retry_per_item(&self, writes: &[Write]) -> EndedBatch {
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        loop {
            let versions = match self.versions(writes).await {
                Ok(versions) => versions,
                Err(error) => return EndedBatch::as_answered(Err(error.outcome_is(Outcome::NotApplied))),
            };
            let holds = |write: &Write| {
                write.precondition().holds(versions.get(write.key()).and_then(Option::as_ref))
            };
            let rest: Vec<Write> = writes.iter().filter(|write| holds(write)).cloned().collect();
            if rest.is_empty() {
                return EndedBatch::as_answered(Ok(merged(writes, holds, Ok(Vec::new()))));
            }
            let ended = self.retry_together(&rest, Atomicity::Required).await;
            match ended.result() {
                Err(error)
                    if error.kind() == ErrorKind::PreconditionFailed
                        && error.write_outcome() == Outcome::NotApplied
                        && !ended.leaves_attempts() => {}
                _ if rest.len() == writes.len() => return ended,
                _ => return ended.map(|outcomes| merged(writes, holds, outcomes)),
            }
            if self.tasks.sleep(backoff.next_delay()).await.is_break() {
                return EndedBatch::as_answered(Err(closed_over(Attempts::Void)));
            }
        }
    }

    /// What the backend has of the writes' keys.
    async fn versions(&self, writes: &[Write]) -> Result<Versions> {
        let mut looks = Vec::new();
        for key in keys_of(writes) {
            looks.push(async move {
                let version = self.backend.version(&key).await?;
                Ok((key, version))
            });
        }
        stream::iter(looks).buffered(CONCURRENCY).try_collect().await
    }

    /// What an operation answers that a later one of the batch replaces.
    async fn judge(&self, write: &Write) -> Result<Applied> {
        let current = self.backend.version(write.key()).await;
        let current = current.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        if !write.precondition().holds(current.as_ref()) {
            return Err(precondition_failed(write.key()));
        }
        Ok(write.under(current.map_or(Precondition::Absent, Precondition::Matches)).applied())
    }
}

impl Retry<'_> {
    async fn attempt(&mut self, seen: Option<Versions>) -> Next {
        let versions = match seen {
            Some(versions) => versions,
            None => match self.through.versions(self.writes).await {
                Ok(versions) => versions,
                Err(error) if self.attempts == Attempts::Void => {
                    return ended(Err(error.outcome_is(Outcome::NotApplied)));
                }
                Err(_) => return Next::Again(None),
            },
        };
        // Seen before anything was sent: that a deleted key is absent later tells something only then.
        if let Some(key) = violated(self.writes, &versions).filter(|_| self.attempts == Attempts::Void) {
            return ended(Err(precondition_failed(key)));
        }
        let sent: Vec<Write> = self.writes.iter().map(|write| conditional(write, &versions)).collect();
        match self.through.backend.apply(batch_of(&sent, self.atomicity)).await {
            Ok(outcomes) => ended(Ok(outcomes)),
            Err(error) => self.after_error(&sent, versions, error).await,
        }
    }

    async fn after_error(&mut self, sent: &[Write], versions: Versions, error: Error) -> Next {
        if error.write_outcome() == Outcome::Unknown {
            self.through.recorder.count(Count::Unknown);
            self.attempts = Attempts::Open;
            let unfenced = sent.iter().filter(|write| !self.through.fences(write.precondition()));
            let unfenced: Vec<Key> = unfenced.map(|write| write.key().clone()).collect();
            // One fence keeps all of a retried batch from taking effect twice.
            let fenced = unfenced.len() < sent.len();
            if !fenced && !self.through.plan.writes_alone() {
                let found = self.find_out(sent, error.clone()).await;
                if found.is_none() {
                    self.unfenced.extend(unfenced);
                }
                return match found {
                    Some(result) => Next::Ended(EndedBatch::as_answered(result).settled()),
                    None => ended(Err(closed_over(Attempts::Open))),
                };
            }
            self.unfenced.extend(unfenced);
        }
        match self.after_attempt(sent, error).await {
            Some(result) => ended(result),
            // What it was conditional on may be over: an attempt of unknown outcome is repeated as it was.
            None => Next::Again((self.attempts == Attempts::Open).then_some(versions)),
        }
    }

    /// What became of a batch of unknown outcome of which no operation is fenced. `None`: the store was left first.
    async fn find_out(&self, sent: &[Write], error: Error) -> Option<Result<BatchOutcomes>> {
        let mut backoff = Backoff::new(self.through.stamp.uptime_millis());
        let mut lifetime = Some(self.through.backend.capabilities().request_lifetime());
        loop {
            let current = self.through.versions(self.writes).await;
            let of = |key: &Key| current.as_ref().ok()?.get(key).and_then(Option::as_ref);
            // That a deleted key is absent tells nothing where others delete.
            if effective(sent).any(|write| write.is_put() && write.left(of(write.key()))) {
                return Some(Ok(applied(sent)));
            }
            if lifetime.is_none() && current.is_ok() {
                return Some(Err(error.outcome_is(Outcome::Unknown)));
            }
            let delay = lifetime.take().unwrap_or_else(|| backoff.next_delay());
            if self.through.tasks.sleep(delay).await.is_break() {
                return None;
            }
        }
    }

    /// How a batch ended by an attempt's error; `None` where it is to be tried again.
    async fn after_attempt(&self, sent: &[Write], error: Error) -> Option<Result<BatchOutcomes>> {
        match (error.write_outcome(), self.attempts) {
            (Outcome::Unknown, _) if is_panic(&error) => {
                return Some(Err(error.outcome_is(Outcome::Unknown)));
            }
            (Outcome::Unknown, _) => return None,
            (Outcome::NotApplied, _) if error.kind() == ErrorKind::PreconditionFailed => {}
            (Outcome::NotApplied, Attempts::Open) if is_outage(error.kind()) => return None,
            (Outcome::NotApplied, Attempts::Open) => return Some(Err(error.outcome_is(Outcome::Unknown))),
            (Outcome::Applied, _) | (Outcome::NotApplied, Attempts::Void) => return Some(Err(error)),
        }
        let Ok(current) = self.through.versions(self.writes).await else { return None };
        let of = |key: &Key| current.get(key).and_then(Option::as_ref);
        let violated = violated(self.writes, &current);
        if self.attempts == Attempts::Void {
            // Either the caller's own conditions fail, or another process wrote between the look and the write.
            return violated.map(|key| Err(precondition_failed(key)));
        }
        let alone = self.through.plan.writes_alone();
        if took_effect(sent, of, alone) {
            return Some(Ok(applied(sent)));
        }
        if sent.iter().all(|write| write.precondition().holds(of(write.key()))) {
            return None;
        }
        if alone {
            return Some(Err(violated.map_or(error, precondition_failed)));
        }
        Some(Err(error.outcome_is(Outcome::Unknown)))
    }
}

/// The outcomes of all operations, from those of the ones that held, or from the error that these have in common.
fn merged(writes: &[Write], held: impl Fn(&Write) -> bool, outcomes: Result<BatchOutcomes>) -> BatchOutcomes {
    let (mut outcomes, failed) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(error)),
    };
    let outcome = |write: &Write| match &failed {
        Some(error) if held(write) => Err(error.clone()),
        None if held(write) => outcomes.next().unwrap_or_else(|| Err(precondition_failed(write.key()))),
        Some(_) | None => Err(precondition_failed(write.key())),
    };
    writes.iter().map(outcome).collect()
}

fn ended(result: Result<BatchOutcomes>) -> Next {
    Next::Ended(EndedBatch::as_answered(result))
}

fn applied(sent: &[Write]) -> BatchOutcomes {
    sent.iter().map(|write| Ok(write.applied())).collect()
}

/// The first key whose condition, as the caller gave it, does not hold.
fn violated<'w>(writes: &'w [Write], versions: &Versions) -> Option<&'w Key> {
    let violated = writes
        .iter()
        .find(|write| !write.precondition().holds(versions.get(write.key()).and_then(Option::as_ref)));
    violated.map(Write::key)
}

/// Whether an atomic batch took effect, by what the backend has now. What was put shows it. That a deleted key is absent
/// tells nothing beside a put, since the put could have expired, nor where others delete.
fn took_effect<'v>(sent: &[Write], of: impl Fn(&Key) -> Option<&'v Version>, alone: bool) -> bool {
    let left = |write: &&Write| write.left(of(write.key()));
    let (puts, deletes): (Vec<_>, Vec<_>) = effective(sent).partition(|write| write.is_put());
    if puts.is_empty() { alone && deletes.iter().all(left) } else { puts.iter().any(left) }
}

/// The operations that take effect: the last one on each key.
fn effective(writes: &[Write]) -> impl Iterator<Item = &Write> {
    writes.iter().enumerate().filter(|(index, _)| is_last_on_key(writes, *index)).map(|(_, write)| write)
}

/// The write, conditional on what the backend has where the caller asks for nothing.
fn conditional(write: &Write, versions: &Versions) -> Write {
    if *write.precondition() != Precondition::None {
        return write.clone();
    }
    let seen = versions.get(write.key()).cloned().flatten();
    write.under(seen.map_or(Precondition::Absent, Precondition::Matches))
}

/// The store was left before the batch had a definite answer.
fn closed_over(attempts: Attempts) -> Error {
    Error::new(ErrorKind::Closed, "the store was closed while the batch went on")
        .outcome_is(attempts.outcome())
}
