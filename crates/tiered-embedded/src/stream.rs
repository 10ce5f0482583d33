//! Values read in parts, each on a view of its own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use tiered_core::adapter::clamp_range;
use tiered_core::{ByteStream, Error, ErrorKind, Key, Metadata, Operation, ReadOptions, Result};

use crate::engine::View;
use crate::inline::LARGEST;
use crate::layout::{Chunks, read_record};
use crate::record::{Content, Record};
use crate::store::EmbeddedStore;
use crate::values::Pin;

/// Bytes of a part: what is in memory at a time.
const PART: u64 = 1 << 20;

/// A value that is being read.
struct Reading {
    store: EmbeddedStore,
    key: Key,
    record: Record,
    /// What is to be read yet.
    rest: Range<u64>,
    /// Keeps the value until the end.
    pin: Option<Pin>,
}

impl Reading {
    async fn read(&self, part: Range<u64>) -> Result<Bytes> {
        if let Content::Inline(value) = &self.record.content {
            let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(value.len());
            return Ok(value.slice(at(part.start)..at(part.end)));
        }
        if part.end - part.start <= LARGEST {
            let read = |view: &dyn View| read_part(view, &self.key, &self.record, &part).map(Some);
            if let Some(read) = self.store.read_here(Operation::Load, read).await? {
                return read.ok_or_else(|| self.replaced());
            }
        }
        let (key, record) = (self.key.clone(), self.record.clone());
        let read = self.store.read(Operation::Load, move |view| read_part(view, &key, &record, &part));
        read.await?.ok_or_else(|| self.replaced())
    }

    fn replaced(&self) -> Error {
        let message = "the value was replaced while it was read; read it again";
        self.store.failed(Operation::Load, Error::new(ErrorKind::Unavailable, message))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.pin.take().is_some() {
            self.store.reclaim_soon();
        }
    }
}

impl EmbeddedStore {
    /// The metadata of a value, and its bytes in parts.
    pub(crate) async fn read_streamed(
        &self,
        key: &Key,
        options: &ReadOptions,
    ) -> Result<Option<(Arc<Metadata>, ByteStream)>> {
        let failed = |error: Error| self.failed(Operation::Load, error).for_key(key);
        let (now, tombstones) = (self.now(), options.tombstones);
        let owned = key.clone();
        let found = self.read_here(Operation::Load, |view| Ok(Some(read_record(view, key)?))).await;
        let found = match found.map_err(failed)? {
            Some(found) => found,
            None => {
                self.read(Operation::Load, move |view| read_record(view, &owned)).await.map_err(failed)?
            }
        };
        let Some(record) = found.filter(|record| record.metadata.is_visible(now, tombstones)) else {
            return Ok(None);
        };
        let pin = match record.content {
            Content::Apart(id) => Pin::new(&self.shared().values, id),
            Content::Inline(_) | Content::Keyed => None,
        };
        self.touch(key);
        let rest = match &options.range {
            Some(range) => clamp_range(range, record.metadata.size).map_err(failed)?,
            None => 0..record.metadata.size,
        };
        let metadata = Arc::new(record.metadata.clone());
        let reading = Reading { store: self.clone(), key: key.clone(), record, rest, pin };
        let body = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading.filter(|reading| !reading.rest.is_empty())?;
            let part = reading.rest.start..reading.rest.end.min(reading.rest.start + PART);
            reading.rest.start = part.end;
            match reading.read(part).await {
                Ok(part) => Some((Ok(part), Some(reading))),
                Err(error) => Some((Err(error.for_key(&reading.key)), None)),
            }
        });
        Ok(Some((metadata, Box::pin(body))))
    }
}

/// A part of the value that a record referred to a moment ago; `None` where it was replaced. That is no error here: an engine that
/// reports `Unavailable` is opened anew.
fn read_part(view: &dyn View, key: &Key, record: &Record, part: &Range<u64>) -> Result<Option<Bytes>> {
    let Some(chunks) = Chunks::of(key, record) else { return Ok(Some(Bytes::new())) };
    match chunks.read(view, part) {
        // What is missing, or is another's, is no damage where the value was replaced.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let now = read_record(view, key)?;
            let same = |now: Record| {
                now.content == record.content && now.metadata.version == record.metadata.version
            };
            if now.is_some_and(same) { Err(error) } else { Ok(None) }
        }
        read => read.map(Some),
    }
}
