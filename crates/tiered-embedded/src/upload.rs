//! Streamed puts: parts are stored as they come, and published at the end.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tiered_core::adapter::Checksum;
use tiered_core::{
    Action, Applied, ByteStream, Error, ErrorKind, Key, Operation, Outcome, Put, Result, Store as _, Written,
};

use crate::record::seal_chunk;
use crate::request::{Part, Request, Upload};
use crate::store::EmbeddedStore;
use crate::value::{CONTENT, Loose, Place, ValueId};

/// Bytes of a part: what is in memory of a streamed value, three times over. A smaller value is put as any other.
const PART: usize = 16 * CONTENT;

/// A value that is being uploaded. What was stored of it is removed when this is dropped before the end.
struct Uploading<'u> {
    store: &'u EmbeddedStore,
    key: &'u Key,
    place: Place,
    loose: Loose,
    size: u64,
    crc: u32,
    opening: Option<u64>,
    /// Whether the writer decides what becomes of it.
    handed_over: bool,
}

impl Drop for Uploading<'_> {
    fn drop(&mut self) {
        if !self.handed_over {
            self.store.shared().values.end(self.place);
            self.store.reclaim_soon();
        }
    }
}

impl EmbeddedStore {
    /// Writes a value from parts.
    pub(crate) async fn put_streamed(&self, key: &Key, put: Put, body: ByteStream) -> Result<Written> {
        let failed = |error: Error| self.failed(Operation::Put, error).for_key(key);
        self.check_open(Operation::Put).map_err(failed)?;
        self.shared().access.check_write().map_err(failed)?;
        let put = put.value(Bytes::new());
        let action = Action::Put(put.clone());
        self.capabilities().check_action(key, &action).map_err(failed)?;
        let mut pieces = Pieces { store: self, body: Some(body), buffer: BytesMut::new(), seen: 0 };
        let first = pieces.next().await.map_err(failed)?;
        if pieces.has_ended() {
            return self.put(key, put.value(first)).await;
        }
        let mut upload = Uploading::begin(self, key);
        upload.stage(&first).await.map_err(failed)?;
        while !pieces.has_ended() {
            let piece = pieces.next().await.map_err(failed)?;
            upload.stage(&piece).await.map_err(failed)?;
        }
        upload.publish(put).await.map_err(failed)
    }
}

impl<'u> Uploading<'u> {
    fn begin(store: &'u EmbeddedStore, key: &'u Key) -> Self {
        let shared = store.shared();
        let place = Place::new(key, ValueId::mint(shared.stamp.versions()));
        shared.values.begin(place.id);
        Self {
            store,
            key,
            place,
            loose: Loose::default(),
            size: 0,
            crc: 0,
            opening: None,
            handed_over: false,
        }
    }

    /// Stores the next bytes. All but the last are whole chunks.
    async fn stage(&mut self, piece: &[u8]) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let first = self.loose.chunks;
        let sealed = (first..).zip(piece.chunks(CONTENT));
        let chunks =
            sealed.map(|(index, content)| seal_chunk(self.key, self.place.id, index, content)).collect();
        self.crc = crc32c::crc32c_append(self.crc, piece);
        let size = self.size + piece.len() as u64;
        let (place, before, after) = (self.place, self.loose, Loose::new(size)?);
        let part = Part { place, first, chunks, before, after, opening: self.opening };
        let staged = self.store.ask(Operation::Put, |reply| Request::Stage(part, reply)).await;
        // Nobody can see it, whatever became of it.
        self.opening = Some(staged.map_err(|error| error.outcome_is(Outcome::NotApplied))?);
        (self.size, self.loose) = (size, after);
        Ok(())
    }

    async fn publish(mut self, put: Put) -> Result<Written> {
        let upload = Upload {
            key: self.key.clone(),
            put,
            place: self.place,
            size: self.size,
            checksum: Checksum::from_u32(self.crc),
            loose: self.loose,
            opening: self.opening.unwrap_or_default(),
        };
        self.handed_over = true;
        let outcomes = self.store.ask(Operation::Put, |reply| Request::Publish(upload, reply)).await?;
        match outcomes.into_iter().next() {
            Some(Ok(Applied::Put(written))) => Ok(written),
            Some(Err(error)) => Err(error),
            Some(Ok(Applied::Delete(_))) | None => {
                Err(Error::new(ErrorKind::Other, "the writer gave another answer than was asked for")
                    .outcome_is(Outcome::Unknown))
            }
        }
    }
}

/// A body cut into pieces of equal size, but the last.
struct Pieces<'p> {
    store: &'p EmbeddedStore,
    body: Option<ByteStream>,
    buffer: BytesMut,
    seen: u64,
}

impl Pieces<'_> {
    fn has_ended(&self) -> bool {
        self.body.is_none() && self.buffer.is_empty()
    }

    /// The next piece; what is left at the end.
    async fn next(&mut self) -> Result<Bytes> {
        let not_applied = |error: Error| error.outcome_is(Outcome::NotApplied);
        // One byte more tells that the value goes on.
        while let Some(body) = self.body.as_mut().filter(|_| self.buffer.len() <= PART) {
            let Some(part) = body.next().await else {
                self.body = None;
                break;
            };
            let part = part.map_err(not_applied)?;
            self.seen += part.len() as u64;
            self.store.capabilities().check_value(self.seen).map_err(not_applied)?;
            self.buffer.extend_from_slice(&part);
        }
        let size = self.buffer.len().min(PART);
        Ok(self.buffer.split_to(size).freeze())
    }
}
