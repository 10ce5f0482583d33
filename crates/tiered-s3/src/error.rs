//! Maps the driver's errors.
//!
//! The driver's errors become text where they hold an answer: its headers hold attributes, and an error never shows a
//! value.

use std::error::Error as StdError;
use std::io;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tiered_core::{Error, ErrorKind, Outcome};

/// A request that failed.
pub(crate) enum Failed {
    /// The condition does not hold (412; 304 for reads).
    Condition,
    /// There is no such object.
    Missing,
    /// The range lies beyond the object.
    Range,
    /// Another write of the same object is under way: to be tried again (409).
    Conflict(Error),
    /// What was read is not whole, or its parts are of different writes: to be read again.
    Torn(Error),
    /// What was read looks damaged. `seen` stands for all that was seen: damage stays as it is, and what other writers
    /// change while it is read does not.
    Damaged { error: Error, seen: u64 },
    /// The settings are wrong: the kind says so while the store is opened. Under settings that worked it is an outage,
    /// which says nothing of the write that met it.
    Settings { kind: ErrorKind, error: Error },
    /// Anything else.
    Error(Error),
}

impl Failed {
    /// As an error, where the special cases cannot be.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Error(error)
            | Self::Conflict(error)
            | Self::Torn(error)
            | Self::Damaged { error, .. }
            | Self::Settings { error, .. } => error,
            Self::Condition | Self::Missing | Self::Range => Error::new(
                ErrorKind::Other,
                "the server's answer does not fit the request; look at what stands before it",
            )
            .outcome_is(Outcome::Unknown),
        }
    }

    /// As an error of opening the store.
    pub(crate) fn into_opening_error(self) -> Error {
        match self {
            Self::Settings { kind, error } => {
                let again = Error::new(kind, error.message()).outcome_is(Outcome::NotApplied);
                match error.source() {
                    Some(source) => again.with_source(source.to_string()),
                    None => again,
                }
            }
            other => other.into_error(),
        }
    }
}

/// What a failed request means. `sent` says whether any of it left this process.
pub(crate) fn failed<E>(error: SdkError<E, HttpResponse>, sent: bool) -> Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default();
            let source = format!("HTTP {status} {code} {}", service.err().message().unwrap_or_default());
            answered(meaning(status, code), source.trim_end())
        }
        _ => Failed::Error(unanswered(error, sent)),
    }
}

fn answered(meaning: Meaning, source: &str) -> Failed {
    let error =
        |kind, message, outcome| Error::new(kind, message).with_source(source.to_owned()).outcome_is(outcome);
    match meaning {
        Meaning::Condition => Failed::Condition,
        Meaning::Range => Failed::Range,
        Meaning::Missing => Failed::Missing,
        Meaning::Conflict => {
            let message = "another write of the same object is under way; try again";
            Failed::Conflict(error(ErrorKind::Unavailable, message, Outcome::NotApplied))
        }
        Meaning::Settings(kind, message) => {
            let error = error(ErrorKind::Unavailable, message, Outcome::NotApplied);
            Failed::Settings { kind, error }
        }
        Meaning::Error(kind, message, outcome) => Failed::Error(error(kind, message, outcome)),
    }
}

