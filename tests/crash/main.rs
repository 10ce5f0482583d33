//! Processes that are killed: real engines, a ledger in another process, SIGKILL at any moment, the same files go on.
//!
//! A child opens a stack, reads every key, then writes until it is killed; some are killed while they open and recover,
//! some several times in a row. What it finds must be what the ledger allows: no acknowledged write lost, no value that
//! nobody wrote, no stale hit after the restart, no half batch. Every few cycles the stack is closed, and the backend is
//! read alone.
//!
//! `cargo xtask crash --cycles N [--stack NAME]`; without arguments it runs as many cycles as CI does.
#![allow(clippy::print_stdout, reason = "it prints a line a stack, and the processes speak through it")]

mod child;
mod stack;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use stack::Stack;
use tempfile::TempDir;
use tiered_conformance::Dice;
use tiered_sim::ledger::{Change, Ledger};
use tokio::time::Instant;

/// Cycles of each stack, unless the command line says otherwise.
const CYCLES: u64 = 30;

/// Every so many cycles the stack is closed and the backend read alone.
const COLD: u64 = 5;

/// How long a child works at most before it is killed, in milliseconds.
const LIFE: u64 = 400;

/// How long opening, recovering and closing may take.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.contains(&"--list") {
        if !words.contains(&"--ignored") {
            println!("crash: test");
        }
        return ExitCode::SUCCESS;
    }
    if let ["child", what, stack, place, first] = words.as_slice() {
        return child::run(what, stack, place, first.parse().unwrap_or(0));
    }
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let cycles = option("--cycles").and_then(|cycles| cycles.parse().ok()).unwrap_or(CYCLES);
    let wanted = option("--stack");
    let seed = option("--seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut ran, mut failed) = (0, 0);
    for stack in stack::ALL.iter().filter(|stack| wanted.is_none_or(|wanted| wanted == stack.name)) {
        ran += 1;
        match Run::new(stack, seed).and_then(|run| run.cycles(cycles)) {
            Ok(line) => println!("{line}"),
            Err(why) => {
                println!("{}: FAILED: {why}", stack.name);
                failed += 1;
            }
        }
    }
    if ran == 0 {
        let names: Vec<&str> = stack::ALL.iter().map(|stack| stack.name).collect();
        println!("no such stack; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    println!("test result: {} passed; {failed} failed", ran - failed);
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The cycles of one stack.
struct Run {
    stack: &'static Stack,
    folder: TempDir,
    ledger: Ledger,
    dice: Dice,
    /// The next operation's id.
    next: u64,
    killed: u64,
    killed_early: u64,
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
#[derive(Default)]
struct Said {
    /// The values that it read before it wrote, once it has read all.
    found: Option<BTreeMap<String, u64>>,
    wrong: Option<String>,
    done: bool,
}

impl Run {
    fn new(stack: &'static Stack, seed: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (ledger, dice) = (Ledger::new(), Dice::new(seed));
        Ok(Self { stack, folder, ledger, dice, next: 1, killed: 0, killed_early: 0 })
    }

    fn cycles(mut self, cycles: u64) -> Result<String, String> {
        let begun = Instant::now();
        for cycle in 0..cycles {
            let done = if cycle % COLD == COLD - 1 { self.look_cold() } else { self.kill_one() };
            if let Err(why) = done {
                // To be looked at.
                self.folder.disable_cleanup(true);
                return Err(format!("cycle {cycle}: {why}; its files are in {}", self.place()));
            }
        }
        self.look_cold()?;
        self.stack.tidy_up(&self.place());
        Ok(format!(
            "{}: {cycles} cycles, {} killed, {} of them while opening, {} acknowledged writes, 0 lost; {} s",
            self.stack.name,
            self.killed,
            self.killed_early,
            self.ledger.acknowledged(),
            begun.elapsed().as_secs()
        ))
    }

    fn place(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn spawn(&self, what: &str) -> Result<Mortal, String> {
        self.stack.wait_for_quiet();
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        Command::new(program)
            .args(["child", what, self.stack.name, &self.place(), &self.next.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .map(Mortal)
            .map_err(|error| error.to_string())
    }

    /// A child works and is killed.
    fn kill_one(&mut self) -> Result<(), String> {
        let mut child = self.spawn("work")?;
        // One in five dies while it opens the stack, or recovers.
        let early = self.dice.below(5) == 0;
        let life =
            Duration::from_millis(if early { self.dice.below(40) } else { 30 + self.dice.below(LIFE) });
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
        let mut deadline = Instant::now() + if early { life } else { PATIENCE };
        while let Ok(line) = received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.hear(&line, &mut said)?;
            if line == "found" && !early {
                // From here on it works.
                deadline = Instant::now() + life;
            }
        }
        let ended = child.0.try_wait().map_err(|error| error.to_string())?;
        child.0.kill().map_err(|error| error.to_string())?;
        child.0.wait().map_err(|error| error.to_string())?;
        reader.join().map_err(|_| "the reader panicked".to_owned())?;
        for line in received.try_iter() {
            self.hear(&line, &mut said)?;
        }
        if let Some(wrong) = said.wrong {
            return Err(wrong);
        }
        if let Some(status) = ended {
            return Err(format!("the process ended by itself: {status}"));
        }
        if said.found.is_none() && !early {
            return Err(format!("the stack did not open within {PATIENCE:?}"));
        }
        self.killed += 1;
        self.killed_early += u64::from(said.found.is_none());
        Ok(())
    }

    /// A child opens the stack, drains and closes it; another reads the backend alone.
    fn look_cold(&mut self) -> Result<(), String> {
        for what in ["close", "cold"] {
            let mut child = self.spawn(what)?;
            let mut output = String::new();
            child
                .0
                .stdout
                .take()
                .ok_or("no pipe")?
                .read_to_string(&mut output)
                .map_err(|error| error.to_string())?;
            let status = child.0.wait().map_err(|error| error.to_string())?;
            let mut said = Said::default();
            for line in output.lines() {
                self.hear(line, &mut said)?;
            }
            if let Some(wrong) = said.wrong {
                return Err(format!("{what}: {wrong}"));
            }
            if !status.success() || !said.done || said.found.is_none() {
                return Err(format!("{what}: the process failed: {status}"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, line: &str, said: &mut Said) -> Result<(), String> {
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
            ["done"] => said.done = true,
            _ => said.wrong = Some(line.to_owned()),
        }
        Ok(())
    }
}
