//! Blocks of large values in the frontend, and the stubs that they belong to.
//!
//! A block never changes and is named by its version, so no call of a key guards it: what is coherent is the stub.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::kept::Gone;
use super::patience::within;
use super::{Found, Frontend, Replaceable};
use crate::blocks::{Cut, Grid, Names, Stub, is_block};
use crate::entry::{Entry, Metadata, Origin, Tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::list::ListOptions;
use crate::observe::Count;
use crate::policy::Freshness;
use crate::read::ReadOptions;
use crate::store::Store as _;
use crate::version::Version;

/// Blocks that are asked for in one call: 16 MiB of the usual size.
const TOGETHER: usize = 64;

/// Blocks that are removed at a time.
const REMOVED: usize = 16;

impl Frontend {
    /// The bytes of `range` and the metadata of the value, where stub and blocks are in memory and may be served. As a hit it waits
    /// for nothing.
    pub(crate) fn peek_range(
        &self,
        key: &Key,
        range: &Range<u64>,
        freshness: Freshness,
        grid: Grid,
    ) -> Option<(Bytes, Arc<Metadata>)> {
        let met = self.tier.peek_hidden(key).filter(|entry| entry.metadata().note.origin == Origin::Part)?;
        let (cut, range) = self.kept.look(key, &met, range, grid)?;
        if !self.is_fresh(cut.metadata(), self.plan.max_stale_millis(freshness)) {
            return None;
        }
        let piece = |index| {
            let block = self.tier.peek_hidden(&cut.name(index).ok()?)?;
            let right = cut.has(index, &block) && block.is_whole();
            right.then(|| slice(block.value(), &grid.piece(index, &range)))?
        };
        let bytes = match grid.only(&range) {
            Some(index) => piece(index)?,
            None => joined(range.end - range.start, grid.indexes(&range).map(piece))?,
        };
        let indexes = grid.indexes(&range);
        self.recorder.add(Count::BlockHit, indexes.end - indexes.start);
        Some((bytes, Arc::clone(cut.metadata())))
    }

    /// The stub of a value of which blocks are known to be here, for a read of a range: a stub has no such range, and would have
    /// to be asked for after that.
    pub(super) async fn known_stub(&self, key: &Key, options: &ReadOptions) -> Option<Stub> {
        options.range.as_ref()?;
        if self.plan.grid().is_none() || !self.kept.has(key) {
            return None;
        }
        let met = match self.tier.peek_hidden(key) {
            Some(entry) => entry,
            None => self.load(key, &ReadOptions::new().range(0..Stub::LEN)).await.ok()??,
        };
        Stub::read(&met)
    }

    /// The stub that a look at the frontend met, where it keeps some. A range of one says nothing, and may not fit it.
    pub(super) async fn stub_in(
        &self,
        key: &Key,
        options: &ReadOptions,
        asked: &Result<Option<Entry>>,
    ) -> Option<Stub> {
        self.plan.grid()?;
        let met = match asked {
            Ok(Some(entry)) => entry.metadata().note.origin == Origin::Part,
            Ok(None) => false,
            Err(error) => options.range.is_some() && error.kind() == ErrorKind::InvalidRange,
        };
        if !met || is_block(key) {
            return None;
        }
        match (asked, &options.range) {
            (Ok(Some(entry)), None) => Stub::read(entry),
            _ => Stub::read(&self.load(key, &ReadOptions::new().range(0..Stub::LEN)).await.ok()??),
        }
    }

    /// What a stub is worth for a read.
    pub(super) fn judge_stub(&self, stub: Stub, freshness: Freshness) -> Found {
        let fresh = self.is_fresh(stub.metadata(), self.plan.max_stale_millis(freshness));
        if fresh { Found::Stub(stub) } else { Found::Stale(Replaceable::Stub(stub)) }
    }

    /// What the frontend has of `range` of a value: for each of its blocks the piece that is asked for.
    pub(crate) async fn look_at_pieces(
        self: &Arc<Self>,
        cut: &Cut,
        range: &Range<u64>,
    ) -> Vec<(u64, Option<Bytes>)> {
        let indexes: Vec<u64> = cut.grid().indexes(range).collect();
        let blocks = self.look_at_blocks(cut, &indexes).await;
        let piece = |(index, block): (u64, Option<Bytes>)| {
            let piece = cut.grid().piece(index, range);
            (index, block.and_then(|block| slice(&block, &piece)))
        };
        indexes.into_iter().zip(blocks).map(piece).collect()
    }

    /// A piece of one block. No more than that is read.
    pub(crate) async fn look_at_piece(
        self: &Arc<Self>,
        cut: &Cut,
        index: u64,
        piece: Range<u64>,
    ) -> Option<Bytes> {
        let name = cut.name(index).ok()?;
        let wanted = piece.end - piece.start;
        let entry = match self.load(&name, &ReadOptions::new().range(piece)).await {
            Ok(entry) => entry?,
            Err(error) => return self.without_block(&name, &error),
        };
        let right = cut.has(index, &entry) && entry.value().len() as u64 == wanted;
        right.then(|| self.known(cut, index, entry))
    }

    /// What the frontend has of these blocks.
    pub(crate) async fn look_at_blocks(self: &Arc<Self>, cut: &Cut, indexes: &[u64]) -> Vec<Option<Bytes>> {
        let mut blocks = Vec::with_capacity(indexes.len());
        for indexes in indexes.chunks(TOGETHER) {
            let names: Result<Vec<Key>> = indexes.iter().map(|index| cut.name(*index)).collect();
            let names = names.unwrap_or_default();
            let reads = self.load_many(&names, &ReadOptions::new()).await;
            for ((index, name), read) in indexes.iter().zip(&names).zip(reads) {
                blocks.push(match read {
                    Ok(read) => read
                        .into_entry()
                        .filter(|entry| cut.has(*index, entry) && entry.is_whole())
                        .map(|entry| self.known(cut, *index, entry)),
                    Err(error) => self.without_block(name, &error),
                });
            }
        }
        blocks.resize(indexes.len(), None);
        blocks
    }

    /// The bytes of a block that the frontend turned out to have.
    fn known(self: &Arc<Self>, cut: &Cut, index: u64, entry: Entry) -> Bytes {
        self.remove_blocks(cut.key(), self.kept.remember(cut, index));
        entry.into_value()
    }

    /// A failure of the frontend, or a damaged block: as good as no block.
    fn without_block(&self, name: &Key, error: &Error) -> Option<Bytes> {
        match error.kind() {
            // Something else than the block.
            ErrorKind::InvalidRange => {}
            ErrorKind::Corrupt => {
                self.recorder.count(Count::FrontendCorruption);
                tracing::warn!(key = %name, error = %error.chain(), "damaged block in the frontend");
            }
            _ => self.count_failure(),
        }
        None
    }

    /// Installs a block. A failure costs another fetch and nothing else.
    pub(crate) async fn keep_block(self: &Arc<Self>, cut: &Cut, index: u64, block: Bytes) {
        let Ok(name) = cut.name(index) else { return };
        if !self.tier.admits() {
            return;
        }
        let (frontend, entry) = (Arc::clone(self), cut.entry(block));
        let mut running = Box::pin(async move { frontend.tier.replace(&name, Some(&entry)).await });
        match within(self.plan.settings().frontend_patience, running.as_mut()).await {
            Some(Ok(())) => {
                self.tier.learn(None);
                self.recorder.count(Count::BlockFill);
                self.remove_blocks(cut.key(), self.kept.remember(cut, index));
            }
            Some(Err(error)) => {
                self.tier.learn(Some(&error));
                self.count_failure();
            }
            None => {
                self.tier.learn(Some(&self.late()));
                self.count_failure();
                // No call of a frontend is dropped half-way.
                self.tasks.spawn(async move { drop(running.await) });
            }
        }
    }

    /// Removes the known blocks of `key`, unless what the frontend has now is a stub of their version.
    pub(super) fn retire_blocks(self: &Arc<Self>, key: &Key, now: Option<&Entry>) {
        let stub = now.filter(|entry| entry.metadata().note.origin == Origin::Part);
        self.remove_blocks(key, self.kept.retire(key, stub.map(Entry::version)));
    }

    /// Removes blocks in the background: they are found by no one any more, and take room.
    fn remove_blocks(self: &Arc<Self>, key: &Key, gone: Gone) {
        let (Some((version, indexes)), Some(grid)) = (gone, self.plan.grid()) else { return };
        let names = Names::of(key, &version, grid.block());
        let frontend = Arc::clone(self);
        self.tasks.spawn(async move { frontend.remove_named(&names, &version, indexes).await });
    }

    async fn remove_named(&self, names: &Names, version: &Version, indexes: BTreeSet<u64>) {
        let names = indexes.into_iter().filter_map(|index| names.block(index).ok());
        stream::iter(names)
            .for_each_concurrent(REMOVED, |name| async move {
                if let Err(error) = self.tier.replace(&name, None).await {
                    tracing::debug!(key = %name, %version, error = %error.chain(), "a block of an old version stays");
                }
            })
            .await;
    }

    /// Removes every block.
    ///
    /// # Errors
    /// The frontend's.
    pub(crate) async fn remove_all_blocks(&self) -> Result<()> {
        let blocks = ListOptions::new().prefix(Names::PREFIX).tombstones(Tombstones::Show);
        let mut listing = self.tier.past_breaker().list(blocks);
        while let Some(listed) = listing.next().await {
            let name = match listed {
                Ok(listed) => listed.key,
                Err(error) => error.damaged_key().cloned().ok_or(error)?,
            };
            self.tier.replace(&name, None).await?;
        }
        Ok(())
    }
}

/// Pieces as one of `len` bytes, if all are there.
fn joined(len: u64, pieces: impl Iterator<Item = Option<Bytes>>) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).ok()?);
    for piece in pieces {
        bytes.extend_from_slice(&piece?);
    }
    Some(Bytes::from(bytes))
}

/// A piece of a block.
fn slice(block: &Bytes, piece: &Range<u64>) -> Option<Bytes> {
    let (start, end) = (usize::try_from(piece.start).ok()?, usize::try_from(piece.end).ok()?);
    (start <= end && end <= block.len()).then(|| block.slice(start..end))
}
