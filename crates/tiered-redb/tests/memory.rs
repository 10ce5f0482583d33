//! A streamed value of any size takes the same memory, written and read, in a tier on disk and in a stack over one.
//!
//! `TIERED_STREAM_BYTES` takes another size of the value. With `--nocapture` the figures are printed.
#![allow(clippy::print_stdout, reason = "the figures of a long run are of interest")]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tempfile::TempDir;
use tiered_core::adapter::{Checksum, Clock as _, SystemClock};
use tiered_core::{ByteStream, Key, Put, ReadOptions, Store, TieredStore};
use tiered_quick::QuickConfig;
use tiered_redb::{RedbConfig, RedbStore};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the process holds is what one test holds.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes of the value, unless a variable says otherwise: more than the bound in any case.
const SIZE: u64 = 256 << 20;

/// Bytes of a part of the source. No divisor of what a store keeps together.
const PART: usize = 300_000;

/// Bytes that a put or a read may take at most, the engine's cache of 64 MiB included.
const MOST: usize = 96 << 20;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// The most that the process holds while it watches.
struct Peak {
    before: usize,
    most: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    watch: Option<thread::JoinHandle<()>>,
}

impl Peak {
    fn begin() -> Self {
        let (most, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (noted, stop) = (Arc::clone(&most), Arc::clone(&ends));
        let watch = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                noted.fetch_max(held(), Ordering::Relaxed);
                thread::sleep(Duration::from_micros(500));
            }
        });
        Self { before: held(), most, ends, watch: Some(watch) }
    }

    /// Bytes that came on top.
    fn end(mut self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.watch.take().map(thread::JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))));
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

fn size() -> u64 {
    std::env::var("TIERED_STREAM_BYTES").ok().and_then(|size| size.parse().ok()).unwrap_or(SIZE)
}

/// A value whose parts differ from one another, and which no compression makes smaller.
fn body(size: u64) -> ByteStream {
    let mut random = fastrand::Rng::with_seed(7);
    let part: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(PART).collect();
    let parts = stream::iter((0..size).step_by(PART));
    Box::pin(parts.map(move |start| {
        let mut part = part.clone();
        let rest = usize::try_from(size - start).unwrap_or(PART);
        part.splice(..8, start.to_le_bytes());
        part.truncate(rest);
        Ok(part.into())
    }))
}

/// Writes the value and reads it, and prints what that takes.
async fn measure(name: &str, store: &dyn Store) {
    let (size, key) = (size(), Key::new("film").expect("valid"));
    let clock = SystemClock::new();
    let seconds = |began: Duration| clock.uptime().saturating_sub(began).as_secs_f64();
    let (began, peak) = (clock.uptime(), Peak::begin());
    store.put_stream(&key, Put::new(""), body(size)).await.expect("written");
    let (put, took) = (peak.end(), seconds(began));
    let (began, peak) = (clock.uptime(), Peak::begin());
    let (metadata, mut parts) =
        store.read_stream(&key, &ReadOptions::new()).await.expect("reads").expect("there");
    assert_eq!(metadata.size, size);
    let (mut crc, mut seen) = (0, 0);
    while let Some(part) = parts.next().await {
        let part = part.expect("reads");
        crc = crc32c::crc32c_append(crc, &part);
        seen += part.len() as u64;
    }
    drop(parts);
    let (read, read_took) = (peak.end(), seconds(began));
    assert_eq!(seen, size);
    assert_eq!(metadata.checksum.map(Checksum::as_u32), Some(crc));
    let mebi = |bytes: usize| bytes / (1 << 20);
    println!(
        "{name}: {} MiB; put {} MiB of memory, {took:.1} s; read {} MiB, {read_took:.1} s",
        size >> 20,
        mebi(put),
        mebi(read),
    );
    assert!(put < MOST, "{name}: the put took {put} bytes");
    assert!(read < MOST, "{name}: the read took {read} bytes");
}

/// A database for values of any size, with the default cache.
async fn open(folder: &TempDir) -> RedbStore {
    let config = RedbConfig::new(folder.path().join("data.redb")).max_value(64 << 30);
    config.open().await.expect("made")
}

#[tokio::test]
async fn a_stream_through_redb_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    measure("redb", &store).await;
    store.close().await.expect("closes");
}

/// The frontend in memory has as many blocks of it as it has room for.
#[tokio::test]
async fn a_stream_through_a_stack_over_redb_takes_the_same_memory_at_any_size() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().expect("a folder");
    let frontend = QuickConfig::new(16 << 20).build().expect("made");
    let store = TieredStore::builder(frontend, open(&folder).await).build().await.expect("built");
    measure("quick_cache of 16 MiB over redb", &store).await;
    store.close().await.expect("closes");
}
