//! The line of progress of a stage: rewritten each second on a terminal, else printed once a minute.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The progress of the stage that runs.
#[derive(Debug)]
pub(crate) struct Progress {
    detail: Detail,
    /// Ends the thread when it is dropped.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a stage says of how far it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detail(Arc<Mutex<String>>);

impl Detail {
    pub(crate) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress {
    /// Begins the line of the stage at `place`, which takes about `estimate` seconds.
    pub(crate) fn begin(place: String, estimate: u64) -> Self {
        let detail = Detail::default();
        let (end, ended) = mpsc::channel();
        let on_terminal = io::stdout().is_terminal();
        let every = Duration::from_secs(if on_terminal { 1 } else { 60 });
        #[expect(clippy::disallowed_methods, reason = "a build tool has no injected clock")]
        let begun = Instant::now();
        let line = {
            let detail = detail.clone();
            move || {
                let (seconds, detail) = (begun.elapsed().as_secs(), detail.get());
                let comma = if detail.is_empty() { "" } else { ", " };
                format!("{place}: {seconds} s of about {estimate} s{comma}{detail}")
            }
        };
        let thread = thread::spawn(move || {
            show(&line(), on_terminal);
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                show(&line(), on_terminal);
            }
            if on_terminal {
                // Clears the line.
                print!("\r\x1b[K");
                io::stdout().flush().ok();
            }
        });
        Self { detail, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn detail(&self) -> Detail {
        self.detail.clone()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn show(line: &str, on_terminal: bool) {
    if on_terminal {
        // Wider lines than the terminal would not be rewritten.
        let short: String = line.chars().take(100).collect();
        print!("\r\x1b[K{short}");
        io::stdout().flush().ok();
    } else {
        println!("{line}");
    }
}
