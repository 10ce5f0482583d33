//! The matrix: every stack through the conformance suite, each in a process of its own.
//!
//! Without arguments it runs all of them, some at a time, and prints a table. It speaks as much of libtest's language as
//! `cargo nextest` needs: `--list`, and a name to run one stack.
#![allow(clippy::print_stdout, reason = "the matrix prints a line a stack, which xtask counts")]

use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tiered::{Error, ErrorKind, Key, ReadOptions, Result, Store};
use tiered_conformance::{Effort, Factory, Place, RunOptions};
use tiered_tests::{Tiers, combinations, stacks};
use tokio::sync::Mutex;

/// Stacks at a time: two cores are busy with three, since each waits for disks and servers.
const AT_A_TIME: usize = 3;

/// How long a stack may take. The slowest takes a quarter of it.
const PATIENCE: Duration = Duration::from_mins(5);

/// A stack that is open, and places to open others like it.
struct Stacks {
    tiers: Tiers,
    store: Arc<dyn Store>,
}

/// A folder that holds the files of one stack: opening it again reopens the stack.
struct Folder {
    files: TempDir,
    tiers: Tiers,
    /// The latest store that was opened here.
    latest: Mutex<Option<Weak<dyn Store>>>,
}

#[async_trait::async_trait]
impl Place for Folder {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let mut latest = self.latest.lock().await;
        // The stack declares its frontend private. The place keeps that promise: a second handle is refused.
        if self.tiers.has_declared_frontend()
            && let Some(earlier) = latest.as_ref().and_then(Weak::upgrade)
            && is_open(&*earlier).await
        {
            return Err(Error::new(ErrorKind::Locked, "the frontend was declared private to another handle"));
        }
        let store = self.tiers.open(self.files.path()).await?;
        *latest = Some(Arc::downgrade(&store));
        Ok(store)
    }
}

async fn is_open(store: &dyn Store) -> bool {
    let Ok(key) = Key::new("any") else { return true };
    let read = store.load(&key, &ReadOptions::new()).await;
    !read.is_err_and(|error| error.kind() == ErrorKind::Closed)
}

