//! Large values in blocks: what is fetched, what is kept, and that no answer mixes two versions.

mod streams;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{Dice, Intercept, Interceptor};
use tiered_core::adapter::{Stamp, Tombstones, VersionMint};
use tiered_core::settings::{FillTiming, MaxStale, Reopen, ServeStale};
use tiered_core::sync::{FullSync, PopulateMissing, SyncOptions};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Delete, Durability, Entry, ErrorKind, Feature, Key, ListOptions, Lookup, MemoryStore, Put, Read,
    ReadOptions, ReadPolicy, Result, Sharing, Slices, Source, Store, StoreExt as _, TieredBuilder,
    TieredStore, Timestamp, VolatileJournal, WritePolicy,
};

const BLOCK: u64 = 1 << 10;

/// Larger than is filled as a whole, and no multiple of a block.
const SIZE: u64 = 40 * BLOCK + 100;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// Bytes that tell their place, and which value they are of.
fn value(number: u64, size: u64) -> Bytes {
    let byte = |at: u64| (number * 101 + at * 7 + at / 256 * 13 + at / BLOCK * 29).to_le_bytes()[0];
    (0..size).map(byte).collect::<Vec<_>>().into()
}

fn part(of: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |at: u64| usize::try_from(at.min(of.len() as u64)).expect("small");
    of.slice(at(range.start)..at(range.end))
}

/// What a read of the backend asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    range: Option<Range<u64>>,
    conditional: bool,
}

/// A backend whose reads a test sees, and which another process may write between two of them.
#[derive(Debug, Default)]
struct Watch {
    reads: Mutex<Vec<Asked>>,
    /// Values that another process puts, each before the next read.
    others: Mutex<Vec<(Key, Bytes)>>,
    slow: AtomicBool,
    down: AtomicBool,
    /// Takes no writes.
    full: AtomicBool,
    /// Ignores what a read is conditional on.
    deaf: AtomicBool,
}

#[async_trait]
impl Interceptor for Watch {
    async fn before_write(&self) -> Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(tiered_core::Error::new(ErrorKind::Unavailable, "no room"));
        }
        Ok(())
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        let (range, conditional) = (options.range.clone(), options.if_version.is_some());
        // Building looks for the record of a lease.
        if !key.as_str().starts_with(".tiered/") {
            self.reads.lock().push(Asked { range, conditional });
        }
        if self.down.load(Ordering::Relaxed) {
            return Err(tiered_core::Error::new(ErrorKind::Unavailable, "down"));
        }
        let other = self.others.lock().pop();
        if let Some((key, value)) = other {
            inner.put(&key, Put::new(value)).await?;
        }
        if self.slow.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut options = options.clone();
        if self.deaf.load(Ordering::Relaxed) {
            options.if_version = None;
        }
        inner.load(key, &options).await
    }
}

impl Watch {
    fn taken(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.reads.lock())
    }
}

type Back = Intercept<Watch, MemoryStore>;

struct Stack {
    store: TieredStore,
    front: MemoryStore,
    back: Back,
}

fn backend(sharing: Sharing) -> Back {
    let inner = MemoryStore::new();
    Intercept::new(
        inner.declaring(|all| all.named("backend").with_sharing(sharing).without(Feature::Peeks)),
        Watch::default(),
    )
}

async fn stack_with(change: impl FnOnce(TieredBuilder) -> TieredBuilder) -> Stack {
    let (front, back) = (MemoryStore::new(), backend(Sharing::Exclusive));
    let builder = TieredStore::builder(front.clone(), back.clone());
    let builder = builder.block_size(BLOCK).fill_whole(4 * BLOCK).fill(FillTiming::BeforeAnswer);
    let store = change(builder).build().await.expect("builds");
    Stack { store, front, back }
}

async fn stack() -> Stack {
    stack_with(|builder| builder).await
}

/// A stack over a backend that has a large value under `k`.
async fn stack_over(large: &Bytes) -> Stack {
    let stack = stack().await;
    stack.back.inner().set("k", large.clone()).await.expect("written");
    stack
}

async fn range_of(store: &TieredStore, range: Range<u64>) -> Bytes {
    store.get_range("k", range).await.expect("reads").expect("found").into_value()
}

fn span(range: Range<u64>, conditional: bool) -> Asked {
    Asked { range: Some(range), conditional }
}

#[tokio::test]
async fn a_scan_in_small_steps_asks_once_for_each_block() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    let mut read = Vec::new();
    for start in (0..SIZE).step_by(128) {
        let entry = store.get_range("k", start..start + 128).await.expect("reads").expect("found");
        assert!(!entry.is_whole() && entry.size() == SIZE);
        read.extend_from_slice(entry.value());
    }
    assert_eq!(read, large);
    let reads = back.taken();
    assert_eq!(reads.len(), 41, "{reads:?}");
    assert_eq!(reads[0], span(0..BLOCK, false), "the first names version and size");
    assert!(reads[1..].iter().all(|asked| asked.conditional));
    let stats = store.stats();
    assert_eq!((stats.block_fills, stats.fills), (41, 0));
    // A second scan is all hits, and tells so.
    for start in (0..SIZE).step_by(1000) {
        let options = ReadOptions::new().range(start..start + 1000);
        let read = store.load(&key("k"), &options).await.expect("reads");
        assert_eq!(read.source, Source::Frontend);
        assert_eq!(*read.into_entry().expect("found").value(), part(&large, &(start..start + 1000)));
    }
    assert_eq!(back.taken(), []);
    assert!(store.stats().block_hits > stats.block_hits);
    assert_eq!(store.stats().slots, 0, "an idle key holds no slot");
}

