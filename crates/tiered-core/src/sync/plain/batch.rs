//! Many copies and removals as one batch, in which each is judged alone.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesOrdered;

use super::{PlainTarget, STREAM_FROM, copy_of, is_of, listed_entry};
use crate::batch::{Action, Applied, Atomicity, Batch};
use crate::capability::Feature;
use crate::entry::{Entry, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::read::{Read, ReadOptions, Reads};
use crate::sync::target::{Attempt, Batched, Copied, Done, Over, Removed, Task};
use crate::version::Precondition;
use crate::write::Delete;

/// A task whose key is to be read first.
struct Wanted {
    index: usize,
    key: Key,
    condition: Precondition,
}

/// A write of the batch.
struct Write {
    index: usize,
    /// How its task has ended once it took effect.
    done: Done,
}

/// What becomes of the tasks of a batch.
struct Work {
    answers: Vec<Batched>,
    /// Entries whose version the source does not list, and which may be those that the target has.
    looks: Vec<Wanted>,
    /// Entries to read from the source.
    copies: Vec<Wanted>,
    /// Keys that the source must still lack.
    removals: Vec<Wanted>,
    writes: Vec<Write>,
    batch: Batch,
}

impl Work {
    fn of(tasks: &[Task]) -> Self {
        Self {
            answers: tasks.iter().map(|_| Batched::Alone(Attempt::First)).collect(),
            looks: Vec::new(),
            copies: Vec::new(),
            removals: Vec::new(),
            writes: Vec::with_capacity(tasks.len()),
            batch: Batch::of(Atomicity::PerItem),
        }
    }

    fn end(&mut self, index: usize, ended: Batched) {
        if let Some(answer) = self.answers.get_mut(index) {
            *answer = ended;
        }
    }

    fn copied(&mut self, index: usize, copied: Copied) {
        self.end(index, Batched::Ended(Ok(Done::Copied(copied))));
    }

    fn write(&mut self, index: usize, key: Key, action: Action, done: Done) {
        self.batch.push(key, action);
        self.writes.push(Write { index, done });
    }

    /// Copies `entry` with the batch, unless the target has it.
    fn copy(&mut self, index: usize, key: Key, entry: Entry, condition: Precondition) {
        if is_of(&condition, entry.version()) {
            return self.copied(index, Copied::Same);
        }
        let done = Done::Copied(Copied::Done(entry.size()));
        self.write(index, key, copy_of(entry).precondition(condition).into(), done);
    }

    /// Takes what the source has of an entry whose version it did not list.
    fn take_look(&mut self, wanted: Wanted, read: Result<Read>) {
        match read {
            Ok(read) => match read.entry() {
                None => self.copied(wanted.index, Copied::Vanished),
                Some(ours) if is_of(&wanted.condition, ours.version()) => {
                    self.copied(wanted.index, Copied::Same);
                }
                // A large one is copied by itself.
                Some(ours) if ours.metadata().size >= STREAM_FROM => {}
                Some(_) => self.copies.push(wanted),
            },
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.end(wanted.index, Batched::Ended(Err(error)));
            }
            // It is looked at by itself.
            Err(_) => {}
        }
    }

    /// Takes what the source has of an entry that is to be copied.
    fn take_copy(&mut self, wanted: Wanted, read: Result<Read>) {
        match read.map(Read::into_entry) {
            Ok(Some(entry)) => self.copy(wanted.index, wanted.key, entry, wanted.condition),
            Ok(None) => self.copied(wanted.index, Copied::Vanished),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.end(wanted.index, Batched::Ended(Err(error)));
            }
            // It is read by itself.
            Err(_) => {}
        }
    }

    /// Takes what the source has of a key that is to be removed.
    fn take_removal(&mut self, wanted: Wanted, read: Result<Read>) {
        let is_there = match read {
            Ok(read) => read.entry().is_some(),
            // What is damaged at the source is there.
            Err(error) if error.kind() == ErrorKind::Corrupt => true,
            // It is read by itself.
            Err(_) => return,
        };
        if is_there {
            return self.end(wanted.index, Batched::Ended(Ok(Done::Removed(Removed::Overtaken))));
        }
        let delete = Delete::new().precondition(wanted.condition);
        self.write(wanted.index, wanted.key, delete.into(), Done::Removed(Removed::Done));
    }
}

