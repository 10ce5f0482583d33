//! The memory tier: the conformance suite, and what is its own.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Eviction, Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Batch, ErrorKind, Key, Precondition, Put, Result, Store, StoreExt as _, Timestamp};
use tiered_quick::{QuickConfig, QuickStore};

/// A cache with room for all that the suite writes, on a manual clock.
struct Memory {
    store: QuickStore,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

fn memory(stamp: &Stamp) -> QuickStore {
    QuickConfig::new(256 << 20).max_value(4 << 20).stamp(stamp.clone()).build().expect("builds")
}

impl Memory {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        Self { store: memory(&stamp), stamp, clock }
    }
}

/// A cache is new each time that it is opened.
struct Room(Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(memory(&self.0)))
    }
}

#[async_trait::async_trait]
impl Factory for Memory {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(self.stamp.clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }

    fn eviction(&self) -> Eviction {
        Eviction::Never
    }
}

mod suite {
    //! Strictly: nothing evicts.
    tiered_conformance::suite!(super::Memory::new());
}

#[test]
fn invalid_settings_are_refused() {
    let kind = |config: QuickConfig| config.build().expect_err("refused").kind();
    assert_eq!(kind(QuickConfig::new(0)), ErrorKind::Config);
    assert_eq!(kind(QuickConfig::new(1).ttl(Duration::ZERO)), ErrorKind::Config);
    assert_eq!(kind(QuickConfig::new(1 << 20).items(1 << 20)), ErrorKind::Config);
    assert!(QuickConfig::new(1 << 20).ttl(Duration::MAX).build().is_ok());
    assert!(QuickConfig::new(1).max_value(u64::MAX).build().is_ok());
    assert!(QuickConfig::new(u64::MAX).max_value(1).items(1).build().is_ok());
}

fn key(index: usize) -> Key {
    Key::new(format!("key-{index}")).expect("valid")
}

#[tokio::test]
async fn memory_is_bounded_and_what_was_just_written_is_there() {
    let capacity = 1 << 20;
    let store = QuickConfig::new(capacity).build().expect("builds");
    for index in 0..5_000 {
        store.put(&key(index), Put::new(vec![0; 1024])).await.expect("written");
        assert!(store.peek(&key(index)).is_some());
    }
    assert!(store.used() <= capacity, "{} bytes in a cache of {capacity}", store.used());
    assert!(store.used() > capacity / 4 * 3, "{} bytes in a cache of {capacity}", store.used());
    let large = store.put(&key(0), Put::new(vec![0; 2 << 20])).await.expect_err("larger than the cache");
    assert_eq!(large.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_scan_does_not_push_out_what_is_read_again() {
    let store = QuickConfig::new(1 << 20).build().expect("builds");
    for index in 0..200 {
        store.put(&key(index), Put::new(vec![0; 1024])).await.expect("written");
        assert!(store.peek(&key(index)).is_some());
    }
    for index in 1_000..6_000 {
        store.put(&key(index), Put::new(vec![0; 1024])).await.expect("written");
        store.peek(&key(index % 200));
    }
    let kept = (0..200).filter(|index| store.peek(&key(*index)).is_some()).count();
    assert!(kept > 190, "{kept} of 200 are left");
}

#[tokio::test]
async fn entries_expire_after_their_time_to_live_by_the_injected_clock() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
    let store = QuickConfig::new(1 << 20).ttl(Duration::from_mins(1)).stamp(stamp).build().expect("builds");
    store.put(&key(1), Put::new("v")).await.expect("written");
    clock.advance(Duration::from_millis(59_999));
    assert!(store.peek(&key(1)).is_some());
    assert_eq!(store.keys("").await.expect("lists").len(), 1);
    clock.advance(Duration::from_millis(1));
    assert!(store.peek(&key(1)).is_none());
    assert!(store.get(&key(1)).await.expect("reads").is_none());
    assert_eq!(store.keys("").await.expect("lists").len(), 0);
    // What has ended does not stand in the way of a new entry.
    store.put(&key(1), Put::new("w").precondition(Precondition::Absent)).await.expect("written");
    assert!(store.peek(&key(1)).is_some());
}

/// Shards are as few as the largest value needs, and it fits whichever shard its key belongs to.
#[tokio::test]
async fn the_largest_value_fits_into_every_shard() {
    for (capacity, asked) in
        [(64 << 10, None), (64 << 20, None), (64 << 20, Some(50 << 20)), (8 << 20, Some(1 << 20))]
    {
        let config = QuickConfig::new(capacity);
        let config = match asked {
            Some(bytes) => config.max_value(bytes),
            None => config,
        };
        let store = config.build().expect("builds");
        let most = store.capabilities().max_value();
        assert!(asked.is_none_or(|asked| most == asked), "{asked:?} bytes are asked for, {most} fit");
        let value = vec![0; usize::try_from(most).expect("small")];
        for index in 0..20 {
            let key = Key::new(format!("{index:01024}")).expect("valid");
            store.put(&key, Put::new(value.clone())).await.expect("written");
            assert!(store.peek(&key).is_some_and(|entry| entry.size() == most), "{most} bytes of {capacity}");
        }
    }
}

/// An entry that no shard has room for is not there, and what it replaces is not, either.
#[tokio::test]
async fn a_refused_entry_leaves_no_older_one() {
    let store = QuickConfig::new(64 << 10).build().expect("builds");
    store.put(&key(1), Put::new("old")).await.expect("written");
    // The value alone would fit; with its attributes it is too heavy.
    let pairs = (0..60).map(|index| (format!("name-{index}"), "value"));
    let attributes = tiered_core::Attributes::try_from_iter(pairs).expect("fit");
    let most = usize::try_from(store.capabilities().max_value()).expect("small");
    store.put(&key(1), Put::new(vec![0; most]).attributes(attributes)).await.expect("accepted");
    assert!(store.peek(&key(1)).is_none(), "refused");
    assert!(store.get(&key(1)).await.expect("reads").is_none());
}

/// A slice keeps the whole buffer that it was cut from in memory. The tier holds what it counts, whichever way it came in.
#[tokio::test]
async fn the_heap_holds_no_more_than_the_counted_weight() {
    let store = QuickConfig::new(16 << 20).build().expect("builds");
    let mut buffers = Vec::new();
    for index in 0..100 {
        let buffer = bytes::Bytes::from(vec![1_u8; 1 << 20]);
        let slice = Put::new(buffer.slice(0..100));
        let key = Key::new(format!("k{index}")).expect("valid");
        match index % 3 {
            0 => drop(store.put(&key, slice).await.expect("written")),
            1 => drop(store.apply(Batch::new().best_effort().put(key, slice)).await.expect("written")),
            _ => {
                let body = Box::pin(futures_util::stream::iter([Ok(buffer.slice(0..100))]));
                store.put_stream(&key, Put::new(""), body).await.expect("written");
            }
        }
        buffers.push(buffer);
    }
    assert!(buffers.iter().all(bytes::Bytes::is_unique), "nothing of them is held");
    let attributes = tiered_core::Attributes::new().with("large", &"x".repeat(1_700)).expect("fits");
    store.settle();
    let before = store.used();
    store
        .put(&Key::new("attributes").expect("valid"), Put::new("").attributes(attributes))
        .await
        .expect("written");
    store.settle();
    assert!(store.used() - before >= 1_700, "attributes are counted");
}
