//! A sync of any size takes the same memory: a million keys pass through less than a megabyte. A walk with a workspace takes some
//! bytes a key.
//!
//! `TIERED_SYNC_KEYS` and `TIERED_WALK_KEYS` take more keys. With `--nocapture` both print their figures.
#![allow(clippy::print_stdout, reason = "the figures of a long run are of interest")]

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tiered::adapter::{Clock as _, Stamp, SystemClock};
use tiered::sync::{Refresh, SyncOptions, WalkOptions, sync, walk_sync};
use tiered::{
    Capabilities, Delete, Deleted, Durability, Entry, Feature, Key, ListOptions, ListStream, Listed, Put,
    Read, ReadOptions, Result, Sharing, Store, Written,
};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Keys of a short sync, and of a long one.
const FEW: u64 = 100_000;
const MANY: u64 = 1_000_000;

/// Bytes of a value: a window of copies is some tens of them.
const VALUE: usize = 1000;

/// What the process holds is what one test holds.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes that a sync may take at most: its window of values, and the report.
const MOST: usize = 1 << 20;

/// Bytes that a walk of up to ten million keys may take at most.
const MOST_OF_A_WALK: usize = 256 << 20;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Lists so many keys and holds none of them.
#[derive(Debug)]
struct Endless(Capabilities, Stamp, u64);

#[async_trait]
impl Store for Endless {
    fn capabilities(&self) -> &Capabilities {
        &self.0
    }
    async fn claim(&self, scope: &tiered::adapter::Scope) -> Result<tiered::adapter::Claim> {
        let _ = scope;
        Ok(tiered::adapter::Claim::shared())
    }
    async fn load(&self, _: &Key, options: &ReadOptions) -> Result<Read> {
        Read::answer(Some(self.1.entry(&Put::new(vec![1; VALUE]))), options)
    }
    async fn put(&self, _: &Key, put: Put) -> Result<Written> {
        Ok(Written::committed(self.1.entry(&put).version().clone()))
    }
    async fn delete(&self, _: &Key, _: Delete) -> Result<Deleted> {
        Ok(Deleted::committed(false))
    }
    fn list(&self, _: ListOptions) -> ListStream {
        Box::pin(futures_util::stream::iter((0..self.2).map(|index| {
            let key = Key::new(format!("{index:08}"))?;
            Ok(Listed::new(key, VALUE as u64))
        })))
    }
}

/// A tree of so many keys, none of which it holds: each refers to ten others.
#[derive(Debug)]
struct Tree(Capabilities, Stamp, u64);

fn node(number: u64) -> Key {
    Key::new(format!("nodes/of/a/tree/{number:016}")).expect("a key")
}

#[async_trait]
impl Store for Tree {
    fn capabilities(&self) -> &Capabilities {
        &self.0
    }
    async fn claim(&self, scope: &tiered::adapter::Scope) -> Result<tiered::adapter::Claim> {
        let _ = scope;
        Ok(tiered::adapter::Claim::shared())
    }
    async fn load(&self, key: &Key, options: &ReadOptions) -> Result<Read> {
        let number =
            key.as_str().rsplit('/').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        let children = (1..=10).map(|nth| 10 * number + nth).filter(|child| *child < self.2);
        let value: Vec<u8> = children.flat_map(u64::to_le_bytes).collect();
        Read::answer(Some(self.1.entry(&Put::new(value))), options)
    }
    async fn put(&self, _: &Key, put: Put) -> Result<Written> {
        Ok(Written::committed(self.1.entry(&put).version().clone()))
    }
    async fn delete(&self, _: &Key, _: Delete) -> Result<Deleted> {
        Ok(Deleted::committed(false))
    }
    fn list(&self, _: ListOptions) -> ListStream {
        Box::pin(futures_util::stream::empty())
    }
}

/// Takes everything, keeps nothing, and notes how much the process holds when it does.
#[derive(Debug)]
struct Void(Capabilities, Stamp, Arc<AtomicUsize>);