impl PlainTarget<'_> {
    pub(super) async fn carry_out_together(&self, tasks: &[Task]) -> Vec<Batched> {
        let mut work = Work::of(tasks);
        for (index, task) in tasks.iter().enumerate() {
            self.prepare(&mut work, index, task);
        }
        let whole = ReadOptions::new().authoritative();
        let head = whole.clone().range(0..0);
        let looks = std::mem::take(&mut work.looks);
        for (read, wanted) in self.read(&looks, &head).await.into_iter().zip(looks) {
            work.take_look(wanted, read);
        }
        let (copies, removals) = (std::mem::take(&mut work.copies), std::mem::take(&mut work.removals));
        // The source may have got a key after its listing passed it.
        let (entries, heads) = join(self.read(&copies, &whole), self.read(&removals, &head)).await;
        for (wanted, read) in copies.into_iter().zip(entries) {
            work.take_copy(wanted, read);
        }
        for (wanted, read) in removals.into_iter().zip(heads) {
            work.take_removal(wanted, read);
        }
        self.apply(&mut work).await;
        work.answers
    }

    /// What a task needs. One of which the listings do not tell enough is carried out by itself, and so is a large value.
    fn prepare(&self, work: &mut Work, index: usize, task: &Task) {
        let (ours, theirs) = match (task.copies(), task.removes()) {
            (Some((ours, theirs)), _) => (Some(ours), theirs),
            (None, Some(theirs)) => (None, theirs),
            (None, None) => return,
        };
        let Ok(Some(condition)) = self.listed_condition(task.key(), theirs) else { return };
        let key = task.key().clone();
        let Some(ours) = ours else {
            return work.removals.push(Wanted { index, key, condition });
        };
        let may_have_it = matches!(condition, Precondition::Matches(_))
            && theirs.size().is_none_or(|theirs| theirs == ours.size);
        match &ours.version {
            Some(version) if is_of(&condition, version) => work.copied(index, Copied::Same),
            _ if ours.size >= STREAM_FROM => {}
            None if may_have_it => work.looks.push(Wanted { index, key, condition }),
            _ => match listed_entry(ours) {
                Some(entry) => work.copy(index, key, entry, condition),
                None => work.copies.push(Wanted { index, key, condition }),
            },
        }
    }

    /// Reads keys of the source: by one call, or by several at a time where that is no better than one by one.
    async fn read(&self, wanted: &[Wanted], options: &ReadOptions) -> Reads {
        if wanted.is_empty() {
            return Reads::new();
        }
        if self.source.capabilities().has(Feature::AtomicBatch) {
            let keys: Vec<Key> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
            return self.source.get_many(&keys, options).await;
        }
        let mut reads = FuturesOrdered::new();
        for Wanted { key, .. } in wanted {
            reads.push_back(async move {
                // Never closed.
                let _turn = self.reads.acquire().await.ok();
                self.source.load(key, options).await
            });
        }
        reads.collect().await
    }

    /// Copies entries, all or nothing, over what may be replaced. `None` where one of them is to be looked at by itself, or the
    /// batch failed.
    pub(super) async fn copy_together(&self, entries: Vec<(Key, Entry)>, over: Over) -> Option<Vec<Copied>> {
        let keys: Vec<Key> = entries.iter().map(|(key, _)| key.clone()).collect();
        let shown = ReadOptions::new().authoritative().range(0..0).tombstones(Tombstones::Show);
        let heads = self.target.get_many(&keys, &shown).await;
        let (mut copied, mut batch) = (Vec::with_capacity(keys.len()), Batch::new());
        for ((key, entry), head) in entries.into_iter().zip(heads) {
            let condition = match head.ok()?.into_entry() {
                None => Precondition::Absent,
                Some(theirs) if theirs.metadata().note.origin != Origin::Backend => return None,
                Some(theirs) => Precondition::Matches(theirs.version().clone()),
            };
            if is_of(&condition, entry.version()) {
                copied.push(Copied::Same);
                continue;
            }
            if over == Over::Nothing && condition != Precondition::Absent {
                return None;
            }
            copied.push(Copied::Done(entry.size()));
            batch.push(key, copy_of(entry).precondition(condition).into());
        }
        if !batch.is_empty() {
            let outcomes = self.target.apply(batch).await.ok()?;
            outcomes.iter().all(Result::is_ok).then_some(())?;
        }
        Some(copied)
    }

    /// Writes the batch. Where it fails as a whole, each of its keys is tried by itself.
    async fn apply(&self, work: &mut Work) {
        let writes = std::mem::take(&mut work.writes);
        if writes.is_empty() {
            return;
        }
        match self.target.apply(std::mem::take(&mut work.batch)).await {
            Ok(outcomes) if outcomes.len() == writes.len() => {
                for (write, outcome) in writes.into_iter().zip(outcomes) {
                    work.end(write.index, Batched::Ended(ended(write.done, outcome)));
                }
            }
            failed => {
                let error = failed.err();
                let is_refused = error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Unsupported);
                self.batches.fetch_and(!is_refused, Ordering::Relaxed);
                let had_no_effect = error.is_some_and(|error| error.write_outcome() == Outcome::NotApplied);
                for write in writes {
                    let attempt = if had_no_effect { Attempt::First } else { Attempt::Again };
                    work.end(write.index, Batched::Alone(attempt));
                }
            }
        }
    }
}

/// How a task ended whose write had this outcome.
fn ended(done: Done, outcome: Result<Applied>) -> Result<Done> {
    let overtaken = match done {
        Done::Copied(_) => Done::Copied(Copied::Overtaken),
        Done::Removed(_) => Done::Removed(Removed::Overtaken),
    };
    let is_overtaken = |error: &Error| error.kind() == ErrorKind::PreconditionFailed;
    match outcome {
        Ok(_) => Ok(done),
        Err(error) if is_overtaken(&error) => Ok(overtaken),
        Err(error) => Err(error),
    }
}
