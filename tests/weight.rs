//! What an entry takes in a memory tier: as much as the tier counts, and little more than in the raw cache.

use std::alloc::System;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tiered::moka::MokaConfig;
use tiered::quick::QuickConfig;
use tiered::{Key, Put, Store};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ENTRIES: u32 = 100_000;

/// What an entry may take beside what the raw cache needs for its key and value: the metadata, a pointer to them, and as much
/// more as a growing table has spare for that pointer.
const METADATA: i64 = 120 + 4;

fn held() -> i64 {
    let stats = ALLOCATOR.stats();
    let difference = stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated);
    i64::try_from(difference).expect("less than the memory")
}

/// Bytes of each of many entries that `insert` makes, and what `insert` returns at the end.
fn measure<T>(insert: impl FnOnce() -> T) -> (i64, T) {
    let before = held();
    let made = insert();
    ((held() - before) / i64::from(ENTRIES), made)
}

/// A key of 21 bytes.
fn key(index: u32) -> Key {
    Key::new(format!("users/{index:07}/profile")).expect("valid")
}

/// Stores and reads each entry, since a buffer gets its count of references when it is first shared.
async fn fill(store: &impl Store, value: usize) {
    for index in 0..ENTRIES {
        store.put(&key(index), Put::new(vec![1; value])).await.expect("written");
        store.peek(&key(index)).expect("just written");
    }
}

/// One test, since the counts are of the whole process.
#[tokio::test]
async fn a_memory_tier_holds_what_it_counts_and_little_more_than_the_raw_cache() {
    for value in [100, 1_000] {
        let (raw_moka, cache) = measure(|| {
            let cache = moka::sync::Cache::builder().max_capacity(1 << 40).weigher(|_, _| 1);
            let cache = cache.build_with_hasher(foldhash::fast::RandomState::default());
            for index in 0..ENTRIES {
                cache.insert(key(index), Bytes::from(vec![1; value]));
                cache.get(&key(index)).expect("just written");
            }
            cache.run_pending_tasks();
            cache
        });
        drop(cache);
        let (raw_quick, cache) = measure(|| {
            let cache = quick_cache::sync::Cache::<Key, Bytes>::new(2 * ENTRIES as usize);
            for index in 0..ENTRIES {
                cache.insert(key(index), Bytes::from(vec![1; value]));
                cache.get(&key(index)).expect("just written");
            }
            cache
        });
        drop(cache);

        let before = held();
        let store = MokaConfig::new(1 << 30).build().expect("builds");
        fill(&store, value).await;
        store.settle();
        check("moka", value, (held() - before) / i64::from(ENTRIES), store.used(), raw_moka);
        drop(store);

        let before = held();
        let store = QuickConfig::new(1 << 30).build().expect("builds");
        fill(&store, value).await;
        check("quick", value, (held() - before) / i64::from(ENTRIES), store.used(), raw_quick);
    }
}

/// What is counted must not be less than what is held, or the capacity is overrun; nor so much more that memory is left unused.
#[expect(clippy::print_stdout, reason = "the figures are what this is about")]
fn check(tier: &str, value: usize, held: i64, used: u64, raw: i64) {
    let counted = i64::try_from(used).expect("small") / i64::from(ENTRIES);
    println!("{tier}, {value} B: {held} held, {counted} counted, {raw} in the raw cache");
    assert!(
        counted * 100 >= held * 97 && counted * 100 <= held * 130,
        "{tier}: {counted} counted, {held} held"
    );
    assert!(held <= raw + METADATA, "{tier}: {held} bytes, {raw} in the raw cache");
}
