//! Streamed values: checked at their end, and resumed where they broke off.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use futures_util::stream;
use tiered_core::adapter::Checksum;
use tiered_core::{ByteStream, Error, Key, Operation, Result};

use crate::client::{ATTEMPTS, is_transient, pause};
use crate::error::{Failed, changed, late, torn};
use crate::head::Head;
use crate::read::STANDSTILL;
use crate::store::S3Store;

/// A streamed value.
pub(crate) struct Parts {
    pub(crate) body: Body,
    /// What has not been streamed yet.
    pub(crate) left: Range<u64>,
    /// Times that it broke off since the last part.
    pub(crate) failures: u32,
    pub(crate) crc: u32,
    /// The checksum, where the whole value is streamed.
    pub(crate) expected: Option<Checksum>,
    pub(crate) name: String,
    pub(crate) head: Head,
    pub(crate) store: S3Store,
}

impl Parts {
    pub(crate) fn stream(self, key: Key) -> ByteStream {
        Box::pin(stream::unfold(Some((self, key)), |state| async move {
            let (mut parts, key) = state?;
            match parts.next().await {
                Ok(Some(part)) => Some((Ok(part), Some((parts, key)))),
                Ok(None) => None,
                Err(error) => {
                    let error = parts.store.failed(error, Operation::Load).for_key(&key);
                    Some((Err(error), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let broken = match tokio::time::timeout(STANDSTILL, self.body.next()).await {
                Ok(Some(Ok(part))) => {
                    let length = part.len() as u64;
                    if length > self.left.end - self.left.start {
                        return Err(changed());
                    }
                    self.left.start += length;
                    self.failures = 0;
                    self.crc = crc32c::crc32c_append(self.crc, &part);
                    return Ok(Some(part));
                }
                Ok(None) if self.left.is_empty() => return self.end().await.map(|()| None),
                Ok(None) => torn("the body ended before its end"),
                Ok(Some(Err(error))) => torn(error),
                Err(_) => late(true),
            };
            self.resume(broken).await?;
        }
    }

    /// Checks the value against its checksum, if it has one.
    async fn end(&self) -> Result<()> {
        match self.expected {
            Some(expected) if expected != Checksum::from_u32(self.crc) => {
                Err(self.store.blame(&self.name, &self.head, expected).await)
            }
            _ => Ok(()),
        }
    }

    /// Requests the rest of the same object. `broken` is the error if that fails.
    async fn resume(&mut self, mut broken: Error) -> Result<()> {
        while self.failures < ATTEMPTS {
            self.failures += 1;
            pause(self.failures).await;
            match self.store.body_of(&self.name, &self.head, &self.left).await {
                Ok(body) => {
                    tracing::debug!(error = %broken.chain(), "a value is streamed on from where it broke off");
                    self.body = body;
                    return Ok(());
                }
                Err(Failed::Condition | Failed::Missing | Failed::Range) => return Err(changed()),
                Err(Failed::Error(error)) if is_transient(&error) => broken = error,
                Err(failed) => return Err(failed.into_error()),
            }
        }
        Err(broken)
    }
}
