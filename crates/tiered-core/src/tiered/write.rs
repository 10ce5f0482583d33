//! Synchronous writes: gate, backend, frontend, open, acknowledge.

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::engine::{Change, Engine};
use crate::adapter::own_buffer;
use crate::capability::{Feature, Sharing};
use crate::entry::{Entry, Note};
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::key::Key;
use crate::observe::Event;
use crate::planted::Plant;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::slot::{Call, Gate};
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Put, Written};

impl Engine {
    pub(super) async fn put(self: &Arc<Self>, key: &Key, put: Put) -> Result<Written> {
        self.check_open(Operation::Put)?;
        self.check_put(key, &put)?;
        let precondition = put.precondition.clone();
        let entry = self.stamped(put);
        let written = match self.settings.write_policy {
            WritePolicy::WriteBehind => self.put_behind(key, entry, precondition).await,
            WritePolicy::FrontendOnly => self.put_locally(key, entry, precondition).await,
            WritePolicy::WriteThrough | WritePolicy::WriteAround => {
                let (engine, owned) = (Arc::clone(self), key.clone());
                self.in_turn(self.gate(key), |gate| async move {
                    if engine.drives() {
                        engine.put_driven(gate, owned, entry, precondition).await
                    } else {
                        engine.put_synchronously(gate, owned, entry, precondition).await
                    }
                })
                .await
            }
        }?;
        self.counters.puts.add(1);
        self.events.send(|| Event::Written { key: key.clone(), version: written.version.clone() });
        Ok(written)
    }

    pub(super) async fn delete(self: &Arc<Self>, key: &Key, delete: Delete) -> Result<Deleted> {
        self.check_open(Operation::Delete)?;
        self.check_delete(key, &delete)?;
        let delete = self.stamp_delete(delete);
        let deleted = match self.settings.write_policy {
            WritePolicy::WriteBehind => self.delete_behind(key, delete).await,
            WritePolicy::FrontendOnly => self.delete_locally(key, delete).await,
            WritePolicy::WriteThrough | WritePolicy::WriteAround => {
                let (engine, owned) = (Arc::clone(self), key.clone());
                self.in_turn(self.gate(key), |gate| async move {
                    if engine.drives() {
                        engine.delete_driven(gate, owned, delete).await
                    } else {
                        engine.delete_synchronously(gate, owned, delete).await
                    }
                })
                .await
            }
        }?;
        self.counters.deletes.add(1);
        self.events.send(|| Event::Deleted { key: key.clone() });
        Ok(deleted)
    }

    /// Refuses a put that cannot work, before anything is touched.
    pub(super) fn check_put(&self, key: &Key, put: &Put) -> Result<()> {
        self.check_own(key)?;
        self.capabilities.check_key(key)?;
        self.capabilities.check_value(put.value.len() as u64)?;
        self.capabilities.check_precondition(&put.precondition, Feature::ConditionalPut)
    }

    /// Refuses a delete that cannot work, before anything is touched.
    pub(super) fn check_delete(&self, key: &Key, delete: &Delete) -> Result<()> {
        self.check_own(key)?;
        self.capabilities.check_key(key)?;
        self.capabilities.check_precondition(&delete.precondition, Feature::ConditionalDelete)
    }

    fn check_own(&self, key: &Key) -> Result<()> {
        if self.keeps_for_itself(key) {
            let message = "the record of the lease is kept under this key; use another";
            return Err(Error::new(ErrorKind::InvalidKey, message).outcome_is(Outcome::NotApplied));
        }
        Ok(())
    }

    /// The complete entry of a put that came from outside: without bookkeeping, which is the engine's own.
    pub(super) fn stamped(&self, put: Put) -> Entry {
        let put = match self.settings.write_policy {
            // What is pending is counted and bounded by its size: it holds no more than that.
            WritePolicy::WriteBehind => {
                let value = own_buffer(&put.value);
                put.value(value)
            }
            _ => put,
        };
        let entry = self.stamp.entry(&put);
        if entry.metadata().note.is_empty() { entry } else { entry.with_note(Note::default()) }
    }

