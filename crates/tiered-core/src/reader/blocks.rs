//! The blocks of one version of a value: those that the frontend has, and one fetch of each other one for all readers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::Reader;
use crate::blocks::{Cut, Grid};
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::observe::Count;
use crate::read::{Known, Lookup, ReadOptions, Source};
use crate::settings::FillTiming;
use crate::slot::{Fetched, Fetching};

/// Requests of one read that are under way at a time: 64 MiB at the most.
const REQUESTS: usize = 4;

/// Blocks that are installed at a time.
const INSTALLS: usize = 16;

/// Blocks that a load of a part brought.
#[derive(Debug)]
pub(super) struct Brought {
    cut: Cut,
    blocks: Vec<(u64, Bytes)>,
    announced: Vec<Fetching>,
}

impl Reader {
    /// The bytes of `range`, which fits the value, of the version with this metadata, and whether the backend was asked for
    /// some. `None`: the backend does not have that version any more.
    pub(super) async fn read_blocks(
        self: &Arc<Self>,
        key: &Key,
        metadata: &Arc<Metadata>,
        range: &Range<u64>,
        grid: Grid,
    ) -> Result<Option<(Bytes, Source)>> {
        let cut = Cut::new(key, metadata, grid);
        let looked = match grid.only(range) {
            Some(index) => match self.frontend.look_at_piece(&cut, index, grid.piece(index, range)).await {
                Some(piece) => {
                    self.recorder.count(Count::BlockHit);
                    return Ok(Some((piece, Source::Frontend)));
                }
                None => vec![(index, None)],
            },
            None => self.frontend.look_at_pieces(&cut, range).await,
        };
        let (mut pieces, mut fetches, mut led) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (index, piece) in looked {
            if let Some(piece) = piece {
                self.recorder.count(Count::BlockHit);
                pieces.insert(index, piece);
                continue;
            }
            let (fetch, leading) = self.fetches.join(&cut.name(index)?);
            fetches.push((index, fetch));
            led.extend(leading.map(|leading| (index, leading)));
        }
        let source = if fetches.is_empty() { Source::Frontend } else { Source::Backend };
        if !led.is_empty() {
            let reader = Arc::clone(self);
            // Others may follow them, and this reader may be dropped.
            self.tasks.begin(async move { reader.fetch(&cut, led).await });
        }
        for (index, fetch) in fetches {
            match fetch.answer().await {
                Fetched::Block(block) => pieces.insert(index, piece_of(&block, grid.piece(index, range))?),
                Fetched::Gone => return Ok(None),
                Fetched::Failed(error) => return Err((*error).clone()),
            };
        }
        Ok(Some((joined(pieces), source)))
    }

    /// The bytes of `range` where the frontend has every block of it.
    pub(super) async fn blocks_at_hand(
        self: &Arc<Self>,
        key: &Key,
        metadata: &Arc<Metadata>,
        range: &Range<u64>,
        grid: Grid,
    ) -> Option<Bytes> {
        let cut = Cut::new(key, metadata, grid);
        let looked = self.frontend.look_at_pieces(&cut, range).await;
        let pieces: Option<BTreeMap<u64, Bytes>> =
            looked.into_iter().map(|(index, piece)| Some((index, piece?))).collect();
        pieces.map(joined)
    }

    /// Fetches blocks for all who wait, neighbours together.
    async fn fetch(self: Arc<Self>, cut: &Cut, led: Vec<(u64, Fetching)>) {
        // Another fetch may have ended since the reader looked.
        let indexes: Vec<u64> = led.iter().map(|(index, _)| *index).collect();
        let found = self.frontend.look_at_blocks(cut, &indexes).await;
        let mut missing = BTreeMap::new();
        for ((index, fetching), found) in led.into_iter().zip(found) {
            match found {
                Some(block) => fetching.announce(Fetched::Block(block)),
                None => drop(missing.insert(index, fetching)),
            }
        }
        let runs = cut.grid().runs(missing.keys().copied());
        let requests = runs.into_iter().map(|run| {
            let led = run.clone().filter_map(|index| Some((index, missing.remove(&index)?))).collect();
            self.fetch_run(cut, run, led)
        });
        let requests: Vec<_> = requests.collect();
        stream::iter(requests).for_each_concurrent(REQUESTS, |request| request).await;
    }

