//! Walks over graphs with cycles, failures and interruptions: what is in the target has all that it refers to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::adapter::{Note, Origin, Reads, Stamp, Tombstones, verbatim};
use tiered_core::sync::{Present, Walk, WalkOptions, WalkReport, walk_sync};
use tiered_core::{
    Atomicity, Batch, Entry, Error, ErrorKind, Feature, Key, ListOptions, MemoryStore, Put, ReadOptions,
    Result, Sharing, Store, StoreExt as _, TieredStore, Written,
};

use crate::scripted::{Trouble, key, over};

pub(crate) const NODES: usize = 14;

pub(crate) fn references(_: &Key, entry: &Entry) -> Result<Vec<Key>> {
    String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
}

pub(crate) fn node(index: usize) -> Key {
    key(&format!("node-{index:02}"))
}

/// The references of a random graph: a node refers to later ones, and now and then to any.
pub(crate) fn graph(dice: &mut fastrand::Rng) -> Vec<Vec<usize>> {
    let to = |from: usize, dice: &mut fastrand::Rng| {
        if dice.u8(0..4) == 0 { dice.usize(0..NODES) } else { dice.usize(from..NODES) }
    };
    (0..NODES).map(|from| (0..dice.usize(0..4)).map(|_| to(from, dice)).collect()).collect()
}

/// Whether there is a way from one node to another.
pub(crate) fn reaches(graph: &[Vec<usize>]) -> Vec<Vec<bool>> {
    let mut reaches = vec![vec![false; NODES]; NODES];
    for (from, to) in graph.iter().enumerate() {
        for to in to {
            *reaches.get_mut(from).and_then(|row| row.get_mut(*to)).expect("a node") = true;
        }
    }
    let at = |reaches: &[Vec<bool>], from: usize, to: usize| {
        reaches.get(from).and_then(|row| row.get(to)).copied().expect("a node")
    };
    for by in 0..NODES {
        for from in 0..NODES {
            for to in 0..NODES {
                if at(&reaches, from, by) && at(&reaches, by, to) {
                    *reaches.get_mut(from).and_then(|row| row.get_mut(to)).expect("a node") = true;
                }
            }
        }
    }
    reaches
}

#[tokio::test(start_paused = true)]
async fn what_a_walk_left_in_the_target_has_all_that_it_refers_to_but_for_its_cycle() {
    let (mut interrupted, mut failed, mut cycles) = (0, 0, 0);
    for seed in 0..400 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let graph = graph(&mut dice);
        let ways = reaches(&graph);
        let one_by_one = seed % 3 == 0;
        let target = MemoryStore::new()
            .declaring(|all| if one_by_one { all.without(Feature::AtomicBatch) } else { all });
        let (source, target) = (MemoryStore::new(), over(target, Sharing::Exclusive));
        for (index, to) in graph.iter().enumerate() {
            let value: Vec<String> = to.iter().map(|to| node(*to).as_str().to_owned()).collect();
            source.put(&node(index), Put::new(value.join(" "))).await.expect("written");
            match dice.u8(0..16) {
                0 => target.trouble(&node(index), Trouble::Fails(Duration::from_millis(3))),
                1..5 => target.trouble(&node(index), Trouble::Slow(Duration::from_millis(dice.u64(1..40)))),
                _ => {}
            }
        }
        let roots = [node(0), node(1), node(5)];
        let mut options = WalkOptions::new().concurrency(dice.usize(1..4)).batch(dice.usize(1..5));
        if dice.bool() {
            options = options.workspace(MemoryStore::new());
        }
        let walking = walk_sync(&source, &target, &roots, &references, &options);
        let patience = if seed % 2 == 0 { Duration::from_millis(dice.u64(0..80)) } else { Duration::MAX };
        let report = tokio::time::timeout(patience, walking).await;
        let there: BTreeMap<Key, Entry> = target.inner().snapshot();
        let has = |index: usize| there.contains_key(&node(index));
        for (from, to) in graph.iter().enumerate().filter(|(from, _)| has(*from)) {
            for to in to {
                let way = |from: usize, to: usize| ways.get(from).and_then(|row| row.get(to)).copied();
                let in_cycle = way(*to, from) == Some(true);
                assert!(has(*to) || in_cycle, "seed {seed}: {from} is there without {to}");
            }
        }
        match report {
            Err(_) => interrupted += 1,
            Ok(report) => {
                let report = report.expect("walks");
                failed += u64::from(report.sync.failed > 0);
                cycles += u64::from(report.cycles > 0);
                let reached = (0..NODES).filter(|index| {
                    let from = |root: usize| ways.get(root).and_then(|row| row.get(*index)).copied();
                    [0, 1, 5].into_iter().any(|root| root == *index || from(root) == Some(true))
                });
                assert_eq!(report.reached, reached.count() as u64, "seed {seed}");
                if report.sync.failed == 0 {
                    assert_eq!((there.len() as u64, report.held_back), (report.reached, 0), "seed {seed}");
                }
            }
        }
    }
    assert!(interrupted > 50 && failed > 50 && cycles > 50, "{interrupted} {failed} {cycles}");
}

