//! Batches: all their keys' gates, then as a single write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::behind::BatchRoom;
use super::drive::{DrivenBatch, as_batch};
use super::engine::{Change, Engine};
use super::local::Current;
use crate::batch::{Action, Applied, Atomicity, Batch, BatchOutcomes};
use crate::capability::Feature;
use crate::entry::{Entry, Origin};
use crate::error::{Operation, Outcome, Result};
use crate::journal::JournalRecord;
use crate::key::Key;
use crate::observe::Event;
use crate::policy::WritePolicy;
use crate::slot::{Call, Gate};
use crate::version::{Precondition, Version};
use crate::write::{Deleted, Existed, Level, Put, Receipt, Written};

/// A batch whose puts are complete entries.
struct Stamped {
    key: Key,
    action: Action,
    entry: Option<Entry>,
}

impl Stamped {
    fn precondition(&self) -> &Precondition {
        match &self.action {
            Action::Put(put) => &put.precondition,
            Action::Delete(delete) => &delete.precondition,
        }
    }
}

impl Engine {
    pub(super) async fn apply(self: &Arc<Self>, batch: Batch) -> Result<BatchOutcomes> {
        self.check_open(Operation::Apply)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let atomicity = batch.atomicity();
        if atomicity == Atomicity::Required {
            self.capabilities.require(Feature::AtomicBatch)?;
        }
        let (batch, refused) = batch.checked(|key, action| match action {
            Action::Put(put) => self.check_put(key, put),
            Action::Delete(delete) => self.check_delete(key, delete),
        })?;
        if batch.is_empty() {
            return Ok(refused.among(Vec::new()));
        }
        let stamped: Vec<Stamped> = batch.into_operations().into_iter().map(|op| self.stamp(op)).collect();
        let keys: Vec<Key> = stamped.iter().map(|op| op.key.clone()).collect();
        let outcomes = match self.settings.write_policy {
            WritePolicy::WriteBehind => {
                let bytes = stamped.iter().map(|op| op.entry.as_ref().map_or(0, Entry::size)).sum();
                let operations = stamped.len();
                let turn = async {
                    let room = self.room_for(operations, bytes).await?;
                    Ok((self.gates(keys).await?, room))
                };
                let engine = Arc::clone(self);
                self.in_turn(turn, |(gates, room)| async move {
                    let mut judged = Vec::with_capacity(stamped.len());
                    for op in &stamped {
                        judged.push(engine.decide_action(op).await);
                    }
                    engine.journal_judged(gates, &stamped, judged, room, atomicity).await
                })
                .await?
            }
            WritePolicy::FrontendOnly => self.apply_locally(stamped).await?,
            WritePolicy::WriteThrough | WritePolicy::WriteAround => {
                let engine = Arc::clone(self);
                self.in_turn(self.gates(keys), |gates| engine.apply_synchronously(gates, stamped, atomicity))
                    .await?
            }
        };
        Ok(refused.among(outcomes))
    }

    fn stamp(&self, (key, action): (Key, Action)) -> Stamped {
        match action {
            Action::Put(put) => {
                let precondition = put.precondition.clone();
                let entry = self.stamped(put);
                let action = Action::Put(Put::verbatim(&entry).precondition(precondition));
                Stamped { key, action, entry: Some(entry) }
            }
            Action::Delete(delete) => {
                Stamped { key, action: Action::Delete(self.stamp_delete(delete)), entry: None }
            }
        }
    }

    /// Judges one operation; for a delete, whether the entry exists.
    async fn decide_action(&self, op: &Stamped) -> Result<Existed> {
        match &op.action {
            Action::Put(put) if put.precondition == Precondition::None => Ok(Existed::Unknown),
            Action::Put(put) => Ok(self.decide(&op.key, &put.precondition).await?.is_some().into()),
            Action::Delete(delete) => self.decide_delete(&op.key, delete).await,
        }
    }

