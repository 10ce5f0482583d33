//! Counters that many threads add to at once.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Most lanes of a counter: a few tens of kilobytes for each store on the largest machines.
const MOST: usize = 64;

/// As many lanes as threads run at once.
static LANES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(MOST));

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of this thread, counted from the first one that asked.
#[inline]
fn lane() -> usize {
    let lane = LANE.get();
    if lane == usize::MAX { number_thread() } else { lane }
}

#[cold]
fn number_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let lane = NEXT.fetch_add(1, Ordering::Relaxed);
    LANE.set(lane);
    lane
}

/// The counters of some threads, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Lane<const N: usize>([AtomicU64; N]);

/// `N` counters. A thread adds on cache lines that few others write, so that hits on many threads do not wait for each other.
#[derive(Debug)]
pub(super) struct Lanes<const N: usize>(Box<[Lane<N>]>);

impl<const N: usize> Lanes<N> {
    pub(super) fn new() -> Self {
        Self((0..*LANES).map(|_| Lane(std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    /// Adds `number` to a counter.
    #[inline]
    pub(super) fn add(&self, counter: usize, number: u64) {
        // A power of two.
        let lane = self.0.get(lane() & (self.0.len() - 1));
        if let Some(count) = lane.and_then(|Lane(counts)| counts.get(counter)) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// A counter's value: what was added before this began, and some of what is added meanwhile.
    pub(super) fn get(&self, counter: usize) -> u64 {
        self.0
            .iter()
            .filter_map(|Lane(counts)| counts.get(counter))
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together() {
        let lanes = Lanes::<3>::new();
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..1_000).for_each(|_| lanes.add(1, 2)));
            }
        });
        assert_eq!([lanes.get(0), lanes.get(1), lanes.get(2)], [0, 20_000, 0]);
    }
}
