//! Walks over graphs with cycles, failures and interruptions: what is in the target has all that it refers to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{Note, Origin, Reads, Stamp, Tombstones, verbatim};
use tiered_core::sync::{SyncOptions, WalkReport, walk_sync};
use tiered_core::{
    Entry, Key, ListOptions, MemoryStore, Put, ReadOptions, Result, Sharing, Store, StoreExt as _,
};

use crate::scripted::{Trouble, key, over};

const NODES: usize = 14;

fn references(_: &Key, entry: &Entry) -> Result<Vec<Key>> {
    String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
}

fn node(index: usize) -> Key {
    key(&format!("node-{index:02}"))
}

/// The references of a random graph: a node refers to later ones, and now and then to any.
fn graph(dice: &mut fastrand::Rng) -> Vec<Vec<usize>> {
    let to = |from: usize, dice: &mut fastrand::Rng| {
        if dice.u8(0..4) == 0 { dice.usize(0..NODES) } else { dice.usize(from..NODES) }
    };
    (0..NODES).map(|from| (0..dice.usize(0..4)).map(|_| to(from, dice)).collect()).collect()
}

/// Whether there is a way from one node to another.
fn reaches(graph: &[Vec<usize>]) -> Vec<Vec<bool>> {
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
        let (source, target) = (MemoryStore::new(), over(MemoryStore::new(), Sharing::Exclusive));
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
        let options = SyncOptions::new().concurrency(dice.usize(1..4)).batch(dice.usize(1..5));
        let walking = walk_sync(&source, &target, &roots, &references, &options);
        let patience = if seed % 2 == 0 { Duration::from_millis(dice.u64(0..120)) } else { Duration::MAX };
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
    let report = walk_sync(&source, &target, &names, &references, &SyncOptions::new()).await.expect("walks");
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
    let report = walk_sync(&source, &torn, &roots, &references, &SyncOptions::new()).await.expect("walks");
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
    let options = SyncOptions::new().concurrency(4).byte_budget(160 << 10);
    let target = MemoryStore::new();
    let report: WalkReport =
        walk_sync(&weighed, &target, &[key("root")], &references, &options).await.expect("walks");
    assert_eq!(report.sync.copied, 201);
    let listed = futures_util::StreamExt::count(target.list(ListOptions::new())).await;
    assert_eq!(listed, 201);
    let most = weighed.most.load(Ordering::Relaxed);
    assert!((20 << 10..=40 << 10).contains(&most), "{most} bytes at once");
}
