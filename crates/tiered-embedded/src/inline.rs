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

/// What a quick read on the caller's thread saves, in nanoseconds: about as long as the change of threads takes that another
/// read needs.
const SAVED: u64 = 20_000;

/// How much of the time that was saved is remembered, in nanoseconds: what a thread of a runtime waits at most, now and then. A
/// thread that is preempted during a read looks like one that waits for the disk, and this is longer than that takes.
const MOST_CREDIT: u64 = 10_000_000;

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
    /// On the caller's thread while that saves time. Each quick read saves the 20 µs of a change of threads. A read that takes
    /// more than 100 µs may use up to 10 ms of what was saved before it. Where that is not enough, reads run on threads for
    /// 10 ms; then a single read tries again. Each further such read doubles the pause, up to a second.
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
    /// How many reads were quick.
    quick: u64,
    /// How long the slow one took: it is the last.
    slow: Option<u64>,
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
                Some(Turn { timed: Some(Timed { permit, began, last: began, quick: 0, slow: None }) })
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
        if let Some(Timed { permit, last, quick, slow, .. }) = turn.timed {
            match slow {
                None => self.rule.was_quick(permit, quick, last),
                Some(took) => self.rule.was_slow(permit, took, last),
            }
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(now().duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Timed {
    /// The next read of the turn begins `at`.
    fn lap(&mut self, at: u64) -> Lap {
        let took = at.saturating_sub(self.last);
        self.last = at;
        if took > SLOW {
            self.slow = Some(took);
        } else {
            self.quick += 1;
        }
        if self.slow.is_some() {
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
    /// Time that quick reads have saved and slow ones have not used.
    credit: AtomicU64,
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

    /// Learns that `reads` were quick, the last of which ended `at`.
    fn was_quick(&self, permit: Permit, reads: u64, at: u64) {
        let credit = self.credit.load(Ordering::Relaxed);
        // Mostly it is full: then readers on many threads write nothing here.
        if credit < MOST_CREDIT {
            self.credit.fetch_add((reads * SAVED).min(MOST_CREDIT - credit), Ordering::Relaxed);
        }
        if permit == Permit::Probe {
            self.resumed.store(at, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
    }

    /// Learns that a read took `took` and ended `at`.
    fn was_slow(&self, permit: Permit, took: u64, at: u64) {
        let last = self.pause.load(Ordering::Relaxed);
        if permit == Permit::Probe {
            self.set(longer(last), at);
            return;
        }
        let left = |credit: u64| credit.checked_sub(took);
        if self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            return;
        }
        // Reads that were slow at the same time begin one pause.
        let soon = last > 0 && at.saturating_sub(self.resumed.load(Ordering::Relaxed)) < last;
        let pause = if soon { longer(last) } else { SHORTEST_PAUSE };
        let begun = self.until.compare_exchange(0, at + pause, Ordering::Relaxed, Ordering::Relaxed);
        if begun.is_ok() {
            self.pause.store(pause, Ordering::Relaxed);
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
        rule.was_quick(Permit::Open, 0, 2);
        assert_eq!(rule.permit(3), Some(Permit::Open), "quick reads go on");
        rule.was_slow(Permit::Open, SLOW + 1, 1000);
        // It began before the pause.
        rule.was_slow(Permit::Open, SLOW + 1, 2000);
        assert_eq!(rule.permit(SHORTEST_PAUSE), None);
        assert_eq!(rule.permit(1000 + SHORTEST_PAUSE), Some(Permit::Probe));
        assert_eq!(rule.permit(1001 + SHORTEST_PAUSE), None, "one probe at a time");
        rule.was_quick(Permit::Probe, 0, 1002 + SHORTEST_PAUSE);
        assert_eq!(rule.permit(1003 + SHORTEST_PAUSE), Some(Permit::Open));
    }

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_quick_time() {
        let rule = Rule::default();
        rule.was_slow(Permit::Open, SLOW + 1, 0);
        let (mut at, mut pause) = (0, SHORTEST_PAUSE);
        for _ in 0..10 {
            assert_eq!(rule.permit(at + pause - 1), None);
            at += pause;
            assert_eq!(rule.permit(at), Some(Permit::Probe));
            rule.was_slow(Permit::Probe, SLOW + 1, at);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        at += pause;
        assert_eq!(rule.permit(at), Some(Permit::Probe));
        rule.was_quick(Permit::Probe, 0, at);
        // Sooner after the pause than that lasted: no shorter.
        rule.was_slow(Permit::Open, SLOW + 1, at + 1);
        assert_eq!(rule.permit(at + LONGEST_PAUSE), None);
        at += 1 + LONGEST_PAUSE;
        assert_eq!(rule.permit(at), Some(Permit::Probe));
        rule.was_quick(Permit::Probe, 0, at);
        at += 2 * LONGEST_PAUSE;
        rule.was_slow(Permit::Open, SLOW + 1, at);
        assert_eq!(rule.permit(at + SHORTEST_PAUSE), Some(Permit::Probe));
    }

    #[test]
    fn a_slow_read_among_quick_ones_does_not_pause_while_they_save_more() {
        let rule = Rule::default();
        let (mut at, took) = (0, 4_000_000);
        // As on a machine where each thread is preempted now and then: a read in a thousand takes 4 ms.
        for round in 0..100 {
            rule.was_quick(Permit::Open, 1_000, at);
            at += 6_000_000;
            rule.was_slow(Permit::Open, took, at);
            assert_eq!(rule.permit(at), Some(Permit::Open), "round {round}");
        }
    }

    #[test]
    fn reads_that_wait_longer_than_quick_ones_save_pause() {
        // One read in ten takes 300 µs; nine save 180 µs.
        let rule = Rule::default();
        rule.was_quick(Permit::Open, 1_000, 0);
        let mut rounds = 0;
        let mut at = 0;
        while rule.permit(at) == Some(Permit::Open) {
            rule.was_quick(Permit::Open, 9, at);
            at += 300_000;
            rule.was_slow(Permit::Open, 300_000, at);
            rounds += 1;
        }
        // What is remembered, at 120 µs a round.
        let most = MOST_CREDIT / 120_000;
        assert!((most - 2..=most + 2).contains(&rounds), "{rounds} rounds");
    }

    #[test]
    fn no_more_is_remembered_than_a_runtime_may_wait() {
        let rule = Rule::default();
        for at in 0..10 {
            rule.was_quick(Permit::Open, 1_000_000, at);
        }
        rule.was_slow(Permit::Open, MOST_CREDIT + 1, 20);
        assert_eq!(rule.permit(21), None);
        assert_eq!(
            rule.credit.load(Ordering::Relaxed),
            MOST_CREDIT,
            "a read that it does not cover takes nothing of it"
        );
    }

    #[test]
    fn a_probe_that_tells_nothing_is_followed_by_another() {
        let rule = Rule::default();
        rule.was_slow(Permit::Open, SLOW + 1, 0);
        assert_eq!(rule.permit(SHORTEST_PAUSE), Some(Permit::Probe));
        assert_eq!(rule.permit(2 * SHORTEST_PAUSE - 1), None);
        assert_eq!(rule.permit(2 * SHORTEST_PAUSE), Some(Permit::Probe));
    }

    #[test]
    fn fixed_modes_stay_fixed() {
        for (mode, inline) in [(ReadMode::Inline, true), (ReadMode::Threads, false)] {
            let inlining = Inlining::new(mode);
            for _ in 0..3 {
                inlining.rule.was_slow(Permit::Open, SLOW + 1, u64::MAX / 2);
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
        let mut turn = Timed { permit: Permit::Open, began: 0, last: 0, quick: 0, slow: None };
        assert_eq!(turn.lap(SLOW), Lap::Go);
        assert_eq!(turn.lap(SLOW + 1), Lap::Break);
        assert_eq!(turn.lap(2 * SLOW + 2), Lap::Leave);
        assert_eq!(turn.lap(2 * SLOW + 3), Lap::Leave, "it was slow");
        assert_eq!(turn.slow, Some(SLOW + 1));
    }
}
