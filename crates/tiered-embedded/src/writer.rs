//! The writer: takes what has queued into one transaction.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{BatchOutcomes, Stamp};
use tiered_core::{
    Action, Applied, Deleted, Error, ErrorKind, Existed, Key, Outcome, Precondition, Result, Timestamp,
    Written,
};
use tokio::sync::oneshot;

use crate::access::Access;
use crate::bound::Change;
use crate::engine::{Table, Transaction};
use crate::gather::Gatherer;
use crate::layout::{Stored, is_value_sound, read_record, remove_entry, write_entry};
use crate::reclaim;
use crate::request::{Judging, Request};
use crate::shared::Shared;
use crate::staged;
use crate::sweep::{self, Sweep};
use crate::time::now;
use crate::value::ValueId;
use crate::values::Pace;

/// An answer that waits for the commit.
pub(crate) enum Answer {
    Staged(u64, oneshot::Sender<Result<u64>>),
    Applied(BatchOutcomes, oneshot::Sender<Result<BatchOutcomes>>),
    Done(oneshot::Sender<Result<()>>),
}

impl Answer {
    /// A dropped call needs no answer.
    fn give(self, committed: Result<(), &Error>) {
        match self {
            Self::Staged(opening, reply) => {
                reply.send(committed.map(|()| opening).map_err(Error::clone)).ok();
            }
            Self::Applied(outcomes, reply) => {
                reply.send(committed.map(|()| outcomes).map_err(Error::clone)).ok();
            }
            Self::Done(reply) => {
                reply.send(committed.map_err(Error::clone)).ok();
            }
        }
    }
}

/// What the writer remembers between transactions.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    sweep: Mutex<Sweep>,
}

/// A commit that ended, and whom to tell.
#[must_use = "the callers wait for their answers"]
struct Committed {
    answers: Vec<Answer>,
    result: Result<()>,
}

impl Committed {
    fn answer(self) {
        for answer in self.answers {
            answer.give(self.result.as_ref().copied());
        }
    }
}

/// What has been carried out in a transaction that is not committed yet.
#[derive(Default)]
pub(crate) struct CarriedOut {
    pub(crate) answers: Vec<Answer>,
    /// Keys whose values went into chunks, which the engine need not show before the commit.
    pub(crate) chunked: BTreeSet<Key>,
    /// Whether something was written that can expire.
    expires: bool,
    /// What the count of a bounded store has to learn, in order; `None` where nothing counts.
    changes: Option<Vec<Change>>,
    /// Uploads that are entries now, if the transaction is committed.
    pub(crate) published: Vec<ValueId>,
    /// Bytes of uploads that the transaction adds.
    pub(crate) staged: u64,
}

impl CarriedOut {
    pub(crate) fn wrote(&mut self, key: &Key, expires: Option<Timestamp>, stored: Stored) {
        self.expires |= expires.is_some();
        if stored.in_chunks {
            self.chunked.insert(key.clone());
        }
        self.change(|| Change::Written { key: key.clone(), bytes: stored.bytes, expires });
    }

    fn removed(&mut self, key: &Key) {
        self.change(|| Change::Removed(key.clone()));
    }

