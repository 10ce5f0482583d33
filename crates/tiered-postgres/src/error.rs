//! What the driver's errors mean.

use deadpool::managed::{PoolError, TimeoutType};
use sqlx::Error as Driver;
use tiered_core::{Error, ErrorKind, Outcome};

/// Whether the server says that it undid the statement because of others, so that trying again may work.
pub(crate) fn is_conflict(error: &Driver) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether the connection is of no use any more.
pub(crate) fn is_lost(error: &Driver) -> bool {
    match error {
        Driver::Database(_) => {
            code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        Driver::Encode(_) | Driver::Decode(_) | Driver::ColumnDecode { .. } | Driver::RowNotFound => false,
        _ => true,
    }
}

fn code(error: &Driver) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

const NO_TLS: &str = "no TLS connection; give sslrootcert for a certificate of your own, or sslmode=disable where nobody listens on the way";

/// The error of a connection that could not be had: nothing was sent.
pub(crate) fn connecting(error: PoolError<Driver>) -> Error {
    let refused = |kind, message| Error::new(kind, message).outcome_is(Outcome::NotApplied);
    let error = match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(TimeoutType::Wait) => {
            return refused(
                ErrorKind::Unavailable,
                "all connections are busy; allow more, or ask for less at a time",
            );
        }
        PoolError::Timeout(_) => {
            return refused(ErrorKind::Unavailable, "the server does not answer within the timeout");
        }
        PoolError::Closed => return refused(ErrorKind::Closed, "the store was closed; open it again"),
        other => {
            return refused(ErrorKind::Other, "no connection can be had").with_source(other);
        }
    };
    let (kind, message) = match (&error, code(&error).as_deref()) {
        (_, Some("28P01" | "28000")) => {
            (ErrorKind::PermissionDenied, "the server refuses the user or the password")
        }
        (_, Some("3D000")) => (ErrorKind::NotFound, "the database does not exist; create it"),
        (_, Some("53300")) => (ErrorKind::Unavailable, "the server has no room for more connections"),
        // A handshake that fails over a certificate is an error of the connection to the driver.
        (Driver::Io(error), _) if error.kind() == std::io::ErrorKind::InvalidData => {
            (ErrorKind::Unavailable, NO_TLS)
        }
        (Driver::Tls(_), _) => (ErrorKind::Unavailable, NO_TLS),
        _ => (ErrorKind::Unavailable, "the server cannot be reached"),
    };
    refused(kind, message).with_source(error)
}

/// The error of a statement that was sent.
///
/// What the server reports with a code of its own undid the statement, but for the codes that say that the session
/// ended, or that something inside went wrong: those may come after the commit.
pub(crate) fn sent(error: Driver) -> Error {
    let Some(code) = code(&error) else {
        let (kind, message) = match &error {
            Driver::Encode(_) => {
                return Error::new(ErrorKind::InvalidInput, "the driver cannot send this")
                    .with_source(error)
                    .outcome_is(Outcome::NotApplied);
            }
            Driver::Decode(_) | Driver::ColumnDecode { .. } | Driver::ColumnNotFound(_) => {
                (ErrorKind::Corrupt, "the row is not as this store writes it")
            }
            Driver::Io(_) | Driver::PoolClosed => {
                (ErrorKind::Unavailable, "the connection broke before the answer")
            }
            _ => (ErrorKind::Other, "the driver failed"),
        };
        return Error::new(kind, message).with_source(error).outcome_is(Outcome::Unknown);
    };
    let class = code.get(..2).unwrap_or_default();
    let (kind, message) = match (code.as_str(), class) {
        ("57014", _) => (ErrorKind::TimedOut, "the server stopped the statement at its statement_timeout"),
        ("42501", _) => (ErrorKind::PermissionDenied, "the role may not do this; grant it"),
        ("42P01" | "3F000", _) => (ErrorKind::NotFound, "the table is gone; open the store again"),
        ("25006", _) => (ErrorKind::Unavailable, "the server is read-only: a standby, or in recovery"),
        ("53100", _) => (ErrorKind::Full, "the server's disk is full"),
        ("40001" | "40P01" | "55P03", _) => {
            (ErrorKind::Unavailable, "others kept the rows locked; try again")
        }
        ("54000" | "22001", _) => (ErrorKind::TooLarge, "the server refuses the size"),
        ("40003", _) | (_, "08" | "57") => (ErrorKind::Unavailable, "the server ended the session"),
        (_, "53") => (ErrorKind::Unavailable, "the server has no room for the statement"),
        (_, "XX" | "58") => (ErrorKind::Other, "the server failed inside"),
        (_, "22" | "23" | "42") => (ErrorKind::Other, "the server refuses the statement"),
        _ => (ErrorKind::Other, "the server failed"),
    };
    let undone = !matches!((code.as_str(), class), ("40003", _) | (_, "08" | "XX" | "58"))
        && !code.starts_with("57P")
        && matches!(class, "22" | "23" | "25" | "28" | "3F" | "40" | "42" | "53" | "54" | "55" | "57");
    let outcome = if undone { Outcome::NotApplied } else { Outcome::Unknown };
    Error::new(kind, message).with_source(error).outcome_is(outcome)
}

/// The error of an answer that did not come in time.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "no answer within the timeout; raise it for large values or a slow way")
        .outcome_is(Outcome::Unknown)
}
