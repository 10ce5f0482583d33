//! The writer: takes what has queued into one transaction.

use std::collections::BTreeSet;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{BatchOutcomes, Stamp};
use tiered_core::{
    Action, Applied, Deleted, Entry, Error, ErrorKind, Existed, Key, Outcome, Precondition, Result,
    Timestamp, Written,
};
use tokio::sync::oneshot;

use crate::access::Access;
use crate::bound::Change;
use crate::engine::{Table, Transaction};
use crate::gather::Gatherer;
use crate::layout::{Stored, read_record, read_value, remove_entry, write_entry};
use crate::record::Record;
use crate::request::{Judging, Request};
use crate::shared::Shared;
use crate::sweep::{self, Sweep};
use crate::time::now;

/// An answer that waits for the commit.
enum Answer {
    Applied(BatchOutcomes, oneshot::Sender<Result<BatchOutcomes>>),
    Done(oneshot::Sender<Result<()>>),
}

impl Answer {
    /// A dropped call needs no answer.
    fn give(self, committed: Result<(), &Error>) {
        match self {
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
struct CarriedOut {
    answers: Vec<Answer>,
    /// Keys whose values went into chunks, which the engine need not show before the commit.
    chunked: BTreeSet<Key>,
    /// Whether something was written that can expire.
    expires: bool,
    /// What the count of a bounded store has to learn, in order; `None` where nothing counts.
    changes: Option<Vec<Change>>,
}

impl CarriedOut {
    fn wrote(&mut self, key: &Key, entry: &Entry, stored: Stored) {
        let expires = entry.metadata().expires_at;
        self.expires |= expires.is_some();
        if stored.in_chunks {
            self.chunked.insert(key.clone());
        }
        if let Some(changes) = &mut self.changes {
            changes.push(Change::Written { key: key.clone(), bytes: stored.bytes, expires });
        }
    }

    fn removed(&mut self, key: &Key) {
        if let Some(changes) = &mut self.changes {
            changes.push(Change::Removed(key.clone()));
        }
    }
}

impl Writer {
    /// Takes requests until the store is closed or the last sender is dropped.
    pub(crate) fn run(&self, shared: &Shared, requests: Receiver<Request>) {
        let mut gatherer = Gatherer::new(requests);
        while let Some(group) = gatherer.next() {
            let (ends, count, begun) = (group.ends(), group.len(), now());
            let committed = self.commit(shared, group.into_requests());
            gatherer.committed(count, begun);
            committed.answer();
            if ends {
                return;
            }
        }
    }

    /// Carries out a request by itself.
    pub(crate) fn commit_one(&self, shared: &Shared, request: Request) {
        self.commit(shared, vec![request]).answer();
    }

    /// Carries out a group in one transaction.
    fn commit(&self, shared: &Shared, group: Vec<Request>) -> Committed {
        // One commit at a time, also where callers commit themselves.
        let mut sweep = self.sweep.lock();
        let closing = matches!(group.last(), Some(Request::Close(_)));
        let durable = shared.durable || group.iter().any(|request| !matches!(request, Request::Apply(..)));
        let records = sweep::RECORDS * group.iter().filter(|request| request.puts()).count();
        let mut group = Some(group);
        let changes = shared.bound.as_ref().map(|_| Vec::new());
        let mut carried_out = CarriedOut { changes, ..CarriedOut::default() };
        let mut swept = None;
        let read_only = shared.access == Access::ReadOnly;
        let committed = shared.with_engine(|engine| {
            if read_only {
                // Only the end is asked for.
                return Ok(());
            }
            if let Some(bound) = &shared.bound {
                bound.ensure_counted(engine)?;
            }
            engine.write(durable, &mut |transaction| {
                let Some(group) = group.take() else { return Err(broken()) };
                let mut group = group.into_iter();
                while let Some(request) = group.next() {
                    let done = carry_out(transaction, request, &shared.stamp, &mut carried_out);
                    if done.is_err() {
                        carried_out.answers.extend(group.map(unjudged));
                        return done;
                    }
                }
                // Whether or not the commit succeeds: its outcome may be unknown.
                if carried_out.expires {
                    sweep.wake();
                }
                let mut removed = |key: &Key| carried_out.removed(key);
                swept = Some(sweep.clone().go_on(transaction, records, &shared.stamp, &mut removed)?);
                match (&shared.bound, &carried_out.changes) {
                    (Some(bound), Some(changes)) => bound.keep(transaction, changes, shared.stamp.now()),
                    _ => Ok(()),
                }
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
        let CarriedOut { mut answers, .. } = carried_out;
        // An engine that could not be used has not looked at the group.
        answers.extend(group.into_iter().flatten().map(unjudged));
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
fn unjudged(request: Request) -> Answer {
    match request {
        Request::Apply(_, _, reply) => Answer::Applied(Vec::new(), reply),
        Request::Mark(_, _, reply) | Request::Flush(reply) | Request::Close(reply) => Answer::Done(reply),
    }
}

fn carry_out(
    transaction: &mut dyn Transaction,
    request: Request,
    stamp: &Stamp,
    carried_out: &mut CarriedOut,
) -> Result<()> {
    match request {
        Request::Apply(operations, judging, reply) => {
            match judge(transaction, &operations, judging, stamp, &carried_out.chunked) {
                Ok(judged) => {
                    let outcomes = apply(transaction, &operations, judged, stamp, carried_out);
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
        Request::Flush(reply) | Request::Close(reply) => carried_out.answers.push(Answer::Done(reply)),
    }
    Ok(())
}

/// Why a request changed nothing.
enum Refusal {
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

fn judge_one(
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
        && is_value_damaged(transaction, key, record.clone()).map_err(Refusal::Broken)?
    {
        return Ok(Existed::Unknown);
    }
    if !precondition.holds(current.as_ref().map(|record| &record.metadata.version)) {
        return Err(Refusal::Judged(precondition_failed(key)));
    }
    Ok(current.is_some().into())
}

/// Whether the value behind a good record cannot be read.
fn is_value_damaged(transaction: &dyn Transaction, key: &Key, record: Record) -> Result<bool> {
    match read_value(transaction, key, record, None) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(true),
        Err(error) => Err(error),
    }
}

fn apply(
    transaction: &mut dyn Transaction,
    operations: &[(Key, Action)],
    judged: Vec<Result<Existed>>,
    stamp: &Stamp,
    carried_out: &mut CarriedOut,
) -> Result<BatchOutcomes> {
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
                let stored = write_entry(transaction, key, &entry)?;
                carried_out.wrote(key, &entry, stored);
                Applied::Put(Written::committed(entry.version().clone()))
            }
            Action::Delete(_) => {
                remove_entry(transaction, key)?;
                carried_out.removed(key);
                Applied::Delete(Deleted::committed(existed))
            }
        }));
    }
    Ok(outcomes)
}
