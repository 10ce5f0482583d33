//! What adapters answer alike.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::ByteStream;
#[cfg(doc)]
use super::Store;
use crate::capability::Capabilities;
use crate::clock::Timestamp;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Operation, Outcome, Result};
use crate::key::Key;
use crate::read::{Read, ReadOptions};

/// Collects a streamed value, within the limit of `capabilities`.
///
/// # Errors
/// The stream's own error, or [`ErrorKind::TooLarge`]; always [`Outcome::NotApplied`].
pub async fn collect(capabilities: &Capabilities, mut body: ByteStream) -> Result<Bytes> {
    let mut value = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| error.outcome_is(Outcome::NotApplied))?;
        capabilities.check_value((value.len() + part.len()) as u64)?;
        value.extend_from_slice(&part);
    }
    Ok(value.freeze())
}

/// Checks a mark's name and value.
///
/// # Errors
/// [`ErrorKind::InvalidInput`].
pub fn check_mark(name: &str, value: Option<&Bytes>) -> Result<()> {
    const MAX_VALUE: usize = 4096;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let named = (1..=64).contains(&name.len()) && name.chars().all(allowed);
    if named && value.is_none_or(|value| value.len() <= MAX_VALUE) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        "a mark's name matches [a-z0-9._-]{1,64}; its value has 4 KiB at most",
    )
    .during(Operation::Mark))
}

/// The error of a write whose precondition does not hold.
pub fn precondition_failed(key: &Key) -> Error {
    Error::new(
        ErrorKind::PreconditionFailed,
        "the entry is not what the write expects; read it again and retry",
    )
    .for_key(key)
    .outcome_is(Outcome::NotApplied)
}

/// The error of a call after [`Store::close`].
pub fn closed(operation: Operation) -> Error {
    Error::new(ErrorKind::Closed, "the store was closed; open it again")
        .during(operation)
        .outcome_is(Outcome::NotApplied)
}

/// The live, visible entry of a read, for adapters that hold whole entries. Same as
/// [`Read::answer`], after hiding what is expired or a tombstone.
///
/// # Errors
/// As [`Read::answer`].
pub fn answer(entry: Option<Entry>, now: Timestamp, options: &ReadOptions) -> Result<Read> {
    let visible = entry.filter(|entry| entry.metadata().is_visible(now, options.tombstones));
    match Read::answer(visible, options) {
        Ok(read) => Ok(read),
        Err(error) => Err(error.during(Operation::Load)),
    }
}
