//! Values read in parts, each by a statement of its own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tiered_core::adapter::{Checksum, clamp_range};
use tiered_core::{ByteStream, Error, ErrorKind, Key, Metadata, Operation, ReadOptions, Result};

use crate::chunks::{PART, missing};
use crate::row::{Found, Stored};
use crate::store::PostgresStore;

/// A value that is being read.
struct Reading {
    store: PostgresStore,
    key: Key,
    found: Found,
    /// What is to be read yet.
    rest: Range<u64>,
    /// The checksum of what was read, where the whole value is.
    crc: Option<u32>,
}

impl Reading {
    /// The next part; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.rest.is_empty() {
            let expected = self.found.metadata.checksum;
            return match (self.crc, expected) {
                (Some(crc), Some(expected)) if expected != Checksum::from_u32(crc) => Err(mismatch()),
                _ => Ok(None),
            };
        }
        let part = self.rest.start..self.rest.end.min(self.rest.start + PART);
        let read = self.read(&part).await?;
        self.crc = self.crc.map(|crc| crc32c::crc32c_append(crc, &read));
        self.rest.start = part.end;
        Ok(Some(read))
    }

    async fn read(&self, part: &Range<u64>) -> Result<Bytes> {
        let (store, version) = (&self.store, &self.found.metadata.version);
        let Stored::Apart(content) = self.found.stored else {
            return store.part_of_row(&self.key, version, part).await?.ok_or_else(replaced);
        };
        if let Some(read) = store.assembled(content, part).await? {
            return Ok(read);
        }
        let now = store.look(&self.key).await?;
        let is_same = now.is_some_and(|now| matches!(now.stored, Stored::Apart(now) if now == content));
        Err(if is_same { missing() } else { replaced() })
    }
}

impl PostgresStore {
    pub(crate) async fn stream_entry(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        self.check_open(Operation::Load)?;
        let Some(found) = self.look(key).await? else { return Ok(None) };
        let metadata = Arc::clone(&found.metadata);
        if !metadata.is_visible(self.0.stamp.now(), options.tombstones) {
            return Ok(None);
        }
        let all = 0..metadata.size;
        let rest = clamp_range(options.range.as_ref().unwrap_or(&all), metadata.size)?;
        let crc = (rest == all).then_some(0);
        let reading = Reading { store: self.clone(), key: key.clone(), found, rest, crc };
        let body = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(part) => Some((Ok(part?), Some(reading))),
                Err(error) => {
                    let error = reading.store.failed(error, Operation::Load).for_key(&reading.key);
                    Some((Err(error), None))
                }
            }
        });
        Ok(Some((metadata, Box::pin(body))))
    }
}

/// The error of a value that is gone, because its entry is.
pub(crate) fn replaced() -> Error {
    let message = "the entry was replaced while it was read in parts; read it again";
    Error::new(ErrorKind::Unavailable, message)
}

fn mismatch() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the value does not match its checksum; restore it from another tier or a backup",
    )
}
