//! Walks that go on where an earlier one was stopped, and several walks of one graph at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Reads};
use tiered_core::sync::{Present, WalkOptions, WalkReport, walk_sync};
use tiered_core::{
    Batch, Delete, Error, ErrorKind, Feature, Key, MemoryStore, Put, ReadOptions, Result, Sharing, Store,
    StoreExt as _, Written,
};

use crate::scripted::key;
use crate::walks::{NODES, graph, node, reaches, references};

/// A shared target. Writes take a while, each another; it notes those that took effect, and that no key came before its children.
#[derive(Debug)]
struct Judged {
    held: MemoryStore,
    dice: Mutex<fastrand::Rng>,
    /// The references of each node, but for those within a cycle where the target takes one key at a time.
    parts: Vec<Vec<usize>>,
    written: Mutex<BTreeMap<Key, u64>>,
}

impl Judged {
    async fn wait(&self) {
        let takes = self.dice.lock().u64(0..20);
        tokio::time::sleep(Duration::from_millis(takes)).await;
    }

    fn judge(&self, written: &[Key]) {
        for key in written {
            *self.written.lock().entry(key.clone()).or_default() += 1;
        }
        let there = self.held.snapshot();
        for (from, to) in self.parts.iter().enumerate().filter(|(from, _)| there.contains_key(&node(*from))) {
            for to in to {
                assert!(there.contains_key(&node(*to)), "{from} is there without {to}");
            }
        }
    }
}

#[async_trait]
impl Interceptor for Judged {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.wait().await;
        let keys: Vec<Key> = batch.operations().iter().map(|(key, _)| key.clone()).collect();
        let outcomes = inner.apply(batch).await?;
        let done = keys.into_iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        self.judge(&done.map(|(key, _)| key).collect::<Vec<_>>());
        Ok(outcomes)
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.wait().await;
        let written = inner.put(key, put).await?;
        self.judge(std::slice::from_ref(key));
        Ok(written)
    }
}

/// A walk that is stopped again and again at a random moment, and then runs to its end.
async fn stopped_again_and_again(
    mut dice: fastrand::Rng,
    source: &MemoryStore,
    target: &Intercept<Judged, MemoryStore>,
    roots: &[Key],
) -> (u64, WalkReport) {
    let kept = MemoryStore::new();
    let options = WalkOptions::new().concurrency(dice.usize(1..4)).batch(dice.usize(1..5));
    let options = options.resumable(kept, "a walk");
    let mut stopped = 0;
    for _ in 0..dice.u64(0..5) {
        let walking = walk_sync(source, target, roots, &references, &options);
        let patience = Duration::from_millis(dice.u64(0..40));
        match tokio::time::timeout(patience, walking).await {
            Ok(report) => return (stopped, report.expect("walks")),
            Err(_) => stopped += 1,
        }
    }
    let report = walk_sync(source, target, roots, &references, &options).await.expect("walks");
    (stopped, report)
}

/// As n processes do: each has some of the roots, and what they reach overlaps.
#[tokio::test(start_paused = true)]
async fn walks_of_one_graph_that_are_stopped_again_and_again_copy_each_key_once_and_children_first() {
    let (mut stopped, mut skipped, mut resumed) = (0, 0, 0);
    for seed in 0..300 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let graph = graph(&mut dice);
        let ways = reaches(&graph);
        let way = |from: usize, to: usize| ways.get(from).and_then(|row| row.get(to)).copied() == Some(true);
        let one_by_one = seed % 3 == 0;
        let source = MemoryStore::new();
        for (index, to) in graph.iter().enumerate() {
            let value: Vec<String> = to.iter().map(|to| node(*to).as_str().to_owned()).collect();
            source.put(&node(index), Put::new(value.join(" "))).await.expect("written");
        }
        let parts = graph.iter().enumerate().map(|(from, to)| {
            to.iter().copied().filter(|to| !one_by_one || !way(*to, from)).collect::<Vec<_>>()
        });
        let held = MemoryStore::new().declaring(|all| {
            let all = all.with_sharing(Sharing::Shared);
            if one_by_one { all.without(Feature::AtomicBatch) } else { all }
        });
        let judged = Judged {
            held: held.clone(),
            dice: Mutex::new(dice.fork()),
            parts: parts.collect(),
            written: Mutex::default(),
        };
        let target = Intercept::new(held, judged);
        let roots = [[node(0)], [node(1)], [node(2)]];
        let walks =
            roots.each_ref().map(|roots| stopped_again_and_again(dice.fork(), &source, &target, roots));
        let ended = futures_util::future::join_all(walks).await;
        for (times, report) in &ended {
            assert_eq!((report.held_back, report.changed, report.sync.failed), (0, 0, 0), "seed {seed}");
            (stopped, skipped, resumed) =
                (stopped + times, skipped + report.sync.skipped, resumed + report.resumed);
        }
        let reached = (0..NODES).filter(|index| (0..3).any(|root| root == *index || way(root, *index)));
        let reached: Vec<Key> = reached.map(node).collect();
        let there = target.held.snapshot();
        assert_eq!(there.keys().cloned().collect::<Vec<_>>(), reached, "seed {seed}");
        for (key, times) in target.written.lock().iter() {
            assert_eq!(*times, 1, "seed {seed}: {key} was copied {times} times");
        }
    }
    assert!(stopped > 200 && skipped > 500 && resumed > 500, "{stopped} {skipped} {resumed}");
}