/// What an answer of the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Condition,
    Range,
    Missing,
    Conflict,
    Settings(ErrorKind, &'static str),
    Error(ErrorKind, &'static str, Outcome),
}

/// What a status and a code of S3 mean. One that is not known to leave everything as it was is [`Outcome::Unknown`].
fn meaning(status: u16, code: &str) -> Meaning {
    use Meaning::Settings;
    let undone = |kind, message| Meaning::Error(kind, message, Outcome::NotApplied);
    let unknown = |kind, message| Meaning::Error(kind, message, Outcome::Unknown);
    match (status, code) {
        (304 | 412, _) => Meaning::Condition,
        (416, _) => Meaning::Range,
        (404, "NoSuchBucket") => Settings(ErrorKind::NotFound, "the bucket does not exist; create it"),
        (404, "NoSuchUpload") => unknown(
            ErrorKind::Other,
            "the multipart upload no longer exists: it was completed, or aborted by a rule; read the key back",
        ),
        (404, _) => Meaning::Missing,
        (409, _) => Meaning::Conflict,
        (_, "RequestTimeTooSkewed") => Settings(
            ErrorKind::PermissionDenied,
            "the server's clock and this machine's differ too much; set it",
        ),
        (_, "ExpiredToken" | "TokenRefreshRequired") => {
            Settings(ErrorKind::PermissionDenied, "the credentials have expired; renew them")
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => Settings(
            ErrorKind::PermissionDenied,
            "the server does not know the access key, or the secret is not its; give the right credentials",
        ),
        (301 | 307 | 308, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => Settings(
            ErrorKind::Config,
            "the bucket is in another region, or at another endpoint; give that one",
        ),
        (403, "InvalidObjectState") => {
            undone(ErrorKind::Other, "the object is in an archive; restore it first")
        }
        // The answer to a HEAD has no room for a code.
        (401 | 403, "") => Settings(
            ErrorKind::PermissionDenied,
            "the server does not allow it, and does not say why; check the credentials and what they allow",
        ),
        (401 | 403, _) => undone(
            ErrorKind::PermissionDenied,
            "the server does not allow it; check what the credentials allow",
        ),
        (_, "SlowDown" | "TooManyRequests" | "ThrottlingException" | "RequestLimitExceeded") | (429, _) => {
            undone(ErrorKind::Unavailable, "the server asks to slow down; try again later")
        }
        (_, "BadDigest" | "IncompleteBody" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            undone(ErrorKind::Unavailable, "the request was damaged on the way, and refused; try again")
        }
        (_, "RequestTimeout") => {
            undone(ErrorKind::TimedOut, "the server waited too long for the body; look at the network")
        }
        (_, "EntityTooLarge") | (413, _) => {
            undone(ErrorKind::TooLarge, "the server refuses the size; split the value, or lower `multipart`")
        }
        (_, "MetadataTooLarge") => undone(
            ErrorKind::InvalidInput,
            "the server refuses the size of the attributes; use fewer or shorter ones",
        ),
        (_, "KeyTooLongError") => {
            undone(ErrorKind::InvalidKey, "the server refuses the length of the name; use a shorter key")
        }
        (405 | 501, _) => undone(ErrorKind::Unsupported, "the server cannot do this; use another"),
        (507, _) => undone(ErrorKind::Full, "the server has no room; free some"),
        // Said of the request itself, before anything is done. What a server or a gateway says of its own trouble with
        // it (408, 499) may come after the request has gone on.
        (400 | 402 | 406 | 411 | 414 | 415 | 417 | 422 | 431, _) => {
            undone(ErrorKind::Other, "the server refuses the request; it says why")
        }
        (408, _) => unknown(
            ErrorKind::TimedOut,
            "the server, or a gateway before it, waited too long, and the answer is lost; look at the network",
        ),
        // An upload in parts fails under the status 200, since the answer begins before the work is done.
        (200..=299 | 500..=599, _) => {
            unknown(ErrorKind::Unavailable, "the server failed while it was at it; try again later")
        }
        _ => unknown(ErrorKind::Other, "the answer of the server, or of a gateway before it, is unfamiliar"),
    }
}

/// The error of a request that the server did not answer.
fn unanswered<E>(error: SdkError<E, HttpResponse>, sent: bool) -> Error
where
    E: StdError + Send + Sync + 'static,
{
    let (kind, message, outcome) = match &error {
        SdkError::ConstructionFailure(_) => {
            (ErrorKind::InvalidInput, "the driver cannot make this request; it says why", Outcome::NotApplied)
        }
        SdkError::ResponseError(_) => (
            ErrorKind::Unavailable,
            "the answer cannot be read: it is truncated or not an answer of S3; check the network and the endpoint",
            Outcome::Unknown,
        ),
        _ if !sent => (ErrorKind::Unavailable, UNSIGNED, Outcome::NotApplied),
        SdkError::DispatchFailure(_) if !is_connected(&error) => {
            (ErrorKind::Unavailable, no_connection(&error), Outcome::NotApplied)
        }
        SdkError::TimeoutError(_) => (ErrorKind::TimedOut, LATE, Outcome::Unknown),
        _ => (ErrorKind::Unavailable, "the connection broke, and the answer is lost", Outcome::Unknown),
    };
    let text = match error.into_source() {
        Ok(source) => chain(source.as_ref()),
        Err(error) => error.to_string(),
    };
    Error::new(kind, message).with_source(text).outcome_is(outcome)
}

const UNSIGNED: &str =
    "the request could not be signed, so that nothing was sent; look at where the credentials come from";

const LATE: &str = "no answer within the timeout; raise it for a slow server or way";

/// The error of an answer that did not come in time.
pub(crate) fn late(sent: bool) -> Error {
    if sent {
        Error::new(ErrorKind::TimedOut, LATE).outcome_is(Outcome::Unknown)
    } else {
        Error::new(ErrorKind::Unavailable, UNSIGNED)
            .with_source("the credentials did not come within the timeout")
            .outcome_is(Outcome::NotApplied)
    }
}

/// The error of a truncated body, or of a body that does not belong to the object of its headers.
pub(crate) fn torn(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection broke within the value; read it again")
        .with_source(error)
}

/// The error of an object that was replaced or deleted between two requests, or during one.
pub(crate) fn changed() -> Error {
    Error::new(ErrorKind::Unavailable, "the object was replaced while it was read; read it again")
}

/// An error and what it is made of. `io::Error` counts what it wraps as itself: it is taken out here.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = sources.map(ToString::to_string).collect();
    texts.join(": ").replace(['\n', '\r'], " ")
}

/// Returns true if a connection was established, so that something may have been sent.
fn is_connected(error: &(dyn StdError + 'static)) -> bool {
    let refused = |error: &(dyn StdError + 'static)| {
        let io = error.downcast_ref::<io::Error>();
        let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            || client.is_some_and(hyper_util::client::legacy::Error::is_connect)
    };
    !causes(error).any(refused)
}

/// Why no connection was established. The driver reports a rejected certificate as a connection error.
fn no_connection(error: &(dyn StdError + 'static)) -> &'static str {
    let tls = |error: &(dyn StdError + 'static)| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
    };
    if causes(error).any(tls) {
        "no TLS connection can be established: the certificate is not trusted, or the endpoint speaks no TLS"
    } else {
        "the server cannot be reached; look whether it is up, and at the endpoint and the network"
    }
}

#[cfg(test)]
mod tests;
