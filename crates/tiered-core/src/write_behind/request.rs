//! Requests to the task that appends to the journal.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::queue::{Queued, Unit};
use super::room::Taken;
use crate::effect::Write;
use crate::error::{Error, Outcome, Result};
use crate::journal::{JournalRecord, Sequence};
use crate::write::{Progress, Receipt};

/// One write or batch to journal.
#[derive(Debug)]
pub(super) struct Append {
    writes: Vec<(Write, watch::Sender<Progress>)>,
    room: Arc<Taken>,
    reply: oneshot::Sender<Result<()>>,
}

/// What the requester waits for.
#[derive(Debug)]
pub(super) struct Answer(oneshot::Receiver<Result<()>>);

impl Append {
    /// A request, the receipts of its writes, and its answer. The preconditions of the writes have been decided.
    pub(super) fn new(writes: Vec<Write>, room: Arc<Taken>) -> (Self, Vec<Receipt>, Answer) {
        let (reply, answer) = oneshot::channel();
        let (writes, receipts) = writes
            .into_iter()
            .map(|write| {
                let (progress, receiver) = watch::channel(Progress::Journaled);
                ((write.decided(), progress), Receipt::pending(receiver))
            })
            .unzip();
        (Self { writes, room, reply }, receipts, Answer(answer))
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// As the journal takes it: all writes but the last one continue.
    pub(super) fn records(&self) -> impl Iterator<Item = JournalRecord> {
        let last = self.writes.len().saturating_sub(1);
        self.writes.iter().enumerate().map(move |(index, (write, _))| write.record(index < last))
    }

    /// The unit of writes that the journal has from `first` on, and the reply to give once it is queued.
    pub(super) fn journaled(self, first: Sequence, since: u64) -> (Unit, Reply) {
        let writes = (first..).zip(self.writes);
        let queued = writes.map(|(sequence, (write, progress))| Queued::new(sequence, write, progress));
        (Unit::new(queued.collect(), since, Some(self.room)), Reply(self.reply))
    }

    /// Answers that the journal has nothing of it, and never will.
    pub(super) fn refuse(self, error: &Error) {
        self.fail(error, Outcome::NotApplied);
    }

    pub(super) fn fail(self, error: &Error, outcome: Outcome) {
        // A requester that was dropped needs no answer.
        self.reply.send(Err(error.clone().outcome_is(outcome))).ok();
    }
}

/// The reply to a request that was journaled.
#[derive(Debug)]
pub(super) struct Reply(oneshot::Sender<Result<()>>);

impl Reply {
    pub(super) fn acknowledge(self) {
        // A requester that was dropped needs no answer.
        self.0.send(Ok(())).ok();
    }
}

impl Answer {
    /// Waits for the answer; `None` if the task that appends ended without one.
    pub(super) async fn wait(self) -> Option<Result<()>> {
        self.0.await.ok()
    }
}
