//! The one mapping of redb's errors.

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};
use tiered_core::{Error, ErrorKind};
use tiered_embedded::io_kind;

/// Maps an error of redb. The caller sets the outcome of a write.
pub(crate) fn map(error: impl Into<Failure>) -> Error {
    let failure = error.into();
    let (kind, message) = failure.classify();
    Error::new(kind, message).with_source(failure.0)
}

/// redb's union of errors.
#[derive(Debug)]
pub(crate) struct Failure(redb::Error);

macro_rules! from {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self(error.into())
            }
        })*
    };
}

from!(StorageError, DatabaseError, TableError, TransactionError, CommitError, redb::SetDurabilityError);

impl Failure {
    fn classify(&self) -> (ErrorKind, &'static str) {
        match &self.0 {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                (ErrorKind::Locked, "the file is open elsewhere; close it there")
            }
            redb::Error::UpgradeRequired(_) => (
                ErrorKind::Foreign,
                "the file was written by an older redb; upgrade it with that version first",
            ),
            redb::Error::Corrupted(_) | redb::Error::RepairAborted => {
                (ErrorKind::Corrupt, "the file is damaged; restore it from another tier or a backup")
            }
            redb::Error::ValueTooLarge(_) => {
                (ErrorKind::TooLarge, "redb takes no value above 3 GiB; split it")
            }
            redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_) => {
                (ErrorKind::Foreign, "the file is a redb database of another program; use another file")
            }
            redb::Error::PreviousIo => {
                (ErrorKind::Unavailable, "the disk failed; the next call opens the database again")
            }
            redb::Error::DatabaseClosed => (ErrorKind::Closed, "the database is closed"),
            redb::Error::Io(error) => io_kind(error.kind()),
            _ => (ErrorKind::Other, "redb failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_error_of_the_engine_maps_to_its_kind() {
        let os = |kind| StorageError::Io(io::Error::from(kind));
        let table: [(Failure, ErrorKind); 11] = [
            (DatabaseError::DatabaseAlreadyOpen.into(), ErrorKind::Locked),
            (DatabaseError::UpgradeRequired(1).into(), ErrorKind::Foreign),
            (DatabaseError::RepairAborted.into(), ErrorKind::Corrupt),
            (StorageError::Corrupted(String::new()).into(), ErrorKind::Corrupt),
            (StorageError::PreviousIo.into(), ErrorKind::Unavailable),
            (StorageError::DatabaseClosed.into(), ErrorKind::Closed),
            (StorageError::ValueTooLarge(1).into(), ErrorKind::TooLarge),
            (os(io::ErrorKind::StorageFull).into(), ErrorKind::Full),
            (os(io::ErrorKind::InvalidData).into(), ErrorKind::Foreign),
            (os(io::ErrorKind::UnexpectedEof).into(), ErrorKind::Corrupt),
            (TableError::TableDoesNotExist(String::new()).into(), ErrorKind::Foreign),
        ];
        for (failure, kind) in table {
            assert_eq!(failure.classify().0, kind, "{failure:?}");
        }
    }
}
