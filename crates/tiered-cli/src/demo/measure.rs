//! Latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use tiered::{Clock as _, SystemClock};

/// Measures from its start.
#[derive(Debug)]
pub(super) struct Watch(SystemClock);

impl Watch {
    pub(super) fn start() -> Self {
        Self(SystemClock::new())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.uptime()
    }
}

/// A distribution of durations, to three digits.
#[derive(Debug)]
pub(super) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub(super) fn new() -> Self {
        let mut histogram = Histogram::new(3).ok();
        if let Some(histogram) = &mut histogram {
            histogram.auto(true);
        }
        Self(histogram)
    }

    pub(super) fn record(&mut self, elapsed: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The median and the 99th percentile.
    pub(super) fn show(&self) -> String {
        match &self.0 {
            Some(histogram) if !histogram.is_empty() => {
                format!(
                    "{} / {}",
                    time(histogram.value_at_quantile(0.5)),
                    time(histogram.value_at_quantile(0.99))
                )
            }
            _ => "-".to_owned(),
        }
    }
}

fn time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{}.{} µs", nanos / 1_000, nanos % 1_000 / 100),
        _ => format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000),
    }
}
