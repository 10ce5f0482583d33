//! Whether a read runs on its caller's thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::time::now;

/// Bytes of chunks that a read of one key may take on the caller's thread, and a piece of a batch: about as long as a switch
/// of threads takes.
pub(crate) const LARGEST: u64 = 64 << 10;

/// A read that takes longer than this, in nanoseconds, has waited for the disk: the engine's cache and the page cache answer in
/// a fraction of it.
const SLOW: u64 = 100_000;

/// The first pause after a slow read, in nanoseconds: a hundred times as long as the shortest slow read.
const SHORTEST_PAUSE: u64 = 10_000_000;

/// The longest pause, in nanoseconds. After it at the latest it is noticed that a database has come into memory.
const LONGEST_PAUSE: u64 = 1_000_000_000;

/// Where reads of an engine run. An engine cannot be asked to refuse a read that waits for the disk.
///
/// This concerns reads of one key, and reads of several keys, which run in pieces of about 100 µs. A read of more than 64 KiB
/// of chunks, a page of a listing and whatever else scans always run on threads for blocking work. What an engine serves from
/// its own cache without a wait ([`Engine::read_cached`](crate::Engine::read_cached)) always runs on the caller's thread.
///
/// # Examples
/// ```
/// use tiered_core::Durability;
/// use tiered_embedded::{ReadMode, Settings};
///
/// assert_eq!(ReadMode::default(), ReadMode::Adaptive);
/// // The disk is slow, and the runtime must never wait for it.
/// let settings = Settings::new("lmdb", "data.lmdb", Durability::PowerLoss).reads(ReadMode::Threads);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// On the caller's thread while that is quick. After a read that took more than 100 µs, reads run on threads for 10 ms;
    /// then a single read tries again. Each further slow read doubles the pause, up to a second.
    #[default]
    Adaptive,
    /// On the caller's thread, however long they take: for a database that is in memory, or a runtime that may wait.
    Inline,
    /// On threads for blocking work.
    Threads,
}

/// What decides where the next read runs. Times are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Inlining {
    mode: ReadMode,
    began: Instant,
    rule: Rule,
}

/// A read on the caller's thread.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` where the time does not matter.
    timed: Option<Timed>,
}

#[derive(Debug)]
struct Timed {
    permit: Permit,
    began: u64,
    last: u64,
    slow: bool,
}

/// Whether the caller's thread may read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lap {
    /// It may.
    Go,
    /// It has read for long enough without a break.
    Break,
    /// The last read was slow: the next one runs on a thread.
    Leave,
}

impl Inlining {
    pub(crate) fn new(mode: ReadMode) -> Self {
        Self { mode, began: now(), rule: Rule::default() }
    }

    /// Begins a read on the caller's thread; `None` where it runs on another one.
    pub(crate) fn begin(&self) -> Option<Turn> {
        match self.mode {
            ReadMode::Threads => None,
            ReadMode::Inline => Some(Turn { timed: None }),
            ReadMode::Adaptive => {
                let began = self.elapsed();
                let permit = self.rule.permit(began)?;
                Some(Turn { timed: Some(Timed { permit, began, last: began, slow: false }) })
            }
        }
    }

    /// Between two keys of a turn.
    pub(crate) fn lap(&self, turn: &mut Turn) -> Lap {
        turn.timed.as_mut().map_or(Lap::Go, |timed| timed.lap(self.elapsed()))
    }

