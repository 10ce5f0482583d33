//! One case, from opening the store to removing the keys, watched from outside.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tiered_core::Feature;
use tiered_core::adapter::{Clock as _, SystemClock};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::bench::Bench;
use crate::case::{Body, Case, Need, Stop};
use crate::factory::{Eviction, Factory};
use crate::report::{CaseReport, Ending};
use crate::run::Effort;
use crate::scratch;
use crate::text::clip;
use crate::watch::within;

/// How long a phase may go on beyond its limit before its thread counts as blocked: it takes so long at most to notice
/// the limit where the store does not block, however busy the machine is.
const GRACE: Duration = Duration::from_secs(1);

/// How long the removal of the keys of a failed case may take: it may well hang as the case did.
const CLEANING: Duration = Duration::from_secs(30);

/// What it takes to run one case.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) factory: Arc<dyn Factory>,
    pub(crate) case: &'static Case,
    pub(crate) seed: u64,
    pub(crate) deadline: Duration,
    pub(crate) effort: Effort,
    /// Where the name of the store goes, once it is known.
    pub(crate) store: Arc<OnceLock<String>>,
}

/// What the thread of a case tells.
enum Stage {
    /// The store is open; the case begins.
    Opened(Bench),
    /// The case ended; its keys are being removed.
    Ended(Ending),
    /// The keys are removed, or this is why not.
    Cleaned(Option<String>),
}

/// Runs a case on a thread of its own, and gives it up where it blocks that thread.
pub(crate) async fn supervise(attempt: Attempt) -> CaseReport {
    let case = attempt.case;
    let clock = SystemClock::new();
    let started = clock.uptime();
    let ending = match watch(attempt).await {
        Ending::Failed(why) => Ending::Failed(clip(why)),
        other => other,
    };
    CaseReport {
        name: case.name,
        clauses: case.clauses,
        ending,
        elapsed: clock.uptime().saturating_sub(started),
    }
}

async fn watch(attempt: Attempt) -> Ending {
    let (deadline, clause) = (attempt.deadline, attempt.case.clause());
    let (tell, mut told) = mpsc::unbounded_channel();
    let handle = Handle::current();
    std::thread::spawn({
        let handle = handle.clone();
        move || run(attempt, &handle, &tell)
    });
    let patience = deadline.saturating_add(GRACE);
    let bench = match within(patience, told.recv()).await {
        Some(Some(Stage::Opened(bench))) => bench,
        Some(Some(Stage::Ended(ending))) => return ending,
        Some(_) => return Ending::Failed("the case ended without a word".to_owned()),
        None => return Ending::Failed(format!("the store did not open within {}", seconds(deadline))),
    };
    let ending = match within(patience, told.recv()).await {
        Some(Some(Stage::Ended(ending))) => ending,
        Some(_) => Ending::Failed(format!("[{clause}] the case ended without a word")),
        None => {
            let blocked = format!(
                "[{clause}] the case did not end within {}, and the store blocks its thread",
                seconds(deadline)
            );
            let left = clean_elsewhere(bench, &handle, deadline).await;
            return Ending::Failed(left.map_or(blocked.clone(), |left| format!("{blocked}; {left}")));
        }
    };
    drop(bench);
    let limit = cleaning(&ending, deadline);
    let mut left = match within(limit.saturating_add(GRACE), told.recv()).await {
        Some(Some(Stage::Cleaned(left))) => left,
        Some(_) => Some("removing the keys of the case panicked".to_owned()),
        None => Some(format!("removing the keys of the case took more than {}", seconds(limit))),
    };
    // The thread ends when it has dropped its handles and its place, which may hold files or tables.
    if left.is_none() && within(CLEANING, told.recv()).await.is_none() {
        left = Some(format!("dropping the store or its place took more than {}", seconds(CLEANING)));
    }
    match (ending, left) {
        (ending, None) => ending,
        // A store that hangs in a case hangs here as well; the first reason is the one to tell.
        (Ending::Failed(why), Some(left)) => Ending::Failed(format!("{why}; {left}")),
        (_, Some(left)) => Ending::Failed(left),
    }
}

/// How long the removal of the keys may take.
fn cleaning(ending: &Ending, deadline: Duration) -> Duration {
    if matches!(ending, Ending::Failed(_)) { deadline.min(CLEANING) } else { deadline }
}

/// Removes the keys of a case whose own thread is blocked, if the store still answers.
async fn clean_elsewhere(bench: Bench, handle: &Handle, deadline: Duration) -> Option<String> {
    let limit = deadline.min(CLEANING);
    let (tell, mut told) = mpsc::unbounded_channel();
    let handle = handle.clone();
    std::thread::spawn(move || {
        // The receiver is dropped if this took too long.
        tell.send(handle.block_on(clean(&bench, limit))).ok();
    });
    match within(limit.saturating_add(GRACE), told.recv()).await {
        Some(left) => left.flatten(),
        None => Some(format!("removing the keys of the case took more than {}", seconds(limit))),
    }
}

