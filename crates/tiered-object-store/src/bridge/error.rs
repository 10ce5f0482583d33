//! Errors of a store as those of `object_store`.

use tiered_core::{Error, ErrorKind, Key, Outcome};

use super::object_store;
use super::object_store::path::Path;

/// The name of this implementation in errors.
pub(super) const STORE: &str = "tiered";

/// An error of the store, which is the source: the caller can look for it there.
pub(super) fn of(error: Error, location: &Path) -> object_store::Error {
    of_key(error, location.as_ref())
}

/// An error of a listing, which names its key where it has one.
pub(super) fn of_listing(error: Error) -> object_store::Error {
    let key = error.key().map(Key::to_string).unwrap_or_default();
    of_key(error, &key)
}

fn of_key(error: Error, path: &str) -> object_store::Error {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            object_store::Error::PermissionDenied { path, source: Box::new(error) }
        }
        ErrorKind::Unsupported => object_store::Error::NotSupported { source: Box::new(error) },
        _ => object_store::Error::Generic { store: STORE, source: Box::new(error) },
    }
}

/// What the store cannot do.
pub(super) fn unsupported(message: &str) -> object_store::Error {
    object_store::Error::NotSupported { source: message.to_owned().into() }
}

/// A call that makes no sense.
pub(super) fn generic(message: impl Into<String>) -> object_store::Error {
    object_store::Error::Generic { store: STORE, source: message.into().into() }
}

pub(super) fn not_found(location: &Path) -> object_store::Error {
    object_store::Error::NotFound { path: location.to_string(), source: "there is no such key".into() }
}

pub(super) fn precondition(
    location: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> object_store::Error {
    object_store::Error::Precondition { path: location.to_string(), source: source.into() }
}

pub(super) fn exists(
    location: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> object_store::Error {
    object_store::Error::AlreadyExists { path: location.to_string(), source: source.into() }
}

/// Whether a write was refused since its precondition does not hold, and had no effect.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.kind() == ErrorKind::PreconditionFailed && error.write_outcome() == Outcome::NotApplied
}
