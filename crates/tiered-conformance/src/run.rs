//! Running the cases on one store.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tiered_core::{Clock, Feature, SystemClock};

use crate::bench::Bench;
use crate::case::{Body, Case, Need, Pace, Stop};
use crate::cases::cases;
use crate::dice::entropy;
use crate::factory::{Eviction, Factory};
use crate::report::{CaseReport, Ending, Report};
use crate::scratch;

/// How to run the suite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// How many cases run at once. 8 by default: enough to overlap the waits of a remote store.
    pub concurrency: usize,
    /// How long one case may take before it counts as failed. 120 s by default: a hang is a failure, not a wait.
    pub deadline: Duration,
    /// The seed of the random cases; a random one by default.
    pub seed: Option<u64>,
    /// Only the cases of these names; all where it is empty.
    pub only: Vec<String>,
    /// How thoroughly cases look that repeat something many times.
    pub effort: Effort,
}

/// How thoroughly cases look that repeat something many times, or with many keys. Every case runs either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As often as it takes to catch what goes wrong seldom.
    #[default]
    Full,
    /// A fifth of it: for servers that take long for each request, or money.
    Brief,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            concurrency: 8,
            deadline: Duration::from_mins(2),
            seed: None,
            only: Vec::new(),
            effort: Effort::Full,
        }
    }
}

impl RunOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// With so many cases at once; at least one.
    #[must_use]
    pub fn concurrency(mut self, cases: usize) -> Self {
        self.concurrency = cases.max(1);
        self
    }

    /// With this time for each case.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Only the cases of these names.
    #[must_use]
    pub fn only<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.only = names.into_iter().map(Into::into).collect();
        self
    }

    /// With this effort.
    #[must_use]
    pub fn effort(mut self, effort: Effort) -> Self {
        self.effort = effort;
        self
    }

    fn wants(&self, case: &Case) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case.name)
    }
}

/// Runs the cases on the store of `factory` and reports how each ended. Needs a tokio runtime with time enabled.
///
/// Cases run concurrently, but for those that move the clock. A failed, panicking or hanging case does not keep the
/// others from running. Where the store cannot be opened, every case fails with that error.
///
/// # Cancel safety
/// Dropping it leaves the cases that have begun running to their end; they still remove their keys.
pub async fn run(factory: impl Factory, options: RunOptions) -> Report {
    run_shared(Arc::new(factory), options).await
}

pub(crate) async fn run_shared(factory: Arc<dyn Factory>, options: RunOptions) -> Report {
    let seed = options.seed.unwrap_or_else(entropy);
    let clock = Arc::new(SystemClock::new());
    let wanted = |pace: Pace| cases().filter(move |case| case.pace == pace);
    let begin = |case: &'static Case| {
        let (factory, clock) = (Arc::clone(&factory), Arc::clone(&clock));
        let (deadline, effort) = (options.deadline, options.effort);
        // A task of its own: a panic ends the case, and a dropped run leaves no keys behind.
        let task = tokio::runtime::Handle::current().spawn(async move {
            let started = clock.uptime();
            let ending = attempt(factory.as_ref(), case, seed, deadline, effort).await;
            CaseReport {
                name: case.name,
                clauses: case.clauses,
                ending,
                elapsed: clock.uptime().saturating_sub(started),
            }
        });
        async move {
            task.await.unwrap_or_else(|error| CaseReport {
                name: case.name,
                clauses: case.clauses,
                ending: Ending::Failed(format!("the factory or the removal of the keys panicked: {error}")),
                elapsed: Duration::ZERO,
            })
        }
    };
    let together = wanted(Pace::Together).filter(|case| options.wants(case)).map(begin);
    let mut reports: Vec<CaseReport> =
        stream::iter(together).buffer_unordered(options.concurrency.max(1)).collect().await;
    for case in wanted(Pace::Alone).filter(|case| options.wants(case)) {
        reports.push(begin(case).await);
    }
    let place = |report: &CaseReport| cases().position(|case| case.name == report.name);
    reports.sort_by_key(place);
    let store = match tokio::time::timeout(options.deadline, factory.open()).await {
        Ok(Ok(store)) => store.capabilities().name().to_owned(),
        _ => "a store that does not open".to_owned(),
    };
    Report { store, seed, cases: reports }
}