/// A store in which absent, present, deleted and damaged keys meet one batch.
#[tokio::test]
async fn a_walk_leaves_local_deletes_and_repairs_what_is_damaged_whatever_else_it_copies_with_them() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let names: Vec<Key> = (0..20).map(node).collect();
    for name in &names {
        source.put(name, Put::new("")).await.expect("written");
    }
    let deleted = names.get(3).expect("one");
    let note = Note::default().with_origin(Origin::Tombstone);
    let tombstone = Stamp::system().entry(&Put::new("")).with_note(note);
    target.put(deleted, verbatim(&tombstone)).await.expect("written");
    let report = walk_sync(&source, &target, &names, &references, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.sync.copied, report.sync.skipped), (19, 1));
    assert!(!target.contains(deleted).await.expect("looks"), "the delete was undone");
    let shown = ReadOptions::new().tombstones(Tombstones::Show);
    assert!(target.head(deleted, &shown).await.expect("looks").is_some());
    let torn = crate::damage::torn(&["a", "b", "c"], &["b"]).await;
    let source = MemoryStore::new();
    for name in ["a", "b", "c", "d", "e"] {
        source.put(&key(name), Put::new("")).await.expect("written");
    }
    let roots = ["a", "b", "c", "d", "e"].map(key);
    let report = walk_sync(&source, &torn, &roots, &references, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.sync.copied, report.sync.failed, report.held_back), (5, 0, 0));
    assert_eq!(source.snapshot(), torn.inner().snapshot());
}

/// A source that notes how many bytes of values are asked for at once.
#[derive(Debug, Default)]
struct Weighed {
    most: AtomicU64,
}

#[async_trait]
impl Interceptor for Weighed {
    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads = inner.get_many(keys, options).await;
        let size = |read: &tiered_core::Read| read.entry().map_or(0, |entry| entry.value().len() as u64);
        let bytes: u64 = reads.iter().flatten().map(size).sum();
        self.most.fetch_max(bytes, Ordering::Relaxed);
        reads
    }
}

#[tokio::test]
async fn a_walk_keeps_within_its_bytes_where_small_values_come_before_large_ones() {
    let source = MemoryStore::new();
    let large: Vec<String> = (0..200).map(|index| format!("large-{index:03}")).collect();
    source.put(&key("root"), Put::new(large.join(" "))).await.expect("written");
    for name in &large {
        source.put(&key(name), Put::new(vec![b' '; 10 << 10])).await.expect("written");
    }
    let weighed = Intercept::new(source, Weighed::default());
    let options = WalkOptions::new().concurrency(4).byte_budget(160 << 10);
    let target = MemoryStore::new();
    let report: WalkReport =
        walk_sync(&weighed, &target, &[key("root")], &references, &options).await.expect("walks");
    assert_eq!(report.sync.copied, 201);
    let listed = futures_util::StreamExt::count(target.list(ListOptions::new())).await;
    assert_eq!(listed, 201);
    let most = weighed.most.load(Ordering::Relaxed);
    assert!((20 << 10..=40 << 10).contains(&most), "{most} bytes at once");
}

/// A source whose entry under a key is replaced once it was read.
#[derive(Debug)]
struct Replaced {
    key: Key,
    by: &'static str,
    reads: AtomicU64,
}