#[tokio::test]
async fn the_entry_of_a_range_is_that_of_the_backend() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    let (k, range) = (key("k"), 3000..9000);
    let expected =
        back.inner().load(&k, &ReadOptions::new().range(range.clone())).await.expect("reads").into_entry();
    for _ in 0..3 {
        let entry = store.get_range(&k, range.clone()).await.expect("reads");
        assert_eq!(entry, expected);
        assert!(entry.expect("found").metadata().is_live(Timestamp::from_millis(0)), "not hidden");
    }
    let head = store.head(&k, &ReadOptions::new()).await.expect("reads").expect("found");
    assert_eq!(head, *expected.expect("found").metadata());
    assert_eq!(back.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_of_a_cold_block_are_one_request() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    back.slow.store(true, Ordering::Relaxed);
    for warm in [false, true] {
        // Then of a block whose stub is there.
        let block = if warm { 20 } else { 3 };
        let reads = (0..1000).map(|number| {
            let start = block * BLOCK + number % 900;
            let (store, large) = (&store, &large);
            async move {
                let range = start..start + 100;
                assert_eq!(range_of(store, range.clone()).await, part(large, &range));
            }
        });
        futures_util::future::join_all(reads).await;
        assert_eq!(back.taken(), [span(block * BLOCK..(block + 1) * BLOCK, warm)]);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_of_all_parts_of_a_cold_value_ask_once_for_each_block() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    back.slow.store(true, Ordering::Relaxed);
    let reads = (0..400).map(|number| {
        let (store, large, start) = (&store, &large, number * 97);
        async move {
            let range = start..start + 1500;
            assert_eq!(range_of(store, range.clone()).await, part(large, &range));
        }
    });
    futures_util::future::join_all(reads).await;
    let mut fetched = [0; 41];
    for asked in back.taken() {
        let range = asked.range.expect("a range");
        for block in range.start / BLOCK..range.end.min(SIZE).div_ceil(BLOCK) {
            fetched[usize::try_from(block).expect("small")] += 1;
        }
    }
    assert_eq!(
        (fetched[..40].iter().max(), fetched[..40].iter().min(), fetched[40]),
        (Some(&1), Some(&1), 0)
    );
}

#[tokio::test]
async fn neighbouring_blocks_that_are_missing_are_one_request_and_others_are_not_asked_for() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    range_of(&store, 5 * BLOCK..5 * BLOCK + 1).await;
    range_of(&store, 9 * BLOCK..9 * BLOCK + 1).await;
    back.taken();
    let range = 3 * BLOCK + 10..12 * BLOCK - 10;
    assert_eq!(range_of(&store, range.clone()).await, part(&large, &range));
    let mut reads = back.taken();
    reads.sort_by_key(|asked| asked.range.clone().map(|range| range.start));
    let runs = [3 * BLOCK..5 * BLOCK, 6 * BLOCK..9 * BLOCK, 10 * BLOCK..12 * BLOCK];
    assert_eq!(reads, runs.map(|run| span(run, true)));
}

#[tokio::test]
async fn a_reader_may_begin_with_the_end() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    // The footer, then what it points to, of one version.
    assert_eq!(range_of(&store, SIZE - 8..SIZE).await, part(&large, &(SIZE - 8..SIZE)));
    assert_eq!(range_of(&store, SIZE..SIZE + 10).await.len(), 0);
    let ranges = [SIZE - 50..u64::MAX, 0..10, 20 * BLOCK..20 * BLOCK + 5];
    let read = store.get_ranges(&key("k"), &ranges, &ReadOptions::new()).await.expect("reads");
    let Lookup::Found(Slices { values, metadata, .. }) = read.lookup else { panic!("it is there") };
    assert_eq!(values, ranges.clone().map(|range| part(&large, &range)));
    assert_eq!(metadata.size, SIZE);
    back.taken();
    store.get_ranges(&key("k"), &ranges, &ReadOptions::new()).await.expect("reads");
    assert_eq!(back.taken(), []);
    let beyond = store.get_range("k", SIZE + 1..SIZE + 2).await.expect_err("beyond the end");
    assert_eq!(beyond.kind(), ErrorKind::InvalidRange);
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let reversed = store.get_range("k", 9..8).await.expect_err("reversed");
    assert_eq!(reversed.kind(), ErrorKind::InvalidRange);
}

