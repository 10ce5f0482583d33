//! Values that are read in parts, frame by frame.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tiered_core::adapter::clamp_range;
use tiered_core::{ByteStream, Error, ErrorKind, Key, Metadata, Operation, ReadOptions, Result};

use super::codec::{Codec, FRAME, Head};
use super::frames::{self, Opened};
use super::read::replaced;
use super::{Sealed, cut, outside};

/// How often a stream whose value is replaced before it begins is begun anew.
const ATTEMPTS: usize = 8;

type Streamed = Option<(Arc<Metadata>, ByteStream)>;

impl<C: Codec> Sealed<C> {
    pub(crate) async fn read_stream(&self, key: &Key, options: &ReadOptions) -> Result<Streamed> {
        let streamed = match &options.range {
            Some(range) => self.stream_part(key, options, range).await,
            None => self.stream_whole(key, options).await,
        };
        streamed.map_err(|error| self.failed(Operation::Load, key, error))
    }

    async fn stream_whole(&self, key: &Key, options: &ReadOptions) -> Result<Streamed> {
        let Some((metadata, mut body)) = self.inner().read_stream(key, options).await? else {
            return Ok(None);
        };
        let mut buffer = BytesMut::new();
        let mut needs = C::FIXED;
        let head = loop {
            fill(&mut buffer, needs, &mut body).await?;
            let begun = Bytes::copy_from_slice(buffer.get(..needs.min(buffer.len())).unwrap_or_default());
            match frames::open(&self.0.codec, key, &metadata.version, &begun, metadata.size).await? {
                Opened::Head(head) => break head,
                // It asks for more than there is: the value ends too early.
                Opened::Needs(len) if len <= needs => return Err(cut()),
                Opened::Needs(len) => needs = len,
            }
        };
        let facts = head.facts();
        let first = frames::span(&head, &(0..1)).start;
        let before = usize::try_from(first).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.split_off(before);
        let metadata = outside(&metadata, facts)?;
        Ok(Some((metadata, self.parts(key, head, buffer, body, 0..facts.size))))
    }

    async fn stream_part(&self, key: &Key, options: &ReadOptions, range: &Range<u64>) -> Result<Streamed> {
        for _ in 0..ATTEMPTS {
            let Some((metadata, head)) = self.open(key, options).await? else { return Ok(None) };
            let facts = head.facts();
            let range = clamp_range(range, facts.size)?;
            let outside = outside(&metadata, facts)?;
            if range.is_empty() {
                return Ok(Some((outside, Box::pin(stream::empty()))));
            }
            let span = frames::span(&head, &frames::touched(&range));
            let options = options.clone().range(span);
            let (streamed, body) = match self.inner().read_stream(key, &options).await {
                Ok(Some(streamed)) => streamed,
                Ok(None) => return Ok(None),
                // A shorter one took its place.
                Err(error) if error.kind() == ErrorKind::InvalidRange => continue,
                Err(error) => return Err(error),
            };
            // A stream cannot be conditional: what it carries tells whether it is of the same version.
            if streamed.version == metadata.version {
                return Ok(Some((outside, self.parts(key, head, BytesMut::new(), body, range))));
            }
        }
        Err(replaced())
    }

    /// The range of the value, frame by frame, from a stream of the frames that it touches.
    fn parts(
        &self,
        key: &Key,
        head: C::Head,
        buffer: BytesMut,
        body: ByteStream,
        range: Range<u64>,
    ) -> ByteStream {
        if range.is_empty() {
            return Box::pin(stream::empty());
        }
        let touched = frames::touched(&range);
        let state = State { head, buffer, body, range, index: touched.start, end: touched.end };
        let (this, key) = (self.clone(), key.clone());
        let parts = stream::unfold(Some(state), move |state| async move {
            let mut state = state?;
            if state.index == state.end {
                return state.rest().await.err().map(|error| (Err(error), None));
            }
            let next = state.next().await;
            Some(match next {
                Ok(part) => (Ok(part), Some(state)),
                Err(error) => (Err(error), None),
            })
        });
        Box::pin(
            parts.map(move |part| part.map_err(|error: Error| this.failed(Operation::Load, &key, error))),
        )
    }
}

struct State<H> {
    head: H,
    buffer: BytesMut,
    body: ByteStream,
    range: Range<u64>,
    index: u64,
    end: u64,
}

impl<H: Head> State<H> {
    /// Reads what is left of the stream, which is nothing: the store inside may tell of damage at its end alone.
    async fn rest(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            return Err(cut());
        }
        while let Some(part) = self.body.next().await {
            if !part?.is_empty() {
                return Err(cut());
            }
        }
        Ok(())
    }

    /// The part of the range that is in the next frame.
    async fn next(&mut self) -> Result<Bytes> {
        let span = self.head.span(self.index);
        let len = usize::try_from(span.end - span.start).map_err(|_| cut())?;
        fill(&mut self.buffer, len, &mut self.body).await?;
        if self.buffer.len() < len {
            return Err(cut());
        }
        let frame = self.buffer.split_to(len);
        let mut out = BytesMut::with_capacity(FRAME);
        self.head.decode(self.index, &frame, &mut out)?;
        let base = self.index * FRAME as u64;
        let from = self.range.start.max(base);
        let to = self.range.end.min(base + out.len() as u64);
        self.index += 1;
        frames::part(&out.freeze(), base, &(from..to))
    }
}

/// Reads on until the buffer has so many bytes, or the stream ends.
async fn fill(buffer: &mut BytesMut, len: usize, body: &mut ByteStream) -> Result<()> {
    while buffer.len() < len {
        match body.next().await {
            Some(part) => buffer.extend_from_slice(&part?),
            None => break,
        }
    }
    Ok(())
}
