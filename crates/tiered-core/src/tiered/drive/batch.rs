//! Driving batches: an atomic one as a whole, another one key by key.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Attempts, Engine, as_applied, is_own, is_put, precondition_of, under};
use crate::backoff::Backoff;
use crate::batch::{Action, Applied, Atomicity, Batch, BatchOutcomes, fail_with_last};
use crate::breaker::is_outage;
use crate::capability::Feature;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::planted::Plant;
use crate::store::precondition_failed;
use crate::tiered::engine::sleep_unless;
use crate::tiered::health::is_panic;
use crate::version::{Precondition, Version};

/// Looks at the backend at a time.
const CONCURRENCY: usize = 16;

/// How a batch ended at the backend.
pub(in crate::tiered) struct DrivenBatch {
    pub(in crate::tiered) result: Result<BatchOutcomes>,
    /// As with [`Driven`](super::Driven), by key; empty stands for none.
    pub(in crate::tiered) unfenced: Vec<Key>,
    /// As with [`Driven`](super::Driven), for an atomic batch.
    pub(in crate::tiered) settled: bool,
    pub(in crate::tiered) overtaken: Vec<Key>,
}

impl DrivenBatch {
    /// How a batch ended that was sent once.
    pub(in crate::tiered) const fn once(result: Result<BatchOutcomes>) -> Self {
        Self { result, unfenced: Vec::new(), settled: false, overtaken: Vec::new() }
    }
}

/// What the backend has, by key.
pub(super) type Versions = BTreeMap<Key, Option<Version>>;

impl Engine {
    /// Applies a batch until the answer is definite. Its keys' gates are closed.
    pub(in crate::tiered) async fn drive_batch(
        &self,
        operations: &[(Key, Action)],
        atomicity: Atomicity,
    ) -> DrivenBatch {
        if atomicity == Atomicity::PerItem && self.backend.capabilities().has(Feature::AtomicBatch) {
            self.drive_per_item(operations).await
        } else if self.backend.capabilities().has(Feature::AtomicBatch) {
            self.drive_together(operations, atomicity).await
        } else {
            self.drive_separately(operations).await
        }
    }

    async fn drive_separately(&self, operations: &[(Key, Action)]) -> DrivenBatch {
        let is_last =
            |index: usize, key: &Key| !operations.iter().skip(index + 1).any(|(later, _)| later == key);
        let mut ended = DrivenBatch::once(Ok(Vec::new()));
        // All are judged against the state before the batch.
        let mut singles = Vec::with_capacity(operations.len());
        for (index, (key, action)) in operations.iter().enumerate() {
            let superseded = !is_last(index, key);
            singles.push(async move { if superseded { Some(self.judge(key, action).await) } else { None } });
        }
        let judged: Vec<Option<Result<Applied>>> =
            stream::iter(singles).buffered(CONCURRENCY).collect().await;
        let mut driven = Vec::with_capacity(operations.len());
        for ((key, action), judged) in operations.iter().zip(judged) {
            driven.push(async move {
                if let Some(judged) = judged {
                    return (key, judged, false, false);
                }
                let driven = self.drive(key, action).await;
                (key, driven.result, driven.unfenced, driven.overtaken)
            });
        }
        let driven: Vec<_> = stream::iter(driven).buffered(CONCURRENCY).collect().await;
        let mut outcomes = Vec::with_capacity(driven.len());
        for (key, result, unfenced, overtaken) in driven {
            ended.unfenced.extend(unfenced.then(|| key.clone()));
            ended.overtaken.extend(overtaken.then(|| key.clone()));
            outcomes.push(result);
        }
        fail_with_last(operations.iter().map(|(key, _)| key), &mut outcomes);
        ended.result = Ok(outcomes);
        ended
    }

    /// What an operation answers that a later one of the batch replaces.
    async fn judge(&self, key: &Key, action: &Action) -> Result<Applied> {
        let current =
            self.version_in_backend(key).await.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        if !precondition_of(action).holds(current.as_ref()) {
            return Err(precondition_failed(key));
        }
        let seen = under(action, &current.map_or(Precondition::Absent, Precondition::Matches));
        as_applied(&seen).ok_or_else(|| precondition_failed(key))
    }

