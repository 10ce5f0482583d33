//! Running the cases on one store.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};

use crate::case::{Case, Pace};
use crate::cases::cases;
use crate::dice::entropy;
use crate::factory::Factory;
use crate::report::{CaseReport, Report};
use crate::supervise::{Attempt, supervise};

/// How to run the suite.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// How many cases run at once. 8 by default: enough to overlap the waits of a remote store.
    pub concurrency: usize,
    /// How long opening the store, and then the case itself, may take before the case counts as failed. 120 s by
    /// default: a hang is a failure, not a wait. Removing the keys of a failed case may take 30 s more at the most.
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

/// Runs the cases on the store of `factory` and reports how each ended. Needs a tokio runtime, which drives what the
/// store does in the background.
///
/// Cases run concurrently, each on a thread of its own, but for those that move the clock. A failed, panicking or
/// hanging case does not keep the others from running, also where the store blocks the thread that calls it: a case ends
/// at its [deadline](RunOptions::deadline), counted outside of the runtime, and the run goes on. (A store that blocks
/// the thread of a *runtime* with a task of its own blocks a runtime of one thread; give the run a runtime of several.)
/// Where the store cannot be opened, every case fails with that error.
///
/// # Cancel safety
/// Dropping it leaves the cases that have begun running to their end; they still remove their keys.
pub async fn run(factory: impl Factory, options: RunOptions) -> Report {
    run_shared(Arc::new(factory), options).await
}

pub(crate) async fn run_shared(factory: Arc<dyn Factory>, options: RunOptions) -> Report {
    let seed = options.seed.unwrap_or_else(entropy);
    let name = Arc::new(OnceLock::new());
    let begin = |case: &'static Case| {
        let attempt = Attempt {
            factory: Arc::clone(&factory),
            case,
            seed,
            deadline: options.deadline,
            effort: options.effort,
            store: Arc::clone(&name),
        };
        supervise(attempt).boxed()
    };
    // Collected first: a future that held closures over cases could not be spawned.
    let (together, alone): (Vec<&'static Case>, Vec<&'static Case>) =
        cases().filter(|case| options.wants(case)).partition(|case| case.pace == Pace::Together);
    let together: Vec<BoxFuture<'static, CaseReport>> = together.into_iter().map(begin).collect();
    let alone: Vec<BoxFuture<'static, CaseReport>> = alone.into_iter().map(begin).collect();
    let mut reports: Vec<CaseReport> =
        stream::iter(together).buffer_unordered(options.concurrency.max(1)).collect().await;
    for case in alone {
        reports.push(case.await);
    }
    let place = |report: &CaseReport| cases().position(|case| case.name == report.name);
    reports.sort_by_key(place);
    let store = name.get().cloned().unwrap_or_else(|| "a store that does not open".to_owned());
    Report { store, seed, cases: reports }
}