#[tokio::test]
async fn a_range_without_bytes_is_answered_by_the_metadata_alone() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    range_of(&store, 0..1).await;
    back.taken();
    for at in [0, BLOCK + 1, SIZE] {
        let entry = store.get_range("k", at..at).await.expect("reads").expect("found");
        assert_eq!((entry.value().len(), entry.size()), (0, SIZE));
    }
    assert_eq!(back.taken(), []);
    let beyond = store.get_range("k", SIZE + 1..SIZE + 1).await.expect_err("beyond the end");
    assert_eq!(beyond.kind(), ErrorKind::InvalidRange);
    // Another version's is none of this one's.
    let other = ReadOptions::new().range(0..0).if_version(tiered_core::Version::from_u128(9));
    let read = store.load(&key("k"), &other).await.expect("reads");
    assert!(matches!(read.lookup, Lookup::Changed), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_range_beyond_the_end_fails_its_own_reader_alone() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    back.slow.store(true, Ordering::Relaxed);
    let (beyond, within) =
        futures_util::join!(store.get_range("k", SIZE * 2..SIZE * 3), range_of(&store, 5..9));
    assert_eq!(beyond.expect_err("beyond").kind(), ErrorKind::InvalidRange);
    assert_eq!(within, part(&large, &(5..9)));
    assert!(store.get_range("none", 5..9).await.expect("absent, whatever the range").is_none());
}

#[tokio::test]
async fn small_values_are_kept_whole_where_that_costs_little() {
    let Stack { store, front, back } = stack().await;
    let put = async |name: &str, size| back.inner().set(name, value(1, size)).await.expect("written");
    put("tiny", 100).await;
    put("half", 3 * BLOCK).await;
    put("little", 4 * BLOCK).await;
    let in_front = |name: &str| front.peek(&key(name)).is_some();
    // The first block is all of it.
    store.get_range("tiny", 3..5).await.expect("reads");
    assert!(in_front("tiny"));
    assert_eq!(back.taken(), [span(0..BLOCK, false)]);
    // Half of it is asked for.
    store.get_range("half", 0..BLOCK + 512).await.expect("reads");
    assert!(in_front("half"));
    assert_eq!(back.taken(), [span(0..2 * BLOCK, false), Asked { range: None, conditional: true }]);
    // Little of it: a block.
    store.get_range("little", 0..10).await.expect("reads");
    assert!(!in_front("little"));
    back.taken();
    store.get_range("little", 500..900).await.expect("reads");
    store.get_range("half", 0..3 * BLOCK).await.expect("reads");
    store.get_range("tiny", 0..100).await.expect("reads");
    assert_eq!(back.taken(), []);
    assert_eq!(store.stats().fills, 2);
}

#[tokio::test]
async fn a_stub_is_never_the_value() {
    let large = value(1, SIZE);
    let Stack { store, front, back } = stack_over(&large).await;
    let k = key("k");
    range_of(&store, 0..10).await;
    assert!(front.peek(&k).is_none() && front.get(&k).await.expect("reads").is_none());
    assert!(store.peek(&k).is_none());
    assert_eq!(front.keys("").await.expect("lists"), []);
    assert_eq!(store.keys("").await.expect("lists"), [key("k")]);
    back.taken();
    // Reads of the whole ask the backend, and keep what they get.
    let many = store.get_many(&[k.clone(), key("none")], &ReadOptions::new()).await;
    let many: Vec<Option<Entry>> = many.into_iter().map(|read| read.expect("reads").into_entry()).collect();
    assert_eq!(many[0].as_ref().map(Entry::value), Some(&large));
    assert!(many[1].is_none());
    assert_eq!(back.taken()[0], Asked { range: None, conditional: false });
    assert_eq!(front.peek(&k).expect("whole").value(), &large);
    assert_eq!(range_of(&store, 5000..5010).await, part(&large, &(5000..5010)));
    assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), &large);
    assert_eq!(back.taken(), []);
}

#[tokio::test]
async fn a_value_that_does_not_fit_as_a_whole_stays_in_blocks() {
    let large = value(1, SIZE);
    let Stack { store, front, back } = stack_with(|builder| builder.max_fill(8 * BLOCK)).await;
    back.inner().set("k", large.clone()).await.expect("written");
    range_of(&store, 0..10).await;
    assert_eq!(store.get("k").await.expect("reads").expect("found").value(), &large);
    assert!(front.peek(&key("k")).is_none());
    back.taken();
    assert_eq!(range_of(&store, 0..10).await, part(&large, &(0..10)));
    assert_eq!(back.taken(), [], "the stub has survived");
}

/// Everything that the frontend has, hidden or not.
async fn all_in(front: &MemoryStore) -> Vec<String> {
    let listing = front.list(ListOptions::new().tombstones(Tombstones::Show));
    listing.map(|listed| listed.expect("listed").key.as_str().to_owned()).collect().await
}

