//! Values as streams: from the blocks of the frontend where it keeps blocks, else past it.

use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::Reader;
use crate::blocks::{Grid, is_block};
use crate::entry::{Metadata, clamp_range};
use crate::error::{Error, ErrorKind, Result};
use crate::frontend::Found;
use crate::key::Key;
use crate::observe::Count;
use crate::plan::Side;
use crate::policy::Freshness;
use crate::read::{ReadOptions, Source};
use crate::slot::Glance;
use crate::store::ByteStream;

/// Parts of a stream that are read ahead of the one that is handed out.
const AHEAD: usize = 1;

/// What a stream begins with.
type Streamed = Option<(Arc<Metadata>, ByteStream)>;

impl Reader {
    pub(crate) async fn read_stream(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Streamed> {
        let options = ReadOptions { unless: None, if_version: None, ..options.clone() };
        if self.plan.lists() == Side::Frontend || matches!(self.slots.glance(key), Glance::Pending(_)) {
            return self.stream_of_load(key, &options).await;
        }
        if let Some(grid) = self.plan.grid()
            && options.freshness != Freshness::Authoritative
            && !is_block(key)
        {
            return self.stream_blocks(key, &options, grid).await;
        }
        let known = self.head(key, &options).await?;
        // What fits the frontend is read as any other value, and kept there.
        if known.is_some_and(|metadata| self.frontend.fits(key, metadata.size)) {
            return self.stream_of_load(key, &options).await;
        }
        self.recorder.count(Count::BackendRead);
        self.bounded(self.backend.read_stream(key, &options)).await
    }

    /// All that is asked for by one load, in one part.
    async fn stream_of_load(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<Streamed> {
        Ok(self.load(key, options).await?.into_entry().map(|entry| {
            let metadata = Arc::clone(entry.metadata());
            let body: ByteStream = Box::pin(stream::iter([Ok(entry.into_value())]));
            (metadata, body)
        }))
    }

    /// The first part by a load as any other of a range, which says which version it is; then the blocks of that version,
    /// which are never stale, a few parts ahead of the reader.
    async fn stream_blocks(
        self: &Arc<Self>,
        key: &Key,
        options: &ReadOptions,
        grid: Grid,
    ) -> Result<Streamed> {
        let asked = options.range.clone().unwrap_or(0..u64::MAX);
        if asked.start > asked.end || self.is_whole_in_frontend(key, options).await? {
            return self.stream_of_load(key, options).await;
        }
        let first = asked.start..asked.end.min(grid.end_of_part(asked.start));
        let read = self.load(key, &options.clone().range(first.clone())).await?;
        let source = read.source;
        let Some(entry) = read.into_entry() else { return Ok(None) };
        let range = clamp_range(&asked, entry.size())?;
        if range.end > first.end && source == Source::Pending {
            // It is in memory as a whole until the backend has it.
            return self.stream_of_load(key, options).await;
        }
        let metadata = Arc::clone(entry.metadata());
        let (reader, key, of) = (Arc::clone(self), key.clone(), Arc::clone(&metadata));
        let rest = grid.parts(first.end.min(range.end)..range.end).map(move |part| {
            let (reader, key, of) = (Arc::clone(&reader), key.clone(), Arc::clone(&of));
            async move { reader.part_of_stream(&key, &of, &part, grid).await }
        });
        let first = stream::iter([Ok(entry.into_value())]);
        Ok(Some((metadata, Box::pin(first.chain(stream::iter(rest).buffered(1 + AHEAD))))))
    }

    /// Whether the frontend has the whole value, and may show it.
    async fn is_whole_in_frontend(self: &Arc<Self>, key: &Key, options: &ReadOptions) -> Result<bool> {
        let nothing = options.clone().range(0..0);
        Ok(matches!(self.frontend.look(key, &nothing).await?, Found::Fresh(_)))
    }

    async fn part_of_stream(
        self: &Arc<Self>,
        key: &Key,
        metadata: &Arc<Metadata>,
        part: &Range<u64>,
        grid: Grid,
    ) -> Result<bytes::Bytes> {
        match self.bounded(self.read_blocks(key, metadata, part, grid)).await? {
            Some((bytes, source)) => {
                self.recorder.count(if source == Source::Frontend { Count::Hit } else { Count::Miss });
                Ok(bytes)
            }
            None => Err(Error::new(
                ErrorKind::Unavailable,
                "the value was replaced while it was read as a stream; read it again from its begin",
            )
            .for_key(key)),
        }
    }
}
