//! The loops that drive a peer: compiled for each of them, so that nothing stands between the clock and the peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures_util::future::{BoxFuture, try_join_all};
use tokio::sync::Barrier;

use super::Peer;
use crate::measure::Sample;
use crate::statistics::Waits;
use crate::workload::{Name, Workload};

/// What is done over and over.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Look a key up, which must be there.
    Get,
    /// So many look-ups of a hundred operations; writes otherwise.
    Mix(u8),
    /// Look so many keys up by one call; all must be there.
    GetMany(usize),
    /// Write.
    Put,
}

/// The figure of a turn.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    /// Operations a second, of all tasks together.
    Rate,
    /// Nanoseconds of one operation: the time of the turn on each core that tasks can have, by the operations.
    Nanoseconds,
}

/// One turn.
#[derive(Clone, Debug)]
pub struct Work {
    /// What is done.
    pub operation: Operation,
    /// On which keys.
    pub workload: Workload,
    /// By how many tasks at once.
    pub tasks: usize,
    /// For how long.
    pub time: Duration,
    /// Whether each operation is timed by itself: only where it takes far longer than looking at the clock does.
    pub is_timed: bool,
    /// What the turn answers.
    pub figure: Figure,
}

/// A peer of any type, to be driven.
pub trait Drive: Send + Sync {
    /// Writes every key.
    fn fill<'a>(&'a self, workload: &'a Workload) -> BoxFuture<'a, Result<()>>;

    /// Takes one turn.
    fn turn(&self, work: Work) -> BoxFuture<'static, Result<Sample>>;

    /// Looks so many keys up, one after the other; all must be there.
    fn look_up<'a>(&'a self, workload: &'a Workload, times: usize) -> BoxFuture<'a, Result<()>>;

    /// One look-up; the length of the value.
    fn find<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<usize>>>;

    /// Waits until nothing goes on in the background.
    fn settle(&self) -> BoxFuture<'_, Result<()>>;
}

impl<P: Peer> Drive for P {
    fn fill<'a>(&'a self, workload: &'a Workload) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for name in workload.names.iter() {
                // A copy for each, as if each had come from elsewhere.
                self.put(name, bytes::Bytes::copy_from_slice(&workload.value)).await?;
            }
            Ok(())
        })
    }

    fn turn(&self, work: Work) -> BoxFuture<'static, Result<Sample>> {
        Box::pin(turn(self.clone(), work))
    }

    fn look_up<'a>(&'a self, workload: &'a Workload, times: usize) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut at = 0;
            for _ in 0..times {
                look_up(self, next(workload, &mut at)?).await?;
            }
            Ok(())
        })
    }

    fn find<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Result<Option<usize>>> {
        Box::pin(Peer::get(self, name))
    }

    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Peer::settle(self))
    }
}

/// What one task did.
struct Done {
    operations: u64,
    waits: Waits,
    ended: Instant,
}

/// Operations between two looks at the clock, and two chances for other tasks, where each takes nanoseconds.
const BATCH: usize = 256;

async fn turn<P: Peer>(peer: P, work: Work) -> Result<Sample> {
    let work = Arc::new(work);
    let start = Arc::new(Barrier::new(work.tasks + 1));
    let tasks: Vec<_> = (0..work.tasks)
        .map(|task| {
            let (peer, work, start) = (peer.clone(), Arc::clone(&work), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                run(&peer, &work, task).await
            })
        })
        .collect();
    start.wait().await;
    let begun = Instant::now();
    let mut waits = Waits::default();
    let (mut operations, mut last) = (0, begun);
    for done in try_join_all(tasks).await? {
        let done = done?;
        operations += done.operations;
        last = last.max(done.ended);
        waits.add(&done.waits);
    }
    let seconds = last.duration_since(begun).as_secs_f64();
    ensure!(operations > 0, "nothing was done");
    let value = match work.figure {
        Figure::Rate => operations as f64 / seconds,
        Figure::Nanoseconds => seconds * 1e9 * busy_cores(work.tasks) as f64 / operations as f64,
    };
    Ok(Sample { value, waits: work.is_timed.then_some(waits) })
}

/// The cores that so many tasks can keep busy.
fn busy_cores(tasks: usize) -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(tasks))
}

/// Works until the time is over.
async fn run<P: Peer>(peer: &P, work: &Work, task: usize) -> Result<Done> {
    let order = &work.workload.order;
    // Tasks begin apart from each other in one order.
    let mut at = task * order.len() / work.tasks.max(1);
    let (mut operations, mut waits) = (0, Waits::default());
    let begun = Instant::now();
    let batch = if work.is_timed { 1 } else { BATCH };
    loop {
        for _ in 0..batch {
            let before = work.is_timed.then(Instant::now);
            operate(peer, work, &mut at, operations).await?;
            operations += 1;
            if let Some(before) = before {
                waits.record(before.elapsed());
            }
        }
        let now = Instant::now();
        if now.duration_since(begun) >= work.time {
            return Ok(Done { operations, waits, ended: now });
        }
        // What is ready at once never yields by itself.
        if !work.is_timed || operations.is_multiple_of(BATCH as u64) {
            tokio::task::yield_now().await;
        }
    }
}

/// The next key in the order.
fn next<'w>(workload: &'w Workload, at: &mut usize) -> Result<&'w Name> {
    let order = &workload.order;
    *at = if *at + 1 < order.len() { *at + 1 } else { 0 };
    match order.get(*at).and_then(|index| workload.names.get(*index as usize)) {
        Some(name) => Ok(name),
        None => bail!("the workload has no keys"),
    }
}

async fn operate<P: Peer>(peer: &P, work: &Work, at: &mut usize, count: u64) -> Result<()> {
    let name = next(&work.workload, at)?;
    match work.operation {
        Operation::Get => look_up(peer, name).await,
        // A multiplier that is prime to 100 spreads the writes among the look-ups.
        Operation::Mix(reads) if count * 37 % 100 < u64::from(reads) => look_up(peer, name).await,
        Operation::Mix(_) | Operation::Put => peer.put(name, work.workload.value.clone()).await,
        Operation::GetMany(keys) => {
            let mut names = vec![name];
            while names.len() < keys {
                names.push(next(&work.workload, at)?);
            }
            let found = peer.get_many(&names).await?;
            ensure!(found == keys, "{found} of {keys} keys were there");
            Ok(())
        }
    }
}

async fn look_up<P: Peer>(peer: &P, name: &Name) -> Result<()> {
    match peer.get(name).await? {
        Some(length) => {
            std::hint::black_box(length);
            Ok(())
        }
        None => bail!("{} is not there", name.text),
    }
}