    pub(super) async fn drive_together(
        &self,
        operations: &[(Key, Action)],
        atomicity: Atomicity,
    ) -> DrivenBatch {
        let mut attempts = Attempts::Void;
        let mut ended = DrivenBatch::once(Ok(Vec::new()));
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        let mut seen: Option<Versions> = None;
        ended.result = loop {
            let versions = match seen.take() {
                Some(versions) => Ok(versions),
                None => self.versions(operations).await,
            };
            match versions {
                Ok(versions) => {
                    // Seen before anything was sent: that a deleted key is absent later tells something only then.
                    if let Some(key) = violated(operations, &versions).filter(|_| attempts == Attempts::Void)
                    {
                        break Err(precondition_failed(key));
                    }
                    let conditional: Vec<(Key, Action)> =
                        operations.iter().map(|(key, action)| conditional(key, action, &versions)).collect();
                    let error =
                        match self.ask_backend(self.backend.apply(as_batch(&conditional, atomicity))).await {
                            Ok(outcomes) => break Ok(outcomes),
                            Err(error) => error,
                        };
                    if error.write_outcome() == Outcome::Unknown {
                        self.counters.unknowns.add(1);
                        attempts = Attempts::Open;
                        let open =
                            conditional.iter().filter(|(_, action)| !self.fences(precondition_of(action)));
                        let open: Vec<Key> = open.map(|(key, _)| key.clone()).collect();
                        // One fence keeps all of a repeated batch from taking effect twice.
                        let fenced = open.len() < conditional.len();
                        if !(fenced || self.alone || self.planted.has(Plant::UnfencedRepeated)) {
                            let found =
                                self.find_out_batch(operations, &conditional, error.duplicate()).await;
                            ended.settled = found.is_some();
                            if found.is_none() {
                                ended.unfenced.extend(open);
                            }
                            break found.unwrap_or_else(|| Err(closed_over(Attempts::Open)));
                        }
                        ended.unfenced.extend(open);
                    }
                    match self.after_batch(operations, &conditional, attempts, error).await {
                        Some(result) => break result,
                        // What it was conditional on may be over: an unknown attempt is repeated as it was.
                        None => seen = (attempts == Attempts::Open).then_some(versions),
                    }
                }
                Err(error) if attempts == Attempts::Void => break Err(error.outcome_is(Outcome::NotApplied)),
                Err(_) => {}
            }
            if sleep_unless(&mut leaving, backoff.next_delay()).await {
                break Err(closed_over(attempts));
            }
        };
        ended
    }

    /// As [`find_out`](Self::find_out), for an atomic batch of which no operation is fenced.
    async fn find_out_batch(
        &self,
        operations: &[(Key, Action)],
        conditional: &[(Key, Action)],
        error: Error,
    ) -> Option<Result<BatchOutcomes>> {
        let mut leaving = self.leaving.subscribe();
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut lifetime = Some(self.backend.capabilities().lifetime());
        loop {
            let current = self.versions(operations).await;
            let of = |key: &Key| current.as_ref().ok()?.get(key).and_then(Option::as_ref);
            // That a deleted key is absent tells nothing where others delete.
            if effective(conditional).any(|(key, action)| is_put(action) && is_own(action, of(key))) {
                let applied = conditional.iter().map(|(_, action)| Some(Ok(as_applied(action)?)));
                return applied.collect::<Option<BatchOutcomes>>().map(Ok);
            }
            if lifetime.is_none() && current.is_ok() {
                return Some(Err(error.outcome_is(Outcome::Unknown)));
            }
            if sleep_unless(&mut leaving, lifetime.take().unwrap_or_else(|| backoff.next_delay())).await {
                return None;
            }
        }
    }