#[tokio::test]
async fn what_a_write_makes_useless_is_removed() {
    let large = value(1, SIZE);
    for change in ["put", "delete", "invalidate", "around", "behind"] {
        let Stack { store, front, back } = stack_with(|builder| match change {
            "around" => builder.write_policy(WritePolicy::WriteAround),
            "behind" => builder.write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new()),
            _ => builder,
        })
        .await;
        back.inner().set("k", large.clone()).await.expect("written");
        range_of(&store, 0..9 * BLOCK).await;
        assert_eq!(all_in(&front).await.len(), 1 + 9, "{change}");
        let new = value(2, SIZE + 50);
        match change {
            "delete" => drop(store.delete(&key("k"), Delete::new()).await.expect("deleted")),
            "invalidate" => store.invalidate("k").await.expect("dropped"),
            _ => drop(store.set("k", new.clone()).await.expect("written")),
        }
        let range = 3 * BLOCK - 5..3 * BLOCK + 5;
        let read = store.get_range("k", range.clone()).await.expect("reads").map(Entry::into_value);
        let expected = match change {
            "delete" => None,
            "invalidate" => Some(part(&large, &range)),
            _ => Some(part(&new, &range)),
        };
        assert_eq!(read, expected, "{change}");
        store.flush().await.expect("flushed");
        tokio::task::yield_now().await;
        let left = all_in(&front).await.len();
        assert!(left <= 1 + 2, "{change}: {left} of the old are left");
    }
}

#[tokio::test]
async fn dropping_everything_drops_blocks() {
    let large = value(1, SIZE);
    let Stack { store, front, .. } = stack_over(&large).await;
    range_of(&store, 0..9 * BLOCK).await;
    store.set("other", "v").await.expect("written");
    assert_eq!(store.invalidate_all().await.expect("dropped"), 2, "two keys, whatever they are kept in");
    assert_eq!(all_in(&front).await, Vec::<String>::new());
}

#[tokio::test]
async fn names_of_blocks_are_no_keys_of_users() {
    let Stack { store, .. } = stack().await;
    let name = key(".tiered/block/00/0");
    let refused = store.put(&name, Put::new("v")).await.expect_err("reserved");
    assert_eq!(refused.kind(), ErrorKind::InvalidKey);
    assert_eq!(store.delete(&name, Delete::new()).await.expect_err("reserved").kind(), ErrorKind::InvalidKey);
    assert!(store.get(&name).await.expect("reads").is_none());
    store.set(".tiered/blocks", "v").await.expect("near, and not reserved");
}

#[tokio::test]
async fn a_block_is_not_shown_to_one_who_knows_its_name() {
    let large = value(1, SIZE);
    let Stack { store, front, .. } = stack_over(&large).await;
    range_of(&store, 0..10).await;
    let name = all_in(&front).await.into_iter().find(|name| name.starts_with(".tiered")).expect("a block");
    assert!(store.get(name.as_str()).await.expect("reads").is_none());
    assert!(store.get_range(name.as_str(), 0..10).await.expect("reads").is_none());
    assert!(store.head(&key(&name), &ReadOptions::new()).await.expect("reads").is_none());
}

#[tokio::test]
async fn syncs_copy_values_and_pass_over_stubs_and_blocks() {
    let large = value(1, SIZE);
    let Stack { store, front, back } = stack_over(&large).await;
    back.inner().set("other", "v").await.expect("written");
    range_of(&store, 0..9 * BLOCK).await;
    let report = store.sync(&PopulateMissing, &SyncOptions::new()).await.expect("synchronised");
    assert_eq!((report.copied, report.failed), (2, 0), "a stub is not the value");
    assert_eq!(front.peek(&key("k")).expect("copied").value(), &large);
    back.inner().delete(&key("k"), Delete::new()).await.expect("deleted");
    let report = store.sync(&FullSync, &SyncOptions::new()).await.expect("synchronised");
    assert_eq!((report.removed, report.failed), (1, 0));
}

/// Another process writes while a range is read, before each of so many requests.
async fn replaced(times: u64, policy: FillTiming) -> (Result<Option<Entry>>, Vec<Asked>) {
    let (front, back) = (MemoryStore::new(), backend(Sharing::Shared));
    back.inner().set("k", value(1, SIZE)).await.expect("written");
    let builder = TieredStore::builder(front, back.clone()).block_size(BLOCK).fill_whole(BLOCK).fill(policy);
    let store = builder.build().await.expect("builds");
    range_of(&store, 0..10).await;
    range_of(&store, 5 * BLOCK..5 * BLOCK + 10).await;
    back.taken();
    *back.others.lock() = (0..times).map(|number| (key("k"), value(2 + number, SIZE))).collect();
    let read = store.get_range("k", 0..8 * BLOCK).await;
    (read, back.taken())
}

#[tokio::test]
async fn no_answer_mixes_two_versions() {
    for policy in [FillTiming::AfterAnswer, FillTiming::BeforeAnswer] {
        for times in 0..40 {
            let (read, asked) = replaced(times, policy).await;
            let entry = read.expect("reads").expect("found");
            let is_piece = (1..=1 + times).any(|n| *entry.value() == part(&value(n, SIZE), &(0..8 * BLOCK)));
            assert!(is_piece, "replaced {times} times: bytes of no version");
            assert!(asked.len() <= 40, "a bounded number of requests: {}", asked.len());
        }
    }
}

