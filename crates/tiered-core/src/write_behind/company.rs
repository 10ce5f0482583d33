//! Waiting for company: an append takes as many writes along as were there before.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::request::Append;
use crate::sync_primitives::time::Instant;
use crate::sync_primitives::{TURNS, yield_now};

/// At most so many records in one append: what is waiting behind a sync of a few milliseconds.
const MAX_RECORDS: usize = 1024;

/// An append that is quicker than this is not worth waiting for company.
const QUICK: Duration = Duration::from_micros(100);

/// A group waits for this part of an append's time at most.
const PART: u32 = 2;

/// And never for longer than this, or for more than [`TURNS`] of the other tasks.
const PATIENCE: Duration = Duration::from_millis(2);

/// So many groups do not wait after one that waited in vain.
const SKIPPED: u32 = 32;

/// Gathers groups of appends.
///
/// Writers that have their answers come back soon, each with its next write. Were the first of them appended alone, all others
/// would wait for that sync: so a group waits a little for as many as were there before.
#[derive(Debug)]
pub(super) struct Company {
    /// As many requests as there were in the last group and during its append.
    expected: usize,
    /// When a group that is smaller stops waiting for more.
    deadline: Instant,
    /// Groups that are not to wait yet.
    skipped: u32,
}

impl Company {
    pub(super) fn new() -> Self {
        Self { expected: 0, deadline: Instant::now(), skipped: 0 }
    }

    /// A group of so many requests was appended, since `begun`, and so many wait already. Nobody is acknowledged yet.
    pub(super) fn appended(&mut self, requests: usize, waiting: usize, begun: Instant) {
        let took = begun.elapsed();
        self.expected = requests + waiting;
        let patience = if took < QUICK { Duration::ZERO } else { (took / PART).min(PATIENCE) };
        self.deadline = Instant::now() + patience;
    }

    /// The first request, those that wait behind it, and those that are expected.
    pub(super) async fn group_of(
        &mut self,
        first: Append,
        requests: &mut UnboundedReceiver<Append>,
    ) -> Vec<Append> {
        let mut records = first.len();
        let mut group = vec![first];
        let mut take_waiting = |group: &mut Vec<Append>| {
            while records < MAX_RECORDS
                && let Ok(next) = requests.try_recv()
            {
                records += next.len();
                group.push(next);
            }
            records < MAX_RECORDS
        };
        let has_room = take_waiting(&mut group);
        if self.skipped > 0 {
            self.skipped -= 1;
            return group;
        }
        if !has_room || group.len() >= self.expected || Instant::now() >= self.deadline {
            return group;
        }
        for _ in 0..TURNS {
            yield_now().await;
            if !take_waiting(&mut group) || group.len() >= self.expected {
                return group;
            }
            if Instant::now() >= self.deadline {
                break;
            }
        }
        // Where far fewer come than before, others ask than those that were answered.
        if group.len() < self.expected - self.expected / 4 {
            self.skipped = SKIPPED;
        }
        group
    }
}
