//! Snapshots: what was not live, in chunks, in the order of the keys.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use tiered_core::{Batch, Delete, ErrorKind, Key, ListOptions, Put, ReadOptions};

use super::bytes::{ChunkBytes, Head, Observation, decode_chunk};
use super::{Inner, Mode};
use crate::error::Result;
use crate::writer::Ended;

/// The observations of a completed snapshot, read chunk by chunk. A chunk that is missing or damaged counts as empty: what was
/// in it is observed anew.
#[derive(Debug)]
pub(super) struct Observed<'s> {
    inner: &'s Inner,
    of: Head,
    next: u64,
    chunk: VecDeque<Observation>,
}

impl<'s> Observed<'s> {
    pub(super) fn new(inner: &'s Inner, of: Head) -> Self {
        Self { inner, of, next: 0, chunk: VecDeque::new() }
    }

    /// The next observation, which stays.
    pub(super) async fn peek(&mut self) -> Result<Option<&Observation>> {
        while self.chunk.is_empty() && self.next < self.of.chunks {
            let key = self.inner.chunk_key(self.of.generation, self.of.run, self.next)?;
            self.next += 1;
            match self.inner.store.load(&key, &ReadOptions::new().authoritative()).await {
                Ok(read) => {
                    let observations = read.into_entry().and_then(|entry| decode_chunk(entry.value()).ok());
                    self.chunk = observations.unwrap_or_default().into();
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.chunk.front())
    }

    /// Takes the observation that `peek` answered.
    pub(super) fn take(&mut self) -> Option<Observation> {
        self.chunk.pop_front()
    }
}

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct Snapshot<'s> {
    inner: &'s Inner,
    mode: Mode,
    generation: u64,
    run: u128,
    chunks: u64,
    chunk: ChunkBytes,
    limit: usize,
}

impl<'s> Snapshot<'s> {
    pub(super) fn new(inner: &'s Inner, mode: Mode, generation: u64) -> Self {
        let largest = usize::try_from(inner.store.capabilities().max_value()).unwrap_or(usize::MAX);
        let limit = inner.settings.chunk_bytes.min(largest);
        Self { inner, mode, generation, run: inner.writer.mint(), chunks: 0, chunk: ChunkBytes::new(), limit }
    }

    /// Adds an observation. The keys come in order.
    pub(super) async fn record(&mut self, observation: &Observation) -> Result<()> {
        if self.mode == Mode::Dry {
            return Ok(());
        }
        let version = observation.version.to_string();
        if !self.chunk.is_empty() && self.chunk.len_with(observation, &version) > self.limit {
            self.write().await?;
        }
        self.chunk.push(observation, &version);
        Ok(())
    }

    async fn write(&mut self) -> Result<()> {
        let key = self.inner.chunk_key(self.generation, self.run, self.chunks)?;
        let put = Put::new(self.chunk.take()).never_expires().if_absent();
        if self.inner.writer.put(&key, put).await? == Ended::Lost {
            let what = "another program wrote under the records of the sweep; leave their prefix to it, then run it again";
            return Err(tiered_core::Error::new(ErrorKind::Other, what).key_is(&key).into());
        }
        self.chunks += 1;
        Ok(())
    }

    /// Writes the rest, and answers the head that completes it.
    pub(super) async fn finish(&mut self, series: u128) -> Result<Head> {
        if !self.chunk.is_empty() {
            self.write().await?;
        }
        Ok(Head { series, generation: self.generation, run: self.run, chunks: self.chunks })
    }
}

impl Inner {
    fn snapshots_prefix(&self) -> String {
        format!("{}snapshots/", self.settings.records)
    }

    pub(super) fn chunk_key(&self, generation: u64, run: u128, number: u64) -> Result<Key> {
        Ok(Key::new(format!("{}{generation:016x}/{run:032x}/{number:016x}", self.snapshots_prefix()))?)
    }

    /// The generation and the run that a chunk is of; `None` for another key.
    fn chunk_of(&self, key: &Key) -> Option<(u64, u128)> {
        let mut parts = key.as_str().strip_prefix(&self.snapshots_prefix())?.split('/');
        let generation = u64::from_str_radix(parts.next()?, 16).ok()?;
        let run = u128::from_str_radix(parts.next()?, 16).ok()?;
        Some((generation, run))
    }

    /// Deletes the chunks of all runs that can never become the head's any more: those up to its generation, of other runs.
    /// Chunks of the next generation may be of a run under way. Later ones are of a series whose head was lost, if the head is
    /// read after they were listed: a run makes the generation after the head that it found, and a head never goes back.
    pub(super) async fn remove_chunks(&self) -> Result<()> {
        let prefix = self.snapshots_prefix();
        let mut listing = self.store.list(ListOptions::new().prefix(prefix)).chunks(self.settings.batch);
        while let Some(listed) = listing.next().await {
            let head = self.read_head().await?.head;
            let mut batch = Batch::new().per_item();
            for listed in listed {
                let key = match listed {
                    Ok(listed) => listed.key,
                    Err(error) => match error.damaged_key() {
                        Some(key) => key.clone(),
                        None => return Err(error.into()),
                    },
                };
                let is_left = self.chunk_of(&key).is_some_and(|(of, run)| {
                    let is_earlier = of <= head.generation && run != head.run;
                    is_earlier || of > head.generation.saturating_add(1)
                });
                if is_left {
                    batch.push(key, Delete::new().into());
                }
            }
            if !batch.is_empty() {
                // What fails is left to a later run.
                self.store.apply(batch).await?;
            }
        }
        Ok(())
    }
}
