//! The frontend-only policy: writes stay in the frontend, and the backend is never written.

use std::sync::Arc;

use crate::batch::{Applied, Atomicity, BatchOutcomes, fail_with_last};
use crate::clock::Stamp;
use crate::effect::{Effect, Write, keys_of};
use crate::entry::Origin;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::frontend::Frontend;
use crate::hooks::{self, Body, Hooks};
use crate::key::Key;
use crate::observe::Recorder;
use crate::parts::Parts;
use crate::slot::{Gate, Slots};
use crate::store::precondition_failed;
use crate::tier::Tier;
use crate::turn::Turns;
use crate::version::{Precondition, Version};
use crate::write::{Deleted, Put, Written};

/// Writes to the frontend alone.
#[derive(Debug)]
pub(crate) struct Local {
    slots: Arc<Slots>,
    frontend: Arc<Frontend>,
    backend: Arc<Tier>,
    turns: Arc<Turns>,
    stamp: Stamp,
    recorder: Arc<Recorder>,
    hooks: Arc<Hooks>,
}

/// What a reader of the stack sees under a key.
#[derive(Debug)]
struct Current {
    version: Option<Version>,
    /// Whether the backend has the key.
    in_backend: bool,
}

impl Local {
    pub(crate) fn new(
        parts: &Parts,
        frontend: Arc<Frontend>,
        backend: Arc<Tier>,
        turns: Arc<Turns>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: parts.slots(),
            frontend,
            backend,
            turns,
            stamp: parts.stamp(),
            recorder: parts.recorder(),
            hooks: parts.hooks(),
        })
    }

    pub(super) async fn write(self: &Arc<Self>, write: Write) -> Result<Applied> {
        let watched = self.hooks.watch(&write, Body::AtHand);
        let turn = async {
            let gate = Gate::close(&self.slots, write.key()).await;
            Ok((gate, watched.before(|key| self.frontend.at_hand(key)).await?))
        };
        let (local, owned) = (Arc::clone(self), write.clone());
        self.turns
            .take(write.operation(), turn, |(gate, watched)| async move {
                let ended = match local.judge(&owned).await {
                    Ok(current) => local.carry_out(&owned, &current).await,
                    Err(error) => Err(error),
                };
                watched.after(&ended).await;
                drop(gate);
                if let Ok(applied) = &ended {
                    local.recorder.took_effect(owned.key(), applied);
                }
                ended
            })
            .await
    }

    pub(super) async fn apply(
        self: &Arc<Self>,
        writes: Vec<Write>,
        atomicity: Atomicity,
    ) -> Result<BatchOutcomes> {
        let watching = self.hooks.watching();
        let turn = async {
            let gates = Gate::close_all(&self.slots, keys_of(&writes)).await;
            Ok((gates, watching.admit(writes, atomicity, |key| self.frontend.at_hand(key)).await?))
        };
        let local = Arc::clone(self);
        self.turns
            .take(Operation::Apply, turn, |(gates, admitted)| async move {
                let (writes, watched, refused) = admitted.into_parts();
                // Every precondition is judged before anything is written.
                let mut judged = Vec::with_capacity(writes.len());
                for write in &writes {
                    judged.push(local.judge(write).await);
                }
                let answers = Ok(local.carry_out_all(&writes, judged).await);
                hooks::after_all(watched, &answers).await;
                drop(gates);
                answers.map(|answers| refused.among(answers))
            })
            .await
    }

    /// Carries out the operations of a batch that hold. Of several on a key the last one wins: a reader that began before
    /// the batch must not see the others, which never take effect.
    async fn carry_out_all(&self, writes: &[Write], judged: Vec<Result<Current>>) -> BatchOutcomes {
        let held =
            writes.iter().zip(&judged).filter_map(|(write, current)| Some((write, current.as_ref().ok()?)));
        let held: Vec<(&Write, &Current)> = held.collect();
        let mut outcomes: BatchOutcomes = Vec::with_capacity(held.len());
        for (index, (write, current)) in held.iter().enumerate() {
            let replaced = held.iter().skip(index + 1).any(|(later, _)| later.key() == write.key());
            outcomes.push(if replaced {
                Ok(answer(write, current))
            } else {
                self.carry_out(write, current).await
            });
        }
        fail_with_last(held.iter().map(|(write, _)| write.key()), &mut outcomes);
        for (write, outcome) in held.iter().map(|(write, _)| write).zip(&outcomes) {
            if let Ok(applied) = outcome {
                self.recorder.took_effect(write.key(), applied);
            }
        }
        let mut outcomes = outcomes.into_iter();
        let merged =
            judged.into_iter().map(|current| current.map(|_| outcomes.next())?.unwrap_or_else(missing));
        merged.collect()
    }

    async fn carry_out(&self, write: &Write, current: &Current) -> Result<Applied> {
        let key = write.key();
        match write.effect() {
            Effect::Put(entry) => self.frontend.store_locally(key, entry, Origin::Local).await?,
            // A tombstone hides the backend's entry.
            Effect::Delete(id) if current.in_backend => {
                let tombstone = self.stamp.entry(&Put::new("").with_version(id.clone()));
                self.frontend.store_locally(key, &tombstone, Origin::Tombstone).await?;
            }
            Effect::Delete(_) => self.frontend.remove_locally(key).await?,
        }
        Ok(answer(write, current))
    }

    /// Judges a precondition against what a reader sees now.
    async fn judge(&self, write: &Write) -> Result<Current> {
        let precondition = write.precondition();
        if write.is_put() && *precondition == Precondition::None {
            return Ok(Current { version: None, in_backend: false });
        }
        match self.current(write.key()).await {
            Ok(current) if precondition.holds(current.version.as_ref()) => Ok(current),
            Ok(_) => Err(precondition_failed(write.key())),
            // Whether the backend has the key cannot be told: it is hidden as if it had.
            Err(error) if error.kind() == ErrorKind::Corrupt && *precondition == Precondition::Damaged => {
                Ok(Current { version: None, in_backend: true })
            }
            Err(error) => Err(error),
        }
    }

    /// What a reader sees now: the local entry or tombstone, else the backend's entry.
    async fn current(&self, key: &Key) -> Result<Current> {
        let nothing_done = |error: Error| error.outcome_is(Outcome::NotApplied);
        let held = self.frontend.held_entry(key).await.map_err(nothing_done)?;
        let behind = self.backend.version(key).await.map_err(nothing_done)?;
        let in_backend = behind.is_some();
        let version = match held {
            Some(held) if held.note.origin == Origin::Tombstone => None,
            Some(held) if held.note.origin == Origin::Local => Some(held.version.clone()),
            _ => behind,
        };
        Ok(Current { version, in_backend })
    }
}

/// The answer to a write that took effect over `current`.
fn answer(write: &Write, current: &Current) -> Applied {
    match write.effect() {
        Effect::Put(entry) => Applied::Put(Written::committed(entry.version().clone())),
        Effect::Delete(_) => Applied::Delete(Deleted::committed(current.version.is_some())),
    }
}

/// Each operation that holds has an outcome.
fn missing() -> Result<Applied> {
    Err(Error::new(ErrorKind::Other, "an operation of a batch has no outcome").outcome_is(Outcome::Unknown))
}
