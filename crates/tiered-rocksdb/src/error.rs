//! The one mapping of RocksDB's errors.

use tiered_core::{Error, ErrorKind};

/// Maps an error of RocksDB. The caller sets the outcome of a write.
pub(crate) fn map(error: rocksdb::Error) -> Error {
    let (kind, message) = classify(&error.kind(), error.as_ref());
    Error::new(kind, message).with_source(error)
}

/// RocksDB's bindings keep nothing of an error but its text, which ends as the operating system says it.
fn classify(kind: &rocksdb::ErrorKind, text: &str) -> (ErrorKind, &'static str) {
    use rocksdb::ErrorKind as Theirs;
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match kind {
        // RocksDB adds "No locks available" to it.
        Theirs::IOError if says(&["lock hold by current process"]) => {
            (ErrorKind::Locked, "the database is open in this process; close it there")
        }
        Theirs::IOError if says(&["No space left", "Disk quota exceeded", "File too large"]) => {
            (ErrorKind::Full, "the disk is full; free some space")
        }
        Theirs::IOError
            if says(&["Permission denied", "Read-only file system", "Operation not permitted"]) =>
        {
            (ErrorKind::PermissionDenied, "the operating system forbids it; grant the permission")
        }
        Theirs::IOError
            if says(&[
                "No locks available",
                "not supported",
                "Function not implemented",
                "Bad file desc",
            ]) =>
        {
            (ErrorKind::Unsupported, "the file system cannot lock or do what RocksDB needs; use another one")
        }
        Theirs::IOError if says(&["While lock file"]) => {
            (ErrorKind::Locked, "the database is open elsewhere; close it there")
        }
        Theirs::IOError if says(&["No such file or directory"]) => (
            ErrorKind::Corrupt,
            "a file of the database is missing; restore it from another tier or a backup",
        ),
        Theirs::IOError | Theirs::TimedOut | Theirs::Busy | Theirs::TryAgain | Theirs::Aborted => {
            (ErrorKind::Unavailable, "the disk failed")
        }
        Theirs::Corruption => {
            (ErrorKind::Corrupt, "the database is damaged; restore it from another tier or a backup")
        }
        Theirs::InvalidArgument
            if says(&["Column families not opened", "does not match existing comparator"]) =>
        {
            (ErrorKind::Foreign, "the folder is a RocksDB database of another program; use another folder")
        }
        Theirs::NotSupported => {
            (ErrorKind::Foreign, "the database was written by a newer RocksDB; use a newer version of tiered")
        }
        Theirs::ShutdownInProgress => (ErrorKind::Closed, "the database is closed"),
        _ => (ErrorKind::Other, "RocksDB failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocksdb::ErrorKind as Theirs;

    #[test]
    fn each_error_of_the_engine_maps_to_its_kind() {
        let table = [
            (
                Theirs::IOError,
                "IO error: While lock file: d/LOCK: Resource temporarily unavailable",
                ErrorKind::Locked,
            ),
            (
                Theirs::IOError,
                "IO error: lock hold by current process: d/LOCK: No locks available",
                ErrorKind::Locked,
            ),
            (
                Theirs::IOError,
                "IO error: While open a file for lock: d/LOCK: Read-only file system",
                ErrorKind::PermissionDenied,
            ),
            (Theirs::IOError, "IO error: While open a file for lock: d/LOCK: No space left", ErrorKind::Full),
            (
                Theirs::IOError,
                "IO error: While lock file: d/LOCK: No locks available",
                ErrorKind::Unsupported,
            ),
            (Theirs::IOError, "IO error: No space left on device: While appending to file", ErrorKind::Full),
            (
                Theirs::IOError,
                "IO error: While open a file: d/1.sst: Permission denied",
                ErrorKind::PermissionDenied,
            ),
            (Theirs::IOError, "IO error: No such file or directory: d/000012.sst", ErrorKind::Corrupt),
            (
                Theirs::IOError,
                "IO error: While fsync: d/000004.log: Input/output error",
                ErrorKind::Unavailable,
            ),
            (Theirs::Corruption, "Corruption: block checksum mismatch", ErrorKind::Corrupt),
            (Theirs::InvalidArgument, "Invalid argument: Column families not opened: x", ErrorKind::Foreign),
            (Theirs::NotSupported, "Not implemented: unknown format version", ErrorKind::Foreign),
            (Theirs::Unknown, "?", ErrorKind::Other),
        ];
        for (theirs, text, kind) in table {
            assert_eq!(classify(&theirs, text).0, kind, "{text}");
        }
    }
}
