//! Traces that are made up: Zipf, scans, a loop.

use super::Trace;
use crate::workload::{ZIPF, Zipf};

/// Keys of the Zipf distribution.
const KEYS: usize = 50_000;
/// Keys that a scan passes over, none of them twice.
const SCAN: u64 = 20_000;
/// Accesses by Zipf between two scans.
const BETWEEN: usize = 40_000;
/// Keys of the loop.
const LOOP: u64 = 20_000;

/// All of them, of `length` accesses each.
pub fn all(length: usize) -> [Trace; 3] {
    [zipf(length), scan(length), looping(length)]
}

/// Keys with frequencies of 1 / k^0.99.
pub fn zipf(length: usize) -> Trace {
    let (zipf, mut dice) = (Zipf::new(KEYS, ZIPF), fastrand::Rng::with_seed(7));
    Trace::of("Zipf 0.99", (0..length).map(|_| zipf.pick(&mut dice) as u64))
}

/// The same, interrupted by scans over keys that never come again.
pub fn scan(length: usize) -> Trace {
    let (zipf, mut dice) = (Zipf::new(KEYS, ZIPF), fastrand::Rng::with_seed(8));
    let mut fresh = KEYS as u64;
    let mut keys = Vec::with_capacity(length);
    while keys.len() < length {
        keys.extend((0..BETWEEN).map(|_| zipf.pick(&mut dice) as u64));
        keys.extend(fresh..fresh + SCAN);
        fresh += SCAN;
    }
    Trace::of("Zipf with scans", keys.into_iter().take(length))
}

/// One key after the other, then from the first on again: the worst case of LRU.
pub fn looping(length: usize) -> Trace {
    Trace::of("loop", (0..length as u64).map(|access| access % LOOP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_traces_have_the_length_asked_for() {
        for trace in all(100_000) {
            assert_eq!(trace.accesses.len(), 100_000, "{}", trace.name);
        }
        assert_eq!(looping(100_000).keys as u64, LOOP);
        assert!(scan(100_000).keys as u64 > SCAN);
    }
}