#[tokio::test]
async fn a_backend_that_ignores_the_condition_is_found_out_by_its_answer() {
    let (front, back) = (MemoryStore::new(), backend(Sharing::Shared));
    back.inner().set("k", value(1, SIZE)).await.expect("written");
    let builder = TieredStore::builder(front, back.clone()).block_size(BLOCK).fill_whole(BLOCK);
    let store = builder.fill(FillTiming::BeforeAnswer).build().await.expect("builds");
    range_of(&store, 0..10).await;
    back.deaf.store(true, Ordering::Relaxed);
    let new = value(2, SIZE);
    back.inner().set("k", new.clone()).await.expect("written");
    assert_eq!(range_of(&store, 0..8 * BLOCK).await, part(&new, &(0..8 * BLOCK)));
    assert_eq!(range_of(&store, 0..8 * BLOCK).await, part(&new, &(0..8 * BLOCK)));
}

#[tokio::test(start_paused = true)]
async fn a_stub_is_not_kept_once_a_write_came_in_between() {
    let large = value(1, SIZE);
    let Stack { store, front, back } =
        stack_with(|builder| builder.write_policy(WritePolicy::WriteAround).fill(FillTiming::AfterAnswer))
            .await;
    back.inner().set("k", large).await.expect("written");
    back.slow.store(true, Ordering::Relaxed);
    let new = value(2, SIZE);
    let (_, written) = futures_util::join!(range_of(&store, 0..10), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        store.set("k", new.clone()).await
    });
    written.expect("written");
    store.flush().await.expect("flushed");
    assert_eq!(all_in(&front).await, Vec::<String>::new());
    assert_eq!(store.stats().blocks_refused_by_token, 1);
    assert_eq!(range_of(&store, 0..10).await, part(&new, &(0..10)));
}

#[tokio::test(start_paused = true)]
async fn readers_beside_a_writer_see_one_version_each_and_never_an_older_one_after() {
    let Stack { store, back, .. } = stack_with(|builder| builder.fill(FillTiming::AfterAnswer)).await;
    back.slow.store(true, Ordering::Relaxed);
    store.set("k", value(1, SIZE)).await.expect("written");
    let (acknowledged, done) = (AtomicU64::new(1), AtomicBool::new(false));
    let writer = async {
        for number in 2..60 {
            tokio::time::sleep(Duration::from_millis(number % 7)).await;
            // Of another process's making in the frontend's eyes: it keeps none of it.
            store.set("k", value(number, SIZE)).await.expect("written");
            store.invalidate("k").await.expect("dropped");
            acknowledged.store(number, Ordering::Relaxed);
        }
        done.store(true, Ordering::Relaxed);
    };
    let readers = (0..8_u64).map(|seed| {
        let (store, acknowledged, done) = (&store, &acknowledged, &done);
        async move {
            let mut dice = Dice::new(seed);
            while !done.load(Ordering::Relaxed) {
                let start = dice.below(SIZE);
                let range = start..(start + dice.below(6 * BLOCK)).min(SIZE);
                let before = acknowledged.load(Ordering::Relaxed);
                let read = store.get_range("k", range.clone()).await.expect("reads").expect("found");
                let after = acknowledged.load(Ordering::Relaxed) + 1;
                let right = (before..=after).any(|n| *read.value() == part(&value(n, SIZE), &range));
                assert!(right, "{range:?} is of none of the versions {before} to {after}");
                tokio::time::sleep(Duration::from_millis(dice.below(3))).await;
            }
        }
    });
    futures_util::join!(writer, futures_util::future::join_all(readers));
    assert!(store.stats().block_hits > 0, "{:?}", store.stats());
}

/// A frontend that loses everything, or fails, at one of its calls.
#[derive(Debug)]
struct Loses {
    at: u64,
    fails: bool,
    calls: AtomicU64,
}

impl Loses {
    async fn call(&self, inner: &dyn Store) -> Result<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed) != self.at {
            return Ok(());
        }
        if self.fails {
            return Err(tiered_core::Error::new(ErrorKind::Unavailable, "fails"));
        }
        let mut listing = inner.list(ListOptions::new().tombstones(Tombstones::Show));
        while let Some(listed) = listing.next().await {
            inner.delete(&listed?.key, Delete::new()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Loses {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.call(inner).await?;
        inner.load(key, options).await
    }

    async fn around_write<T, F>(&self, inner: &dyn Store, _: Option<&Key>, call: F) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        self.call(inner).await?;
        call.await
    }
}

#[tokio::test(start_paused = true)]
async fn a_frontend_that_loses_all_or_fails_at_any_call_costs_requests_and_nothing_else() {
    let large = value(1, SIZE);
    let mut reached = 0;
    for (at, fails) in (0..60).flat_map(|at| [(at, false), (at, true)]) {
        let inner = MemoryStore::new().declaring(|all| all.without(Feature::Peeks).with(Feature::Evicts));
        let front = Intercept::new(inner, Loses { at, fails, calls: AtomicU64::new(0) });
        let back = backend(Sharing::Exclusive);
        back.inner().set("k", large.clone()).await.expect("written");
        let builder = TieredStore::builder(front.clone(), back.clone()).block_size(BLOCK).fill_whole(BLOCK);
        let store = builder.fill(FillTiming::BeforeAnswer).build().await.expect("builds");
        for range in [0..10, 5 * BLOCK..8 * BLOCK, 0..9 * BLOCK, 7 * BLOCK..7 * BLOCK + 1] {
            assert_eq!(range_of(&store, range.clone()).await, part(&large, &range), "call {at}");
        }
        assert!(back.taken().len() <= 16, "call {at}");
        reached += u64::from(front.calls.load(Ordering::Relaxed) > at);
    }
    assert!(reached > 25, "{reached} calls were met");
}

