//! A case: what it checks, what it needs, how it ends.

use std::fmt;
use std::pin::Pin;

use tiered_core::{Durability, Error, Feature, Sharing};

use crate::bench::Bench;
use crate::text::differing;

pub(crate) type CaseFuture = Pin<Box<dyn Future<Output = Verdict> + Send>>;
pub(crate) type Verdict<T = ()> = Result<T, Stop>;
pub(crate) type Body = fn(Bench) -> CaseFuture;

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name, that of the test which [`suite!`](crate::suite) makes of it.
    pub name: &'static str,
    /// The clauses of the specification that it checks, as they are named there.
    pub clauses: &'static [&'static str],
    /// What it needs to run.
    pub needs: &'static [Need],
    /// Whether others may run beside it.
    pub pace: Pace,
    pub(crate) body: Body,
    /// What is checked instead where the store lacks something needed.
    pub(crate) refusal: Option<Body>,
}

impl Case {
    /// Whether a store that lacks what is needed is checked to refuse as specified, or to keep what holds without it.
    pub const fn has_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    /// The clause that a failure cites which names no other.
    pub(crate) fn clause(&self) -> &'static str {
        self.clauses.first().copied().unwrap_or("read.whole")
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("clauses", &self.clauses)
            .field("needs", &self.needs)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

/// What a case needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A declared feature.
    Has(Feature),
    /// A feature that is not declared.
    Lacks(Feature),
    /// A clock that is moved by hand ([`Factory::clock`](crate::Factory::clock)).
    Clock,
    /// A place of its own ([`Factory::place`](crate::Factory::place)).
    Place,
    /// A store whose entries survive at least a clean close.
    Lasting,
    /// A store that keeps others out of the place where its data outlive the process.
    Exclusive,
    /// A store that others can write at the same time.
    Shared,
    /// A store that no other process can write.
    Sole,
}

impl Need {
    /// Whether the factory gives it or not: nothing of the store's own, which it could refuse.
    pub const fn is_of_the_factory(self) -> bool {
        matches!(self, Self::Clock | Self::Place)
    }

    /// Why `bench` does not meet it.
    pub(crate) fn unmet(self, bench: &Bench) -> Option<String> {
        let capabilities = &bench.capabilities;
        let lasting = capabilities.durability() > Durability::Volatile;
        match self {
            Self::Has(feature) if !capabilities.has(feature) => {
                Some(format!("the store does not declare {feature:?}"))
            }
            Self::Lacks(feature) if capabilities.has(feature) => {
                Some(format!("the store declares {feature:?}"))
            }
            Self::Clock if bench.clock.is_none() => Some("the factory has no manual clock".to_owned()),
            Self::Place if bench.place.is_none() => Some("the factory has no place of its own".to_owned()),
            Self::Lasting | Self::Exclusive if !lasting => Some("the store is declared volatile".to_owned()),
            Self::Shared if capabilities.sharing() == Sharing::Exclusive => {
                Some("the store cannot be shared".to_owned())
            }
            Self::Exclusive | Self::Sole if capabilities.sharing() == Sharing::Shared => {
                Some("the store can be shared".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether other cases may run beside a case on the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// They may.
    Together,
    /// They may not: it moves the clock.
    Alone,
}

/// Why a case ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A clause does not hold.
    Failed { clause: &'static str, text: String },
    /// The store returned an error where none was expected.
    Error(Error),
    /// The case does not apply after all.
    Skipped(String),
    /// The store refused what it cannot do, as specified.
    Refused(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

pub(crate) fn fail<T>(clause: &'static str, text: impl Into<String>) -> Verdict<T> {
    Err(Stop::Failed { clause, text: text.into() })
}

/// Fails under `clause` unless `holds`; `text` says what was expected and what was seen.
pub(crate) fn check(clause: &'static str, holds: bool, text: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { fail(clause, text()) }
}

/// Fails under `clause` unless `seen` equals `expected`.
pub(crate) fn check_equal<T: PartialEq + fmt::Debug>(
    clause: &'static str,
    what: &str,
    expected: &T,
    seen: &T,
) -> Verdict {
    check(clause, expected == seen, || format!("{what}: {}", differing(expected, seen)))
}

/// Declares the cases of a module: `name [clauses] needs [needs] alone else refusal;`.
macro_rules! declare {
    ($( $name:ident [$($clause:literal),+] $(needs [$($need:expr),+])? $(pace $pace:ident)? $(else $refusal:ident)?; )+) => {
        pub(crate) static CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: stringify!($name),
            clauses: &[$($clause),+],
            needs: &[$($($need),+)?],
            pace: $crate::case::declare!(@pace $($pace)?),
            body: |bench| Box::pin($name(bench)),
            refusal: $crate::case::declare!(@refusal $($refusal)?),
        }),+];
    };
    (@pace) => { $crate::case::Pace::Together };
    (@pace $pace:ident) => { $crate::case::Pace::$pace };
    (@refusal) => { None };
    (@refusal $refusal:ident) => { Some(|bench| Box::pin($refusal(bench))) };
}
pub(crate) use declare;
