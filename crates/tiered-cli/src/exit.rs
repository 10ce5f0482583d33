//! Exit codes.

use std::fmt;
use std::io;

use tiered::{Error, ErrorKind, Outcome};

/// Done.
pub(crate) const OK: u8 = 0;
/// `get`, `head` or `delete` of a key that is absent, `gc --forget-writer` of a writer that has no record, `exists` of a place
/// that is absent, `id` of a store without one.
pub(crate) const ABSENT: u8 = 1;
/// Usage, URL, configuration, key, value over the limit, or a place that holds something else.
pub(crate) const USAGE: u8 = 2;
/// A precondition did not hold.
pub(crate) const PRECONDITION: u8 = 3;
/// Locked, unavailable, absent place, one that is there already, permission, time limit, and any other failure.
pub(crate) const FAILED: u8 = 4;
/// The data is damaged.
pub(crate) const CORRUPT: u8 = 5;
/// `check` found a difference, or a conformance case failed.
pub(crate) const DIFFERENT: u8 = 6;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Store(Error),
    /// A file or stream of the user.
    Io(String, io::Error),
    /// The command line itself.
    Usage(String),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Io(..) => FAILED,
            Self::Store(error) => match error.kind() {
                ErrorKind::InvalidKey
                | ErrorKind::InvalidInput
                | ErrorKind::TooLarge
                | ErrorKind::InvalidRange
                | ErrorKind::Unsupported
                | ErrorKind::Config
                | ErrorKind::Foreign => USAGE,
                ErrorKind::PreconditionFailed if error.write_outcome() == Outcome::NotApplied => PRECONDITION,
                ErrorKind::Corrupt => CORRUPT,
                _ => FAILED,
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => f.write_str(&error.chain()),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Usage(why) => f.write_str(why),
        }
    }
}
