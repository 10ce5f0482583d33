//! A circuit breaker: when a tier is asked, and when it is left alone. Pure: time is passed in.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::quantity::format_duration;

/// How a breaker behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    failures: u32,
    pause: Duration,
}

impl Limits {
    /// So many failures in a row open it, for so long.
    pub(crate) const fn new(failures: u32, pause: Duration) -> Self {
        Self { failures, pause }
    }
}

/// The state of a breaker. All times are of one uptime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// Calls go through; so many have failed in a row.
    Closed { failures: u32 },
    /// No call goes through before this.
    Open { until: Duration },
    /// One call was let through. Where nothing is heard of it until this, another one is.
    Trying { until: Duration },
}

impl Breaker {
    pub(crate) const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    /// Lets a call through, or says for how long none will be.
    pub(crate) fn admit(&mut self, now: Duration, limits: Limits) -> Result<()> {
        let until = match *self {
            Self::Closed { .. } => return Ok(()),
            Self::Open { until } | Self::Trying { until } => until,
        };
        if now >= until {
            *self = Self::Trying { until: now.saturating_add(limits.pause) };
            return Ok(());
        }
        let rest = until.saturating_sub(now).as_millis();
        let rest = Duration::from_millis(u64::try_from(rest).unwrap_or(u64::MAX).max(1));
        let message = format!(
            "it failed {} times in a row and is left alone for another {}; try again then",
            limits.failures,
            format_duration(rest)
        );
        Err(Error::new(ErrorKind::Unavailable, message).outcome_is(Outcome::NotApplied))
    }

    /// Learns how a call ended.
    pub(crate) fn learn(&mut self, failed: bool, now: Duration, limits: Limits) {
        *self = match *self {
            _ if !failed => Self::new(),
            Self::Closed { failures } if failures.saturating_add(1) < limits.failures => {
                Self::Closed { failures: failures.saturating_add(1) }
            }
            // The end of a call that began before it opened makes it no longer.
            Self::Open { until } => Self::Open { until },
            Self::Closed { .. } | Self::Trying { .. } => {
                Self::Open { until: now.saturating_add(limits.pause) }
            }
        };
    }
}

/// Whether an error is a failure of the tier rather than an answer of it.
pub(crate) fn is_outage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 3, pause: ms(100) };

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn only_a_tier_that_cannot_answer_is_out() {
        for kind in [ErrorKind::Unavailable, ErrorKind::TimedOut] {
            assert!(is_outage(kind), "{kind:?}");
        }
        for kind in [
            ErrorKind::PreconditionFailed,
            ErrorKind::Corrupt,
            ErrorKind::Full,
            ErrorKind::Closed,
            ErrorKind::Other,
        ] {
            assert!(!is_outage(kind), "{kind:?}: an answer");
        }
    }

    #[test]
    fn the_breaker_opens_after_consecutive_failures() {
        let mut breaker = Breaker::new();
        for _ in 0..2 {
            breaker.learn(true, ms(0), LIMITS);
        }
        breaker.learn(false, ms(0), LIMITS);
        for _ in 0..2 {
            breaker.learn(true, ms(0), LIMITS);
        }
        assert!(breaker.admit(ms(0), LIMITS).is_ok(), "an answer in between");
        breaker.learn(true, ms(5), LIMITS);
        let refused = breaker.admit(ms(50), LIMITS).expect_err("open");
        assert_eq!(refused.write_outcome(), Outcome::NotApplied);
        assert!(refused.message().contains("another 55ms"), "{refused}");
    }

    #[test]
    fn a_half_open_breaker_admits_one_probe_which_decides() {
        let mut breaker = Breaker::Open { until: ms(100) };
        assert!(breaker.admit(ms(100), LIMITS).is_ok());
        assert!(breaker.admit(ms(101), LIMITS).is_err(), "one at a time");
        breaker.learn(true, ms(110), LIMITS);
        assert!(breaker.admit(ms(150), LIMITS).is_err());
        assert!(breaker.admit(ms(210), LIMITS).is_ok());
        assert!(breaker.admit(ms(310), LIMITS).is_ok(), "nothing was heard of the one before");
        breaker.learn(false, ms(311), LIMITS);
        assert_eq!(breaker, Breaker::new());
    }

    #[test]
    fn failures_of_calls_that_began_earlier_do_not_reopen_the_breaker() {
        let mut breaker = Breaker::Open { until: ms(100) };
        breaker.learn(true, ms(99), LIMITS);
        assert!(breaker.admit(ms(100), LIMITS).is_ok());
    }
}