#[async_trait]
impl Store for Void {
    fn capabilities(&self) -> &Capabilities {
        &self.0
    }
    async fn claim(&self, scope: &tiered::adapter::Scope) -> Result<tiered::adapter::Claim> {
        let _ = scope;
        Ok(tiered::adapter::Claim::shared())
    }
    async fn load(&self, _: &Key, options: &ReadOptions) -> Result<Read> {
        Read::answer(None, options)
    }
    async fn put(&self, _: &Key, put: Put) -> Result<Written> {
        self.2.fetch_max(held(), Ordering::Relaxed);
        // The copies of a window are under way at the same time.
        tokio::task::yield_now().await;
        Ok(Written::committed(self.1.entry(&put).version().clone()))
    }
    async fn delete(&self, _: &Key, _: Delete) -> Result<Deleted> {
        Ok(Deleted::committed(false))
    }
    fn list(&self, _: ListOptions) -> ListStream {
        Box::pin(futures_util::stream::empty())
    }
}

fn declared(name: &'static str) -> Capabilities {
    Capabilities::new(name, Durability::Volatile, Sharing::Exclusive)
        .with(Feature::ConditionalPut)
        .with(Feature::ConditionalDelete)
}

/// What a walk of so many keys holds at its peak. What it knows of them is in a file.
async fn walked(keys: u64) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("redb:{}/keys.redb?durability=buffer&cache=1MiB", folder.path().display());
    let workspace = tiered::open(&url, tiered::Create::IfAbsent).await.expect("made");
    let peak = Arc::new(AtomicUsize::new(0));
    let from = Tree(declared("tree"), Stamp::system(), keys);
    let to = Void(declared("void"), Stamp::system(), Arc::clone(&peak));
    let follow = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
        let (children, _) = entry.value().as_chunks::<8>();
        Ok(children.iter().map(|child| node(u64::from_le_bytes(*child))).collect())
    };
    let before = held();
    let options = WalkOptions::new().workspace(Arc::clone(&workspace));
    let report = walk_sync(&from, &to, &[node(0)], &follow, &options).await.expect("walks");
    assert_eq!((report.reached, report.sync.copied), (keys, keys));
    workspace.close().await.expect("closes");
    peak.load(Ordering::Relaxed).saturating_sub(before)
}

/// A clock, and its present time.
fn now() -> (SystemClock, Duration) {
    let clock = SystemClock::new();
    let now = clock.uptime();
    (clock, now)
}

/// So many keys, or as many as a variable says.
fn keys_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|keys| keys.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test]
async fn a_walk_with_a_workspace_takes_some_bytes_a_key() {
    let _alone = ALONE.lock().await;
    // More than wait for their turn at a time, which takes the same however many there are.
    let few = 100_000;
    let many = keys_of("TIERED_WALK_KEYS", 300_000);
    let less = walked(few).await;
    let (clock, began) = now();
    let more = walked(many).await;
    println!(
        "walk: {many} keys, {more} bytes at the peak, {:.1} s",
        clock.uptime().saturating_sub(began).as_secs_f64()
    );
    assert!(more < MOST_OF_A_WALK || many > 10_000_000, "{many} keys took {more} bytes");
    let each = more.saturating_sub(less) / usize::try_from(many - few).expect("fits");
    assert!(each < 20, "{few} keys took {less} bytes, and {many} keys {more}: {each} each");
}

/// What a sync of so many keys holds at its peak.
async fn synced(keys: u64) -> usize {
    let peak = Arc::new(AtomicUsize::new(0));
    let from: Arc<dyn Store> = Arc::new(Endless(declared("endless"), Stamp::system(), keys));
    let to: Arc<dyn Store> = Arc::new(Void(declared("void"), Stamp::system(), Arc::clone(&peak)));
    let before = held();
    let (clock, began) = now();
    let report = sync(&from, &to, &Refresh, &SyncOptions::new()).await.expect("syncs");
    let seconds = clock.uptime().saturating_sub(began).as_secs_f64();
    assert_eq!((report.listed_from, report.copied, report.bytes), (keys, keys, keys * VALUE as u64));
    let taken = peak.load(Ordering::Relaxed).saturating_sub(before);
    println!("sync: {keys} keys, {taken} bytes at the peak, {seconds:.1} s");
    taken
}

#[tokio::test]
async fn a_sync_takes_less_than_a_megabyte_and_no_more_for_ten_times_as_many_keys() {
    let _alone = ALONE.lock().await;
    let few = synced(FEW).await;
    assert!(few > VALUE && few < MOST, "the sync of {FEW} keys took {few} bytes at its peak");
    let keys = keys_of("TIERED_SYNC_KEYS", MANY);
    let many = synced(keys).await;
    assert!(many * 10 < few * 11, "{FEW} keys took {few} bytes, and {keys} keys {many}");
}
