//! Progress of long work, on standard error if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress line that is removed when the work ends.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
}

impl Progress {
    /// `what` follows the number.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, what }
    }

    pub(crate) fn show(&self, count: u64) {
        // Setting a message takes as long as comparing many keys.
        if count % 1024 == 1 || count < 1024 {
            self.say(format!("{count} {}", self.what));
        }
    }

    pub(crate) fn say(&self, text: String) {
        self.bar.set_message(text);
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Also after a failure: the error needs a line of its own.
        self.bar.finish_and_clear();
    }
}