    async fn apply_synchronously(
        self: Arc<Self>,
        gates: Vec<Gate>,
        stamped: Vec<Stamped>,
        atomicity: Atomicity,
    ) -> Result<BatchOutcomes> {
        // Gates come in the order of their keys, without duplicates.
        let mut keys: Vec<Key> = stamped.iter().map(|op| op.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut held: BTreeMap<Key, (Gate, Option<Call>)> = BTreeMap::new();
        for (key, gate) in keys.into_iter().zip(gates) {
            let call = self.reserve_call(&key).await;
            held.insert(key, (gate, call));
        }
        let operations: Vec<(Key, Action)> =
            stamped.iter().map(|op| (op.key.clone(), op.action.clone())).collect();
        let (session, sent) = (self.session(), self.uptime_millis());
        let DrivenBatch { result, unfenced, settled, overtaken } = if self.drives() {
            self.drive_batch(&operations, atomicity).await
        } else {
            let batch = as_batch(&operations, atomicity);
            DrivenBatch::once(self.ask_backend(self.backend.apply(batch)).await)
        };
        // Where an attempt may still be under way, the key stays closed, whatever the answer is.
        for key in unfenced {
            if let Some((gate, call)) = held.remove(&key) {
                self.settle(gate, key, call).await;
            }
        }
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(error) => {
                for (key, (gate, call)) in held {
                    if settled {
                        self.conclude(&key, Change::Remove, call).await.ok();
                        drop(gate);
                    } else {
                        self.fail(gate, key, call, error.duplicate()).await;
                    }
                }
                return Err(error);
            }
        };
        let mut answers: BatchOutcomes = Vec::with_capacity(outcomes.len());
        // Where the last operation on a key has no effect, the one before it that had.
        let effective = |answers: &BatchOutcomes, op: &Stamped| {
            let answered = stamped.iter().zip(answers).rev();
            let mut answered = answered.filter(|(earlier, answer)| earlier.key == op.key && answer.is_ok());
            answered.next().map(|(earlier, _)| earlier)
        };
        for (index, (op, outcome)) in stamped.iter().zip(outcomes).enumerate() {
            let is_last = !stamped.iter().skip(index + 1).any(|later| later.key == op.key);
            // An earlier operation on the key changed nothing; the last one opens it.
            let Some((gate, call)) = is_last.then(|| held.remove(&op.key)).flatten() else {
                if outcome.is_ok() {
                    self.announce(&op.key, op.entry.as_ref().map(Entry::version));
                }
                answers.push(outcome);
                continue;
            };
            answers.push(match outcome {
                Ok(applied) => {
                    let change = match (&applied, &op.entry) {
                        (Applied::Put(written), Some(entry))
                            if written.version == *entry.version() && !overtaken.contains(&op.key) =>
                        {
                            self.change_for(&op.key, Some(entry), sent, session)
                        }
                        _ => Change::Remove,
                    };
                    let concluded = self.conclude(&op.key, change, call).await;
                    drop(gate);
                    self.announce(&op.key, op.entry.as_ref().map(Entry::version));
                    concluded.map(|()| applied)
                }
                Err(error) => match effective(&answers, op) {
                    Some(earlier) if error.write_outcome() == Outcome::NotApplied => {
                        let entry = earlier.entry.as_ref().filter(|_| !overtaken.contains(&op.key));
                        let change = self.change_for(&op.key, entry, sent, session);
                        self.conclude(&op.key, change, call).await.ok();
                        drop(gate);
                        Err(error)
                    }
                    _ => Err(self.fail(gate, op.key.clone(), call, error).await),
                },
            });
        }
        Ok(answers)
    }