/// What a stack keeps when its process ends, and a clock for both.
struct Lasting {
    front: MemoryStore,
    back: Back,
    stamp: Stamp,
    clock: Arc<ManualClock>,
}

impl Lasting {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let stamp = Stamp::new(Arc::clone(&clock) as _, Arc::new(VersionMint::seeded(7)));
        let declared = |name| {
            let store = MemoryStore::with_stamp(stamp.clone());
            store.declaring(|all| {
                all.named(name).with_durability(Durability::PowerLoss).without(Feature::Peeks)
            })
        };
        // A frontend that lasts has blocks only within a capacity.
        let front = declared("front").declaring(|all| all.with(Feature::Evicts));
        let back = Intercept::new(declared("back"), Watch::default());
        Self { front, back, stamp, clock }
    }

    async fn open(&self, change: impl FnOnce(TieredBuilder) -> TieredBuilder) -> TieredStore {
        // As another process has them.
        let front = self.front.in_another_process();
        let back = Intercept::clone(&self.back);
        let builder = TieredStore::builder(front, back).stamp(self.stamp.clone());
        let builder = builder.block_size(BLOCK).fill_whole(BLOCK).fill(FillTiming::BeforeAnswer);
        change(builder).build().await.expect("builds")
    }
}

#[tokio::test]
async fn a_frontend_that_outlives_the_process_uses_its_blocks_once_the_stub_is_compared() {
    let large = value(1, SIZE);
    for (reopen, requests) in [(Reopen::Revalidate, 1), (Reopen::Trust, 0)] {
        let lasting = Lasting::new();
        lasting.back.inner().set("k", large.clone()).await.expect("written");
        let store = lasting.open(|builder| builder.reopen(reopen)).await;
        range_of(&store, 0..9 * BLOCK).await;
        store.close_tiers_stay().await;
        lasting.back.taken();
        let store = lasting.open(|builder| builder.reopen(reopen)).await;
        for range in [0..10, 3 * BLOCK..9 * BLOCK] {
            assert_eq!(range_of(&store, range.clone()).await, part(&large, &range));
        }
        assert_eq!(lasting.back.taken().len(), requests, "{reopen:?}");
        assert_eq!(store.stats().revalidated, requests as u64);
        drop(store);
        // A value that another process has replaced meanwhile.
        let new = value(2, SIZE + 5);
        lasting.back.inner().set("k", new.clone()).await.expect("written");
        let store = lasting.open(|builder| builder).await;
        for range in [0..10, 3 * BLOCK..9 * BLOCK] {
            assert_eq!(range_of(&store, range.clone()).await, part(&new, &range));
        }
    }
}

/// How many blocks the frontend has.
async fn blocks_in(front: &MemoryStore) -> usize {
    all_in(front).await.iter().filter(|name| name.starts_with(".tiered/block/")).count()
}

#[tokio::test(start_paused = true)]
async fn blocks_that_an_earlier_process_left_are_swept_and_those_in_use_are_not() {
    let lasting = Lasting::new();
    for name in ["!", "k", "other", "untouched"] {
        lasting.back.inner().set(name, value(1, SIZE)).await.expect("written");
    }
    let first = lasting.open(|builder| builder).await;
    for name in ["!", "k", "other", "untouched"] {
        first.get_range(name, 0..4 * BLOCK).await.expect("reads");
    }
    first.close_tiers_stay().await;
    // The second process meets stubs of versions that others have replaced, and knows nothing of their blocks.
    for name in ["!", "k", "other"] {
        lasting.back.inner().set(name, value(2, SIZE)).await.expect("written");
    }
    let second = lasting.open(|builder| builder).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(blocks_in(&lasting.front).await, 4 * 4, "each has its stub");
    for name in ["!", "k"] {
        second.get_range(name, 0..3 * BLOCK).await.expect("reads");
    }
    second.delete(&key("other"), Delete::new()).await.expect("deleted");
    second.close_tiers_stay().await;
    let third = lasting.open(|builder| builder).await;
    // What is read while the sweep runs stays.
    third.get_range("k", 10 * BLOCK..12 * BLOCK).await.expect("reads");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(blocks_in(&lasting.front).await, 3 + 3 + 2 + 4);
    lasting.back.taken();
    for (name, number, blocks) in [("!", 2, 3), ("k", 2, 3), ("untouched", 1, 4)] {
        let part_of = part(&value(number, SIZE), &(0..blocks * BLOCK));
        let read = third.get_range(name, 0..blocks * BLOCK).await.expect("reads").expect("found");
        assert_eq!(*read.value(), part_of);
    }
    // Of each but the one that was compared above the version is compared, and nothing is fetched.
    assert_eq!(lasting.back.taken().len(), 2);
}

/// Ends the use of a store whose tiers a test goes on using: without closing them.
trait Leave {
    async fn close_tiers_stay(self);
}

