//! Retry until known: a write whose answer was lost is sent again under the same id until its outcome is known.
//!
//! Every attempt is conditional on the version that the backend had when the write began. This makes retries safe: as
//! soon as one attempt has taken effect, or another process has written, none of the others can take effect. Two
//! conditions do not fence like this: an absent key can be absent again, and a validator that repeats can match again.
//! After an attempt of unknown outcome under one of these, the key stays closed for as long as the attempt can live,
//! although the caller has its answer. Where other processes write as well, that is not enough: a retry could bring the
//! write back over their delete. There such an attempt is not retried; its outcome is found out instead.

use super::Through;
use crate::backoff::Backoff;
use crate::batch::Applied;
use crate::breaker::is_outage;
use crate::capability::Feature;
use crate::effect::Write;
use crate::entry::Origin;
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::observe::Count;
use crate::panics::is_panic;
use crate::store::precondition_failed;
use crate::version::{Precondition, Version};
use crate::write::Deleted;
use crate::writer::ended::{Ended, Leftover};

/// What the attempts so far left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempts {
    /// Each certainly had no effect.
    Void,
    /// One of them may have taken effect, or may yet.
    Open,
}

impl Attempts {
    /// The outcome of a write that is given up now.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Void => Outcome::NotApplied,
            Self::Open => Outcome::Unknown,
        }
    }
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
struct Failed {
    /// The write under the attempt's condition.
    sent: Write,
    basis: Basis,
    attempts: Attempts,
    error: Error,
}

/// What is to be done after an attempt.
enum Next {
    Again,
    /// The backend has another version than the attempt was conditional on.
    LookAgain,
    Ended(Result<Applied>),
    /// The write of another process came after this one.
    Overtaken(Applied),
}

/// One write that is retried.
struct Retry<'w> {
    through: &'w Through,
    write: &'w Write,
    attempts: Attempts,
    /// What the next attempt is conditional on, where that is settled.
    base: Option<(Precondition, Basis)>,
    /// Whether an attempt may be under way that no version keeps from taking effect.
    unfenced: bool,
    /// Whether it was found out that no attempt of unknown outcome can take effect any more.
    found_out: bool,
}

impl Through {
    /// Writes one key until the outcome is known, the write is refused, or the store is left.
    pub(super) async fn retry_until_known(&self, write: &Write) -> Ended {
        let mut retry = Retry::new(self, write);
        let mut backoff = Backoff::new(self.stamp.uptime_millis());
        loop {
            match retry.attempt().await {
                Next::Again => {}
                Next::LookAgain => retry.base = None,
                Next::Ended(result) => return retry.ended(result, Leftover::AsAnswered),
                Next::Overtaken(applied) => return retry.ended(Ok(applied), Leftover::Overtaken),
            }
            if self.tasks.sleep(backoff.next_delay()).await.is_break() {
                let closed = Error::new(ErrorKind::Closed, "the store was closed while the write went on");
                let result = Err(closed.outcome_is(retry.attempts.outcome()));
                return retry.ended(result, Leftover::AsAnswered);
            }
        }
    }

    /// Whether a condition, once it has failed to hold, never holds again.
    pub(super) fn fences(&self, condition: &Precondition) -> bool {
        matches!(condition, Precondition::Matches(_))
            && self.backend.capabilities().has(Feature::UniqueValidators)
    }
}

impl<'w> Retry<'w> {
    fn new(through: &'w Through, write: &'w Write) -> Self {
        let mut retry =
            Self { through, write, attempts: Attempts::Void, base: None, unfenced: false, found_out: false };
        retry.base = match write.precondition() {
            // That a key is absent after a delete tells something only where it is known to have been there.
            Precondition::None | Precondition::Matches(_) if !write.is_put() => None,
            Precondition::None => retry.guess().map(|guess| (guess, Basis::Guessed)),
            wanted => Some((wanted.clone(), Basis::Wanted)),
        };
        retry
    }

    fn ended(&self, result: Result<Applied>, leftover: Leftover) -> Ended {
        let leftover = if self.unfenced {
            Leftover::Attempt
        } else if self.found_out && result.is_err() {
            Leftover::Nothing
        } else {
            leftover
        };
        Ended::new(result, leftover)
    }

    /// The version that the frontend has: mostly the backend's, and it costs nothing.
    fn guess(&self) -> Option<Precondition> {
        let key = self.write.key();
        let entry = self.through.frontend.peek_any(key)?;
        let is_copy = entry.metadata().note.origin == Origin::Backend;
        let known = is_copy && !self.through.slots.is_quarantined(key);
        known.then(|| Precondition::Matches(entry.version().clone()))
    }

    /// What the next attempt is conditional on.
    async fn condition(&mut self) -> Result<(Precondition, Basis)> {
        if let Some(base) = self.base.take() {
            return Ok(base);
        }
        let current = self.through.backend.version(self.write.key()).await?;
        let wanted = *self.write.precondition() != Precondition::None;
        let basis = if wanted { Basis::Checked } else { Basis::Seen };
        Ok((current.map_or(Precondition::Absent, Precondition::Matches), basis))
    }