#[async_trait]
impl Interceptor for Replaced {
    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        let reads = inner.get_many(keys, options).await;
        let is_read = options.range != Some(0..0) && keys.contains(&self.key);
        if is_read && self.reads.fetch_add(1, Ordering::Relaxed) == 0 {
            inner.put(&self.key, Put::new(self.by)).await.expect("written");
        }
        reads
    }
}

/// The root is replaced after it was walked.
async fn replaced(
    by: &'static str,
    options: &WalkOptions,
    target: MemoryStore,
) -> (WalkReport, BTreeMap<Key, Entry>) {
    let source = MemoryStore::new();
    for (name, value) in [("root", "left right"), ("left", ""), ("right", ""), ("new", "")] {
        source.put(&key(name), Put::new(value)).await.expect("written");
    }
    let source = Intercept::new(source, Replaced { key: key("root"), by, reads: AtomicU64::new(0) });
    // Two roots: they are read together.
    let roots = [key("root"), key("left")];
    let report = walk_sync(&source, &target, &roots, &references, options).await.expect("walks");
    (report, target.snapshot())
}

#[tokio::test]
async fn a_value_that_changes_while_it_is_walked_is_copied_only_if_all_that_it_then_refers_to_was_walked() {
    // For a target that takes one key after the other each value is read twice.
    let options = WalkOptions::new();
    let (report, there) = replaced("left new", &options, without_batches()).await;
    assert_eq!((report.changed, report.held_back, report.sync.copied), (1, 1, 2));
    assert!(!there.contains_key(&key("root")), "it refers to what was not walked");
    let (report, there) = replaced("right", &options, without_batches()).await;
    assert_eq!((report.changed, report.held_back, report.sync.copied), (0, 0, 3));
    assert_eq!(there.get(&key("root")).expect("there").value(), "right");
}

/// What is still in memory is copied as it was walked, but over nothing else: what the target has may be newer.
#[tokio::test]
async fn a_value_that_is_still_in_memory_is_copied_as_it_was_walked_where_the_target_has_none() {
    let options = WalkOptions::new();
    let (report, there) = replaced("left new", &options, MemoryStore::new()).await;
    assert_eq!((report.changed, report.held_back, report.sync.copied), (0, 0, 3));
    assert_eq!(there.get(&key("root")).expect("there").value(), "left right");
    for (by, changed, copied, value) in [("left new", 1, 2, "other"), ("right", 0, 3, "right")] {
        let target = MemoryStore::new();
        target.put(&key("root"), Put::new("other")).await.expect("written");
        let (report, there) = replaced(by, &options, target).await;
        assert_eq!((report.changed, report.sync.copied), (changed, copied));
        assert_eq!(there.get(&key("root")).expect("there").value(), value);
    }
}

#[tokio::test]
async fn leaves_are_read_once_and_what_is_trusted_is_not_read() {
    struct Follow;
    #[async_trait]
    impl Walk for Follow {
        async fn references(&self, key: &Key, entry: &Entry) -> Result<Vec<Key>> {
            assert!(!self.is_leaf(key), "{key} is a leaf");
            references(key, entry)
        }
        fn is_leaf(&self, key: &Key) -> bool {
            key.as_str().starts_with("leaf")
        }
    }
    let source = MemoryStore::new();
    for (name, value) in [
        ("root", "one two"),
        ("one", "leaf-1 leaf-2"),
        ("two", "leaf-2 gone"),
        ("leaf-1", "x"),
        ("leaf-2", "y"),
    ] {
        source.put(&key(name), Put::new(value)).await.expect("written");
    }
    let weighed = Intercept::new(source, Weighed::default());
    let target = MemoryStore::new();
    let report = walk_sync(&weighed, &target, &[key("root"), key("one")], &Follow, &WalkOptions::new())
        .await
        .expect("walks");
    assert_eq!((report.reached, report.missing, report.held_back, report.sync.copied), (6, 1, 3, 3));
    // The target has "one" and its leaves. Trusted, it is not looked into.
    weighed.inner().delete(&key("leaf-1"), tiered_core::Delete::new()).await.expect("deleted");
    let options = WalkOptions::new().present(Present::Trust);
    let report = walk_sync(&weighed, &target, &[key("one")], &Follow, &options).await.expect("walks");
    assert_eq!((report.reached, report.trusted, report.missing, report.sync.copied), (1, 1, 0, 0));
    let report =
        walk_sync(&weighed, &target, &[key("one")], &Follow, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.reached, report.trusted, report.missing, report.held_back), (3, 0, 1, 2));
}

