//! Gathering requests for one commit.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use crate::request::Request;
use crate::time::now;

/// At most so many requests in one transaction, so that the first does not wait for thousands.
const MAX_GROUP: usize = 1024;

/// Nor many more bytes of values than this, which an engine may hold twice until they are committed.
const MAX_BYTES: u64 = 8 << 20;

/// A commit that is quicker than this is not worth waiting for company.
const QUICK: Duration = Duration::from_micros(100);

/// A group waits for this part of a commit's time at most.
const PART: u32 = 2;

/// And never for longer than this.
const PATIENCE: Duration = Duration::from_millis(2);

/// So many groups do not wait after one that waited in vain.
const SKIPPED: u32 = 32;

/// A group of so many operations does not wait either: what a commit costs beside them is little already.
const ENOUGH: usize = 256;

/// Requests that are committed together.
#[derive(Debug)]
pub(crate) struct Group {
    requests: Vec<Request>,
    bytes: u64,
    operations: usize,
}

impl Group {
    fn new(first: Request) -> Self {
        Self { bytes: first.size(), operations: first.operations(), requests: vec![first] }
    }

    fn add(&mut self, request: Request) {
        self.bytes += request.size();
        self.operations += request.operations();
        self.requests.push(request);
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    fn has_room(&self) -> bool {
        self.requests.len() < MAX_GROUP && self.bytes < MAX_BYTES && !self.ends()
    }

    /// Whether its last request closes the store.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.requests.last(), Some(Request::Close(_)))
    }

    pub(crate) fn into_requests(self) -> Vec<Request> {
        self.requests
    }
}

/// Takes requests off the queue, a group at a time.
///
/// Writers that have their answers come back soon, each with its next write. Were the first of them committed alone, all
/// others would wait for that commit: so a group waits a little for as many as were there before.
#[derive(Debug)]
pub(crate) struct Gatherer {
    requests: Receiver<Request>,
    /// What came during the last commit.
    next: Option<Group>,
    /// As many requests as there were in the last group and during its commit.
    expected: usize,
    /// When a group that is smaller stops waiting for more.
    deadline: Instant,
    /// Groups that are not to wait yet.
    skipped: u32,
}

impl Gatherer {
    pub(crate) fn new(requests: Receiver<Request>) -> Self {
        Self { requests, next: None, expected: 0, deadline: now(), skipped: 0 }
    }

    /// The next group; `None` once no more requests can come. Blocks.
    pub(crate) fn next(&mut self) -> Option<Group> {
        let mut group = match self.next.take() {
            Some(group) => group,
            None => Group::new(self.requests.recv().ok()?),
        };
        self.take_waiting(&mut group);
        if self.skipped > 0 {
            self.skipped -= 1;
        } else if group.len() < self.expected && group.operations < ENOUGH && now() < self.deadline {
            self.wait(&mut group);
        }
        Some(group)
    }

    /// Whether a request waits, or no more can come.
    pub(crate) fn has_next(&mut self) -> bool {
        if self.next.is_none() {
            match self.requests.try_recv() {
                Ok(first) => self.next = Some(Group::new(first)),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {}
            }
        }
        true
    }

    /// A group of so many requests was committed, since `begun`. Nobody is answered yet.
    pub(crate) fn committed(&mut self, requests: usize, begun: Instant) {
        if let Ok(first) = self.requests.try_recv() {
            let mut next = Group::new(first);
            self.take_waiting(&mut next);
            self.next = Some(next);
        }
        self.expected = requests + self.next.as_ref().map_or(0, Group::len);
        let took = begun.elapsed();
        let patience = if took < QUICK { Duration::ZERO } else { (took / PART).min(PATIENCE) };
        self.deadline = now() + patience;
    }

    fn take_waiting(&mut self, group: &mut Group) {
        while group.has_room() {
            let Ok(request) = self.requests.try_recv() else { break };
            group.add(request);
        }
    }

