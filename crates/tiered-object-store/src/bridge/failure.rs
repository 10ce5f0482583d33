//! Errors of an object store as those of a tier.

use std::error::Error as StdError;
use std::io;

use tiered_core::{Error, ErrorKind, Outcome};

use super::object_store;

const BOTH: &str = "a file system cannot hold a and a/b; use flat keys, or another key";

/// A request that failed.
pub(super) enum Failed {
    /// There is no such object.
    Missing,
    /// A file stands where a folder would have to be: there is no such object, and there can be none.
    Blocked(Error),
    /// The condition does not hold.
    Condition,
    /// Anything else.
    Error(Error),
}

impl Failed {
    /// As an error, where the special cases cannot be.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Error(error) | Self::Blocked(error) => error,
            Self::Missing | Self::Condition => Error::new(
                ErrorKind::Other,
                "the object store's answer does not fit the request; look at what stands before it",
            )
            .outcome_is(Outcome::Unknown),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What an error means. One that is not known to leave everything as it was is [`Outcome::Unknown`]: object stores give
/// one kind of error for outages, lost answers and refusals alike.
impl From<object_store::Error> for Failed {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Driver;
        let undone = |kind, message| Error::new(kind, message).outcome_is(Outcome::NotApplied);
        let meaning = match &error {
            Driver::NotFound { .. } => return Self::Missing,
            Driver::AlreadyExists { .. } | Driver::Precondition { .. } | Driver::NotModified { .. } => {
                return Self::Condition;
            }
            Driver::NotSupported { .. } | Driver::NotImplemented { .. } => {
                undone(ErrorKind::Unsupported, "the object store cannot do this")
            }
            Driver::InvalidPath { .. } => {
                undone(ErrorKind::InvalidKey, "the object store takes no such path")
            }
            Driver::PermissionDenied { .. } | Driver::Unauthenticated { .. } => {
                undone(ErrorKind::PermissionDenied, "the object store forbids it; grant the permission")
            }
            Driver::UnknownConfigurationKey { .. } => undone(ErrorKind::Config, "there is no such setting"),
            _ => match io_kind(&error) {
                Some(io::ErrorKind::NotADirectory) => {
                    return Self::Blocked(undone(ErrorKind::Unsupported, BOTH).with_source(error));
                }
                Some(io::ErrorKind::IsADirectory) => undone(ErrorKind::Unsupported, BOTH),
                Some(io::ErrorKind::InvalidFilename) => {
                    undone(ErrorKind::InvalidKey, "the file system takes no such name; use a shorter key")
                }
                Some(kind) => Error::new(Error::from(io::Error::from(kind)).kind(), "the request failed")
                    .outcome_is(Outcome::Unknown),
                None => Error::new(ErrorKind::Unavailable, "the request failed").outcome_is(Outcome::Unknown),
            },
        };
        Self::Error(meaning.with_source(error))
    }
}

/// The error of the operating system that is the cause.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return Some(cause.kind());
        }
        source = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(source) }
    }

    #[test]
    fn errors_keep_their_meaning() {
        let unsupported = object_store::Error::NotSupported { source: "no".into() };
        let denied = object_store::Error::Unauthenticated { path: "a".into(), source: "no".into() };
        let cases = [
            (unsupported, ErrorKind::Unsupported, Outcome::NotApplied),
            (denied, ErrorKind::PermissionDenied, Outcome::NotApplied),
            (generic(io::Error::from(io::ErrorKind::StorageFull)), ErrorKind::Full, Outcome::Unknown),
            (
                generic(io::Error::from(io::ErrorKind::InvalidFilename)),
                ErrorKind::InvalidKey,
                Outcome::NotApplied,
            ),
            (generic(std::fmt::Error), ErrorKind::Unavailable, Outcome::Unknown),
        ];
        for (driver, kind, outcome) in cases {
            let text = driver.to_string();
            let error = Failed::from(driver).into_error();
            assert_eq!((error.kind(), error.write_outcome()), (kind, outcome), "{text}");
        }
        let missing = generic(io::Error::from(io::ErrorKind::NotADirectory));
        assert!(matches!(Failed::from(missing), Failed::Blocked(_)));
    }
}
