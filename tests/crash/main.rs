//! Processes that are killed: real engines, a ledger in another process, the same files go on.
//!
//! A child opens a stack, reads every key, then writes until it is killed: by its parent at any moment, some of them
//! while they open and recover; or by itself at a named step, before or after a call of a tier, of the journal, or of
//! the journal's disk. What the next one finds must be what the ledger allows: every acknowledged write that was not
//! dropped by name, only values that were written, no stale hit after the restart, no half batch. Every few cycles the
//! stack is closed, and the backend is read alone.
//!
//! `cargo xtask crash [--cycles N] [--stack NAME] [--seed S] [--step NAME]`; without arguments it runs as many cycles as
//! CI does. With a step's name all cycles end there; `--step all` leaves out the random moments.
#![allow(clippy::print_stdout, reason = "it prints a line a stack, and the processes speak through it")]

mod child;
mod doomed;
mod place;
mod refusing;
mod run;
mod stack;
mod step;
mod value;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use run::{Moments, Run};
use stack::Stack;
use step::{Doom, Step};

/// Cycles of each stack, unless the command line says otherwise: at least thirty are killed at a random moment, the rest are
/// looks at the backend alone.
const CYCLES: u64 = 38;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.contains(&"--list") {
        if !words.contains(&"--ignored") {
            println!("crash: test");
        }
        return ExitCode::SUCCESS;
    }
    if let ["child", what, stack, place, first, fate @ ..] = words.as_slice() {
        let doom = match fate {
            [step, occurrence] => match (Step::named(step), occurrence.parse()) {
                (Some(step), Ok(occurrence)) => Doom::at(step, occurrence),
                _ => return ExitCode::from(2),
            },
            _ => Doom::default(),
        };
        return child::run(what, stack, place, first.parse().unwrap_or(0), &doom);
    }
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let moments = match option("--step") {
        None => Moments::All,
        Some("all") => Moments::Steps,
        Some(name) => {
            let Some(step) = Step::named(name) else {
                let names: Vec<String> = Step::all().map(|step| step.to_string()).collect();
                println!("no such step; there are {}", names.join(", "));
                return ExitCode::from(2);
            };
            Moments::Step(step)
        }
    };
    let cycles = option("--cycles").and_then(|cycles| cycles.parse().ok()).unwrap_or(CYCLES);
    let wanted = option("--stack");
    let seed = option("--seed").and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let stacks: Vec<&'static Stack> =
        stack::ALL.iter().filter(|stack| wanted.is_none_or(|wanted| wanted == stack.name)).collect();
    if stacks.is_empty() {
        let names: Vec<&str> = stack::ALL.iter().map(|stack| stack.name).collect();
        println!("no such stack; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let failed =
        run_all(&stacks, |stack| match Run::new(stack, seed).and_then(|run| run.cycles(cycles, moments)) {
            Ok(line) => {
                println!("{line}");
                true
            }
            Err(why) => {
                println!("{}: FAILED: {why}", stack.name);
                false
            }
        });
    println!("test result: {} passed; {failed} failed", stacks.len() - failed);
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs stacks two at a time, since they mostly wait for disks; how many failed. Those over a server take turns: a
/// process waits until the server has forgotten the one before.
fn run_all(stacks: &[&'static Stack], run: impl Fn(&'static Stack) -> bool + Sync) -> usize {
    let (remote, local): (Vec<&Stack>, Vec<&Stack>) =
        stacks.iter().copied().partition(|stack| stack.is_remote());
    let jobs = local.into_iter().map(|stack| vec![stack]).chain([remote]);
    let (jobs, failed) = (Mutex::new(jobs.collect::<Vec<_>>()), AtomicUsize::new(0));
    let work = || {
        // The longest, that of the servers, first.
        while let Some(job) = jobs.lock().ok().and_then(|mut jobs| jobs.pop()) {
            failed.fetch_add(job.into_iter().filter(|stack| !run(stack)).count(), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    failed.into_inner()
}
