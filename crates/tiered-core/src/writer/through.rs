//! Write-through and write-around: gate, backend, frontend, open, acknowledge.

mod retry;
mod retry_batch;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::{Applied, Atomicity, BatchOutcomes};
use crate::clock::Stamp;
use crate::effect::{Write, batch_of, is_last_on_key, keys_of};
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::frontend::Frontend;
use crate::hooks::{self, Body, Hooks};
use crate::key::Key;
use crate::observe::{Count, Recorder};
use crate::parts::Parts;
use crate::plan::Plan;
use crate::sent::Sent;
use crate::settings::OnUnknown;
use crate::slot::{Call, Gate, Slots};
use crate::sync_primitives::time;
use crate::tasks::Tasks;
use crate::tier::Tier;
use crate::turn::Turns;
use crate::writer::ended::{Ended, EndedBatch, Leftover};

/// Writes to the backend before they are acknowledged.
#[derive(Debug)]
pub(crate) struct Through {
    on_unknown: OnUnknown,
    plan: Arc<Plan>,
    slots: Arc<Slots>,
    frontend: Arc<Frontend>,
    backend: Arc<Tier>,
    turns: Arc<Turns>,
    stamp: Stamp,
    tasks: Tasks,
    recorder: Arc<Recorder>,
    hooks: Arc<Hooks>,
}

/// A key that a write has closed: no hits, no fills, and no other change of the frontend.
#[derive(Debug)]
struct Closed {
    /// `None`: the key is in quarantine. Dropped before the gate: the next writer finds no call.
    call: Option<Call>,
    gate: Gate,
}

impl Through {
    pub(crate) fn new(
        parts: &Parts,
        on_unknown: OnUnknown,
        frontend: Arc<Frontend>,
        backend: Arc<Tier>,
        turns: Arc<Turns>,
    ) -> Arc<Self> {
        Arc::new(Self {
            on_unknown,
            plan: parts.plan(),
            slots: parts.slots(),
            frontend,
            backend,
            turns,
            stamp: parts.stamp(),
            tasks: parts.tasks(),
            recorder: parts.recorder(),
            hooks: parts.hooks(),
        })
    }

    pub(super) async fn write(self: &Arc<Self>, write: Write) -> Result<Applied> {
        let through = Arc::clone(self);
        let (key, operation) = (write.key().clone(), write.operation());
        let watched = self.hooks.watch(&write, Body::AtHand);
        let turn = async {
            let gate = Gate::close(&self.slots, &key).await;
            Ok((gate, watched.before(|key| self.frontend.at_hand(key)).await?))
        };
        self.turns
            .take(operation, turn, |(gate, watched)| async move {
                let closed = through.close(gate, write.key()).await;
                let sent = through.frontend.sent();
                let ended = match through.on_unknown {
                    // Boxed, like all that is rare: what waits for a write is smaller without it.
                    OnUnknown::Retry => Box::pin(through.retry_until_known(&write)).await,
                    OnUnknown::Report => {
                        let result = through.backend.write(write.key(), write.action()).await;
                        Ended::new(result, Leftover::AsAnswered)
                    }
                };
                watched.after(ended.result()).await;
                through.finish(closed, &write, ended, sent).await
            })
            .await
    }

    pub(super) async fn apply(
        self: &Arc<Self>,
        writes: Vec<Write>,
        atomicity: Atomicity,
    ) -> Result<BatchOutcomes> {
        let through = Arc::clone(self);
        let watching = self.hooks.watching();
        let turn = async {
            let gates = Gate::close_all(&self.slots, keys_of(&writes)).await;
            Ok((gates, watching.admit(writes, atomicity, |key| self.frontend.at_hand(key)).await?))
        };
        self.turns
            .take(Operation::Apply, turn, |(gates, admitted)| async move {
                let (owned, watched, refused) = admitted.into_parts();
                if owned.is_empty() {
                    return Ok(refused.among(Vec::new()));
                }
                let mut closed = BTreeMap::new();
                for gate in gates {
                    let key = gate.key().clone();
                    // Hooks may have refused all operations on the key.
                    if owned.iter().any(|write| *write.key() == key) {
                        let held = through.close(gate, &key).await;
                        closed.insert(key, held);
                    }
                }
                let sent = through.frontend.sent();
                let ended = match through.on_unknown {
                    OnUnknown::Retry => Box::pin(through.retry_batch_until_known(&owned, atomicity)).await,
                    OnUnknown::Report => {
                        EndedBatch::as_answered(through.backend.apply(batch_of(&owned, atomicity)).await)
                    }
                };
                hooks::after_all(watched, ended.result()).await;
                through
                    .finish_batch(closed, &owned, ended, sent)
                    .await
                    .map(|outcomes| refused.among(outcomes))
            })
            .await
    }

    /// Waits for a change of the frontend that has begun and takes its place, so that none begins before the write ends.
    async fn close(&self, gate: Gate, key: &Key) -> Closed {
        Closed { call: self.frontend.reserve_for_write(key).await, gate }
    }

    /// Brings the frontend in step with a write and opens the key: at once, or when nothing can take effect any more.
    async fn finish(
        self: &Arc<Self>,
        closed: Closed,
        write: &Write,
        ended: Ended,
        sent: Sent,
    ) -> Result<Applied> {
        if let Some(applied) = ended.applied() {
            self.recorder.took_effect(write.key(), applied);
        }
        self.bring_in_step(closed, write, ended, sent).await
    }