/// A backend of which a value can be read once.
#[derive(Debug)]
struct Fading {
    key: Key,
    reads: AtomicU64,
}

#[async_trait]
impl Interceptor for Fading {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        let is_whole = *key == self.key && options.range.is_none();
        if is_whole && self.reads.fetch_add(1, Ordering::Relaxed) > 0 {
            return Err(Error::new(ErrorKind::Corrupt, "damaged").for_key(key));
        }
        inner.load(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        let mut reads = Reads::new();
        for key in keys {
            reads.push(self.load(inner, key, options).await);
        }
        reads
    }
}

/// The frontend of a live store takes many keys at once, each by itself.
#[tokio::test]
async fn no_key_comes_to_a_live_frontend_without_what_it_refers_to() {
    let back = MemoryStore::new();
    for (name, value) in [("root", "left right"), ("left", "leaf"), ("right", ""), ("leaf", "")] {
        back.put(&key(name), Put::new(value)).await.expect("written");
    }
    let back = Intercept::new(back, Fading { key: key("leaf"), reads: AtomicU64::new(0) });
    let front = MemoryStore::new();
    let store = TieredStore::builder(front.clone(), back).build().await.expect("builds");
    let report = store.walk_sync(&[key("root")], &references, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.reached, report.sync.failed, report.held_back), (4, 1, 3));
    let held: Vec<Key> = front.snapshot().into_keys().collect();
    assert_eq!(held, [key("right")]);
}

/// A target that notes its batches and single writes, each of which takes a while.
#[derive(Debug, Default)]
struct Noted {
    takes: Duration,
    batches: Mutex<Vec<(Atomicity, Vec<Key>)>>,
    singles: AtomicU64,
}

#[async_trait]
impl Interceptor for Noted {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let keys = batch.operations().iter().map(|(key, _)| key.clone()).collect();
        self.batches.lock().push((batch.atomicity(), keys));
        tokio::time::sleep(self.takes).await;
        inner.apply(batch).await
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.singles.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        inner.put(key, put).await
    }
}

#[tokio::test]
async fn the_keys_of_a_cycle_become_visible_together() {
    let source = MemoryStore::new();
    for (name, value) in [("a", "b"), ("b", "c leaf"), ("c", "a"), ("leaf", "")] {
        source.put(&key(name), Put::new(value)).await.expect("written");
    }
    let target = Intercept::new(MemoryStore::new(), Noted::default());
    // Smaller batches than the cycle.
    let options = WalkOptions::new().batch(1);
    let report = walk_sync(&source, &target, &[key("a")], &references, &options).await.expect("walks");
    assert_eq!((report.cycles, report.sync.copied), (3, 4));
    let batches = target.batches.lock().clone();
    let [(_, leaf), (atomicity, mut cycle)] = <[_; 2]>::try_from(batches).expect("two batches");
    assert_eq!(leaf, [key("leaf")]);
    cycle.sort();
    assert_eq!((atomicity, cycle), (Atomicity::Required, ["a", "b", "c"].map(key).to_vec()));
    assert_eq!(target.singles.load(Ordering::Relaxed), 0);
}

/// A source of which each read takes 20 ms.
#[derive(Debug)]
struct Far;

#[async_trait]
impl Interceptor for Far {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        inner.load(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        tokio::time::sleep(Duration::from_millis(20)).await;
        inner.get_many(keys, options).await
    }
}

/// The store that reads one key a request.
fn without_batches() -> MemoryStore {
    MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch))
}

const CHAIN: usize = 100;

async fn chain(of: &MemoryStore) {
    for index in 0..CHAIN {
        let next = if index + 1 == CHAIN { String::new() } else { node(index + 1).as_str().to_owned() };
        of.put(&node(index), Put::new(next)).await.expect("written");
    }
}

#[tokio::test]
async fn parents_and_children_of_a_chain_are_one_batch() {
    let source = MemoryStore::new();
    chain(&source).await;
    let target = Intercept::new(MemoryStore::new(), Noted::default());
    let options = WalkOptions::new().batch(25);
    let report = walk_sync(&source, &target, &[node(0)], &references, &options).await.expect("walks");
    assert_eq!(report.sync.copied, 100);
    let batches = target.batches.lock().clone();
    let sizes: Vec<usize> = batches.iter().map(|(_, keys)| keys.len()).collect();
    assert_eq!((sizes, target.singles.load(Ordering::Relaxed)), (vec![25; 4], 0));
}