    /// Waits for as many as are expected. If far fewer come the next groups do not wait: others than those before ask.
    fn wait(&mut self, group: &mut Group) {
        while group.len() < self.expected && group.operations < ENOUGH && group.has_room() {
            let left = self.deadline.saturating_duration_since(now());
            let Ok(request) = self.requests.recv_timeout(left) else {
                let few = group.len() < self.expected - self.expected / 4;
                self.skipped = if few { SKIPPED } else { 0 };
                return;
            };
            group.add(request);
        }
        self.take_waiting(group);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use tiered_core::{Action, Delete, Key};
    use tokio::sync::oneshot;

    use super::*;
    use crate::request::Judging;

    fn ask(requests: &Sender<Request>) {
        requests.send(Request::Flush(oneshot::channel().0)).expect("the gatherer is there");
    }

    /// A gatherer that has just committed a group of so many, which took 400 ms.
    fn gatherer(committed: usize) -> (Sender<Request>, Gatherer) {
        let (requests, queue) = channel();
        let mut gatherer = Gatherer::new(queue);
        gatherer.committed(committed, now().checked_sub(Duration::from_millis(400)).expect("after boot"));
        // 2 ms are little on a busy machine.
        gatherer.deadline = now() + Duration::from_secs(10);
        (requests, gatherer)
    }

    #[test]
    fn what_is_there_is_one_group_and_nobody_is_waited_for_at_first() {
        let (requests, queue) = channel();
        let mut gatherer = Gatherer::new(queue);
        (0..3).for_each(|_| ask(&requests));
        assert_eq!(gatherer.next().map(|group| group.len()), Some(3));
        drop(requests);
        assert!(gatherer.next().is_none());
    }

    #[test]
    fn a_group_waits_for_as_many_as_were_there_before() {
        let (requests, mut gatherer) = gatherer(3);
        let late = thread::spawn(move || {
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(20));
                ask(&requests);
            }
            requests
        });
        assert_eq!(gatherer.next().map(|group| group.len()), Some(3), "not 1 and then 2");
        drop(late.join());
    }

    #[test]
    fn what_came_during_the_commit_goes_with_those_that_come_back() {
        let (requests, mut gatherer) = gatherer(1);
        ask(&requests);
        gatherer.committed(1, now());
        assert_eq!(gatherer.expected, 2, "one that is answered, one that came");
        gatherer.deadline = now() + Duration::from_secs(10);
        ask(&requests);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(2));
    }

    #[test]
    fn a_writer_alone_and_one_that_comes_late_do_not_wait() {
        let (requests, mut gatherer) = gatherer(1);
        ask(&requests);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
        gatherer.committed(5, now());
        assert!(gatherer.deadline <= now(), "a commit without a disk is not waited for");
        ask(&requests);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
        assert_eq!(gatherer.skipped, 0, "it did not wait in vain: it did not wait");
    }

    #[test]
    fn after_a_wait_in_vain_the_next_groups_do_not_wait() {
        let (requests, mut gatherer) = gatherer(10);
        gatherer.deadline = now() + Duration::from_millis(50);
        ask(&requests);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
        assert_eq!(gatherer.skipped, SKIPPED);
        gatherer.deadline = now() + Duration::from_secs(1_000);
        for left in (0..SKIPPED).rev() {
            ask(&requests);
            assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
            assert_eq!(gatherer.skipped, left);
        }
    }

    #[test]
    fn a_large_batch_waits_for_no_company() {
        let (requests, mut gatherer) = gatherer(10);
        let operations = |count: usize| {
            let action = Action::Delete(Delete::new());
            let key = |number| Key::new(format!("k{number}")).expect("valid");
            (0..count).map(|number| (key(number), action.clone())).collect::<Vec<_>>()
        };
        let apply = |count| {
            let request = Request::Apply(operations(count), Judging::Alone, oneshot::channel().0);
            requests.send(request).expect("the gatherer is there");
        };
        apply(ENOUGH);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
        assert_eq!(gatherer.skipped, 0, "it did not wait in vain: it did not wait");
        gatherer.deadline = now() + Duration::from_millis(50);
        apply(ENOUGH - 1);
        assert_eq!(gatherer.next().map(|group| group.len()), Some(1));
        assert_eq!(gatherer.skipped, SKIPPED, "a smaller one waits");
    }

    #[test]
    fn the_end_is_the_last_of_its_group() {
        let (requests, mut gatherer) = gatherer(10);
        requests.send(Request::Close(oneshot::channel().0)).expect("the gatherer is there");
        ask(&requests);
        let group = gatherer.next().expect("asked");
        assert!(group.ends() && group.len() == 1);
    }
}
