//! Reads of ranges, each of whose bytes is checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use media::film::Film;
use tiered::{Key, ReadOptions, Store, StoreExt as _, TieredStore};

use crate::BLOCK;

/// Bytes of a random range.
const READ: u64 = 64 << 10;

/// The values that are read.
pub(crate) struct Values(Vec<(Key, Film)>, (Key, Film));

impl Values {
    pub(crate) fn new(count: u64, size: u64) -> anyhow::Result<Self> {
        let value = |number| Ok((Key::new(format!("{number}-of-{size}"))?, Film::new(number, size)));
        let values: anyhow::Result<Vec<_>> = (1..=count).map(value).collect();
        Ok(Self(values?, value(1)?))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Key, Film)> {
        self.0.iter().map(|(key, film)| (key, *film))
    }

    pub(crate) fn first(&self) -> (&Key, Film) {
        (&self.1.0, self.1.1)
    }

    /// Ranges anywhere, the same in each run.
    pub(crate) fn random(&self, count: u64) -> Vec<(usize, Range<u64>)> {
        let mut dice = fastrand::Rng::with_seed(count);
        let one = |_| {
            let value = dice.usize(0..self.0.len());
            let start = dice.u64(0..self.1.1.size().saturating_sub(READ).max(1));
            (value, start..start + READ)
        };
        (0..count).map(one).collect()
    }

    /// How many blocks hold some byte of the ranges.
    pub(crate) fn blocks_of(&self, ranges: &[(usize, Range<u64>)]) -> u64 {
        let blocks = ranges.iter().flat_map(|(value, range)| {
            (range.start / BLOCK..range.end.div_ceil(BLOCK)).map(|block| (*value, block))
        });
        blocks.collect::<BTreeSet<_>>().len() as u64
    }

    /// Reads them all, so many at a time; how long it took.
    pub(crate) async fn read(
        &self,
        store: &TieredStore,
        ranges: &[(usize, Range<u64>)],
        readers: u64,
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let reads = ranges.iter().map(|(value, range)| async move {
            let (key, film) = self.0.get(*value).context("is a value")?;
            check(store, key, *film, range.clone()).await
        });
        stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(usize::try_from(readers)?)
            .try_collect::<()>()
            .await?;
        Ok(began.elapsed())
    }
}

/// Reads a range.
pub(crate) async fn check(
    store: &TieredStore,
    key: &Key,
    film: Film,
    range: Range<u64>,
) -> anyhow::Result<()> {
    let part = store.get_range(key, range.clone()).await?.with_context(|| format!("{key} is not there"))?;
    let expected = range.end.min(film.size()) - range.start;
    ensure!(part.value().len() as u64 == expected, "{range:?} of {key} has {} bytes", part.value().len());
    let wrong = film.first_wrong(range.start, part.value());
    ensure!(wrong.is_none(), "byte {wrong:?} of {key} is wrong");
    Ok(())
}

/// Reads a value as a stream.
pub(crate) async fn stream(store: &TieredStore, key: &Key, film: Film) -> anyhow::Result<()> {
    let read = store.read_stream(key, &ReadOptions::new()).await?;
    let (_, mut body) = read.with_context(|| format!("{key} is not there"))?;
    let mut at = 0;
    while let Some(part) = body.try_next().await? {
        let wrong = film.first_wrong(at, &part);
        ensure!(wrong.is_none(), "byte {wrong:?} of {key} is wrong");
        at += part.len() as u64;
    }
    ensure!(at == film.size(), "{key} ended at {at}");
    Ok(())
}
