//! The memory tier: the conformance suite, and what is its own.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Eviction, Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Batch, ErrorKind, Key, MemoryStore, Put, Result, Store, StoreExt as _, TieredStore, Timestamp,
};
use tiered_moka::{MokaConfig, MokaStore, Policy};

/// A cache with room for all that the suite writes, on a manual clock.
struct Memory {
    store: MokaStore,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

fn memory(stamp: &Stamp) -> MokaStore {
    MokaConfig::new(256 << 20).max_value(4 << 20).stamp(stamp.clone()).build().expect("builds")
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
    let kind = |config: MokaConfig| config.build().expect_err("refused").kind();
    assert_eq!(kind(MokaConfig::new(0)), ErrorKind::Config);
    assert_eq!(kind(MokaConfig::new(1).ttl(Duration::ZERO)), ErrorKind::Config);
    assert_eq!(kind(MokaConfig::new(1).ttl(Duration::MAX)), ErrorKind::Config);
}

#[tokio::test]
async fn memory_is_bounded_and_recently_used_entries_stay() {
    let capacity = 1 << 20;
    let store = MokaConfig::new(capacity).build().expect("builds");
    let key = |index: usize| Key::new(format!("key-{index}")).expect("valid");
    for index in 0..5_000 {
        store.put(&key(index), Put::new(vec![0; 1024])).await.expect("written");
        // What has just been written is there: nothing rejects it.
        assert!(store.peek(&key(index)).is_some());
    }
    store.settle();
    assert!(store.used() <= capacity, "{} bytes in a cache of {capacity}", store.used());
    assert!(store.peek(&key(4_999)).is_some() && store.peek(&key(0)).is_none());
    let large = store.put(&key(0), Put::new(vec![0; 2 << 20])).await.expect_err("larger than the cache");
    assert_eq!(large.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn entries_expire_after_their_time_to_live() {
    let store = MokaConfig::new(1 << 20).ttl(Duration::from_millis(1)).build().expect("builds");
    let key = Key::new("k").expect("valid");
    store.put(&key, Put::new("v")).await.expect("written");
    // moka's own clock decides; the test ends as soon as it has.
    while store.peek(&key).is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_listing_does_not_count_as_a_use_of_its_entries() {
    let store = MokaConfig::new(64 << 10).build().expect("builds");
    let key = |index: usize| Key::new(format!("key-{index:02}")).expect("valid");
    for index in 0..40 {
        store.put(&key(index), Put::new(vec![0; 1000])).await.expect("written");
    }
    store.settle();
    // All but the last are used after it; the listing must not make up for that.
    for index in 0..39 {
        assert!(store.peek(&key(index)).is_some());
    }
    store.settle();
    assert_eq!(store.keys("").await.expect("lists").len(), 40);
    store.settle();
    for index in 40..48 {
        store.put(&key(index), Put::new(vec![0; 1000])).await.expect("written");
    }
    store.settle();
    assert!(store.peek(&key(39)).is_none(), "the least recently used goes first");
    assert!(store.peek(&key(38)).is_some());
}

#[tokio::test]
async fn the_largest_value_fits_and_evicts_no_more_than_necessary() {
    let store = MokaConfig::new(64 << 10).build().expect("builds");
    let most = usize::try_from(store.capabilities().max_value()).expect("small");
    let key = Key::new("k".repeat(Key::MAX_LEN)).expect("valid");
    store.put(&key, Put::new("small")).await.expect("written");
    store.put(&key, Put::new(vec![0; most])).await.expect("written");
    store.settle();
    assert!(store.peek(&key).is_some_and(|entry| entry.value().len() == most));
}

/// A slice keeps the whole buffer that it was cut from in memory. The tier holds what it counts, whichever way it came in.
#[tokio::test]
async fn the_heap_holds_no_more_than_the_counted_weight() {
    let store = MokaConfig::new(16 << 20).build().expect("builds");
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

/// Under `TinyLFU` an entry that was just written may be refused. Whatever is there is what was written last.
#[tokio::test]
async fn what_tinylfu_refuses_is_a_miss_and_never_an_older_value() {
    let frontend = MokaConfig::new(64 << 10).policy(Policy::TinyLfu).build().expect("builds");
    let store = TieredStore::builder(frontend.clone(), MemoryStore::new()).build().await.expect("builds");
    let key = |index: usize| Key::new(format!("key-{index:03}")).expect("valid");
    let (mut hits, mut refused) = (0, 0);
    for round in 0..20_u8 {
        for index in 0..200 {
            let value = [round, u8::try_from(index).expect("small")].repeat(300);
            store.put(&key(index), Put::new(value.clone())).await.expect("written");
            frontend.settle();
            match frontend.peek(&key(index)) {
                Some(entry) => assert!(entry.value() == &value, "an older value of {index} in round {round}"),
                None => refused += 1,
            }
            // A few keys are used far more often, so that new ones lose against them.
            for often in 0..20 {
                let entry = store.get(&key(often)).await.expect("reads");
                let newest = if often <= index { round } else { round.saturating_sub(1) };
                let value = entry.map(|entry| entry.value()[0]);
                assert!(value == Some(newest) || (round == 0 && often > index), "{often}: {value:?}");
                hits += usize::from(frontend.peek(&key(often)).is_some());
            }
        }
    }
    assert!(refused > 100 && hits > 1_000, "{refused} refused, {hits} hits");
}