impl Leave for TieredStore {
    async fn close_tiers_stay(self) {
        self.flush().await.expect("flushed");
        self.frontend().set_mark("tiered.in-use", None).await.expect("marked");
        drop(self);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stub_is_compared_again_once_it_is_older_than_it_may_be() {
    let (lasting, large) = (Lasting::new(), value(1, SIZE));
    lasting.back.inner().set("k", large.clone()).await.expect("written");
    let store = lasting.open(|builder| builder.max_stale(Duration::from_mins(1))).await;
    range_of(&store, 0..3 * BLOCK).await;
    assert_eq!(lasting.back.taken().len(), 1);
    lasting.clock.advance(Duration::from_secs(59));
    range_of(&store, 0..3 * BLOCK).await;
    assert_eq!(lasting.back.taken().len(), 0);
    lasting.clock.advance(Duration::from_secs(2));
    let read = store.load(&key("k"), &ReadOptions::new().range(5..9)).await.expect("reads");
    assert_eq!(
        (read.age, read.entry().map(|e| e.value().clone())),
        (Duration::ZERO, Some(part(&large, &(5..9))))
    );
    assert_eq!(lasting.back.taken().len(), 1, "asked for nothing but the version");
    assert_eq!((store.stats().revalidated, store.stats().block_fills), (1, 3));
    // Deleted by another process.
    lasting.back.inner().delete(&key("k"), Delete::new()).await.expect("deleted");
    lasting.clock.advance(Duration::from_secs(61));
    assert!(store.get_range("k", 5..9).await.expect("reads").is_none());
    assert!(store.get_range("k", 5..9).await.expect("reads").is_none());
}

/// A small value is kept as a whole by reads of ranges, a large one by a read of the whole.
#[tokio::test]
async fn a_whole_value_that_is_read_by_ranges_is_compared_once() {
    for size in [BLOCK, SIZE] {
        let (lasting, old, new) = (Lasting::new(), value(1, size), value(2, size + 7));
        lasting.back.inner().set("k", old.clone()).await.expect("written");
        let stale = |builder: TieredBuilder| builder.max_stale(Duration::from_mins(1));
        let mut store = lasting.open(stale).await;
        store.get("k").await.expect("reads").expect("found");
        for reopened in [false, true, false] {
            lasting.back.taken();
            if reopened {
                store.close_tiers_stay().await;
                store = lasting.open(stale).await;
            } else {
                lasting.clock.advance(Duration::from_secs(61));
            }
            for start in (0..size).step_by(100) {
                let range = start..start + 100;
                assert_eq!(range_of(&store, range.clone()).await, part(&old, &range));
            }
            assert_eq!(lasting.back.taken().len(), 1, "asked for nothing but the version");
        }
        assert_eq!(store.stats().revalidated, 2);
        // Replaced by another process, then deleted.
        lasting.back.inner().set("k", new.clone()).await.expect("written");
        lasting.clock.advance(Duration::from_secs(61));
        for range in [0..10, size..size + 5] {
            assert_eq!(range_of(&store, range.clone()).await, part(&new, &range));
        }
        lasting.back.inner().delete(&key("k"), Delete::new()).await.expect("deleted");
        lasting.clock.advance(Duration::from_secs(61));
        assert!(store.get_range("k", 5..9).await.expect("reads").is_none());
    }
}

#[tokio::test]
async fn a_stale_range_is_served_from_complete_blocks_alone() {
    let (lasting, large) = (Lasting::new(), value(1, SIZE));
    lasting.back.inner().set("k", large.clone()).await.expect("written");
    let stale =
        |builder: TieredBuilder| builder.max_stale(Duration::from_mins(1)).serve_stale(ServeStale::Unlimited);
    let store = lasting.open(stale).await;
    range_of(&store, 2 * BLOCK..5 * BLOCK).await;
    lasting.clock.advance(Duration::from_secs(100));
    lasting.back.down.store(true, Ordering::Relaxed);
    let range = |range| ReadOptions::new().range(range);
    let read = store.load(&key("k"), &range(2 * BLOCK + 7..5 * BLOCK)).await.expect("served");
    assert!(read.stale && read.source == Source::Frontend && read.age >= Duration::from_secs(100));
    assert_eq!(*read.into_entry().expect("found").value(), part(&large, &(2 * BLOCK + 7..5 * BLOCK)));
    for (missing, options) in
        [("a block", range(4 * BLOCK..6 * BLOCK)), ("the value", ReadOptions::new()), ("all", range(0..1))]
    {
        let error = store.load(&key("k"), &options).await.expect_err(missing);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{missing}");
    }
}

#[tokio::test]
async fn an_expired_value_has_no_stub_and_no_blocks() {
    let (lasting, large) = (Lasting::new(), value(1, SIZE));
    let put = Put::new(large).expires_in(Duration::from_secs(10));
    lasting.back.inner().put(&key("k"), put).await.expect("written");
    let store = lasting.open(|builder| builder).await;
    range_of(&store, 0..3 * BLOCK).await;
    lasting.clock.advance(Duration::from_secs(11));
    assert!(store.get_range("k", 0..10).await.expect("reads").is_none());
    let shown = lasting.front.list(ListOptions::new().tombstones(Tombstones::Show));
    assert_eq!(shown.count().await, 0, "what has expired is not listed");
}

#[tokio::test]
async fn conditional_ranges_are_answered_by_blocks_of_their_version_alone() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } = stack_over(&large).await;
    let k = key("k");
    let version = store.get_range(&k, 0..10).await.expect("reads").expect("found").version().clone();
    back.taken();
    let same = ReadOptions::new().range(0..20).if_version(version.clone());
    let read = store.load(&k, &same).await.expect("reads");
    assert_eq!(*read.into_entry().expect("found").value(), part(&large, &(0..20)));
    let known = ReadOptions::new().range(0..20).unless(version.into());
    assert_eq!(store.load(&k, &known).await.expect("reads").lookup, Lookup::Unchanged);
    assert_eq!(back.taken(), []);
    let other = ReadOptions::new().range(0..20).if_version(tiered_core::Version::from_u128(9));
    assert_eq!(store.load(&k, &other).await.expect("reads").lookup, Lookup::Changed);
    assert_eq!(back.taken().len(), 1, "the backend knows better");
}