    /// As [`finish`](Self::finish), without counting the write.
    async fn bring_in_step(
        self: &Arc<Self>,
        closed: Closed,
        write: &Write,
        ended: Ended,
        sent: Sent,
    ) -> Result<Applied> {
        let (result, leftover) = ended.into_parts();
        if leftover == Leftover::Attempt && !self.backend.capabilities().request_lifetime().is_zero() {
            Box::pin(self.keep_closed(closed, write.key())).await;
            return result;
        }
        match result {
            Ok(applied) => {
                // A backend that gave the entry another version keeps something else than what is at hand.
                let same = match &applied {
                    Applied::Put(written) => written.version == *write.id(),
                    Applied::Delete(_) => true,
                };
                let entry = write.entry().filter(|_| same && leftover != Leftover::Overtaken);
                let copy = self.frontend.copy_of(write.key(), entry, sent);
                let updated = self.frontend.update(write.key(), copy, closed.call).await;
                drop(closed.gate);
                updated.map(|()| applied)
            }
            Err(error) if leftover == Leftover::Nothing => {
                Box::pin(self.remove(closed, write.key())).await;
                Err(error)
            }
            Err(error) => Err(Box::pin(self.fail(closed, write.key(), error)).await),
        }
    }

    async fn finish_batch(
        self: &Arc<Self>,
        mut closed: BTreeMap<Key, Closed>,
        writes: &[Write],
        ended: EndedBatch,
        sent: Sent,
    ) -> Result<BatchOutcomes> {
        let leftovers: Vec<Leftover> = writes.iter().map(|write| ended.leftover(write.key())).collect();
        if let Err(error) = ended.result() {
            for (write, leftover) in writes.iter().zip(leftovers) {
                if let Some(closed) = closed.remove(write.key()) {
                    let failed = Ended::new(Err(error.clone()), leftover);
                    // The batch has one answer for all keys.
                    self.finish(closed, write, failed, sent).await.ok();
                }
            }
            return ended.into_result();
        }
        let mut answers: BatchOutcomes = Vec::with_capacity(writes.len());
        let outcomes = ended.into_result()?;
        for (index, ((write, leftover), outcome)) in writes.iter().zip(leftovers).zip(outcomes).enumerate() {
            // An earlier operation on the key changed nothing; the last one opens it.
            let Some(closed) = is_last_on_key(writes, index).then(|| closed.remove(write.key())).flatten()
            else {
                if let Ok(applied) = &outcome {
                    self.recorder.took_effect(write.key(), applied);
                }
                answers.push(outcome);
                continue;
            };
            let has_effect = |error: &Error| error.write_outcome() != Outcome::NotApplied;
            // Where the last operation on a key has no effect, the one before it that had, or may have.
            let mut answered = writes.iter().zip(&answers).rev();
            let earlier = answered.find(|(earlier, answer)| {
                earlier.key() == write.key() && answer.as_ref().err().is_none_or(has_effect)
            });
            let answer = match (outcome, earlier) {
                (Err(error), Some((earlier, answered))) if !has_effect(&error) => {
                    let answered = match answered {
                        Ok(applied) => Ok(applied.clone()),
                        Err(error) => Err(error.clone()),
                    };
                    // A frontend that failed has its key in quarantine.
                    self.bring_in_step(closed, earlier, Ended::new(answered, leftover), sent).await.ok();
                    Err(error)
                }
                (outcome, _) => self.finish(closed, write, Ended::new(outcome, leftover), sent).await,
            };
            answers.push(answer);
        }
        Ok(answers)
    }

    /// What a failed write means for its key: opened at once, after a removal, or when the write can no longer take effect.
    async fn fail(self: &Arc<Self>, closed: Closed, key: &Key, error: Error) -> Error {
        match error.write_outcome() {
            Outcome::NotApplied => {
                if error.kind() == ErrorKind::PreconditionFailed && self.plan.refusal_shows_staleness() {
                    self.remove(closed, key).await;
                }
                error
            }
            Outcome::Applied => {
                self.remove(closed, key).await;
                error
            }
            Outcome::Unknown => {
                self.recorder.count(Count::Unknown);
                self.keep_closed(closed, key).await;
                error.outcome_is(Outcome::Unknown)
            }
        }
    }

    /// Removes what the frontend has, and opens the key.
    async fn remove(&self, closed: Closed, key: &Key) {
        // A frontend that failed has its key in quarantine.
        self.frontend.update(key, None, closed.call).await.ok();
        drop(closed.gate);
    }

    /// Keeps the key closed for as long as its unknown write can still take effect, then lets reads ask the
    /// backend. The caller does not wait for that.
    async fn keep_closed(self: &Arc<Self>, closed: Closed, key: &Key) {
        let lifetime = self.backend.capabilities().request_lifetime();
        if lifetime.is_zero() {
            return self.remove(closed, key).await;
        }
        tracing::warn!(key = %key, ?lifetime, "the outcome of a write is unknown; the key is closed to hits");
        let (through, key, held) = (Arc::clone(self), key.clone(), self.tasks.hold());
        self.tasks.spawn(async move {
            time::sleep(lifetime).await;
            through.remove(closed, &key).await;
            drop(held);
        });
    }
}
