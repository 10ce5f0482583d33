//! What is asked of S3.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tiered::{Key, Read, ReadOptions, Result, Slices, Store};
use tiered_conformance::Interceptor;

/// Counts reads of the backend, and the bytes of their answers.
#[derive(Debug, Default)]
pub struct Requests {
    asked: AtomicU64,
    data: AtomicU64,
    bytes: AtomicU64,
}

/// What the backend was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// All requests.
    pub requests: u64,
    /// Those that were answered with bytes. The others say that a version is still there, or that there is none.
    pub data: u64,
    /// Bytes of the answers.
    pub bytes: u64,
}

impl Requests {
    pub fn begin_anew(&self) {
        self.asked.store(0, Ordering::Relaxed);
        self.data.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// What was asked since it began.
    pub fn so_far(&self) -> Asked {
        Asked {
            requests: self.asked.load(Ordering::Relaxed),
            data: self.data.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn add(&self, bytes: usize) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.data.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// In front of the backend.
#[derive(Debug)]
pub struct Counted(pub Arc<Requests>);

#[async_trait]
impl Interceptor for Counted {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let read = inner.load(key, options).await?;
        self.0.add(read.entry().map_or(0, |entry| entry.value().len()));
        Ok(read)
    }

    async fn get_ranges(
        &self,
        inner: &dyn Store,
        key: &Key,
        ranges: &[Range<u64>],
        options: &ReadOptions,
    ) -> Result<Read<Slices>> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        let read = inner.get_ranges(key, ranges, options).await?;
        self.0.add(usize::try_from(bytes).unwrap_or_default());
        Ok(read)
    }
}
