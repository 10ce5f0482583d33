//! What a streamed put and a streamed read of one value take in memory. The tests of several adapters use it.
#![allow(clippy::print_stdout, reason = "the figures of a long run are of interest")]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tiered_core::adapter::{Checksum, Clock as _, SystemClock};
use tiered_core::{ByteStream, Key, Put, ReadOptions, Store};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the process holds is what one test holds.
pub(crate) static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes of a part of the source. No divisor of what a store keeps together.
const PART: usize = 300_000;

/// Bytes that a put or a read may take at most, the cache of an engine (64 MiB) included.
const MOST: usize = 96 << 20;

/// How the memory is looked at that the process holds.
pub(crate) type Held = fn() -> usize;

/// What Rust has allocated.
pub(crate) fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// What is in memory and in no file: what C++ allocates as well, and what allocators keep for later.
#[allow(dead_code, reason = "of use where an engine is not written in Rust")]
pub(crate) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line for it");
    let kibi: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibi << 10
}

/// The most that the process holds while it watches.
struct Peak {
    held: Held,
    before: usize,
    most: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    watch: Option<thread::JoinHandle<()>>,
}

impl Peak {
    fn begin(held: Held) -> Self {
        let (most, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (noted, stop) = (Arc::clone(&most), Arc::clone(&ends));
        let watch = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                noted.fetch_max(held(), Ordering::Relaxed);
                thread::sleep(Duration::from_micros(500));
            }
        });
        Self { held, before: held(), most, ends, watch: Some(watch) }
    }

    /// Bytes that came on top.
    fn end(mut self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        let ended = self.watch.take().map(thread::JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))));
        self.most.load(Ordering::Relaxed).max((self.held)()).saturating_sub(self.before)
    }
}

fn size(usual: u64) -> u64 {
    std::env::var("TIERED_STREAM_BYTES").ok().and_then(|size| size.parse().ok()).unwrap_or(usual)
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

/// Writes a value and reads it, and prints what that takes. `usual` are the bytes of the value, unless
/// `TIERED_STREAM_BYTES` says otherwise; they are more than the bound in any case.
#[allow(dead_code, reason = "of use where an engine is written in Rust")]
pub(crate) async fn measure(name: &str, store: &dyn Store, usual: u64) {
    measure_by(allocated, MOST, name, store, usual).await;
}

/// The same, by another look at the memory, and with another bound.
pub(crate) async fn measure_by(held: Held, most: usize, name: &str, store: &dyn Store, usual: u64) {
    let (size, key) = (size(usual), Key::new("film").expect("valid"));
    assert!(size > most as u64, "a value that fits the bound shows nothing");
    let expected =
        body(size).fold(0, async |crc, part| crc32c::crc32c_append(crc, &part.expect("a part"))).await;
    let clock = SystemClock::new();
    let seconds = |began: Duration| clock.uptime().saturating_sub(began).as_secs_f64();
    let (began, peak) = (clock.uptime(), Peak::begin(held));
    store.put_stream(&key, Put::new(""), body(size)).await.expect("written");
    let (put, took) = (peak.end(), seconds(began));
    let (began, peak) = (clock.uptime(), Peak::begin(held));
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
    assert_eq!(crc, expected, "the value is the one that was written");
    assert!(metadata.checksum.is_none_or(|checksum| checksum == Checksum::from_u32(expected)));
    let mebi = |bytes: usize| bytes / (1 << 20);
    println!(
        "{name}: {} MiB; put {} MiB of memory, {took:.1} s; read {} MiB, {read_took:.1} s",
        size >> 20,
        mebi(put),
        mebi(read),
    );
    assert!(put < most, "{name}: the put took {put} bytes");
    assert!(read < most, "{name}: the read took {read} bytes");
}
