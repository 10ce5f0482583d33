//! Medians and spreads of rounds, and percentiles of waits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// The value in the middle.
    pub median: f64,
    /// A quarter of the values is below.
    pub lower: f64,
    /// A quarter of the values is above.
    pub upper: f64,
    /// How many values there are.
    pub rounds: usize,
}

impl Summary {
    /// Summarises `values`; all zero for none.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: quantile(&sorted, 0.5),
            lower: quantile(&sorted, 0.25),
            upper: quantile(&sorted, 0.75),
            rounds: sorted.len(),
        }
    }
}

/// The value below which the part `share` of `sorted` lies, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = share * last as f64;
    let (below, rest) = (place.floor(), place.fract());
    let at = |index: f64| sorted.get((index as usize).min(last)).copied().unwrap_or_default();
    at(below) + (at(below + 1.0) - at(below)) * rest
}

/// How long operations took that a person waits for.
#[derive(Clone, Debug)]
pub struct Waits(Histogram<u64>);

impl Default for Waits {
    fn default() -> Self {
        // Three digits are exact enough, and such a histogram always exists.
        Self(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl Waits {
    /// Adds a wait.
    pub fn record(&mut self, wait: Duration) {
        // It grows by itself, so that every wait fits. `saturating_record` would not let it grow.
        self.0.record(wait.as_nanos() as u64).ok();
    }

    /// Adds all waits of `other`.
    pub fn add(&mut self, other: &Self) {
        // Fails only where the other one holds values that this one cannot: both grow by themselves.
        self.0.add(&other.0).ok();
    }

    /// The median and the 99th percentile, in microseconds; `None` without waits.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |share| self.0.value_at_quantile(share) as f64 / 1e3;
        (!self.0.is_empty()).then(|| Percentiles { p50: at(0.5), p99: at(0.99) })
    }
}

/// What half of the waits, and 99 of 100, do not exceed, in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median wait.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_interpolates_between_neighbours() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((summary.lower, summary.median, summary.upper, summary.rounds), (1.75, 2.5, 3.25, 4));
        let one = Summary::of(&[7.0]);
        assert_eq!((one.lower, one.median, one.rounds), (7.0, 7.0, 1));
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn waits_of_two_rounds_are_one_distribution() {
        let (mut all, mut more) = (Waits::default(), Waits::default());
        assert_eq!(all.percentiles(), None);
        all.record(Duration::from_micros(10));
        more.record(Duration::from_millis(1));
        all.add(&more);
        let found = all.percentiles().expect("two waits");
        assert!((found.p50 - 10.0).abs() < 0.1 && (found.p99 - 1000.0).abs() < 2.0, "{found:?}");
    }
}
