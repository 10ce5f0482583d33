//! The files of a stack, what may be found in them, and the children that work on them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tiered_sim::ledger::{Change, Ledger};
use tokio::time::Instant;

use crate::stack::Stack;
use crate::step::{CALLS, Step};

/// How long opening, recovering and closing may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// A place and its history.
#[derive(Debug)]
pub(crate) struct Place {
    stack: &'static Stack,
    folder: TempDir,
    pub(crate) ledger: Ledger,
    /// The next operation's id.
    next: u64,
    /// Whether it is left to be looked at.
    kept: bool,
    /// What the children said.
    transcript: String,
}

/// A child that does not outlive this.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a child said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The values that it read before it wrote, once it has read all.
    pub(crate) found: Option<BTreeMap<String, u64>>,
    wrong: Option<String>,
    /// The step at which it ended.
    pub(crate) died: Option<Step>,
    /// Whether the backend was refused to a stack without its journal.
    pub(crate) locked_out: bool,
    /// The calls that it made, where it came to its end.
    pub(crate) met: Vec<&'static str>,
    pub(crate) done: bool,
}

/// When the parent ends a child.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// So long after it was started.
    Early(Duration),
    /// So long after it had opened.
    Late(Duration),
    /// Not at all: it ends by itself.
    Never,
}

impl Place {
    pub(crate) fn new(stack: &'static Stack) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let ledger = if stack.refuses { Ledger::with_drops() } else { Ledger::new() };
        Ok(Self { stack, folder, ledger, next: 1, kept: false, transcript: String::new() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Leaves it, to be looked at.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
        // The failure is reported, with it or without.
        std::fs::write(self.folder.path().join("transcript"), &self.transcript).ok();
        self.folder.disable_cleanup(true);
    }

    /// A child does `what`, and ends as `end` says, or at the so many-th time that it meets a step.
    pub(crate) fn run(&mut self, what: &str, fate: Option<(Step, u64)>, end: End) -> Result<Said, String> {
        self.stack.wait_for_quiet();
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["child", what, self.stack.name, &self.path(), &self.next.to_string()]);
        if let Some((step, occurrence)) = fate {
            command.args([step.to_string(), occurrence.to_string()]);
        }
        self.transcript.extend([format!("--- {what} {fate:?} {end:?}\n")]);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = Mortal(child.map_err(|error| error.to_string())?);
        let output = child.0.stdout.take().ok_or("no pipe")?;
        let (lines, received) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut text = String::new();
            while output.read_line(&mut text).is_ok_and(|read| read > 0) {
                // The last line of a killed process may be cut short.
                if text.ends_with('\n') && lines.send(text.trim_end().to_owned()).is_err() {
                    return;
                }
                text.clear();
            }
        });
        let mut said = Said::default();
        let patience = if let End::Early(life) = end { life } else { PATIENCE };
        let mut deadline = Instant::now() + patience;
        let timed_out = loop {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.hear(&line, &mut said)?;
                    if let (End::Late(life), "found") = (end, line.as_str()) {
                        // From here on it works.
                        deadline = Instant::now() + life;
                    }
                }
                Err(error) => break error == std::sync::mpsc::RecvTimeoutError::Timeout,
            }
        };
        if timed_out {
            child.0.kill().map_err(|error| error.to_string())?;
        }
        let status = child.0.wait().map_err(|error| error.to_string())?;
        reader.join().map_err(|_| "the reader panicked".to_owned())?;
        for line in received.try_iter() {
            self.hear(&line, &mut said)?;
        }
        Self::judge(what, said, status, timed_out, end)
    }

    /// Whether it ended as it should.
    fn judge(what: &str, said: Said, status: ExitStatus, timed_out: bool, end: End) -> Result<Said, String> {
        if let Some(wrong) = said.wrong {
            return Err(format!("{what}: {wrong}"));
        }
        match end {
            End::Early(_) | End::Late(_) if !timed_out => {
                Err(format!("{what}: the process ended by itself: {status}"))
            }
            End::Late(_) if said.found.is_none() => {
                Err(format!("{what}: the stack did not open within {PATIENCE:?}"))
            }
            End::Never if timed_out => Err(format!("{what}: the process was not done within {PATIENCE:?}")),
            End::Never if said.died.is_none() && !(status.success() && said.done) => {
                Err(format!("{what}: the process failed: {status}"))
            }
            _ => Ok(said),
        }
    }

    /// A child opens the stack, drains and closes it; another reads the backend alone.
    pub(crate) fn look_cold(&mut self) -> Result<(), String> {
        for what in ["close", "cold"] {
            let said = self.run(what, None, End::Never)?;
            if said.found.is_none() {
                return Err(format!("{what}: it found nothing out"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, line: &str, said: &mut Said) -> Result<(), String> {
        self.transcript.extend([line, "\n"]);
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("the child said {line:?}"));
        match words.as_slice() {
            ["value", key, id] => {
                said.found.get_or_insert_default().insert((*key).to_owned(), number(id)?);
            }
            ["found"] => {
                let found = said.found.get_or_insert_default();
                self.ledger.observe(found)?;
            }
            ["put", id, keys @ ..] => {
                self.next = self.next.max(number(id)? + 1);
                self.ledger.begin(number(id)?, Change::Put, keys);
            }
            ["delete", id, keys @ ..] => {
                self.next = self.next.max(number(id)? + 1);
                self.ledger.begin(number(id)?, Change::Delete, keys);
            }
            ["ok", id] => self.ledger.acknowledge(number(id)?),
            ["refused", id] => self.ledger.refuse(number(id)?),
            ["drop", id] => self.ledger.begin_drop(number(id)?),
            ["dropped", id] => self.ledger.end_drop(number(id)?),
            ["kept", id] => self.ledger.keep(number(id)?),
            ["retry", id] => self.ledger.begin_retry(number(id)?),
            ["retried", id] => self.ledger.end_retry(number(id)?),
            ["locked-out"] => said.locked_out = true,
            ["dies", step] => said.died = Step::named(step),
            ["met", call] => said.met.extend(CALLS.iter().find(|known| *known == call)),
            ["done"] => said.done = true,
            _ => said.wrong = Some(line.to_owned()),
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.stack.tidy_up(&self.path());
        }
    }
}
