//! A sync of any size takes the same memory: a million keys pass through less than a megabyte.

use std::alloc::System;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tiered::adapter::Stamp;
use tiered::sync::{Refresh, SyncOptions, sync};
use tiered::{
    Capabilities, Delete, Deleted, Durability, Feature, Key, ListOptions, ListStream, Listed, Put, Read,
    ReadOptions, Result, Sharing, Store, Written,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 1_000_000;

/// Bytes of a value: a window of copies is some tens of them.
const VALUE: usize = 1000;

/// Bytes that a sync may take at most: its window of values, and the report.
const MOST: usize = 1 << 20;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Lists a million keys and holds none of them.
#[derive(Debug)]
struct Endless(Capabilities, Stamp);

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
        Box::pin(futures_util::stream::iter((0..KEYS).map(|index| {
            let key = Key::new(format!("{index:08}"))?;
            Ok(Listed::new(key, VALUE as u64))
        })))
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

#[tokio::test]
async fn a_sync_of_a_million_keys_takes_less_than_a_megabyte() {
    let declared = |name: &'static str| {
        Capabilities::new(name, Durability::Volatile, Sharing::Exclusive)
            .with(Feature::ConditionalPut)
            .with(Feature::ConditionalDelete)
    };
    let peak = Arc::new(AtomicUsize::new(0));
    let from: Arc<dyn Store> = Arc::new(Endless(declared("endless"), Stamp::system()));
    let to: Arc<dyn Store> = Arc::new(Void(declared("void"), Stamp::system(), Arc::clone(&peak)));
    let before = held();
    let report = sync(&from, &to, &Refresh, &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.listed_from, report.copied, report.bytes), (KEYS, KEYS, KEYS * VALUE as u64));
    let taken = peak.load(Ordering::Relaxed).saturating_sub(before);
    assert!(taken > VALUE && taken < MOST, "the sync of {KEYS} keys took {taken} bytes at its peak");
}
