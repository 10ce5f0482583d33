//! Driving writes forward: what was sent, and may or may not have been heard, is repeated under the same id until the
//! answer is definite.
//!
//! Every attempt is conditional on the version that the backend had when the write began. That makes repeating safe: as
//! soon as one attempt has taken effect, or somebody else has written, none of the others can any more. Two conditions
//! are no such fence: an absent key can be absent again, and a validator that repeats can match again. After an attempt
//! of unknown outcome under one of these, the key stays closed for as long as the attempt can live, although the caller
//! has its answer. Where others write as well, that does not help: sent again, the write could come back over their delete.
//! There such an attempt is not repeated; what became of it is found out instead.

mod batch;
mod per_item;

pub(super) use batch::{DrivenBatch, as_batch};

use std::sync::Arc;

use super::engine::{Change, Engine, sleep_unless};
use super::health::is_panic;
use super::settings::OnUnknown;
use crate::backoff::Backoff;
use crate::batch::{Action, Applied};
use crate::breaker::is_outage;
use crate::capability::Feature;
use crate::entry::{Entry, Origin};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::planted::Plant;
use crate::read::ReadOptions;
use crate::slot::{Call, Gate};
use crate::store::precondition_failed;
use crate::version::{Precondition, Version};
use crate::write::{Delete, Deleted, Expiry, Put, Written};

/// How a driven write ended.
pub(super) struct Driven {
    pub(super) result: Result<Applied>,
    /// Whether an attempt may still be under way that no version keeps from taking effect.
    pub(super) unfenced: bool,
    /// Whether no attempt of unknown outcome can take effect any more.
    pub(super) settled: bool,
    /// Whether somebody else's write lies over it, or took its place, which nobody can tell apart.
    pub(super) overtaken: bool,
}

/// What the attempts so far left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempts {
    /// Each certainly had no effect.
    Void,
    /// One of them may have taken effect, or may yet.
    Open,
}

/// Where the condition of an attempt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// The caller asked for it.
    Wanted,
    /// The same, and it held when the write began.
    Checked,
    /// The backend had this version after the write began.
    Seen,
    /// The frontend has this version, which others may have replaced.
    Guessed,
}

/// An attempt that failed.
struct Failed<'a> {
    action: &'a Action,
    basis: Basis,
    attempts: Attempts,
    error: Error,
}

/// What is to be done after it.
enum Next {
    Again,
    /// The backend has another version than the attempt was conditional on.
    LookAgain,
    Ended(Result<Applied>),
    Overtaken(Applied),
}

impl Engine {
    pub(super) fn drives(&self) -> bool {
        self.settings.on_unknown == OnUnknown::Drive
    }

    pub(super) async fn put_driven(
        self: Arc<Self>,
        gate: Gate,
        key: Key,
        entry: Entry,
        precondition: Precondition,
    ) -> Result<Written> {
        let call = self.reserve_call(&key).await;
        let (session, sent) = (self.session(), self.uptime_millis());
        let action = Action::Put(Put::verbatim(&entry).precondition(precondition));
        let driven = self.drive(&key, &action).await;
        let version = match &driven.result {
            Ok(Applied::Put(written)) => written.version.clone(),
            Ok(Applied::Delete(_)) | Err(_) => entry.version().clone(),
        };
        let shown = !driven.overtaken && *entry.version() == version;
        let change = self.change_for(&key, Some(&entry).filter(|_| shown), sent, session);
        self.end_driven(gate, key, call, driven, change).await?;
        Ok(Written::committed(version))
    }

    pub(super) async fn delete_driven(
        self: Arc<Self>,
        gate: Gate,
        key: Key,
        delete: Delete,
    ) -> Result<Deleted> {
        let call = self.reserve_call(&key).await;
        let driven = self.drive(&key, &Action::Delete(delete)).await;
        match self.end_driven(gate, key, call, driven, Change::Remove).await? {
            Applied::Delete(deleted) => Ok(deleted),
            Applied::Put(_) => Ok(Deleted::committed(false)),
        }
    }

    /// Brings the frontend in step and opens the key, at once or when nothing can take effect any more.
    async fn end_driven(
        self: &Arc<Self>,
        gate: Gate,
        key: Key,
        call: Option<Call>,
        driven: Driven,
        change: Change,
    ) -> Result<Applied> {
        if driven.unfenced && !self.backend.capabilities().lifetime().is_zero() {
            self.settle(gate, key, call).await;
            return driven.result;
        }
        match driven.result {
            Ok(applied) => {
                let concluded = self.conclude(&key, change, call).await;
                drop(gate);
                concluded.map(|()| applied)
            }
            Err(error) if driven.settled => {
                self.conclude(&key, Change::Remove, call).await.ok();
                drop(gate);
                Err(error)
            }
            Err(error) => Err(self.fail(gate, key, call, error).await),
        }
    }

