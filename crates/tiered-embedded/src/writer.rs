//! The writer: takes what has queued into one transaction.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tiered_core::adapter::precondition_failed;
use tiered_core::adapter::{BatchOutcomes, Stamp};
use tiered_core::{
    Action, Applied, Deleted, Error, ErrorKind, Existed, Key, Outcome, Precondition, Result, Timestamp,
    Written,
};
use tokio::sync::{mpsc, oneshot};

use crate::access::Access;
use crate::engine::{Table, Transaction};
use crate::layout::{read_record, read_value, remove_entry, write_entry};
use crate::list;
use crate::record::Record;
use crate::shared::Shared;

/// At most so many requests in one transaction, so that the first does not wait for thousands.
const MAX_GROUP: usize = 1024;

/// Nor many more bytes of values than this, which an engine may hold twice until they are committed.
const MAX_GROUP_BYTES: u64 = 8 << 20;

/// Records that a commit looks at for expiry, for each of its requests that put something: two are enough that dead
/// entries never outnumber the writes of one round. Deletes add none, and a scan over many of them is slow in some engines.
const SWEEP: usize = 2;

/// What a refused operation does to those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judging {
    /// None of them takes effect.
    Together,
    /// Nothing: it fails alone.
    Alone,
}

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// All of these or none, or all but those that are refused.
    Apply(Vec<(Key, Action)>, Judging, oneshot::Sender<Result<BatchOutcomes>>),
    /// Sets or removes a mark.
    Mark(String, Option<bytes::Bytes>, oneshot::Sender<Result<()>>),
    /// Answers when everything before is on disk.
    Flush(oneshot::Sender<Result<()>>),
    /// As a flush; the writer ends.
    Close(oneshot::Sender<Result<()>>),
}

impl Request {
    /// Whether it puts something.
    fn puts(&self) -> bool {
        let Self::Apply(operations, ..) = self else { return false };
        operations.iter().any(|(_, action)| matches!(action, Action::Put(_)))
    }

    /// Bytes of its values.
    fn size(&self) -> u64 {
        let Self::Apply(operations, ..) = self else { return 0 };
        let size = |action: &Action| match action {
            Action::Put(put) => put.value.len() as u64,
            Action::Delete(_) => 0,
        };
        operations.iter().map(|(_, action)| size(action)).sum()
    }
}

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
    /// Where the sweep for expired entries goes on.
    cursor: Mutex<Option<Key>>,
}

impl Writer {
    /// Takes requests until the store is closed or the last sender is dropped.
    pub(crate) fn run(&self, shared: &Shared, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.size();
            let mut group = vec![first];
            let is_open = |group: &[Request]| !matches!(group.last(), Some(Request::Close(_)));
            while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES && is_open(&group) {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.size();
                group.push(next);
            }
            let last = matches!(group.last(), Some(Request::Close(_)));
            self.commit(shared, group);
            if last {
                return;
            }
        }
    }

    /// Carries out a group in one transaction and answers each request.
    pub(crate) fn commit(&self, shared: &Shared, group: Vec<Request>) {
        // One commit at a time, also where callers commit themselves.
        let mut cursor = self.cursor.lock();
        let closing = matches!(group.last(), Some(Request::Close(_)));
        let durable = shared.durable || group.iter().any(|request| !matches!(request, Request::Apply(..)));
        let most = SWEEP * group.iter().filter(|request| request.puts()).count();
        let mut group = Some(group);
        let mut answers = Vec::new();
        let mut next = None;
        let mut changed = BTreeSet::new();
        let read_only = shared.access == Access::ReadOnly;
        let committed = shared.with_engine(|engine| {
            if read_only {
                // Only the end is asked for.
                return Ok(());
            }
            engine.write(durable, &mut |transaction| {
                let Some(group) = group.take() else { return Err(broken()) };
                let mut group = group.into_iter();
                while let Some(request) = group.next() {
                    let carried_out =
                        carry_out(transaction, request, &shared.stamp, &mut changed, &mut answers);
                    if carried_out.is_err() {
                        answers.extend(group.map(unjudged));
                        return carried_out;
                    }
                }
                next = sweep_expired(transaction, cursor.as_ref(), most, &shared.stamp)?;
                Ok(())
            })
        });
        if committed.is_ok() {
            *cursor = next;
        }
        // An engine that could not be used has not looked at the group.
        for request in group.into_iter().flatten() {
            answers.push(unjudged(request));
        }
        if closing {
            shared.release(None);
        }
        for answer in answers {
            answer.give(committed.as_ref().copied());
        }
    }
}

/// Removes a few expired entries; where the next sweep begins.
fn sweep_expired(
    transaction: &mut dyn Transaction,
    cursor: Option<&Key>,
    most: usize,
    stamp: &Stamp,
) -> Result<Option<Key>> {
    if most == 0 {
        return Ok(cursor.cloned());
    }
    let now = stamp.now();
    let (found, next) = list::expired(transaction, cursor, most, now)?;
    for key in found {
        // The transaction may have replaced it meanwhile.
        let expired = |record: &Record| record.metadata.expires_at.is_some_and(|at| now >= at);
        if read_record(transaction, &key)?.is_some_and(|record| expired(&record)) {
            remove_entry(transaction, &key)?;
        }
    }
    Ok(next)
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
    changed: &mut BTreeSet<Key>,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    match request {
        Request::Apply(operations, judging, reply) => {
            match judge(transaction, &operations, judging, stamp, changed) {
                Ok(judged) => {
                    let kept = operations.iter().zip(&judged).filter(|(_, judged)| judged.is_ok());
                    changed.extend(kept.map(|((key, _), _)| key.clone()));
                    let outcomes = apply(transaction, &operations, judged, stamp);
                    let failed = outcomes.as_ref().err().cloned();
                    answers.push(Answer::Applied(outcomes.unwrap_or_default(), reply));
                    return failed.map_or(Ok(()), Err);
                }
                // The transaction goes on without it.
                Err(Refusal::Judged(error)) => {
                    reply.send(Err(error.outcome_is(Outcome::NotApplied))).ok();
                }
                Err(Refusal::Broken(error)) => {
                    answers.push(Answer::Applied(Vec::new(), reply));
                    return Err(error);
                }
            }
        }
        Request::Mark(name, value, reply) => {
            answers.push(Answer::Done(reply));
            match value {
                Some(value) => transaction.put(Table::Marks, name.as_bytes(), &value)?,
                None => transaction.delete(Table::Marks, name.as_bytes())?,
            }
        }
        Request::Flush(reply) | Request::Close(reply) => answers.push(Answer::Done(reply)),
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
    changed: &BTreeSet<Key>,
) -> std::result::Result<Vec<Result<Existed>>, Refusal> {
    let now = stamp.now();
    let mut judged = Vec::with_capacity(operations.len());
    for (key, action) in operations {
        judged.push(match judge_one(transaction, key, action, now, changed) {
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
    changed: &BTreeSet<Key>,
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
    // What this transaction has written is good, and its chunks may not be seen yet.
    if *precondition == Precondition::Damaged
        && !changed.contains(key)
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
                write_entry(transaction, key, &entry)?;
                Applied::Put(Written::committed(entry.version().clone()))
            }
            Action::Delete(_) => {
                remove_entry(transaction, key)?;
                Applied::Delete(Deleted::committed(existed))
            }
        }));
    }
    Ok(outcomes)
}
