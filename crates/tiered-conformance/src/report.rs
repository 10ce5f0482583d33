//! The report of a run.

use std::fmt;
use std::time::Duration;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The clauses hold.
    Passed,
    /// The store lacks what the case needs, and refuses as specified. Counts as passed.
    Refused(String),
    /// The case does not apply, for this reason.
    Skipped(String),
    /// A clause does not hold: which, what was expected and what was seen.
    Failed(String),
}

/// One case of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// The case's name.
    pub name: &'static str,
    /// The clauses that it cites.
    pub clauses: &'static [&'static str],
    /// How it ended.
    pub ending: Ending,
    /// How long it took.
    pub elapsed: Duration,
}

/// What a run of the suite found, case by case in the order of the list.
///
/// Displays as a table that ends with the line `N passed, N failed, N skipped`; refusals count as passed and are
/// counted on the line before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name of the store.
    pub store: String,
    /// The seed of the random cases, to run them again.
    pub seed: u64,
    /// Every case.
    pub cases: Vec<CaseReport>,
}

impl Report {
    fn count(&self, wanted: impl Fn(&Ending) -> bool) -> usize {
        self.cases.iter().filter(|case| wanted(&case.ending)).count()
    }

    /// How many passed, refusals among them.
    pub fn passed(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Passed | Ending::Refused(_)))
    }

    /// How many of the passed ones are refusals as specified.
    pub fn refused(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Refused(_)))
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Failed(_)))
    }

    /// How many were skipped.
    pub fn skipped(&self) -> usize {
        self.count(|ending| matches!(ending, Ending::Skipped(_)))
    }

    /// Whether none failed.
    pub fn is_ok(&self) -> bool {
        self.failed() == 0
    }

    /// The first failure, in the order of the list: the one to look at, since cases build on those before them.
    pub fn first_failure(&self) -> Option<&CaseReport> {
        self.cases.iter().find(|case| matches!(case.ending, Ending::Failed(_)))
    }

    /// The case of this name, where it was run.
    pub fn case(&self, name: &str) -> Option<&CaseReport> {
        self.cases.iter().find(|case| case.name == name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        writeln!(f, "conformance of {} (seed {})", self.store, self.seed)?;
        for case in &self.cases {
            let (word, reason) = match &case.ending {
                Ending::Passed => ("passed", None),
                Ending::Refused(reason) => ("refused", Some(reason)),
                Ending::Skipped(reason) => ("skipped", Some(reason)),
                Ending::Failed(reason) => ("FAILED", Some(reason)),
            };
            write!(f, "  {:<width$}  {word:<7}  {:>6} ms", case.name, case.elapsed.as_millis())?;
            match reason {
                Some(reason) => writeln!(f, "  {reason}")?,
                None => writeln!(f)?,
            }
        }
        if let Some(first) = self.first_failure().filter(|_| self.failed() > 1) {
            writeln!(f, "look at {} first: the cases after it build on what it checks", first.name)?;
        }
        writeln!(f, "{} of the passed cases are refusals as specified", self.refused())?;
        write!(f, "{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped())
    }
}