    /// The delete under an operation id of its own.
    pub(super) fn stamp_delete(&self, delete: Delete) -> Delete {
        let version = delete.version.clone().unwrap_or_else(|| self.stamp.versions().mint());
        Delete { version: Some(version), ..delete }
    }

    /// Waits for a write's turn (for room, for its keys' gates), then runs it to its end. Where there is a deadline,
    /// answers by then: as not applied while it waits for its turn, as unknown after that, while the write goes on.
    pub(super) async fn in_turn<G, T, W>(
        &self,
        turn: impl Future<Output = Result<G>>,
        write: impl FnOnce(G) -> W,
    ) -> Result<T>
    where
        T: Send + 'static,
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let Some(deadline) = self.settings.write_deadline() else {
            return self.run_to_end(write(turn.await?)).await;
        };
        let deadline = Instant::now() + deadline;
        let Ok(held) = timeout_at(deadline, turn).await else {
            return Err(Error::new(ErrorKind::TimedOut, "earlier writes of the key did not end in time")
                .outcome_is(Outcome::NotApplied));
        };
        if let Ok(result) = timeout_at(deadline, self.run_to_end(write(held?))).await {
            return result;
        }
        self.counters.unknowns.add(1);
        Err(Error::new(ErrorKind::TimedOut, "the backend did not answer in time; the write goes on")
            .outcome_is(Outcome::Unknown))
    }

    /// A write's turn at one key.
    pub(super) async fn gate(&self, key: &Key) -> Result<Gate> {
        Ok(self.slots.close_gate(key).await)
    }

    /// A write's turn at several keys.
    pub(super) async fn gates(&self, keys: Vec<Key>) -> Result<Vec<Gate>> {
        Ok(self.slots.close_gates(keys).await)
    }

    async fn put_synchronously(
        self: Arc<Self>,
        gate: Gate,
        key: Key,
        entry: Entry,
        precondition: Precondition,
    ) -> Result<Written> {
        let call = self.reserve_call(&key).await;
        let (session, sent) = (self.session(), self.uptime_millis());
        let put = Put::verbatim(&entry).precondition(precondition);
        match self.ask_backend(self.backend.put(&key, put)).await {
            Ok(written) => {
                // A backend that gave the entry another version keeps something else than what we have here.
                let same = written.version == *entry.version();
                let change = self.change_for(&key, Some(&entry).filter(|_| same), sent, session);
                self.conclude(&key, change, call).await?;
                drop(gate);
                Ok(written)
            }
            Err(error) => Err(self.fail(gate, key, call, error).await),
        }
    }

    async fn delete_synchronously(self: Arc<Self>, gate: Gate, key: Key, delete: Delete) -> Result<Deleted> {
        let call = self.reserve_call(&key).await;
        match self.ask_backend(self.backend.delete(&key, delete)).await {
            Ok(deleted) => {
                self.conclude(&key, Change::Remove, call).await?;
                drop(gate);
                Ok(deleted)
            }
            Err(error) => Err(self.fail(gate, key, call, error).await),
        }
    }

    /// Waits for an install that has begun and takes its place, so that none begins before the write is concluded.
    /// `None`: the key is in quarantine, and needs none.
    pub(super) async fn reserve_call(self: &Arc<Self>, key: &Key) -> Option<Call> {
        if self.planted.has(Plant::InstallNotWaitedFor) || self.slots.is_quarantined(key) {
            return None;
        }
        self.begin_call(key).await
    }

    /// Brings the frontend in step with what the backend has.
    pub(super) async fn conclude(
        self: &Arc<Self>,
        key: &Key,
        change: Change,
        call: Option<Call>,
    ) -> Result<()> {
        let changed = match call {
            Some(call) => self.change_frontend(key, change, call).await,
            None if self.planted.has(Plant::InstallNotWaitedFor) => {
                let result = match change {
                    Change::Install(entry) => self.frontend.put(key, Put::verbatim(&entry)).await.map(drop),
                    Change::Remove => self.frontend.delete(key, Delete::new()).await.map(drop),
                };
                if result.is_err() {
                    self.quarantine(key);
                }
                super::engine::Changed::Done
            }
            None => super::engine::Changed::Quarantined,
        };
        self.after_write(changed)
    }

    /// What a failed backend write means for the key: open at once, after a removal, or when it is settled.
    pub(super) async fn fail(
        self: &Arc<Self>,
        gate: Gate,
        key: Key,
        call: Option<Call>,
        error: Error,
    ) -> Error {
        match error.write_outcome() {
            Outcome::NotApplied => {
                if error.kind() == ErrorKind::PreconditionFailed
                    && self.backend.capabilities().sharing() == Sharing::Shared
                    // What reads take from the frontend alone is never compared, nor filled again.
                    && self.settings.read_policy == ReadPolicy::FrontendFirst
                {
                    // Somebody else wrote: what the frontend has is old.
                    self.conclude(&key, Change::Remove, call).await.ok();
                }
                error
            }
            Outcome::Applied => {
                self.conclude(&key, Change::Remove, call).await.ok();
                error
            }
            Outcome::Unknown => {
                self.counters.unknowns.add(1);
                if self.planted.has(Plant::UnknownReopenedAtOnce) {
                    return error.outcome_is(Outcome::Unknown);
                }
                self.settle(gate, key, call).await;
                if self.planted.has(Plant::TimeoutReportedNotApplied) {
                    return error.outcome_is(Outcome::NotApplied);
                }
                error.outcome_is(Outcome::Unknown)
            }
        }
    }

    /// Keeps the key closed for as long as its unknown write can still take effect, then lets reads ask the
    /// backend. The caller does not wait for that.
    pub(super) async fn settle(self: &Arc<Self>, gate: Gate, key: Key, call: Option<Call>) {
        let lifetime = self.backend.capabilities().lifetime();
        if lifetime.is_zero() {
            self.conclude(&key, Change::Remove, call).await.ok();
            drop(gate);
            return;
        }
        tracing::warn!(key = %key, ?lifetime, "the outcome of a write is unknown; the key is closed to hits");
        let (engine, busy) = (Arc::clone(self), self.busy.enter());
        self.runtime.spawn(async move {
            tokio::time::sleep(lifetime).await;
            engine.conclude(&key, Change::Remove, call).await.ok();
            drop(gate);
            drop(busy);
        });
    }

    pub(super) async fn invalidate(self: &Arc<Self>, key: &Key) -> Result<()> {
        self.check_open(Operation::Delete)?;
        let gate = self.slots.close_gate(key).await;
        let (engine, owned) = (Arc::clone(self), key.clone());
        self.run_to_end(async move {
            let call = engine.begin_call(&owned).await;
            let failed = match call {
                Some(call) => engine.change_frontend(&owned, Change::Remove, call).await,
                None => super::engine::Changed::Quarantined,
            };
            drop(gate);
            if failed == super::engine::Changed::Quarantined {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "the frontend did not drop the key; it serves no hits until it has",
                )
                .in_tier(engine.frontend.capabilities().name())
                .outcome_is(Outcome::Unknown));
            }
            engine.counters.invalidations.add(1);
            engine.events.send(|| Event::Invalidated { key: owned.clone() });
            Ok(())
        })
        .await
    }

    /// What a write of an earlier operation in a batch, replaced by a later one, answers.
    pub(super) fn version_or_mint(&self, version: Option<&Version>) -> Version {
        version.cloned().unwrap_or_else(|| self.stamp.versions().mint())
    }
}
