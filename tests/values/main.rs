//! Logs, documents and sweeps in processes of their own: processes that are killed, and two over one Postgres.
//!
//! A child opens a stack, says what it finds, then appends, counts, publishes and sweeps until it is killed. What the next
//! one finds must be what the children said: every acknowledged element of the log once and in its writer's order, a count
//! between what was acknowledged and what was begun, and everything that a root refers to.
//!
//! A program of its own: it starts itself as the other process.
#![allow(clippy::print_stdout, reason = "the processes speak through it")]

mod child;
mod said;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use tiered_conformance::Dice;

use said::Said;

/// The stacks whose processes are killed.
pub(crate) const STACKS: [&str; 3] = ["redb", "moka/redb", "moka/journal/redb"];

/// Processes of each stack that are killed.
const CYCLES: u64 = 12;

/// How long a process works at most before it is killed, in milliseconds.
const LIFE: u64 = 250;

/// How long a process may take to open its stack and to say what it finds.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.contains(&"--list") {
        if !words.contains(&"--ignored") {
            println!("values: test");
        }
        return ExitCode::SUCCESS;
    }
    if let ["child", what, stack, place] = words.as_slice() {
        return child::run(what, stack, place);
    }
    for stack in STACKS {
        match killed(stack) {
            Ok(line) => println!("{stack}: {line}"),
            Err(why) => {
                println!("{stack}: FAILED: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    #[cfg(feature = "postgres")]
    if let Err(why) = two_processes() {
        println!("two processes over one Postgres: FAILED: {why}");
        return ExitCode::FAILURE;
    }
    println!("test result: ok");
    ExitCode::SUCCESS
}

fn start(what: &str, stack: &str, place: &str) -> Result<Child, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let command = Command::new(program)
        .args(["child", what, stack, place])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    command.map_err(|error| error.to_string())
}

/// Kills processes that work on one stack, one after the other; the last one brings everything to its end.
fn killed(stack: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let place = folder.path().display().to_string();
    let (mut said, mut dice) = (Said::default(), Dice::new(7));
    for _ in 0..CYCLES {
        work(start("work", stack, &place)?, &mut said, Some(Duration::from_millis(dice.below(LIFE))))?;
    }
    work(start("end", stack, &place)?, &mut said, None)?;
    Ok(format!("{CYCLES} killed, {said}"))
}

/// The clock that a process is killed by.
#[expect(clippy::disallowed_methods, reason = "processes live for so long, by the clock of the machine")]
fn now() -> Instant {
    Instant::now()
}

/// Listens to a process until it is killed, `life` after it has said what it finds, or until it ends by itself.
fn work(mut child: Child, said: &mut Said, life: Option<Duration>) -> Result<(), String> {
    let output = child.stdout.take().ok_or("no output")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut until = now() + PATIENCE;
    let mut is_ready = false;
    let mut heard = Ok(());
    while heard.is_ok() {
        let Ok(heard_line) = lines.recv_timeout(until.saturating_duration_since(now())) else { break };
        if heard_line == "ready" {
            is_ready = true;
            until = now() + life.unwrap_or(PATIENCE);
        } else {
            heard = said.hear(&heard_line);
        }
    }
    child.kill().map_err(|error| error.to_string())?;
    let ended = child.wait().map_err(|error| error.to_string())?;
    // What it said before it died counts.
    reader.join().map_err(|_| "the reader panicked")?;
    for line in lines.try_iter() {
        heard = heard.and_then(|()| said.hear(&line));
    }
    heard?;
    match (is_ready, life) {
        (false, _) => Err(format!("a process did not say what it finds: {ended}")),
        (true, None) if !ended.success() => Err(format!("the last process: {ended}")),
        (true, _) => Ok(()),
    }
}

/// Two processes with frontends of their own count and append over one Postgres: nothing is lost.
#[cfg(feature = "postgres")]
fn two_processes() -> Result<(), String> {
    let schema = format!("tiered_values_{}", std::process::id());
    tiered_services::Service::Postgres.required();
    let children = [start("count", "postgres", &schema)?, start("count", "postgres", &schema)?];
    for mut child in children {
        let ended = child.wait().map_err(|error| error.to_string())?;
        if !ended.success() {
            return Err(format!("a process: {ended}"));
        }
    }
    let mut check = start("counted", "postgres", &schema)?;
    let ended = check.wait().map_err(|error| error.to_string())?;
    if ended.success() { Ok(()) } else { Err(format!("the count: {ended}")) }
}
