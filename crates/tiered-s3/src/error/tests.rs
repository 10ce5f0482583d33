//! The table of meanings.

use super::*;

const UNDONE: Outcome = Outcome::NotApplied;
const UNKNOWN: Outcome = Outcome::Unknown;

/// Each answer that a person may meet, and what the message says to do.
const ERRORS: [(u16, &str, ErrorKind, Outcome, &str); 24] = [
    (404, "NoSuchUpload", ErrorKind::Other, UNKNOWN, "read the key back"),
    (403, "AccessDenied", ErrorKind::PermissionDenied, UNDONE, "what the credentials allow"),
    (403, "InvalidObjectState", ErrorKind::Other, UNDONE, "restore it"),
    (503, "SlowDown", ErrorKind::Unavailable, UNDONE, "slow down"),
    (429, "", ErrorKind::Unavailable, UNDONE, "slow down"),
    (400, "BadDigest", ErrorKind::Unavailable, UNDONE, "damaged on the way"),
    (400, "IncompleteBody", ErrorKind::Unavailable, UNDONE, "damaged on the way"),
    (400, "RequestTimeout", ErrorKind::TimedOut, UNDONE, "network"),
    (400, "EntityTooLarge", ErrorKind::TooLarge, UNDONE, "split"),
    (413, "", ErrorKind::TooLarge, UNDONE, "split"),
    (400, "MetadataTooLarge", ErrorKind::InvalidInput, UNDONE, "fewer"),
    (400, "KeyTooLongError", ErrorKind::InvalidKey, UNDONE, "shorter"),
    (405, "MethodNotAllowed", ErrorKind::Unsupported, UNDONE, "use another"),
    (501, "NotImplemented", ErrorKind::Unsupported, UNDONE, "use another"),
    (507, "", ErrorKind::Full, UNDONE, "free some"),
    (400, "InvalidRequest", ErrorKind::Other, UNDONE, "says why"),
    (411, "MissingContentLength", ErrorKind::Other, UNDONE, "says why"),
    (408, "", ErrorKind::TimedOut, UNKNOWN, "the answer is lost"),
    (499, "", ErrorKind::Other, UNKNOWN, "unfamiliar"),
    (500, "InternalError", ErrorKind::Unavailable, UNKNOWN, "try again later"),
    (200, "InternalError", ErrorKind::Unavailable, UNKNOWN, "try again later"),
    (503, "", ErrorKind::Unavailable, UNKNOWN, "try again later"),
    (504, "", ErrorKind::Unavailable, UNKNOWN, "try again later"),
    (102, "", ErrorKind::Other, UNKNOWN, "unfamiliar"),
];

#[test]
fn each_answer_of_the_server_maps_to_its_error() {
    for (status, code, kind, outcome, what) in ERRORS {
        let Failed::Error(error) = answered(meaning(status, code), "HTTP") else {
            return assert_eq!((status, code), (0, ""), "it is no plain error");
        };
        assert_eq!((error.kind(), error.outcome()), (kind, Some(outcome)), "{status} {code}: {error}");
        assert!(error.message().contains(what), "{status} {code}: {error}");
        // What was refused has no effect, and what may have one was not refused.
        let refused =
            ["refuse", "does not allow", "cannot do"].iter().any(|word| error.message().contains(word));
        assert!(!refused || outcome == UNDONE, "{error}");
        assert!(!error.message().contains("lost") || outcome == UNKNOWN, "{error}");
    }
}

#[test]
fn a_failed_condition_and_an_absent_key_are_not_faults() {
    for status in [304, 412] {
        assert_eq!(meaning(status, "PreconditionFailed"), Meaning::Condition);
    }
    assert_eq!(meaning(404, "NoSuchKey"), Meaning::Missing);
    assert_eq!(meaning(404, ""), Meaning::Missing);
    assert_eq!(meaning(416, "InvalidRange"), Meaning::Range);
    for code in ["ConditionalRequestConflict", "OperationAborted"] {
        assert_eq!(meaning(409, code), Meaning::Conflict);
    }
}

#[test]
fn wrong_settings_are_a_configuration_error_at_opening_and_an_outage_later() {
    for (status, code, kind, what) in [
        (404, "NoSuchBucket", ErrorKind::NotFound, "create it"),
        (403, "RequestTimeTooSkewed", ErrorKind::PermissionDenied, "clock"),
        (400, "ExpiredToken", ErrorKind::PermissionDenied, "renew"),
        (403, "InvalidAccessKeyId", ErrorKind::PermissionDenied, "right credentials"),
        (403, "SignatureDoesNotMatch", ErrorKind::PermissionDenied, "right credentials"),
        (403, "", ErrorKind::PermissionDenied, "does not say why"),
        (301, "PermanentRedirect", ErrorKind::Config, "region"),
        (400, "AuthorizationHeaderMalformed", ErrorKind::Config, "region"),
    ] {
        let failed = || answered(meaning(status, code), "HTTP status");
        let error = failed().into_opening_error();
        assert_eq!((error.kind(), error.outcome()), (kind, Some(UNDONE)), "{error}");
        assert!(error.chain().contains(what) && error.chain().contains("HTTP status"), "{}", error.chain());
        let error = failed().into_error();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Some(UNDONE)), "{error}");
        assert!(error.message().contains(what), "{error}");
    }
}