/// Otherwise each key would cost the workspace a commit or two, and a look-up.
#[tokio::test]
async fn a_workspace_is_asked_and_written_many_entries_at_a_time() {
    let source = without_batches();
    for index in 0..5_000 {
        let children: Vec<String> = (10 * index + 1..=10 * index + 10)
            .filter(|child| *child < 5_000)
            .map(|child| node(child).as_str().to_owned())
            .collect();
        source.put(&node(index), Put::new(children.join(" "))).await.expect("written");
    }
    let workspace = Intercept::new(MemoryStore::new(), Noted::default());
    let options = WalkOptions::new().workspace(workspace.clone());
    let report =
        walk_sync(&source, &without_batches(), &[node(0)], &references, &options).await.expect("walks");
    assert_eq!(report.sync.copied, 5_000);
    // A number, a name and a node for each key.
    let sizes: Vec<usize> = workspace.batches.lock().iter().map(|(_, keys)| keys.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 15_000, "{sizes:?}");
    assert!(sizes.len() <= 2, "{sizes:?}");
}

/// A batch of more than a second's bytes would come at once, and then nothing for long.
#[tokio::test(start_paused = true)]
async fn a_walk_that_is_slowed_down_copies_four_batches_a_second() {
    let source = MemoryStore::new();
    let roots: Vec<Key> = (0..200).map(node).collect();
    for root in &roots {
        source.put(root, Put::new("          ")).await.expect("written");
    }
    let target = Intercept::new(MemoryStore::new(), Noted::default());
    let options = WalkOptions::new().bytes_per_second(1_000);
    let begun = tokio::time::Instant::now();
    let report = walk_sync(&source, &target, &roots, &references, &options).await.expect("walks");
    assert_eq!(report.sync.copied, 200);
    let sizes: Vec<usize> = target.batches.lock().iter().map(|(_, keys)| keys.len()).collect();
    assert_eq!(sizes, [25; 8]);
    // The last batch is waited for by none.
    assert_eq!(begun.elapsed().as_millis().div_ceil(10), 175);
}

#[tokio::test(start_paused = true)]
async fn only_the_publication_of_a_chain_is_in_order_not_its_reads() {
    let source = without_batches();
    chain(&source).await;
    let source = Intercept::new(source, Far);
    let takes = Duration::from_millis(5);
    let target = Intercept::new(without_batches(), Noted { takes, ..Noted::default() });
    let begun = tokio::time::Instant::now();
    let report =
        walk_sync(&source, &target, &[node(0)], &references, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.sync.copied, target.singles.load(Ordering::Relaxed)), (100, 100));
    // To find it takes 100 reads, one after the other; to publish it 100 writes, and reads beside them.
    let publishing = begun.elapsed().checked_sub(Duration::from_secs(2)).expect("found first");
    assert!(publishing < Duration::from_millis(100 * 5 + 100), "{publishing:?}");
}

#[tokio::test(start_paused = true)]
async fn sixteen_readers_are_more_than_ten_times_as_fast_as_one() {
    let source = without_batches();
    // A tree.
    for index in 0..2_000 {
        let children: Vec<String> = (1..=10)
            .map(|nth| 10 * index + nth)
            .filter(|child| *child < 2_000)
            .map(|child| node(child).as_str().to_owned())
            .collect();
        source.put(&node(index), Put::new(children.join(" "))).await.expect("written");
    }
    let source = Intercept::new(source, Far);
    let mut times = Vec::new();
    for readers in [1, 16] {
        let begun = tokio::time::Instant::now();
        let options = WalkOptions::new().concurrency(readers);
        let report =
            walk_sync(&source, &MemoryStore::new(), &[node(0)], &references, &options).await.expect("walks");
        assert_eq!(report.sync.copied, 2_000);
        times.push(begun.elapsed());
    }
    let [one, many] = <[Duration; 2]>::try_from(times).expect("two");
    assert!(one > 10 * many, "{one:?} with one reader, {many:?} with 16");
}