#[async_trait::async_trait]
impl Factory for Stacks {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        // A backend that is new each time is another backend, which a frontend that lasts refuses.
        if !self.tiers.tiers.last().is_some_and(|tier| tier.lasts()) {
            return None;
        }
        let (files, tiers) = (tempfile::tempdir().ok()?, self.tiers.clone());
        Some(Arc::new(Folder { files, tiers, latest: Mutex::default() }))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    if arguments.iter().any(|argument| argument == "--list") {
        // Nothing is ever ignored.
        if !arguments.iter().any(|argument| argument == "--ignored") {
            for stack in stacks() {
                println!("{}: test", stack.name());
            }
        }
        return ExitCode::SUCCESS;
    }
    let named = arguments.iter().find(|argument| !argument.starts_with("--"));
    let faults = match named {
        Some(name) => match stacks().into_iter().find(|stack| stack.name() == *name) {
            Some(stack) => runtime.block_on(run(&stack)),
            None => Err(format!("there is no stack {name}")),
        },
        None => runtime.block_on(run_all()),
    };
    match faults {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// The stacks to run: all, or with `TIERED_STACKS=combinations` each combination of adapters once.
fn wanted() -> Result<Vec<Tiers>, String> {
    match std::env::var("TIERED_STACKS").as_deref() {
        Err(_) | Ok("all") => Ok(stacks()),
        Ok("combinations") => Ok(combinations()),
        Ok(other) => Err(format!("TIERED_STACKS={other} is unknown; use all or combinations")),
    }
}

/// Runs the stacks, each in a process, a few at a time.
async fn run_all() -> Result<String, String> {
    let required = std::env::var("TIERED_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut running = stream::iter(spread(wanted()?))
        .map(|stack| {
            let program = program.clone();
            async move {
                let missing = stack.services().into_iter().find(|service| service.url().is_none());
                if let Some(service) = missing {
                    return (
                        format!("stack {}: not run, there is no {}", stack.name(), service.name()),
                        !required,
                    );
                }
                let mut command = tokio::process::Command::new(program);
                command.arg(stack.name()).stdin(Stdio::null()).kill_on_drop(true);
                match tokio::time::timeout(PATIENCE, command.output()).await {
                    Ok(Ok(output)) => {
                        let text = String::from_utf8_lossy(&output.stdout);
                        let errors = String::from_utf8_lossy(&output.stderr);
                        (format!("{}{errors}", text.trim_end()), output.status.success())
                    }
                    Ok(Err(error)) => (format!("{}: {error}", stack.name()), false),
                    Err(_) => (format!("{}: not done within {} s", stack.name(), PATIENCE.as_secs()), false),
                }
            }
        })
        .buffer_unordered(AT_A_TIME);
    let (mut ran, mut failed) = (0, 0);
    while let Some((line, passed)) = running.next().await {
        println!("{line}");
        ran += 1;
        failed += usize::from(!passed);
    }
    if failed == 0 { Ok(format!("{ran} stacks")) } else { Err(format!("{failed} of {ran} stacks failed")) }
}

/// The same stacks, those that need a server spread among the others: it serves one at a time.
fn spread(stacks: Vec<Tiers>) -> Vec<Tiers> {
    let total = stacks.len();
    let (remote, local): (Vec<_>, Vec<_>) = stacks.into_iter().partition(Tiers::is_slow);
    let step = total.checked_div(remote.len()).unwrap_or(total).max(1);
    let (mut remote, mut local) = (remote.into_iter(), local.into_iter());
    (0..total)
        .filter_map(|index| {
            let next = if index % step == 0 { remote.next() } else { local.next() };
            next.or_else(|| remote.next()).or_else(|| local.next())
        })
        .collect()
}

/// How often a stack repeats what goes wrong seldom. Thoroughly: each combination of adapters under one policy, moka over
/// redb under all. Briefly: the other policies, which are the same engine over the same adapters, and what is over a slow
/// server, which is looked at thoroughly alone.
fn effort(stack: &Tiers) -> Effort {
    let is_slow = stack.is_slow() && stack.tiers.len() > 1;
    let is_picked = || combinations().iter().any(|picked| picked.name() == stack.name());
    if !is_slow && is_picked() { Effort::Full } else { Effort::Brief }
}

/// Runs one stack; a line of the table.
async fn run(stack: &Tiers) -> Result<String, String> {
    let name = stack.name();
    #[expect(clippy::disallowed_methods, reason = "a table of seconds, not a decision")]
    let begun = std::time::Instant::now();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let opened = stack.open(folder.path()).await;
    if stack.is_refused() {
        let removed = stack.remove().await;
        removed.map_err(|error| error.chain())?;
        return match opened {
            Err(error) if error.kind() == ErrorKind::Config => {
                Ok(format!("stack {name}: refused when built, as it should be: {}", error.message()))
            }
            other => Err(format!("stack {name}: should be refused when built: {other:?}")),
        };
    }
    let store = opened.map_err(|error| format!("stack {name}: does not open: {}", error.chain()))?;
    let factory = Stacks { tiers: stack.clone(), store: Arc::clone(&store) };
    let report = tiered_conformance::run(factory, RunOptions::new().effort(effort(stack))).await;
    let line = format!(
        "stack {name}: {} passed ({} by refusal), {} failed, {} skipped, {:.1} s",
        report.passed(),
        report.refused(),
        report.failed(),
        report.skipped(),
        begun.elapsed().as_secs_f64()
    );
    store.close().await.map_err(|error| format!("{line}\n{name} does not close: {}", error.chain()))?;
    stack.remove().await.map_err(|error| format!("{line}\n{}", error.chain()))?;
    if report.is_ok() { Ok(line) } else { Err(format!("{line}\n{report}")) }
}