    async fn attempt(&mut self) -> Next {
        let wanted = self.write.precondition();
        let (condition, basis) = match self.condition().await {
            Ok(condition) => condition,
            Err(error) if self.attempts == Attempts::Void => {
                return Next::Ended(Err(error.outcome_is(Outcome::NotApplied)));
            }
            Err(_) => return Next::LookAgain,
        };
        let is_absent = basis == Basis::Seen && condition == Precondition::Absent;
        if is_absent && self.attempts == Attempts::Void && !self.write.is_put() {
            return Next::Ended(Ok(Applied::Delete(Deleted::committed(false))));
        }
        if *wanted != Precondition::None && condition != *wanted {
            return Next::Ended(Err(precondition_failed(self.write.key())));
        }
        let sent = self.write.under(condition.clone());
        match self.through.backend.write(sent.key(), sent.action()).await {
            Ok(applied) => Next::Ended(Ok(applied)),
            Err(error) => {
                self.base = Some((condition, basis));
                self.after_error(sent, basis, error).await
            }
        }
    }

    async fn after_error(&mut self, sent: Write, basis: Basis, error: Error) -> Next {
        let unknown = error.write_outcome() == Outcome::Unknown;
        if unknown {
            self.through.recorder.count(Count::Unknown);
            self.attempts = Attempts::Open;
        }
        let fenced = !unknown || self.through.fences(sent.precondition());
        let failed = Failed { sent, basis, attempts: self.attempts, error };
        if is_panic(&failed.error) {
            self.unfenced |= !fenced;
            return Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown)));
        }
        if fenced || self.through.plan.writes_alone() {
            self.unfenced |= !fenced;
            return self.after_attempt(failed).await;
        }
        let found = self.find_out(failed).await;
        self.unfenced |= found.is_none();
        self.found_out = found.is_some();
        found.unwrap_or(Next::Again)
    }

    /// What a failed attempt means for the write.
    async fn after_attempt(&self, failed: Failed) -> Next {
        let refused = failed.error.kind() == ErrorKind::PreconditionFailed;
        match (failed.error.write_outcome(), failed.attempts) {
            (Outcome::Unknown, _) => Next::Again,
            // Another process wrote between the look and the write.
            (Outcome::NotApplied, Attempts::Void)
                if refused && matches!(failed.basis, Basis::Seen | Basis::Guessed) =>
            {
                Next::LookAgain
            }
            (Outcome::Applied, _) | (Outcome::NotApplied, Attempts::Void) => Next::Ended(Err(failed.error)),
            (Outcome::NotApplied, Attempts::Open) if refused => {
                match self.through.backend.version(self.write.key()).await {
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

    /// What became of an attempt of unknown outcome that no version fences, in a backend that others write: the version of
    /// the write tells, else what is there when the attempt cannot take effect any more. `None`: the store was left first.
    async fn find_out(&self, failed: Failed) -> Option<Next> {
        let backend = &self.through.backend;
        let mut backoff = Backoff::new(self.through.stamp.uptime_millis());
        let mut lifetime = Some(backend.capabilities().request_lifetime());
        loop {
            let current = backend.version(self.write.key()).await;
            match current {
                // That a deleted key is absent tells nothing where others delete.
                Ok(current) if self.write.is_put() && failed.sent.left(current.as_ref()) => {
                    return Some(self.after_refusal(failed, current.as_ref()));
                }
                // Either it was lost on the way, or it took effect and another process undid it.
                Ok(current) if lifetime.is_none() && failed.sent.precondition().holds(current.as_ref()) => {
                    return Some(Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown))));
                }
                Ok(current) if lifetime.is_none() => {
                    return Some(self.after_refusal(failed, current.as_ref()));
                }
                Ok(_) | Err(_) => {}
            }
            let delay = lifetime.take().unwrap_or_else(|| backoff.next_delay());
            if self.through.tasks.sleep(delay).await.is_break() {
                return None;
            }
        }
    }

    /// The backend has `current` and refused an attempt, while an earlier one is open.
    fn after_refusal(&self, failed: Failed, current: Option<&Version>) -> Next {
        if failed.sent.precondition().holds(current) {
            // It was refused for a state that is over.
            return Next::Again;
        }
        let alone = self.through.plan.writes_alone();
        match failed.basis {
            _ if failed.sent.left(current) && (alone || self.write.is_put()) => {
                Next::Ended(Ok(failed.sent.applied()))
            }
            // No other process writes. What was there has expired, or the guess was wrong.
            Basis::Seen | Basis::Guessed if alone => Next::LookAgain,
            // The condition never held, unless what was written under it has expired meanwhile.
            Basis::Wanted | Basis::Checked if alone && !self.write.has_expired(self.through.stamp.now()) => {
                Next::Ended(Err(failed.error))
            }
            // Another process wrote after this write began: over it, or in its place.
            Basis::Seen => Next::Overtaken(failed.sent.applied()),
            // Either it took effect and another process wrote over it, or that process was first.
            Basis::Wanted | Basis::Checked | Basis::Guessed => {
                Next::Ended(Err(failed.error.outcome_is(Outcome::Unknown)))
            }
        }
    }
}
