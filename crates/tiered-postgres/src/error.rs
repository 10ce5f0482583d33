//! Maps the driver's errors.
//!
//! The server's answers become text without their details: details may hold values, which an error never shows.

use deadpool::managed::{PoolError, TimeoutType};
use sqlx::Error as Driver;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tiered_core::{Error, ErrorKind, Outcome};

/// When a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// While the store is opened: what has to be changed has a kind of its own.
    Opening,
    /// Later, with settings that worked: whatever keeps the server away is an outage. It says nothing of the write
    /// that met it, which must not be given up for it.
    Open,
}

/// Returns true if the server rolled the statement back because of a conflict, so that a retry may succeed.
pub(crate) fn is_conflict(error: &Driver) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Returns true if the connection is no longer usable.
pub(crate) fn is_lost(error: &Driver) -> bool {
    match error {
        Driver::Database(answer) => {
            let severity = answer.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
            matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
                || code(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        Driver::Encode(_) | Driver::Decode(_) | Driver::ColumnDecode { .. } | Driver::RowNotFound => false,
        _ => true,
    }
}

fn code(error: &Driver) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// The error with the driver's message, without the details of the server's answer.
fn caused(error: Error, driver: Driver) -> Error {
    match driver {
        Driver::Database(answer) => error.with_source(describe(answer.as_ref())),
        driver => error.with_source(driver),
    }
}

/// The server's answer in a line: its code and its message.
fn describe(answer: &dyn DatabaseError) -> String {
    let code = answer.code().unwrap_or_default();
    format!("the server says {code}: {}", answer.message().replace(['\n', '\r'], " "))
}

const NO_TLS: &str = "no TLS connection can be established; give sslrootcert for a certificate of your own, or sslmode=disable where the network is trusted";

const PARAMETER: &str =
    "a pooler refuses a start-up parameter; open with statement_cache=0, and without `options` in the URL";

/// The error of a connection that could not be acquired: nothing was sent.
pub(crate) fn connecting(error: PoolError<Driver>, phase: Phase) -> Error {
    let refused = |kind, message| {
        let kind = if phase == Phase::Opening { kind } else { ErrorKind::Unavailable };
        Error::new(kind, message).outcome_is(Outcome::NotApplied)
    };
    let error = match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(TimeoutType::Wait) => {
            return refused(
                ErrorKind::Unavailable,
                "all connections of this store are busy; raise `connections`, or ask for less at a time",
            );
        }
        PoolError::Timeout(_) => {
            return refused(
                ErrorKind::Unavailable,
                "no connection within the timeout; look whether the server is up, and at the network",
            );
        }
        PoolError::Closed => {
            let error = Error::new(ErrorKind::Closed, "the store was closed; open it again");
            return error.outcome_is(Outcome::NotApplied);
        }
        other => {
            return refused(ErrorKind::Other, "the pool of connections failed").with_source(other);
        }
    };
    let (kind, message) = match &error {
        Driver::Database(answer) => login(&code(&error).unwrap_or_default(), answer.message()),
        // A handshake that fails over a certificate is an error of the connection to the driver.
        Driver::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => (ErrorKind::Unavailable, NO_TLS),
        Driver::Tls(_) => (ErrorKind::Unavailable, NO_TLS),
        Driver::Io(_) => (
            ErrorKind::Unavailable,
            "the server cannot be reached; look whether it is up, and at the host, the port and the network",
        ),
        Driver::Configuration(_) => (ErrorKind::Config, "the driver refuses the settings; change them"),
        _ => (
            ErrorKind::Unavailable,
            "what answers does not log in as Postgres does; look at the host, the port and pg_hba.conf",
        ),
    };
    caused(refused(kind, message), error)
}

/// Maps the answer of a server that refuses connections.
fn login(code: &str, message: &str) -> (ErrorKind, &'static str) {
    let class = code.get(..2).unwrap_or_default();
    match (code, class) {
        ("28P01", _) => (ErrorKind::PermissionDenied, "the server refuses the password; give the right one"),
        (_, "28") => {
            (ErrorKind::PermissionDenied, "the server refuses the user; look at the role and at pg_hba.conf")
        }
        ("42501", _) => {
            (ErrorKind::PermissionDenied, "the role may not connect to the database; grant it CONNECT")
        }
        ("3D000", _) => (ErrorKind::NotFound, "the database does not exist; create it"),
        ("53300", _) => (
            ErrorKind::Unavailable,
            "the server has no room for more connections; raise its max_connections, or lower `connections`",
        ),
        ("57P03", _) => (ErrorKind::Unavailable, "the server is starting or stopping; try again"),
        ("08P01", _) if message.contains("startup parameter") => (ErrorKind::Config, PARAMETER),
        _ => {
            (ErrorKind::Unavailable, "the server, or a pooler before it, refuses the connection; it says why")
        }
    }
}

/// The error of a transaction that did not begin, behind a pooler: nothing else was sent. `None`: it took too long.
pub(crate) fn beginning(error: Option<Driver>) -> Error {
    let refused = |message| Error::new(ErrorKind::Unavailable, message).outcome_is(Outcome::NotApplied);
    match error {
        None => refused(
            "the pooler gave no session of the server within the timeout; look whether the server is up, raise the pooler's pool_size, or ask for less at a time",
        ),
        Some(error @ Driver::Database(_)) => {
            caused(refused("the pooler gives no session of the server; it says why"), error)
        }
        Some(error) => caused(
            refused("the connection to the pooler broke before the statement was sent; try again"),
            error,
        ),
    }
}

/// The error of a statement that was sent.
pub(crate) fn sent(error: Driver) -> Error {
    let (kind, message, outcome) = match &error {
        Driver::Database(_) => meaning(&code(&error).unwrap_or_default()),
        Driver::Encode(_) => {
            (ErrorKind::InvalidInput, "the driver cannot send a value of this call", Outcome::NotApplied)
        }
        Driver::Decode(_) | Driver::ColumnDecode { .. } | Driver::ColumnNotFound(_) => (
            ErrorKind::Corrupt,
            "the row is not as this store writes it; restore the row, or delete it",
            Outcome::Unknown,
        ),
        Driver::Io(_) | Driver::PoolClosed | Driver::Tls(_) => {
            (ErrorKind::Unavailable, "the connection broke, and the answer is lost", Outcome::Unknown)
        }
        Driver::Protocol(_) => (
            ErrorKind::Unavailable,
            "the answer does not belong to the statement; look at what is between here and the server",
            Outcome::Unknown,
        ),
        _ => (ErrorKind::Other, "the driver failed", Outcome::Unknown),
    };
    caused(Error::new(kind, message).outcome_is(outcome), error)
}

/// Maps the server's code (SQLSTATE).
///
/// An error with a SQLSTATE means that the statement was rolled back, except the codes for a session that ended and for
/// internal errors: those may come after the commit.
fn meaning(code: &str) -> (ErrorKind, &'static str, Outcome) {
    use ErrorKind as Kind;
    let class = code.get(..2).unwrap_or_default();
    let (kind, message) = match (code, class) {
        ("57014", _) => (
            Kind::TimedOut,
            "the server stopped the statement, by its statement_timeout or by hand; look for locks",
        ),
        ("25P03", _) => (
            Kind::TimedOut,
            "the server ended a transaction that stood still for a timeout; look at the network, or raise the timeout",
        ),
        ("25006", _) => {
            (Kind::Unavailable, "the server only reads: a standby, or in recovery; connect to the primary")
        }
        ("2BP01", _) => {
            (Kind::Config, "objects of others, such as a view, depend on the tables; drop those first")
        }
        ("42501", _) => (Kind::PermissionDenied, "the role may not do this; grant it"),
        ("42P01" | "3F000", _) => {
            (Kind::NotFound, "the table does not exist any longer; open the store again to create it")
        }
        ("42P05" | "26000", _) => (
            Kind::Unavailable,
            "a pooler changes the session between statements; open with statement_cache=0",
        ),
        ("53100", _) => (Kind::Full, "the server's disk is full; free some of it"),
        ("40003", _) => (Kind::Unavailable, "the server does not know whether the transaction was committed"),
        ("54000" | "22001", _) => (Kind::TooLarge, "the server refuses the size; write less at a time"),
        ("XX001" | "XX002", _) => {
            (Kind::Corrupt, "the server's own files are damaged; restore them, or rebuild the index")
        }
        (_, "40") | ("55P03", _) => (Kind::Unavailable, "others kept the rows locked; try again"),
        (_, "08" | "57") => (Kind::Unavailable, "the server ended the session, and the answer is lost"),
        (_, "53") => (Kind::Unavailable, "the server has too few resources for the statement; try again"),
        (_, "XX" | "58" | "F0") => (Kind::Other, "the server failed inside; look at its log"),
        (_, "P0") => (Kind::Other, "a trigger or a function of the database refuses it"),
        (_, "44" | "23") => {
            (Kind::Other, "a constraint of the table refuses it; none of them is this store's")
        }
        (_, "0A" | "21" | "22" | "25" | "28" | "42" | "54" | "55") => {
            (Kind::Other, "the server refuses the statement; it says why")
        }
        _ => (Kind::Other, "the server's answer is unfamiliar"),
    };
    let undone = match (code, class) {
        ("40003", _) => false,
        (
            _,
            "0A" | "21" | "22" | "23" | "25" | "26" | "28" | "3F" | "40" | "42" | "44" | "53" | "54" | "55"
            | "P0",
        ) => true,
        _ => code == "57014",
    };
    (kind, message, if undone { Outcome::NotApplied } else { Outcome::Unknown })
}

/// The error of an answer that did not come in time.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "no answer within the timeout; raise it for large values or a slow way")
        .outcome_is(Outcome::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each code that a person may meet: its kind, whether it undid the statement, and what the message says to do.
    const MEANINGS: [(&str, ErrorKind, bool, &str); 25] = [
        ("57014", ErrorKind::TimedOut, true, "look for locks"),
        ("25P03", ErrorKind::TimedOut, true, "raise the timeout"),
        ("25006", ErrorKind::Unavailable, true, "connect to the primary"),
        ("42501", ErrorKind::PermissionDenied, true, "grant it"),
        ("42P01", ErrorKind::NotFound, true, "open the store again"),
        ("42P05", ErrorKind::Unavailable, true, "statement_cache=0"),
        ("26000", ErrorKind::Unavailable, true, "statement_cache=0"),
        ("53100", ErrorKind::Full, true, "free"),
        ("53200", ErrorKind::Unavailable, true, "try again"),
        ("40001", ErrorKind::Unavailable, true, "try again"),
        ("40P01", ErrorKind::Unavailable, true, "try again"),
        ("55P03", ErrorKind::Unavailable, true, "try again"),
        ("40003", ErrorKind::Unavailable, false, "does not know"),
        ("54000", ErrorKind::TooLarge, true, "write less"),
        ("XX000", ErrorKind::Other, false, "look at its log"),
        ("XX001", ErrorKind::Corrupt, false, "restore"),
        ("58030", ErrorKind::Other, false, "look at its log"),
        ("57P01", ErrorKind::Unavailable, false, "the answer is lost"),
        ("57P02", ErrorKind::Unavailable, false, "the answer is lost"),
        ("08006", ErrorKind::Unavailable, false, "the answer is lost"),
        ("08P01", ErrorKind::Unavailable, false, "the answer is lost"),
        ("23514", ErrorKind::Other, true, "constraint"),
        ("P0001", ErrorKind::Other, true, "trigger"),
        ("22P02", ErrorKind::Other, true, "says why"),
        ("ZZ999", ErrorKind::Other, false, "unfamiliar"),
    ];

    #[test]
    fn each_code_of_the_server_maps_to_its_error() {
        for (code, kind, undone, what) in MEANINGS {
            let (found, message, outcome) = meaning(code);
            assert_eq!((found, outcome == Outcome::NotApplied), (kind, undone), "{code}: {message}");
            assert!(message.contains(what), "{code}: {message}");
            // "Nothing was written" and "the answer is lost" exclude each other.
            assert!(outcome == Outcome::Unknown || !message.contains("lost"), "{code}: {message}");
        }
    }

    #[test]
    fn a_broken_connection_is_an_unknown_outcome() {
        let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let error = sent(Driver::Io(broken()));
        assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        assert!(error.to_string().contains("the answer is lost"), "{error}");
        for phase in [Phase::Opening, Phase::Open] {
            let error = connecting(PoolError::Backend(Driver::Io(broken())), phase);
            assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
            assert!(error.to_string().contains("cannot be reached"), "{error}");
        }
        let error = beginning(Some(Driver::Io(broken())));
        assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    }

    #[test]
    fn an_error_of_connecting_names_the_cause() {
        for (code, message, kind, what) in [
            ("28P01", "password authentication failed", ErrorKind::PermissionDenied, "password"),
            ("28000", "no pg_hba.conf entry", ErrorKind::PermissionDenied, "pg_hba.conf"),
            ("3D000", "database does not exist", ErrorKind::NotFound, "create it"),
            ("53300", "too many clients already", ErrorKind::Unavailable, "max_connections"),
            ("57P03", "the database system is starting up", ErrorKind::Unavailable, "try again"),
            ("08P01", "unsupported startup parameter: options", ErrorKind::Config, "statement_cache=0"),
            ("08P01", "no such database: x", ErrorKind::Unavailable, "says why"),
        ] {
            let (found, text) = login(code, message);
            assert_eq!(found, kind, "{code}: {text}");
            assert!(text.contains(what), "{code}: {text}");
        }
    }

    #[test]
    fn a_configuration_error_after_opening_is_an_outage() {
        let refused = || PoolError::Backend(Driver::Configuration("it is gone".into()));
        assert_eq!(connecting(refused(), Phase::Opening).kind(), ErrorKind::Config);
        assert_eq!(connecting(refused(), Phase::Open).kind(), ErrorKind::Unavailable);
    }
}
