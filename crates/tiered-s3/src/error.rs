//! What the driver's errors mean.

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
    /// Anything else.
    Error(Error),
}

impl Failed {
    /// As an error, where the special cases cannot be.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Error(error) | Self::Conflict(error) => error,
            Self::Condition | Self::Missing | Self::Range => {
                Error::new(ErrorKind::Other, "the server's answer does not fit the request")
                    .outcome_is(Outcome::Unknown)
            }
        }
    }
}

/// What a failed request means. A code of the server that is not known to leave everything as it was is
/// [`Outcome::Unknown`].
pub(crate) fn failed<E>(error: SdkError<E, HttpResponse>) -> Failed
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let (status, code) = match &error {
        SdkError::ServiceError(service) => {
            (service.raw().status().as_u16(), service.err().code().unwrap_or_default().to_owned())
        }
        _ => return Failed::Error(unanswered(error)),
    };
    let (kind, message, outcome) = match (status, code.as_str()) {
        (304 | 412, _) => return Failed::Condition,
        (416, _) => return Failed::Range,
        (404, "NoSuchBucket") => {
            (ErrorKind::NotFound, "the bucket does not exist; create it", Outcome::NotApplied)
        }
        (404, "NoSuchUpload") => (ErrorKind::Other, "the upload in parts is gone", Outcome::Unknown),
        (404, _) => return Failed::Missing,
        (409, _) => {
            let message = "another write of the same object is under way; try again";
            let error =
                Error::new(ErrorKind::Unavailable, message).with_source(describe(status, &code, &error));
            return Failed::Conflict(error.outcome_is(Outcome::NotApplied));
        }
        (403, "RequestTimeTooSkewed") => (
            ErrorKind::PermissionDenied,
            "the server's clock and this machine's differ too much; set it",
            Outcome::NotApplied,
        ),
        (401 | 403, _) => (
            ErrorKind::PermissionDenied,
            "the server refuses it; check the credentials and what they allow",
            Outcome::NotApplied,
        ),
        (301 | 307 | 308, _) => {
            (ErrorKind::Config, "the bucket is in another region; give that one", Outcome::NotApplied)
        }
        (_, "SlowDown" | "TooManyRequests" | "ThrottlingException" | "RequestLimitExceeded") | (429, _) => {
            (ErrorKind::Unavailable, "the server asks to slow down; try again later", Outcome::NotApplied)
        }
        (_, "EntityTooLarge") | (413, _) => {
            (ErrorKind::TooLarge, "the server refuses the size", Outcome::NotApplied)
        }
        (_, "MetadataTooLarge") => {
            (ErrorKind::InvalidInput, "the server refuses the size of the attributes", Outcome::NotApplied)
        }
        (405 | 501, _) => (ErrorKind::Unsupported, "the server cannot do this", Outcome::NotApplied),
        (507, _) => (ErrorKind::Full, "the server has no room", Outcome::NotApplied),
        // Said of the request itself, before anything is done. What a server or a gateway says of its own trouble with
        // it (408, 499) may come after the request has gone on.
        (400 | 402 | 406 | 411 | 414 | 415 | 417 | 422 | 431, _) => {
            (ErrorKind::Other, "the server refuses the request", Outcome::NotApplied)
        }
        (400..=499, _) => (ErrorKind::Other, "the server refuses the request", Outcome::Unknown),
        (500..=599, _) => (ErrorKind::Unavailable, "the server failed; try again later", Outcome::Unknown),
        _ => (ErrorKind::Other, "the server's answer is unfamiliar", Outcome::Unknown),
    };
    let error = Error::new(kind, message).with_source(describe(status, &code, &error));
    Failed::Error(error.outcome_is(outcome))
}

/// The server's answer in a line: the driver's own text says little, its details much, of requests too.
fn describe<E: ProvideErrorMetadata>(status: u16, code: &str, error: &SdkError<E, HttpResponse>) -> String {
    let message = error.as_service_error().and_then(|service| service.message().map(str::to_owned));
    format!("HTTP {status} {code} {}", message.unwrap_or_default()).trim_end().to_owned()
}

/// The error of a request that the server did not answer.
fn unanswered<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: StdError + Send + Sync + 'static,
{
    let (kind, message, outcome) = match &error {
        SdkError::ConstructionFailure(_) => {
            (ErrorKind::Config, "the request cannot be made", Outcome::NotApplied)
        }
        SdkError::TimeoutError(_) => (ErrorKind::TimedOut, "no answer in time", Outcome::Unknown),
        SdkError::DispatchFailure(failure) if failure.is_other() || failure.is_user() => {
            (ErrorKind::Unavailable, "the request was not sent; are there credentials?", Outcome::Unknown)
        }
        SdkError::DispatchFailure(_) if refused(&error) => {
            (ErrorKind::Unavailable, "the server cannot be reached", Outcome::NotApplied)
        }
        SdkError::DispatchFailure(_) => {
            (ErrorKind::Unavailable, "the connection broke before the answer", Outcome::Unknown)
        }
        _ => (ErrorKind::Unavailable, "the answer cannot be read", Outcome::Unknown),
    };
    Error::new(kind, message).with_source(error).outcome_is(outcome)
}

/// Whether no connection came about, so that nothing was sent.
fn refused(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error of an answer that did not come in time.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "no answer within the timeout; raise it for a slow server or way")
        .outcome_is(Outcome::Unknown)
}