    /// How a batch ended by an attempt's error; `None` where it is to be tried again.
    async fn after_batch(
        &self,
        operations: &[(Key, Action)],
        conditional: &[(Key, Action)],
        attempts: Attempts,
        error: Error,
    ) -> Option<Result<BatchOutcomes>> {
        match (error.write_outcome(), attempts) {
            (Outcome::Unknown, _) if is_panic(&error) => {
                return Some(Err(error.outcome_is(Outcome::Unknown)));
            }
            (Outcome::Unknown, _) => return None,
            (Outcome::NotApplied, _) if error.kind() == ErrorKind::PreconditionFailed => {}
            (Outcome::NotApplied, Attempts::Open) if is_outage(error.kind()) => return None,
            (Outcome::NotApplied, Attempts::Open) => return Some(Err(error.outcome_is(Outcome::Unknown))),
            (Outcome::Applied, _) | (Outcome::NotApplied, Attempts::Void) => return Some(Err(error)),
        }
        let Ok(current) = self.versions(operations).await else { return None };
        let of = |key: &Key| current.get(key).and_then(Option::as_ref);
        let violated = violated(operations, &current);
        if attempts == Attempts::Void {
            // Either the caller's own conditions fail, or somebody wrote between the look and the write.
            return violated.map(|key| Err(precondition_failed(key)));
        }
        if has_landed(conditional, of, self.alone) {
            let outcomes: Option<BatchOutcomes> =
                conditional.iter().map(|(_, action)| Some(Ok(as_applied(action)?))).collect();
            return outcomes.map(Ok);
        }
        if conditional.iter().all(|(key, action)| precondition_of(action).holds(of(key))) {
            return None;
        }
        if self.alone {
            return Some(Err(violated.map_or(error, precondition_failed)));
        }
        Some(Err(error.outcome_is(Outcome::Unknown)))
    }

    pub(super) async fn versions(&self, operations: &[(Key, Action)]) -> Result<Versions> {
        let mut keys: Vec<&Key> = operations.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        let looks =
            keys.into_iter().map(|key| async move { Ok((key.clone(), self.version_in_backend(key).await?)) });
        let looks: Vec<_> = looks.collect();
        stream::iter(looks).buffered(CONCURRENCY).try_collect().await
    }
}

/// The first key whose condition, as the caller gave it, does not hold.
fn violated<'o>(operations: &'o [(Key, Action)], versions: &Versions) -> Option<&'o Key> {
    let violated = operations
        .iter()
        .find(|(key, action)| !precondition_of(action).holds(versions.get(key).and_then(Option::as_ref)));
    violated.map(|(key, _)| key)
}

/// Whether an atomic batch took effect, by what the backend has now. What was put shows it. That a deleted key is absent
/// tells nothing beside a put, since it could have expired, nor where others delete.
fn has_landed<'v>(
    conditional: &[(Key, Action)],
    of: impl Fn(&Key) -> Option<&'v Version>,
    alone: bool,
) -> bool {
    let is_own = |(key, action): &&(Key, Action)| is_own(action, of(key));
    let (puts, deletes): (Vec<_>, Vec<_>) = effective(conditional).partition(|(_, action)| is_put(action));
    if puts.is_empty() { alone && deletes.iter().all(is_own) } else { puts.iter().any(is_own) }
}

/// The operations that take effect: the last one on each key.
fn effective(operations: &[(Key, Action)]) -> impl Iterator<Item = &(Key, Action)> {
    let is_last =
        move |index: usize, key: &Key| operations.iter().skip(index + 1).all(|(later, _)| later != key);
    operations
        .iter()
        .enumerate()
        .filter(move |(index, (key, _))| is_last(*index, key))
        .map(|(_, operation)| operation)
}

/// The operation, conditional on what the backend has where the caller asks for nothing.
fn conditional(key: &Key, action: &Action, versions: &Versions) -> (Key, Action) {
    if *precondition_of(action) != Precondition::None {
        return (key.clone(), action.clone());
    }
    let seen = versions.get(key).cloned().flatten();
    (key.clone(), under(action, &seen.map_or(Precondition::Absent, Precondition::Matches)))
}

/// The store was left before the batch had a definite answer.
fn closed_over(attempts: Attempts) -> Error {
    let outcome = if attempts == Attempts::Void { Outcome::NotApplied } else { Outcome::Unknown };
    Error::new(ErrorKind::Closed, "the store was closed while the batch went on").outcome_is(outcome)
}

/// The operations as one batch.
pub(in crate::tiered) fn as_batch(operations: &[(Key, Action)], atomicity: Atomicity) -> Batch {
    operations.iter().fold(Batch::of(atomicity), |mut batch, (key, action)| {
        batch.push(key.clone(), action.clone());
        batch
    })
}
