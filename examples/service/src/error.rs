//! What the service's callers are told.

use tiered::ErrorKind;
use tiered::ownership::JournalId;

/// An error of the service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Fewer pieces are there than were ordered.
    #[error("{item} is sold out: {left} left")]
    SoldOut { item: String, left: u64 },
    /// Nothing is known of it.
    #[error("there is no {0}")]
    Unknown(String),
    /// A name that cannot be part of a key.
    #[error("{0:?} cannot be a name: use letters, digits and dashes")]
    Name(String),
    /// Nothing was written; the same call may work later.
    #[error("try again: nothing was written")]
    TryAgain(#[source] tiered::Error),
    /// It may have been written: look before trying again.
    #[error("the outcome is unknown: read before trying again")]
    MaybeWritten(#[source] tiered::Error),
    /// The journal of the data is not where it should be. Without it, acknowledged writes are missing.
    #[error("the journal {0:?} of the data is missing: bring its folder back, or give it up by name")]
    JournalMissing(Vec<JournalId>),
    /// What is stored cannot be read.
    #[error("{0} is stored in another form than this service writes")]
    Form(String),
    /// Anything else of the store.
    #[error("the store failed")]
    Store(#[source] tiered::Error),
}

/// Sorts errors of the store by what a caller can do.
impl From<tiered::Error> for ServiceError {
    fn from(error: tiered::Error) -> Self {
        match (error.kind(), error.outcome()) {
            (_, Some(tiered::Outcome::Unknown)) => Self::MaybeWritten(error),
            (ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Full | ErrorKind::Locked, _) => {
                Self::TryAgain(error)
            }
            _ => Self::Store(error),
        }
    }
}

/// What the service's calls return.
pub type Result<T, E = ServiceError> = std::result::Result<T, E>;