    /// Fetches neighbouring blocks by one request.
    async fn fetch_run(&self, cut: &Cut, run: Range<u64>, led: BTreeMap<u64, Fetching>) {
        let blocks = match self.request(cut, &run).await {
            Ok(Some(blocks)) => blocks,
            Ok(None) => return led.values().for_each(|fetching| fetching.announce(Fetched::Gone)),
            Err(error) => {
                let error = Arc::new(error);
                return led
                    .values()
                    .for_each(|leading| leading.announce(Fetched::Failed(Arc::clone(&error))));
            }
        };
        let early = self.plan.settings().fill == FillTiming::AfterAnswer;
        let announce = || {
            for (index, block) in &blocks {
                if let Some(leading) = led.get(index) {
                    leading.announce(Fetched::Block(block.clone()));
                }
            }
        };
        if early {
            announce();
        }
        self.keep_blocks(cut, &blocks).await;
        if !early {
            announce();
        }
    }

    /// Neighbouring blocks of this very version; `None` where the backend has it no more.
    async fn request(&self, cut: &Cut, run: &Range<u64>) -> Result<Option<Vec<(u64, Bytes)>>> {
        let bytes = cut.bytes(run);
        let same = ReadOptions::new().range(bytes.clone()).if_version(Known::from(&**cut.metadata()));
        self.recorder.count(Count::BackendRead);
        let Lookup::Found(entry) = self.backend.load(cut.key(), &same).await?.lookup else { return Ok(None) };
        // A store that does not know the condition answers with what it has.
        if entry.version() != cut.version() {
            return Ok(None);
        }
        if entry.value().len() as u64 != bytes.end - bytes.start {
            let what = "the store gave another part of the value than the one asked for";
            return Err(Error::new(ErrorKind::Other, what).in_tier(self.backend.name()));
        }
        Ok(Some(cut.blocks_in(entry.value(), bytes.start)))
    }

    /// The whole blocks in what a load brought, which begins at `start`. As long as this is held, who looks for one of them finds
    /// it under way: a reader that meets the stub before its block does not ask again.
    pub(super) fn brought(&self, key: &Key, entry: &Entry, start: u64, grid: Grid) -> Brought {
        let cut = Cut::new(key, entry.metadata(), grid);
        let blocks = cut.blocks_in(entry.value(), start);
        let announced = blocks.iter().filter_map(|(index, block)| {
            let (_, leading) = self.fetches.join(&cut.name(*index).ok()?);
            leading.inspect(|leading| leading.announce(Fetched::Block(block.clone())))
        });
        let announced = announced.collect();
        Brought { cut, blocks, announced }
    }

    /// Installs blocks that a load brought.
    pub(super) async fn keep_brought(&self, brought: Brought) {
        self.keep_blocks(&brought.cut, &brought.blocks).await;
        drop(brought.announced);
    }

    async fn keep_blocks(&self, cut: &Cut, blocks: &[(u64, Bytes)]) {
        let installs =
            blocks.iter().map(|(index, block)| self.frontend.keep_block(cut, *index, block.clone()));
        stream::iter(installs.collect::<Vec<_>>()).for_each_concurrent(INSTALLS, |install| install).await;
    }
}

/// A piece of a fetched block.
fn piece_of(block: &Bytes, piece: Range<u64>) -> Result<Bytes> {
    let bounds = usize::try_from(piece.start).ok().zip(usize::try_from(piece.end).ok());
    let fits = bounds.filter(|(start, end)| start <= end && *end <= block.len());
    let (start, end) =
        fits.ok_or_else(|| Error::new(ErrorKind::Other, "a block is shorter than its value"))?;
    Ok(block.slice(start..end))
}

/// Neighbouring pieces as one.
fn joined(mut pieces: BTreeMap<u64, Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop_first().map(|(_, piece)| piece).unwrap_or_default();
    }
    let mut bytes = BytesMut::with_capacity(pieces.values().map(Bytes::len).sum());
    for piece in pieces.values() {
        bytes.extend_from_slice(piece);
    }
    bytes.freeze()
}