#[tokio::test]
async fn no_blocks_are_kept_where_they_could_be_wrong_or_are_not_wanted() {
    let repeats = MemoryStore::new().declaring(|all| all.with(Feature::RepeatsVersions));
    let (front, plain) = (MemoryStore::new(), MemoryStore::new());
    let endless = MemoryStore::new().declaring(|all| all.with_durability(Durability::PowerLoss));
    let shared = MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    let builders = [
        (
            TieredStore::builder(MemoryStore::new(), shared).max_stale(MaxStale::Unlimited),
            "a stub of what others have replaced would stay",
        ),
        (TieredStore::builder(endless, MemoryStore::new()), "they would fill the disk"),
        (TieredStore::builder(MemoryStore::new(), repeats), "a version can come again"),
        (TieredStore::builder(front, plain.clone()).block_size(None), "not wanted"),
        (
            TieredStore::builder(MemoryStore::new(), MemoryStore::new())
                .read_policy(ReadPolicy::FrontendOnly),
            "the frontend answers alone",
        ),
    ];
    for (builder, why) in builders {
        let store = builder.fill(FillTiming::BeforeAnswer).build().await.expect("builds");
        assert!(!store.guarantees().blocks, "{why}");
        store.backend().set("k", value(1, 3 << 20)).await.expect("written");
        let authoritative = ReadOptions::new().range(0..10).authoritative();
        store.load(&key("k"), &authoritative).await.expect("reads");
        store.get_range("k", 0..10).await.expect("reads");
        let shown = store.frontend().list(ListOptions::new().tombstones(Tombstones::Show));
        assert_eq!(shown.count().await, 0, "{why}");
    }
    assert!(stack().await.store.guarantees().blocks);
    let small = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).block_size(1000).build().await;
    assert_eq!(small.expect_err("too small").kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_local_cache_keeps_blocks_of_what_it_has_not_written() {
    let large = value(1, SIZE);
    let Stack { store, back, .. } =
        stack_with(|builder| builder.write_policy(WritePolicy::FrontendOnly)).await;
    back.inner().set("k", large.clone()).await.expect("written");
    back.taken();
    for _ in 0..3 {
        assert_eq!(range_of(&store, 0..10).await, part(&large, &(0..10)));
    }
    assert_eq!(back.taken().len(), 1);
    store.set("k", "local").await.expect("written");
    assert_eq!(range_of(&store, 0..10).await, "local");
    store.delete(&key("k"), Delete::new()).await.expect("deleted");
    assert!(store.get_range("k", 0..10).await.expect("reads").is_none());
    assert_eq!(back.inner().get("k").await.expect("reads").expect("untouched").value(), &large);
}

#[tokio::test]
async fn a_damaged_block_is_fetched_again() {
    let large = value(1, SIZE);
    let Stack { store, front, back } = stack_over(&large).await;
    range_of(&store, 0..3 * BLOCK).await;
    let name = all_in(&front).await.into_iter().find(|name| name.starts_with(".tiered")).expect("a block");
    // Something else under its name, as long as it.
    front.set(name.as_str(), vec![0; 1 << 10]).await.expect("written");
    back.taken();
    assert_eq!(range_of(&store, 0..3 * BLOCK).await, part(&large, &(0..3 * BLOCK)));
    assert_eq!(back.taken().len(), 1);
    assert_eq!(range_of(&store, 0..3 * BLOCK).await, part(&large, &(0..3 * BLOCK)));
    assert_eq!(back.taken().len(), 0);
}

/// Also where the answer comes before what is kept: a reader that meets the stub meets its block as well, or finds it under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_asks_once_for_each_block_although_answers_come_before_fills() {
    for _ in 0..20 {
        let large = value(1, SIZE);
        let Stack { store, back, .. } = stack_with(|builder| builder.fill(FillTiming::AfterAnswer)).await;
        back.inner().set("k", large.clone()).await.expect("written");
        back.slow.store(true, Ordering::Relaxed);
        for start in (0..SIZE).step_by(512) {
            assert_eq!(range_of(&store, start..start + 512).await, part(&large, &(start..start + 512)));
        }
        assert_eq!(back.taken().len(), 41);
    }
}