    /// Writes one key until the answer is definite, the write is refused, or the store is left.
    async fn drive(&self, key: &Key, action: &Action) -> Driven {
        let wanted = precondition_of(action);
        let (mut attempts, mut unfenced, mut overtaken) = (Attempts::Void, false, false);
        let mut settled = false;
        let mut base = match wanted {
            // That a key is absent after a delete tells something only where it is known to have been there.
            Precondition::None | Precondition::Matches(_) if matches!(action, Action::Delete(_)) => None,
            Precondition::None => self.guess(key).map(|guess| (guess, Basis::Guessed)),
            wanted => Some((wanted.clone(), Basis::Wanted)),
        };
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut leaving = self.leaving.subscribe();
        let result = loop {
            let next = match self.base(key, wanted, base.take()).await {
                Ok((Precondition::Absent, Basis::Seen))
                    if attempts == Attempts::Void && matches!(action, Action::Delete(_)) =>
                {
                    break Ok(Applied::Delete(Deleted::committed(false)));
                }
                Ok((condition, _)) if *wanted != Precondition::None && condition != *wanted => {
                    break Err(precondition_failed(key));
                }
                Ok((condition, basis)) => {
                    let attempt = self.renamed(under(action, &condition), attempts);
                    match self.ask_backend(self.send(key, &attempt)).await {
                        Ok(applied) => break Ok(applied),
                        Err(error) => {
                            let unheard = error.write_outcome() == Outcome::Unknown;
                            if unheard {
                                self.counters.unknowns.add(1);
                                attempts = Attempts::Open;
                            }
                            let fenced = !unheard || self.fences(&condition);
                            base = Some((condition, basis));
                            let failed = Failed { action: &attempt, basis, attempts, error };
                            if is_panic(&failed.error) {
                                unfenced |= !fenced;
                                Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown)))
                            } else if fenced || self.alone || self.planted.has(Plant::UnfencedRepeated) {
                                unfenced |= !fenced;
                                self.after_attempt(key, failed).await
                            } else {
                                let found = self.find_out(key, failed).await;
                                unfenced |= found.is_none();
                                settled = found.is_some();
                                found.unwrap_or(Next::Again)
                            }
                        }
                    }
                }
                Err(error) if attempts == Attempts::Void => break Err(error.outcome_is(Outcome::NotApplied)),
                Err(_) => Next::LookAgain,
            };
            match next {
                Next::Again => {}
                Next::LookAgain => base = None,
                Next::Ended(result) => break result,
                Next::Overtaken(applied) => {
                    overtaken = true;
                    break Ok(applied);
                }
            }
            if sleep_unless(&mut leaving, backoff.next_delay()).await {
                let outcome = match attempts {
                    Attempts::Void => Outcome::NotApplied,
                    Attempts::Open => Outcome::Unknown,
                };
                break Err(Error::new(ErrorKind::Closed, "the store was closed while the write went on")
                    .outcome_is(outcome));
            }
        };
        Driven { result, unfenced, settled, overtaken }
    }

    /// The version that the frontend has: mostly the backend's, and for free.
    fn guess(&self, key: &Key) -> Option<Precondition> {
        let entry = self.frontend.peek(key)?;
        let known = entry.metadata().note.origin == Origin::Backend && !self.slots.is_quarantined(key);
        known.then(|| Precondition::Matches(entry.version().clone()))
    }

    /// What the next attempt is conditional on.
    async fn base(
        &self,
        key: &Key,
        wanted: &Precondition,
        known: Option<(Precondition, Basis)>,
    ) -> Result<(Precondition, Basis)> {
        if let Some(known) = known {
            return Ok(known);
        }
        let current = self.version_in_backend(key).await?;
        let basis = if *wanted == Precondition::None { Basis::Seen } else { Basis::Checked };
        Ok((current.map_or(Precondition::Absent, Precondition::Matches), basis))
    }

    /// What a failed attempt means for the write.
    async fn after_attempt(&self, key: &Key, failed: Failed<'_>) -> Next {
        let refused = failed.error.kind() == ErrorKind::PreconditionFailed;
        match (failed.error.write_outcome(), failed.attempts) {
            (Outcome::Unknown, _) => Next::Again,
            // Somebody wrote between the look and the write.
            (Outcome::NotApplied, Attempts::Void)
                if refused && matches!(failed.basis, Basis::Seen | Basis::Guessed) =>
            {
                Next::LookAgain
            }
            (Outcome::Applied, _) | (Outcome::NotApplied, Attempts::Void) => Next::Ended(Err(failed.error)),
            (Outcome::NotApplied, Attempts::Open) if refused => {
                if self.planted.has(Plant::OwnWriteRefused) {
                    return Next::Ended(Err(failed.error));
                }
                match self.version_in_backend(key).await {
                    Ok(current) => self.after_refusal(failed, current.as_ref()),
                    Err(_) => Next::Again,
                }
            }
            (Outcome::NotApplied, Attempts::Open) if is_outage(failed.error.kind()) => Next::Again,
            // Refused for another reason than the state of the key, while an earlier attempt is open.
            (Outcome::NotApplied, Attempts::Open) => {
                Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown)))
            }
        }
    }

    /// What became of an attempt that nobody heard of and no version fences, in a backend that others write: its own
    /// version tells, else what is there when it cannot take effect any more. `None`: the store was left first.
    async fn find_out(&self, key: &Key, failed: Failed<'_>) -> Option<Next> {
        let mut leaving = self.leaving.subscribe();
        let mut backoff = Backoff::new(self.uptime_millis());
        let mut lifetime = Some(self.backend.capabilities().lifetime());
        loop {
            let current = self.version_in_backend(key).await;
            match current {
                // That a deleted key is absent tells nothing where others delete.
                Ok(current) if is_put(failed.action) && is_own(failed.action, current.as_ref()) => {
                    return Some(self.after_refusal(failed, current.as_ref()));
                }
                // Either it was lost on the way, or it took effect and somebody undid it.
                Ok(current)
                    if lifetime.is_none() && precondition_of(failed.action).holds(current.as_ref()) =>
                {
                    return Some(Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown))));
                }
                Ok(current) if lifetime.is_none() => {
                    return Some(self.after_refusal(failed, current.as_ref()));
                }
                Ok(_) | Err(_) => {}
            }
            if sleep_unless(&mut leaving, lifetime.take().unwrap_or_else(|| backoff.next_delay())).await {
                return None;
            }
        }
    }

    /// The backend has `current` and refused an attempt, while an earlier one is open.
    fn after_refusal(&self, failed: Failed<'_>, current: Option<&Version>) -> Next {
        if precondition_of(failed.action).holds(current) {
            // It was refused for a state that is over.
            return Next::Again;
        }
        let alone = self.alone;
        match (failed.basis, as_applied(failed.action)) {
            (_, Some(applied)) if is_own(failed.action, current) && (alone || is_put(failed.action)) => {
                Next::Ended(Ok(applied))
            }
            // Nobody else writes. What was there has expired, or the guess was wrong.
            (Basis::Seen | Basis::Guessed, _) if alone => Next::LookAgain,
            // The condition never held, unless what was written under it has expired meanwhile.
            (Basis::Wanted | Basis::Checked, _) if alone && !self.has_expired(failed.action) => {
                Next::Ended(Err(failed.error))
            }
            // Somebody wrote after this write began: over it, or in its place.
            (Basis::Seen, Some(applied)) => Next::Overtaken(applied),
            // Either it took effect and somebody wrote over it, or somebody was first.
            _ => Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown))),
        }
    }

    fn has_expired(&self, action: &Action) -> bool {
        match action {
            Action::Put(Put { expiry: Expiry::At(at), .. }) => self.stamp.now() >= *at,
            Action::Put(_) | Action::Delete(_) => false,
        }
    }

    async fn send(&self, key: &Key, action: &Action) -> Result<Applied> {
        match action {
            Action::Put(put) => self.backend.put(key, put.clone()).await.map(Applied::Put),
            Action::Delete(delete) => self.backend.delete(key, delete.clone()).await.map(Applied::Delete),
        }
    }

    /// The action under another id, as a deliberate bug.
    fn renamed(&self, action: Action, attempts: Attempts) -> Action {
        match action {
            Action::Put(put) if attempts == Attempts::Open && self.planted.has(Plant::RetryUnderNewId) => {
                Action::Put(put.with_version(self.stamp.versions().mint()))
            }
            action => action,
        }
    }

    /// Whether a condition, once it has failed to hold, never holds again.
    fn fences(&self, condition: &Precondition) -> bool {
        matches!(condition, Precondition::Matches(_))
            && self.backend.capabilities().has(Feature::UniqueValidators)
    }

    async fn version_in_backend(&self, key: &Key) -> Result<Option<Version>> {
        let options = ReadOptions::new().authoritative();
        Ok(self.ask_backend(self.backend.head(key, &options)).await?.map(|metadata| metadata.version.clone()))
    }
}

fn precondition_of(action: &Action) -> &Precondition {
    match action {
        Action::Put(put) => &put.precondition,
        Action::Delete(delete) => &delete.precondition,
    }
}

/// The action under another condition.
fn under(action: &Action, condition: &Precondition) -> Action {
    match action.clone() {
        Action::Put(put) => Action::Put(put.precondition(condition.clone())),
        Action::Delete(delete) => Action::Delete(delete.precondition(condition.clone())),
    }
}

/// Whether `current` is what the action leaves behind.
fn is_own(action: &Action, current: Option<&Version>) -> bool {
    match action {
        Action::Put(put) => current.is_some() && put.version() == current,
        // What it was conditional on is gone.
        Action::Delete(_) => current.is_none(),
    }
}

fn is_put(action: &Action) -> bool {
    matches!(action, Action::Put(_))
}

/// The answer of an action that took effect.
fn as_applied(action: &Action) -> Option<Applied> {
    match action {
        Action::Put(put) => put.version().cloned().map(|version| Applied::Put(Written::committed(version))),
        Action::Delete(delete) => {
            let existed = matches!(delete.precondition, Precondition::Matches(_));
            Some(Applied::Delete(Deleted::committed(existed)))
        }
    }
}
