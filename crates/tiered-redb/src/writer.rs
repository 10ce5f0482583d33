//! The writer: one thread that takes what has queued into one transaction.

use redb::{Durability, WriteTransaction};
use tiered_core::store::precondition_failed;
use tiered_core::{
    Action, Applied, BatchOutcomes, Deleted, Error, ErrorKind, Key, Outcome, Result, Stamp, Written,
};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{CHUNKS, MARKS, META, read_record, remove_entry, write_entry};
use crate::config::RedbDurability;
use crate::create::contained;
use crate::error::map;
use crate::store::Shared;

/// At most so many operations in one transaction, so that the first does not wait for thousands.
const MAX_GROUP: usize = 1024;

/// With buffered durability every so many commits go to disk: the pages they free can be used again only then.
const BUFFERED_COMMITS: u32 = 256;

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// All of these or none.
    Apply(Vec<(Key, Action)>, oneshot::Sender<Result<BatchOutcomes>>),
    /// Sets or removes a mark.
    Mark(String, Option<bytes::Bytes>, oneshot::Sender<Result<()>>),
    /// Answers when everything before is on disk.
    Flush(oneshot::Sender<Result<()>>),
    /// As a flush; the writer ends.
    Close(oneshot::Sender<Result<()>>),
}

/// An answer that waits for the commit.
enum Answer {
    Applied(BatchOutcomes, oneshot::Sender<Result<BatchOutcomes>>),
    Done(oneshot::Sender<Result<()>>),
}

impl Answer {
    /// A caller that is gone needs no answer.
    fn give(self, committed: Result<(), &Error>) {
        match self {
            Self::Applied(outcomes, reply) => {
                reply.send(committed.map(|()| outcomes).map_err(Error::duplicate)).ok();
            }
            Self::Done(reply) => {
                reply.send(committed.map_err(Error::duplicate)).ok();
            }
        }
    }
}

/// Takes requests until the store is closed or nobody can ask any more.
pub(crate) fn run(shared: &Shared, mut requests: mpsc::UnboundedReceiver<Request>) {
    let mut buffered = 0;
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        let mut last = false;
        while group.len() < MAX_GROUP {
            last = matches!(group.last(), Some(Request::Close(_)));
            if last {
                break;
            }
            let Ok(next) = requests.try_recv() else { break };
            group.push(next);
        }
        commit(shared, group, &mut buffered);
        if last {
            return;
        }
    }
    shared.release();
}

fn commit(shared: &Shared, group: Vec<Request>, buffered: &mut u32) {
    let mut answers = Vec::with_capacity(group.len());
    let mut closing = false;
    let committed = shared.with_database(|database| {
        contained(|| {
            let mut begin = || -> Result<WriteTransaction> {
                let mut transaction = database.begin_write().map_err(map)?;
                let urgent = group.iter().any(|request| !matches!(request, Request::Apply(..)));
                let sync =
                    shared.durability == RedbDurability::Sync || urgent || *buffered >= BUFFERED_COMMITS;
                *buffered = if sync { 0 } else { *buffered + 1 };
                let durability = if sync { Durability::Immediate } else { Durability::None };
                transaction.set_durability(durability).map_err(map)?;
                transaction.set_two_phase_commit(sync);
                Ok(transaction)
            };
            // Nothing is written before the commit: a failure until then leaves no trace.
            let untouched = |error: Error| error.outcome_is(Outcome::NotApplied);
            let transaction = begin().map_err(untouched)?;
            for request in group {
                match request {
                    Request::Apply(operations, reply) => {
                        match apply(&transaction, &operations, &shared.stamp) {
                            Ok(outcomes) => answers.push(Answer::Applied(outcomes, reply)),
                            Err(Refusal::Judged(error)) => {
                                reply.send(Err(error)).ok();
                            }
                            Err(Refusal::Broken(error)) => {
                                let error = untouched(error);
                                reply.send(Err(error.duplicate())).ok();
                                return Err(error);
                            }
                        }
                    }
                    Request::Mark(name, value, reply) => {
                        mark(&transaction, &name, value.as_deref()).map_err(untouched)?;
                        answers.push(Answer::Done(reply));
                    }
                    Request::Flush(reply) => answers.push(Answer::Done(reply)),
                    Request::Close(reply) => {
                        closing = true;
                        answers.push(Answer::Done(reply));
                    }
                }
            }
            transaction.commit().map_err(|error| map(error).outcome_is(Outcome::Unknown))
        })
    });
    if let Err(error) = &committed {
        shared.after_failure(error);
    }
    if closing {
        shared.release();
    }
    for answer in answers {
        answer.give(committed.as_ref().copied());
    }
}

/// Why a request changed nothing.
enum Refusal {
    /// It was judged, and the transaction goes on without it.
    Judged(Error),
    /// The engine failed, and the transaction with it.
    Broken(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// Judges a batch against the state before it, then carries it out.
fn apply(
    transaction: &WriteTransaction,
    operations: &[(Key, Action)],
    stamp: &Stamp,
) -> std::result::Result<BatchOutcomes, Refusal> {
    let mut meta = transaction.open_table(META).map_err(map)?;
    let mut chunks = transaction.open_table(CHUNKS).map_err(map)?;
    let now = stamp.now();
    let mut existed = Vec::with_capacity(operations.len());
    for (key, action) in operations {
        let (precondition, judged) = match action {
            Action::Put(put) => (&put.precondition, put.precondition != tiered_core::Precondition::None),
            Action::Delete(delete) => (&delete.precondition, true),
        };
        // An unconditional put replaces a damaged record without looking at it.
        let current = if judged {
            match read_record(&meta, key) {
                Ok(record) => record.filter(|record| record.metadata.is_live(now)),
                // Deleting is how damage is removed.
                Err(error)
                    if error.kind() == ErrorKind::Corrupt
                        && *precondition == tiered_core::Precondition::None =>
                {
                    None
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return Err(Refusal::Judged(error.outcome_is(Outcome::NotApplied)));
                }
                Err(error) => return Err(Refusal::Broken(error)),
            }
        } else {
            None
        };
        if !precondition.holds(current.as_ref().map(|record| &record.metadata.version)) {
            return Err(Refusal::Judged(precondition_failed(key)));
        }
        existed.push(current.is_some());
    }
    let mut outcomes = Vec::with_capacity(operations.len());
    for ((key, action), existed) in operations.iter().zip(existed) {
        outcomes.push(Ok(match action {
            Action::Put(put) => {
                let entry = stamp.entry(put);
                write_entry(&mut meta, &mut chunks, key, &entry)?;
                Applied::Put(Written::committed(entry.version().clone()))
            }
            Action::Delete(_) => {
                remove_entry(&mut meta, &mut chunks, key)?;
                Applied::Delete(Deleted::committed(existed))
            }
        }));
    }
    Ok(outcomes)
}

fn mark(transaction: &WriteTransaction, name: &str, value: Option<&[u8]>) -> Result<()> {
    let mut marks = transaction.open_table(MARKS).map_err(map)?;
    match value {
        Some(value) => marks.insert(name, value).map_err(map)?,
        None => marks.remove(name).map_err(map)?,
    };
    Ok(())
}
