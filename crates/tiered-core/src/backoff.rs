//! How long to wait before the next attempt. Pure: the caller sleeps.

use std::time::Duration;

/// Exponential back-off with jitter.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    attempt: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// First delay. Short, since most outages are a restart of a connection.
    const FIRST: Duration = Duration::from_millis(20);
    /// Longest delay: how late a recovered backend is noticed at worst.
    const LONGEST: Duration = Duration::from_secs(5);

    /// A fresh sequence of delays. The seed spreads the jitter of concurrent sequences.
    pub(crate) fn new(seed: u64) -> Self {
        Self { attempt: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// The next delay: between half and all of an exponentially growing bound.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let bound = Self::FIRST.saturating_mul(1 << self.attempt.min(8)).min(Self::LONGEST);
        self.attempt = self.attempt.saturating_add(1);
        let half = bound / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.random.u64(..span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound() {
        let mut backoff = Backoff::new(1);
        let delays: Vec<_> = (0..20).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= Backoff::FIRST / 2 && delays[0] <= Backoff::FIRST);
        assert!(delays.iter().all(|delay| *delay <= Backoff::LONGEST));
        assert!(delays[19] >= Backoff::LONGEST / 2);
    }
}