    /// Ends a turn.
    pub(crate) fn end(&self, mut turn: Turn) {
        self.lap(&mut turn);
        if let Some(Timed { permit, last, slow, .. }) = turn.timed {
            self.rule.learn(permit, slow, last);
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(now().duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Timed {
    /// The next read of the turn begins `at`.
    fn lap(&mut self, at: u64) -> Lap {
        self.slow |= at.saturating_sub(self.last) > SLOW;
        self.last = at;
        if self.slow {
            Lap::Leave
        } else if at.saturating_sub(self.began) > SLOW {
            Lap::Break
        } else {
            Lap::Go
        }
    }
}

/// When reads pause on the caller's thread. The times are given to it.
#[derive(Debug, Default)]
struct Rule {
    /// Until when reads run on threads; 0: they run on the caller's.
    until: AtomicU64,
    /// How long the last pause was.
    pause: AtomicU64,
    /// When the last pause ended.
    resumed: AtomicU64,
}

/// The right to one read on the caller's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    /// As any other.
    Open,
    /// The only one after a pause, which ends the pause if it is quick.
    Probe,
}

impl Rule {
    /// The right to a read that begins `at`.
    fn permit(&self, at: u64) -> Option<Permit> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return Some(Permit::Open);
        }
        if at < until {
            return None;
        }
        // The others wait for what the probe finds; one that finds nothing is followed by another after the same time.
        let next = at + self.pause.load(Ordering::Relaxed);
        let taken = self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok().map(|_| Permit::Probe)
    }

    /// Learns how a read went that ended `at`.
    fn learn(&self, permit: Permit, slow: bool, at: u64) {
        let last = self.pause.load(Ordering::Relaxed);
        match (permit, slow) {
            (Permit::Open, false) => {}
            (Permit::Probe, false) => {
                self.resumed.store(at, Ordering::Relaxed);
                self.until.store(0, Ordering::Relaxed);
            }
            (Permit::Probe, true) => self.set(longer(last), at),
            (Permit::Open, true) => {
                // Reads that were slow at the same time begin one pause.
                let soon = last > 0 && at.saturating_sub(self.resumed.load(Ordering::Relaxed)) < last;
                let pause = if soon { longer(last) } else { SHORTEST_PAUSE };
                let begun = self.until.compare_exchange(0, at + pause, Ordering::Relaxed, Ordering::Relaxed);
                if begun.is_ok() {
                    self.pause.store(pause, Ordering::Relaxed);
                }
            }
        }
    }

    fn set(&self, pause: u64, at: u64) {
        self.pause.store(pause, Ordering::Relaxed);
        self.until.store(at + pause, Ordering::Relaxed);
    }
}

/// The pause after one that was too short.
fn longer(pause: u64) -> u64 {
    (2 * pause).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_read_pauses_and_a_quick_probe_resumes() {
        let rule = Rule::default();
        assert_eq!(rule.permit(1), Some(Permit::Open));
        rule.learn(Permit::Open, false, 2);
        assert_eq!(rule.permit(3), Some(Permit::Open), "quick reads go on");
        rule.learn(Permit::Open, true, 1000);
        // It began before the pause.
        rule.learn(Permit::Open, true, 2000);
        assert_eq!(rule.permit(SHORTEST_PAUSE), None);
        assert_eq!(rule.permit(1000 + SHORTEST_PAUSE), Some(Permit::Probe));
        assert_eq!(rule.permit(1001 + SHORTEST_PAUSE), None, "one probe at a time");
        rule.learn(Permit::Probe, false, 1002 + SHORTEST_PAUSE);
        assert_eq!(rule.permit(1003 + SHORTEST_PAUSE), Some(Permit::Open));
    }

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_quick_time() {
        let rule = Rule::default();
        rule.learn(Permit::Open, true, 0);
        let (mut at, mut pause) = (0, SHORTEST_PAUSE);
        for _ in 0..10 {
            assert_eq!(rule.permit(at + pause - 1), None);
            at += pause;
            assert_eq!(rule.permit(at), Some(Permit::Probe));
            rule.learn(Permit::Probe, true, at);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        at += pause;
        assert_eq!(rule.permit(at), Some(Permit::Probe));
        rule.learn(Permit::Probe, false, at);
        // Sooner after the pause than that lasted: no shorter.
        rule.learn(Permit::Open, true, at + 1);
        assert_eq!(rule.permit(at + LONGEST_PAUSE), None);
        at += 1 + LONGEST_PAUSE;
        assert_eq!(rule.permit(at), Some(Permit::Probe));
        rule.learn(Permit::Probe, false, at);
        at += 2 * LONGEST_PAUSE;
        rule.learn(Permit::Open, true, at);
        assert_eq!(rule.permit(at + SHORTEST_PAUSE), Some(Permit::Probe));
    }

    #[test]
    fn a_probe_that_tells_nothing_is_followed_by_another() {
        let rule = Rule::default();
        rule.learn(Permit::Open, true, 0);
        assert_eq!(rule.permit(SHORTEST_PAUSE), Some(Permit::Probe));
        assert_eq!(rule.permit(2 * SHORTEST_PAUSE - 1), None);
        assert_eq!(rule.permit(2 * SHORTEST_PAUSE), Some(Permit::Probe));
    }

    #[test]
    fn fixed_modes_stay_fixed() {
        for (mode, inline) in [(ReadMode::Inline, true), (ReadMode::Threads, false)] {
            let inlining = Inlining::new(mode);
            for _ in 0..3 {
                inlining.rule.learn(Permit::Open, true, u64::MAX / 2);
                let turn = inlining.begin();
                assert_eq!(turn.is_some(), inline, "{mode:?}");
                if let Some(mut turn) = turn {
                    assert_eq!(inlining.lap(&mut turn), Lap::Go);
                    inlining.end(turn);
                }
            }
        }
    }

    #[test]
    fn a_turn_breaks_after_its_time_and_leaves_after_a_slow_read() {
        let mut turn = Timed { permit: Permit::Open, began: 0, last: 0, slow: false };
        assert_eq!(turn.lap(SLOW), Lap::Go);
        assert_eq!(turn.lap(SLOW + 1), Lap::Break);
        assert_eq!(turn.lap(2 * SLOW + 2), Lap::Leave);
        assert_eq!(turn.lap(2 * SLOW + 3), Lap::Leave, "it was slow");
    }
}