    /// Journals the operations whose preconditions hold; where batches are atomic and not judged per item, all or none.
    async fn journal_judged(
        &self,
        gates: Vec<Gate>,
        stamped: &[Stamped],
        judged: Vec<Result<Existed>>,
        room: BatchRoom,
        atomicity: Atomicity,
    ) -> Result<BatchOutcomes> {
        let atomic = self.capabilities.has(Feature::AtomicBatch) && atomicity != Atomicity::PerItem;
        let judged: Vec<Result<Existed>> =
            if atomic { judged.into_iter().map(|held| held.map(Ok)).collect::<Result<_>>()? } else { judged };
        // Of several on a key the last one wins: the others never take effect, whatever becomes of it.
        let mut winners: Vec<&Stamped> = Vec::new();
        let mut known = HashSet::new();
        for (op, held) in stamped.iter().zip(&judged).rev() {
            if held.is_ok() && known.insert(&op.key) {
                winners.push(op);
            }
        }
        winners.reverse();
        let record = |op: &&Stamped| JournalRecord {
            key: op.key.clone(),
            action: unconditional(op.action.clone()),
            continues: true,
        };
        let mut records: Vec<JournalRecord> = winners.iter().map(record).collect();
        if let Some(last) = records.last_mut() {
            last.continues = false;
        }
        let receipts =
            if records.is_empty() { Vec::new() } else { self.journal_batch(gates, records, room).await? };
        let receipts: HashMap<&Key, Receipt> = winners.iter().map(|op| &op.key).zip(receipts).collect();
        let answers = stamped.iter().zip(judged).map(|(op, held)| {
            let existed = held?;
            let receipt = receipts.get(&op.key).cloned().unwrap_or_else(Receipt::committed);
            self.announce(&op.key, op.entry.as_ref().map(Entry::version));
            Ok(match &op.entry {
                Some(entry) => Applied::Put(Written {
                    version: entry.version().clone(),
                    level: Level::Journaled,
                    receipt,
                }),
                None => Applied::Delete(Deleted { existed, level: Level::Journaled, receipt }),
            })
        });
        Ok(answers.collect())
    }

    async fn apply_locally(self: &Arc<Self>, stamped: Vec<Stamped>) -> Result<BatchOutcomes> {
        let keys = stamped.iter().map(|op| op.key.clone()).collect();
        let engine = Arc::clone(self);
        self.in_turn(self.gates(keys), |gates| async move {
            // Every precondition is judged before anything is written.
            let mut judged = Vec::with_capacity(stamped.len());
            for op in &stamped {
                judged.push(engine.judge_locally(&op.key, op.precondition()).await);
            }
            let mut answers: BatchOutcomes = Vec::with_capacity(stamped.len());
            for (op, current) in stamped.iter().zip(judged) {
                answers.push(match current {
                    Ok(current) => engine.carry_out_locally(op, &current).await,
                    Err(error) => Err(error),
                });
            }
            drop(gates);
            Ok(answers)
        })
        .await
    }

    async fn carry_out_locally(self: &Arc<Self>, op: &Stamped, current: &Current) -> Result<Applied> {
        let applied = match (&op.entry, &op.action) {
            (Some(entry), _) => {
                self.store_locally(&op.key, entry, Origin::Local).await?;
                Applied::Put(Written::committed(entry.version().clone()))
            }
            (None, Action::Delete(delete)) => {
                self.erase_locally(&op.key, delete, current.in_backend).await?;
                Applied::Delete(Deleted::committed(current.version.is_some()))
            }
            // A put always has its entry.
            (None, Action::Put(_)) => Applied::Delete(Deleted::committed(false)),
        };
        self.announce(&op.key, op.entry.as_ref().map(Entry::version));
        Ok(applied)
    }

    fn announce(&self, key: &Key, version: Option<&Version>) {
        if let Some(version) = version {
            self.counters.puts.add(1);
            self.events.send(|| Event::Written { key: key.clone(), version: version.clone() });
        } else {
            self.counters.deletes.add(1);
            self.events.send(|| Event::Deleted { key: key.clone() });
        }
    }
}

fn unconditional(action: Action) -> Action {
    match action {
        Action::Put(put) => Action::Put(put.precondition(Precondition::None)),
        Action::Delete(delete) => Action::Delete(delete.precondition(Precondition::None)),
    }
}