    /// Removes what has to leave for all this, where the store has a capacity.
    fn keep_within(&self, transaction: &mut dyn Transaction, shared: &Shared) -> Result<()> {
        match (&shared.bound, &self.changes) {
            (Some(bound), Some(changes)) => {
                bound.keep(transaction, changes, shared.stamp.now(), &shared.values)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn change(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }
}

impl Writer {
    /// Takes requests until the store is closed or the last sender is dropped.
    pub(crate) fn run(&self, shared: &Shared, requests: Receiver<Request>) {
        let mut gatherer = Gatherer::new(requests);
        loop {
            // As much as there is time for: what an earlier process has left, too.
            while !gatherer.has_next() && self.reclaim(shared, Pace::Idle) {}
            let Some(group) = gatherer.next() else { return };
            let (ends, count, begun) = (group.ends(), group.len(), now());
            let committed = self.commit(shared, group.into_requests());
            gatherer.committed(count, begun);
            committed.answer();
            if ends {
                return;
            }
            // A little where others wait all the time.
            if gatherer.has_next() {
                self.reclaim(shared, Pace::Busy);
            }
        }
    }

    /// Carries out a request by itself.
    pub(crate) fn commit_one(&self, shared: &Shared, request: Request) {
        let ends = matches!(request, Request::Close(_));
        self.commit(shared, vec![request]).answer();
        if !ends {
            self.reclaim(shared, Pace::Idle);
        }
    }

    /// Removes all that no record refers to. Blocks.
    pub(crate) fn reclaim_all(&self, shared: &Shared) {
        while self.reclaim(shared, Pace::Idle) {}
    }

    /// Removes a piece of what no record refers to. Returns whether there may be more. After a failure there is none until
    /// the next commit.
    fn reclaim(&self, shared: &Shared, pace: Pace) -> bool {
        if shared.access == Access::ReadOnly || shared.is_closed() || !shared.values.has_work() {
            return false;
        }
        let _alone = self.sweep.lock();
        match shared.with_engine(|engine| reclaim::piece(engine, &shared.values, pace)) {
            Ok(Some(bytes)) => {
                if let Some(bound) = &shared.bound {
                    bound.unstaged(bytes);
                }
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(place = %shared.place, error = %error.chain(), "replaced values were not removed yet");
                shared.values.doubt();
                if let Some(bound) = &shared.bound {
                    bound.doubt();
                }
                false
            }
        }
    }

    /// Carries out a group in one transaction.
    fn commit(&self, shared: &Shared, group: Vec<Request>) -> Committed {
        // One commit at a time, also where callers commit themselves.
        let mut sweep = self.sweep.lock();
        let closing = matches!(group.last(), Some(Request::Close(_)));
        let durable = group.iter().any(|request| request.is_durable(shared.durable));
        let records = sweep::RECORDS * group.iter().filter(|request| request.puts()).count();
        // Only the end is asked for, or nothing.
        let idle = shared.access == Access::ReadOnly
            || group.iter().all(|request| matches!(request, Request::Reclaim));
        let mut group = Some(group);
        let changes = shared.bound.as_ref().map(|_| Vec::new());
        let mut carried_out = CarriedOut { changes, ..CarriedOut::default() };
        let mut swept = None;
        let committed = shared.with_engine(|engine| {
            if idle {
                return Ok(());
            }
            if let Some(bound) = &shared.bound {
                bound.ensure_counted(engine)?;
            }
            engine.write(durable, &mut |transaction| {
                let Some(group) = group.take() else { return Err(broken()) };
                let mut group = group.into_iter();
                while let Some(request) = group.next() {
                    let done = carry_out(transaction, request, shared, &mut carried_out);
                    if done.is_err() {
                        carried_out.answers.extend(group.filter_map(|request| unjudged(request, shared)));
                        return done;
                    }
                }
                // Whether or not the commit succeeds: its outcome may be unknown.
                if carried_out.expires {
                    sweep.wake();
                }
                let mut removed = |key: &Key| carried_out.removed(key);
                let (stamp, values) = (&shared.stamp, &shared.values);
                swept = Some(sweep.clone().go_on(transaction, records, stamp, values, &mut removed)?);
                carried_out.keep_within(transaction, shared)
            })
        });
        if let Some(bound) = &shared.bound {
            bound.ended(committed.is_ok());
        }
        if committed.is_ok()
            && let Some(swept) = swept
        {
            *sweep = swept;
        }
        let CarriedOut { mut answers, published, .. } = carried_out;
        shared.values.committed(&committed);
        for id in published {
            shared.values.published(id);
        }
        // An engine that could not be used has not looked at the group.
        answers.extend(group.into_iter().flatten().filter_map(|request| unjudged(request, shared)));
        if closing {
            shared.release(None);
        }
        Committed { answers, result: committed }
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Other, "the engine ran a transaction twice").outcome_is(Outcome::Unknown)
}

/// The answer to a request that was not looked at.
fn unjudged(request: Request, shared: &Shared) -> Option<Answer> {
    match request {
        Request::Apply(_, _, reply) => Some(Answer::Applied(Vec::new(), reply)),
        Request::Publish(upload, reply) => {
            // What is there of it is looked for after the failure.
            shared.values.published(upload.place.id);
            Some(Answer::Applied(Vec::new(), reply))
        }
        Request::Stage(_, reply) => Some(Answer::Staged(0, reply)),
        Request::Mark(_, _, reply) | Request::Flush(reply) | Request::Close(reply) => {
            Some(Answer::Done(reply))
        }
        Request::Reclaim => None,
    }
}

fn carry_out(
    transaction: &mut dyn Transaction,
    request: Request,
    shared: &Shared,
    carried_out: &mut CarriedOut,
) -> Result<()> {
    match request {
        Request::Stage(part, reply) => return staged::store(transaction, &part, reply, shared, carried_out),
        Request::Publish(upload, reply) => {
            return staged::publish(transaction, upload, reply, shared, carried_out);
        }
        Request::Apply(operations, judging, reply) => {
            match judge(transaction, &operations, judging, &shared.stamp, &carried_out.chunked) {
                Ok(judged) => {
                    let outcomes = apply(transaction, &operations, judged, shared, carried_out);
                    let failed = outcomes.as_ref().err().cloned();
                    carried_out.answers.push(Answer::Applied(outcomes.unwrap_or_default(), reply));
                    return failed.map_or(Ok(()), Err);
                }
                // The transaction goes on without it.
                Err(Refusal::Judged(error)) => {
                    reply.send(Err(error.outcome_is(Outcome::NotApplied))).ok();
                }
                Err(Refusal::Broken(error)) => {
                    carried_out.answers.push(Answer::Applied(Vec::new(), reply));
                    return Err(error);
                }
            }
        }
        Request::Mark(name, value, reply) => {
            carried_out.answers.push(Answer::Done(reply));
            match value {
                Some(value) => transaction.put(Table::Marks, name.as_bytes(), &value)?,
                None => transaction.delete(Table::Marks, name.as_bytes())?,
            }
        }
        Request::Reclaim => {}
        Request::Flush(reply) | Request::Close(reply) => carried_out.answers.push(Answer::Done(reply)),
    }
    Ok(())
}

/// Why a request changed nothing.
pub(crate) enum Refusal {
    /// It was judged.
    Judged(Error),
    /// The engine failed, and the transaction with it.
    Broken(Error),
}

/// Judges a batch against the state before it: for each operation, whether the key existed, which damage leaves open.
fn judge(
    transaction: &dyn Transaction,
    operations: &[(Key, Action)],
    judging: Judging,
    stamp: &Stamp,
    chunked: &BTreeSet<Key>,
) -> std::result::Result<Vec<Result<Existed>>, Refusal> {
    let now = stamp.now();
    let mut judged = Vec::with_capacity(operations.len());
    for (key, action) in operations {
        judged.push(match judge_one(transaction, key, action, now, chunked) {
            Ok(existed) => Ok(existed),
            Err(Refusal::Judged(error)) if judging == Judging::Alone => {
                Err(error.for_key(key).outcome_is(Outcome::NotApplied))
            }
            Err(refusal) => return Err(refusal),
        });
    }
    Ok(judged)
}

pub(crate) fn judge_one(
    transaction: &dyn Transaction,
    key: &Key,
    action: &Action,
    now: Timestamp,
    chunked: &BTreeSet<Key>,
) -> std::result::Result<Existed, Refusal> {
    let (precondition, judged) = match action {
        Action::Put(put) => (&put.precondition, put.precondition != Precondition::None),
        Action::Delete(delete) => (&delete.precondition, true),
    };
    let current = match if judged { read_record(transaction, key) } else { Ok(None) } {
        Ok(record) => record.filter(|record| record.metadata.is_live(now)),
        // An unconditional write removes damage, and one under this condition nothing else.
        Err(error)
            if error.kind() == ErrorKind::Corrupt
                && matches!(precondition, Precondition::None | Precondition::Damaged) =>
        {
            return Ok(Existed::Unknown);
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => return Err(Refusal::Judged(error)),
        Err(error) => return Err(Refusal::Broken(error)),
    };
    // The chunks that this transaction has written are good, and may not be seen yet.
    if *precondition == Precondition::Damaged
        && !chunked.contains(key)
        && let Some(record) = &current
        && !is_value_sound(transaction, key, record).map_err(Refusal::Broken)?
    {
        return Ok(Existed::Unknown);
    }
    if !precondition.holds(current.as_ref().map(|record| &record.metadata.version)) {
        return Err(Refusal::Judged(precondition_failed(key)));
    }
    Ok(current.is_some().into())
}

fn apply(
    transaction: &mut dyn Transaction,
    operations: &[(Key, Action)],
    judged: Vec<Result<Existed>>,
    shared: &Shared,
    carried_out: &mut CarriedOut,
) -> Result<BatchOutcomes> {
    let (stamp, values) = (&shared.stamp, &shared.values);
    let mut outcomes = Vec::with_capacity(operations.len());
    for ((key, action), judged) in operations.iter().zip(judged) {
        let existed = match judged {
            Ok(existed) => existed,
            Err(refused) => {
                outcomes.push(Err(refused));
                continue;
            }
        };
        outcomes.push(Ok(match action {
            Action::Put(put) => {
                let entry = stamp.entry(put);
                let mut mint = || ValueId::mint(stamp.versions());
                let stored = write_entry(transaction, key, &entry, values, &mut mint)?;
                carried_out.wrote(key, entry.metadata().expires_at, stored);
                Applied::Put(Written::committed(entry.version().clone()))
            }
            Action::Delete(_) => {
                remove_entry(transaction, key, values)?;
                carried_out.removed(key);
                Applied::Delete(Deleted::committed(existed))
            }
        }));
    }
    Ok(outcomes)
}