/// Opens a bench, runs the case on it, and removes its keys.
async fn attempt(
    factory: &dyn Factory,
    case: &'static Case,
    seed: u64,
    deadline: Duration,
    effort: Effort,
) -> Ending {
    let store = match tokio::time::timeout(deadline, factory.open()).await {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return Ending::Failed(format!("the store does not open: {}", error.chain())),
        Err(_) => return Ending::Failed(format!("the store did not open within {} s", deadline.as_secs())),
    };
    let capabilities = store.capabilities().clone();
    let Some(prefix) = scratch::prefix(&capabilities, case.name) else {
        return Ending::Skipped(format!(
            "keys of {} bytes are too short for a prefix",
            capabilities.key_limit()
        ));
    };
    let place = if case.needs.contains(&Need::Place) { factory.place().await } else { None };
    let evicts = capabilities.has(Feature::Evicts) && factory.eviction() == Eviction::AsDeclared;
    let clock = factory.clock();
    let bench = Bench { store, capabilities, prefix, clock, place, evicts, seed, effort };
    let unmet = case.needs.iter().find_map(|need| need.unmet(&bench).map(|why| (*need, why)));
    let (body, refusing) = match (unmet, case.refusal) {
        (None, _) => (case.body, None),
        (Some((Need::Has(_), why)), Some(refusal)) => (refusal, Some(why)),
        (Some((_, why)), _) => return Ending::Skipped(why),
    };
    let mut ending = carry_out(body, bench.clone(), case, deadline).await;
    if let (Ending::Passed, Some(why)) = (&ending, refusing) {
        ending = Ending::Refused(format!("{why}, and refuses as specified"));
    }
    // A store that hangs in a case hangs here as well; the first reason is the one to tell.
    let cleaned = tokio::time::timeout(deadline, scratch::clean(&bench.store, &bench.prefix)).await;
    let left = match cleaned {
        Ok(Ok(())) => return ending,
        Ok(Err(error)) => format!("removing the keys of the case failed: {}", error.chain()),
        Err(_) => format!("removing the keys of the case took more than {} s", deadline.as_secs()),
    };
    if let Ending::Failed(why) = &mut ending {
        why.push_str("; ");
        why.push_str(&left);
        return ending;
    }
    Ending::Failed(left)
}

async fn carry_out(body: Body, bench: Bench, case: &'static Case, deadline: Duration) -> Ending {
    let first = case.clauses.first().copied().unwrap_or("read.whole");
    // `body` is called in the task, so that a panic before its first await is caught as well.
    let mut task = tokio::runtime::Handle::current().spawn(async move { body(bench).await });
    let Ok(joined) = tokio::time::timeout(deadline, &mut task).await else {
        task.abort();
        return Ending::Failed(format!("[{first}] the case did not end within {} s", deadline.as_secs()));
    };
    match joined {
        Ok(Ok(())) => Ending::Passed,
        Ok(Err(Stop::Skipped(why))) => Ending::Skipped(why),
        Ok(Err(Stop::Refused(why))) => Ending::Refused(why),
        Ok(Err(Stop::Failed { clause, text })) => Ending::Failed(format!("[{clause}] {text}")),
        Ok(Err(Stop::Error(error))) => {
            Ending::Failed(format!("[{first}] expected success, saw the error \"{}\"", error.chain()))
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Ending::Failed(format!("[{first}] the store panicked: {}", message(panic.as_ref()))),
            Err(_) => Ending::Failed(format!("[{first}] the case was cancelled")),
        },
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