/// Notes the keys whose values are read.
#[derive(Debug, Default)]
struct Seen {
    of: Mutex<Vec<Key>>,
    takes: Duration,
}

#[async_trait]
impl Interceptor for Seen {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        self.note(std::slice::from_ref(key), options).await;
        inner.load(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.note(keys, options).await;
        inner.get_many(keys, options).await
    }
}

impl Seen {
    async fn note(&self, keys: &[Key], options: &ReadOptions) {
        if options.range != Some(0..0) {
            self.of.lock().extend_from_slice(keys);
            tokio::time::sleep(self.takes).await;
        }
    }
}

/// A root with so many leaves of ten bytes.
async fn planted(leaves: usize) -> MemoryStore {
    let source = MemoryStore::new();
    let names: Vec<String> = (0..leaves).map(|index| format!("leaf-{index:04}")).collect();
    for name in &names {
        source.put(&key(name), Put::new("          ")).await.expect("written");
    }
    source.put(&key("root"), Put::new(names.join(" "))).await.expect("written");
    source
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_goes_on_reads_only_what_is_not_copied_yet_and_waits_for_nothing_else() {
    let source = Intercept::new(planted(2_000).await, Seen::default());
    let (target, kept) = (MemoryStore::new(), MemoryStore::new());
    let roots = [key("root")];
    let options = WalkOptions::new().batch(100).concurrency(2).resumable(kept.clone(), "root");
    // 1,000 bytes of leaves in a second: 100 of them.
    let slowly = options.clone().bytes_per_second(1_000);
    let walking = walk_sync(&source, &target, &roots, &references, &slowly);
    tokio::time::timeout(Duration::from_millis(7_500), walking).await.expect_err("stopped");
    let copied = target.snapshot().len();
    assert!((600..=900).contains(&copied), "{copied} were copied");
    assert!(kept.contains("h").await.expect("looks"), "nothing is kept");
    source.of.lock().clear();
    let begun = tokio::time::Instant::now();
    let report = walk_sync(&source, &target, &roots, &references, &slowly).await.expect("walks");
    assert_eq!((report.reached, report.resumed), (2_001, 2_001));
    assert_eq!((report.sync.copied, report.sync.skipped), (2_001 - copied as u64, copied as u64));
    // One more group was read before the first one told that the target has some.
    let read = source.of.lock().len();
    assert!(read <= 2_001 - copied + 200, "{read} values were read");
    // The names of the leaves are in the root: 20,000 bytes.
    let seconds = begun.elapsed().as_secs();
    let left = (2_000 - copied as u64) / 100;
    assert!((left - 3..=left + 3).contains(&seconds), "{seconds} s for {left} hundreds");
    // It came to its end: what is known is not used again.
    let report = walk_sync(&source, &target, &roots, &references, &options).await.expect("walks");
    assert_eq!((report.resumed, report.sync.copied, report.sync.skipped), (0, 0, 2_001));
}

#[tokio::test]
async fn what_is_there_is_not_read_to_be_copied() {
    let source = Intercept::new(planted(2_000).await, Seen::default());
    let target = MemoryStore::new();
    let options = WalkOptions::new().batch(100).concurrency(4);
    for copied in [2_001, 0] {
        let report = walk_sync(&source, &target, &[key("root")], &references, &options).await.expect("walks");
        assert_eq!((report.sync.copied, report.sync.skipped), (copied, 2_001 - copied));
        assert_eq!(std::mem::take(&mut *source.of.lock()).len(), 2_001);
    }
    // Half of the bytes are for values that wait for their turn: these take 210 each. Those for which there is no room are read twice.
    let options = options.byte_budget(210 * 2_000);
    let target = MemoryStore::new();
    walk_sync(&source, &target, &[key("root")], &references, &options).await.expect("walks");
    let read = std::mem::take(&mut *source.of.lock()).len();
    assert!((2_950..=3_150).contains(&read), "{read} values were read");
}

/// A source of which a key cannot be read until it is repaired.
#[derive(Debug)]
struct Broken(Key, AtomicU64);

#[async_trait]
impl Interceptor for Broken {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<tiered_core::Read> {
        if *key == self.0 && self.1.load(Ordering::Relaxed) > 0 {
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

#[tokio::test]
async fn what_failed_or_was_missing_is_looked_at_again_and_what_changed_is_held_back() {
    let source = MemoryStore::new();
    for (name, value) in [("root", "one two three"), ("one", ""), ("two", "gone"), ("three", "")] {
        source.put(&key(name), Put::new(value)).await.expect("written");
    }
    let source = Intercept::new(source, Broken(key("three"), AtomicU64::new(1)));
    let (target, kept) = (MemoryStore::new(), MemoryStore::new());
    let walk = async |label: &str| {
        let options = WalkOptions::new().max_failures(0).resumable(kept.clone(), label);
        walk_sync(&source, &target, &[key("root")], &references, &options).await
    };
    walk("root").await.expect_err("a key failed, and none may");
    assert!(target.snapshot().is_empty());
    // Another walk may not use it.
    let refused = walk("another root").await.expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.chain().contains("another walk, which did not end: root"), "{}", refused.chain());
    source.1.store(0, Ordering::Relaxed);
    source.inner().put(&key("gone"), Put::new("")).await.expect("written");
    // It referred to nothing when it was looked at.
    source.inner().put(&key("one"), Put::new("new")).await.expect("written");
    let report = walk("root").await.expect("walks");
    assert_eq!((report.reached, report.missing, report.changed), (5, 0, 1));
    assert!(report.resumed >= 2, "{}", report.resumed);
    let there: Vec<Key> = target.snapshot().into_keys().collect();
    assert_eq!(there, ["gone", "three", "two"].map(key));
    // It came to its end, so the next one finds everything anew, under any label.
    source.inner().put(&key("new"), Put::new("")).await.expect("written");
    let report = walk("another root").await.expect("walks");
    assert_eq!((report.resumed, report.changed, report.held_back, report.sync.copied), (0, 0, 0, 3));
}

#[tokio::test]
async fn what_is_kept_needs_atomic_batches_and_a_store_of_its_own() {
    let (source, target) = (planted(3).await, MemoryStore::new());
    let partly = MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch));
    let used = MemoryStore::new();
    used.set("users/42", "Ada").await.expect("written");
    for (kept, hint) in [(&partly, "no atomic batches"), (&used, "has entries")] {
        let options = WalkOptions::new().resumable(kept.clone(), "root");
        let refused = walk_sync(&source, &target, &[key("root")], &references, &options).await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(refused.chain().contains(hint), "{}", refused.chain());
    }
    assert_eq!(used.snapshot().len(), 1);
}

/// What the shards of a walk leave to the last one: the root, when all that it refers to is there.
#[tokio::test]
async fn the_root_above_is_copied_last_and_nothing_below_it_is_read_again() {
    let source = Intercept::new(planted(100).await, Seen::default());
    let target = MemoryStore::new();
    let leaves: Vec<Key> = (0..100).map(|index| key(&format!("leaf-{index:04}"))).collect();
    for part in leaves.chunks(25) {
        let report =
            walk_sync(&source, &target, part, &references, &WalkOptions::new()).await.expect("walks");
        assert_eq!(report.sync.copied, 25);
    }
    source.of.lock().clear();
    let options = WalkOptions::new().present(Present::Trust);
    let report = walk_sync(&source, &target, &[key("root")], &references, &options).await.expect("walks");
    assert_eq!((report.trusted, report.sync.copied), (100, 1));
    assert_eq!(*source.of.lock(), [key("root")]);
    source.inner().delete(&key("root"), Delete::new()).await.expect("deleted");
}
