//! What happened, as a number to compare and as lines to read.
#![allow(clippy::print_stdout, reason = "a trace is printed where that is asked for")]

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines that are kept to explain a violation.
const LINES: usize = 4_000;

/// A trace of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    begun: Instant,
    show: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    /// An empty trace; `show` prints each line as well.
    pub(crate) fn new(show: bool) -> Self {
        let state = State { hash: 0xCBF2_9CE4_8422_2325, lines: VecDeque::new() };
        Self { begun: Instant::now(), show, state: Mutex::new(state) }
    }

    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:>9} ms  {what}", self.begun.elapsed().as_millis());
        if self.show {
            println!("{line}");
        }
        let mut state = self.state.lock();
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if state.lines.len() == LINES {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// Two runs with the same number did the same.
    pub(crate) fn hash(&self) -> u64 {
        self.state.lock().hash
    }

    /// The last lines that speak of `key`, or of none.
    pub(crate) fn about(&self, key: &str, most: usize) -> Vec<String> {
        let state = self.state.lock();
        let mut lines: Vec<String> =
            state.lines.iter().rev().filter(|line| line.contains(key)).take(most).cloned().collect();
        lines.reverse();
        lines
    }
}