/// The thread of a case. A panic of the removal ends it early, which the missing answer shows.
fn run(attempt: Attempt, handle: &Handle, tell: &UnboundedSender<Stage>) {
    // Where the run was dropped nothing listens, and the case goes on to its end all the same.
    let tell = |stage| drop(tell.send(stage));
    let opened = catch_unwind(AssertUnwindSafe(|| handle.block_on(open(&attempt))));
    let bench = match opened {
        Ok(Ok(bench)) => bench,
        Ok(Err(ending)) => return tell(Stage::Ended(ending)),
        Err(panic) => {
            let why = format!("the factory panicked: {}", message(panic.as_ref()));
            return tell(Stage::Ended(Ending::Failed(why)));
        }
    };
    tell(Stage::Opened(bench.clone()));
    let ending = handle.block_on(decide(&attempt, bench.clone()));
    let limit = cleaning(&ending, attempt.deadline);
    tell(Stage::Ended(ending));
    tell(Stage::Cleaned(handle.block_on(clean(&bench, limit))));
    drop((bench, attempt));
}

/// Opens a bench.
async fn open(attempt: &Attempt) -> Result<Bench, Ending> {
    let (factory, case) = (attempt.factory.as_ref(), attempt.case);
    let store = match within(attempt.deadline, factory.open()).await {
        Some(Ok(store)) => store,
        Some(Err(error)) => {
            return Err(Ending::Failed(format!("the store does not open: {}", error.chain())));
        }
        None => {
            return Err(Ending::Failed(format!(
                "the store did not open within {}",
                seconds(attempt.deadline)
            )));
        }
    };
    let capabilities = store.capabilities().clone();
    attempt.store.get_or_init(|| capabilities.name().to_owned());
    let free = within(attempt.deadline, scratch::prefix(&store, case.name)).await;
    let prefix = match free {
        Some(Ok(Some(prefix))) => prefix,
        Some(Ok(None)) => {
            let limit = capabilities.max_key();
            return Err(Ending::Skipped(format!("keys of {limit} bytes leave no room for those of a case")));
        }
        Some(Err(error)) => {
            return Err(Ending::Failed(format!("the store does not list: {}", error.chain())));
        }
        None => return Err(Ending::Failed("the store does not list".to_owned())),
    };
    let place = if case.needs.contains(&Need::Place) { factory.place().await } else { None };
    let evicts = capabilities.has(Feature::Evicts) && factory.eviction() == Eviction::AsDeclared;
    let (clock, seed, effort) = (factory.clock(), attempt.seed, attempt.effort);
    Ok(Bench { store, capabilities, prefix, clock, place, evicts, seed, effort, busy: Arc::default() })
}

/// Runs the case, or the refusal where a need is not met.
async fn decide(attempt: &Attempt, bench: Bench) -> Ending {
    let case = attempt.case;
    let unmet = case.needs.iter().find_map(|need| need.unmet(&bench).map(|why| (*need, why)));
    let (body, refusing) = match (unmet, case.refusal) {
        (None, _) => (case.body, None),
        (Some((need, why)), Some(refusal)) if !need.is_of_the_factory() => (refusal, Some(why)),
        (Some((_, why)), _) => return Ending::Skipped(why),
    };
    let mut ending = carry_out(body, bench, case, attempt.deadline).await;
    if let (Ending::Passed, Some(why)) = (&ending, refusing) {
        ending = Ending::Refused(format!("{why}, and does without as specified"));
    }
    ending
}

async fn carry_out(body: Body, bench: Bench, case: &'static Case, deadline: Duration) -> Ending {
    let clause = case.clause();
    // `body` is called inside, so that a panic before its first await is caught as well.
    let caught = AssertUnwindSafe(async { body(bench).await }).catch_unwind();
    match within(deadline, caught).await {
        Some(Ok(Ok(()))) => Ending::Passed,
        Some(Ok(Err(Stop::Skipped(why)))) => Ending::Skipped(why),
        Some(Ok(Err(Stop::Refused(why)))) => Ending::Refused(why),
        Some(Ok(Err(Stop::Failed { clause, text }))) => Ending::Failed(format!("[{clause}] {text}")),
        Some(Ok(Err(Stop::Error(error)))) => {
            Ending::Failed(format!("[{clause}] expected success, saw the error \"{}\"", error.chain()))
        }
        Some(Err(panic)) => {
            Ending::Failed(format!("[{clause}] the store panicked: {}", message(panic.as_ref())))
        }
        None => Ending::Failed(format!("[{clause}] the case did not end within {}", seconds(deadline))),
    }
}

/// Removes the keys of the case; why it failed, if it did.
async fn clean(bench: &Bench, limit: Duration) -> Option<String> {
    let cleaned = async {
        // Parts that block their threads never end.
        within(limit / 4, bench.quiet()).await;
        scratch::clean(&bench.store, &bench.prefix).await
    };
    match within(limit, cleaned).await {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(format!("removing the keys of the case failed: {}", error.chain())),
        None => Some(format!("removing the keys of the case took more than {}", seconds(limit))),
    }
}

/// A time in words.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
