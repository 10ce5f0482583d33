//! Latencies.

use std::time::Duration;

use hdrhistogram::Histogram;
use tiered::adapter::{Clock as _, SystemClock};

/// Measures from its start. A clock's own uptime is counted from the first clock of the process.
#[derive(Debug)]
pub(super) struct Watch {
    clock: SystemClock,
    started: Duration,
}

impl Watch {
    pub(super) fn start() -> Self {
        let clock = SystemClock::new();
        let started = clock.uptime();
        Self { clock, started }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.uptime().saturating_sub(self.started)
    }
}

/// A distribution of durations, to three digits.
#[derive(Debug)]
pub(super) struct Latencies(Option<Histogram<u64>>);

impl Latencies {
    pub(super) fn new() -> Self {
        // From a nanosecond to a minute.
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_measures_from_its_own_start() {
        let early = Watch::start();
        while early.elapsed() < Duration::from_millis(1) {}
        let late = Watch::start();
        let (later, earlier) = (late.elapsed(), early.elapsed());
        assert!(later + Duration::from_millis(1) <= earlier, "{later:?} and {earlier:?}");
    }

    #[test]
    fn durations_of_every_size_are_kept() {
        for (nanos, shown) in
            [(150, "150 ns"), (2_500, "2.5 µs"), (1_100_000, "1.1 ms"), (2_000_000_000, "2000.")]
        {
            let mut latencies = Latencies::new();
            latencies.record(Duration::from_nanos(nanos));
            assert!(latencies.show().starts_with(shown), "{} for {nanos}", latencies.show());
        }
    }
}
