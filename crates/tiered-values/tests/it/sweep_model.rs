//! Random schedules: writers, sweeps of two processes and crashes, interleaved at every call of the store. Whatever is reachable
//! from a published root exists, at every step; in the end the garbage is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, Delete, Deleted, Entry, Expiry, Key, ListOptions, ListStream, MemoryStore, Put, Read, ReadOptions,
    Result, Store, StoreExt as _, Written,
};
use tiered_values::StoreTools as _;
use tiered_values::sweep::{KeepList, Sweep, SweepOutcome};

use crate::sweep::{keys, roots};

/// Gives way before every call, and after it.
#[derive(Debug)]
struct Yielding;

async fn give_way() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

async fn slowly<T>(call: impl Future<Output = T>) -> T {
    give_way().await;
    let answer = call.await;
    give_way().await;
    answer
}

#[async_trait]
impl Interceptor for Yielding {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        slowly(inner.load(key, options)).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        slowly(inner.put(key, put)).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        slowly(inner.delete(key, delete)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        slowly(inner.apply(batch)).await
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        Box::pin(inner.list(options).then(|listed| async move {
            give_way().await;
            listed
        }))
    }
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
}

/// `SplitMix64`.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

type Task = Pin<Box<dyn Future<Output = tiered_values::Result<()>> + Send>>;

struct World {
    disk: Arc<MemoryStore>,
    store: Arc<Intercept<Yielding, Arc<MemoryStore>>>,
    /// Roots that are being renamed: no one else replaces or deletes them.
    pinned: Mutex<BTreeSet<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

fn references(entry: &Entry) -> Vec<String> {
    String::from_utf8_lossy(entry.value()).lines().map(str::to_owned).collect()
}

impl World {
    fn new() -> Arc<Self> {
        let disk = Arc::new(MemoryStore::new());
        let store = Arc::new(Intercept::new(disk.clone(), Yielding));
        Arc::new(Self { disk, store, pinned: Mutex::default(), counts: Mutex::default() })
    }

    fn sweep(&self) -> Sweep {
        let batch = std::num::NonZeroUsize::new(3).expect("not zero");
        Sweep::builder(self.store.clone()).chunk_bytes(120).batch(batch).build().expect("builds")
    }

    fn count(&self, what: &'static str, by: u64) {
        *self.counts.lock().entry(what).or_default() += by;
    }

    /// What is reachable from the roots.
    fn reachable(&self) -> BTreeSet<String> {
        let entries = self.disk.snapshot();
        let mut reached = BTreeSet::new();
        let mut queue: Vec<String> = entries
            .keys()
            .map(|key| key.as_str().to_owned())
            .filter(|key| key.starts_with("roots/"))
            .collect();
        while let Some(key) = queue.pop() {
            if reached.insert(key.clone()) && !key.starts_with("leaves/") {
                let entry = entries.get(key.as_str());
                assert!(entry.is_some(), "{key} is reachable and absent");
                queue.extend(entry.map(references).unwrap_or_default());
            }
        }
        for key in &reached {
            assert!(entries.contains_key(key.as_str()), "{key} is reachable and absent");
        }
        reached
    }
}

/// Writes or touches a leaf or a node under a record.
async fn renew(world: &World, key: &str, value: &str, by_touch: bool) -> tiered_values::Result<()> {
    if by_touch && world.store.touch(key, Expiry::Never).await?.is_some() {
        return Ok(());
    }
    world.store.set(key, Put::new(value.to_owned())).await?;
    Ok(())
}

/// Leaves, perhaps a node above them, then the root, conditional on the one that it replaces.
async fn write(world: Arc<World>, mut dice: Dice) -> tiered_values::Result<()> {
    let sweep = world.sweep();
    let record = sweep.begin_write("writer").await?;
    let root = format!("roots/{}", dice.below(3));
    let old = world.store.load(&Key::new(&root)?, &ReadOptions::new().authoritative()).await?.into_entry();
    // What the replaced root refers to may stay without being written.
    let kept = old.as_ref().map(references).unwrap_or_default();
    let mut new: BTreeSet<String> = kept.into_iter().filter(|_| !dice.one_in(3)).collect();
    for _ in 0..dice.below(3) {
        let leaf = format!("leaves/{}", dice.below(6));
        renew(&world, &leaf, "", dice.one_in(2)).await?;
        new.insert(leaf);
    }
    if dice.one_in(2) {
        let (left, right) = (dice.below(6), dice.below(6));
        let (node, value) = (format!("nodes/{left}-{right}"), format!("leaves/{left}\nleaves/{right}"));
        // The node first, or its leaves: the order does not matter before the publish.
        let node_first = dice.one_in(2);
        if node_first {
            renew(&world, &node, &value, dice.one_in(2)).await?;
        }
        for leaf in value.lines() {
            renew(&world, leaf, "", dice.one_in(2)).await?;
        }
        if !node_first {
            renew(&world, &node, &value, dice.one_in(2)).await?;
        }
        new.insert(node);
    }
    for _ in 0..dice.below(40) {
        give_way().await;
    }
    let value = new.into_iter().collect::<Vec<_>>().join("\n");
    let put = match &old {
        Some(old) => Put::new(value).if_version(old.version().clone()),
        None => Put::new(value).if_absent(),
    };
    if !world.pinned.lock().contains(&root) {
        match world.store.set(&root, put).await {
            Ok(_) => world.count("published", 1),
            Err(error) => assert_eq!(error.kind(), tiered_core::ErrorKind::PreconditionFailed),
        }
    }
    record.end().await
}

/// Publishes a root under another name, then deletes the first: nothing is written under the record.
async fn rename(world: Arc<World>, mut dice: Dice) -> tiered_values::Result<()> {
    let (from, to) = (format!("roots/{}", dice.below(3)), format!("roots/{}", dice.below(6)));
    if from == to || !world.pinned.lock().insert(from.clone()) {
        return Ok(());
    }
    let moved = async {
        let record = world.sweep().begin_write("rename").await?;
        let old =
            world.store.load(&Key::new(&from)?, &ReadOptions::new().authoritative()).await?.into_entry();
        if let Some(old) = old {
            let put = Put::new(old.value().clone()).if_absent();
            // On condition that a write which had passed the pin before did not replace it: reachable at the publish.
            let is_there =
                world.disk.snapshot().get(from.as_str()).is_some_and(|now| now.version() == old.version());
            if is_there && world.disk.set(&to, put).await.is_ok() {
                world.count("renamed", 1);
                world
                    .store
                    .delete(&Key::new(&from)?, Delete::new().if_version(old.version().clone()))
                    .await
                    .ok();
            }
        }
        record.end().await
    };
    let moved: tiered_values::Result<()> = moved.await;
    world.pinned.lock().remove(&from);
    moved
}

/// Deletes a root. This needs no record.
async fn unpublish(world: Arc<World>, mut dice: Dice) -> tiered_values::Result<()> {
    let root = format!("roots/{}", dice.below(6));
    if !world.pinned.lock().contains(&root) {
        world.disk.delete(&Key::new(&root)?, Delete::new()).await?;
    }
    Ok(())
}

async fn sweep_by_roots(world: Arc<World>) -> tiered_values::Result<()> {
    let report = match world.sweep().run(&roots()).await {
        Ok(report) => report,
        // No root at all.
        Err(tiered_values::Error::Invalid { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    world.count("deleted", report.deleted);
    world.count("changed", report.changed);
    world.count("held back", report.held_back);
    world.count("superseded", u64::from(report.outcome == SweepOutcome::Superseded));
    Ok(())
}

async fn sweep_by_list(world: Arc<World>, mut dice: Dice) -> tiered_values::Result<()> {
    let sweep = world.sweep();
    let horizon = sweep.horizon().await?;
    for _ in 0..dice.below(20) {
        give_way().await;
    }
    let live = world.reachable();
    if live.is_empty() {
        return Ok(());
    }
    let keep = KeepList::new(horizon, live)?;
    for _ in 0..dice.below(60) {
        give_way().await;
    }
    let report = sweep.run(&keep).await?;
    world.count("deleted by list", report.deleted);
    Ok(())
}

fn task(world: &Arc<World>, dice: &mut Dice) -> Task {
    let own = Dice(dice.next());
    match dice.below(20) {
        0..9 => Box::pin(write(world.clone(), own)),
        9..11 => Box::pin(rename(world.clone(), own)),
        11..12 => Box::pin(unpublish(world.clone(), own)),
        12..17 => Box::pin(sweep_by_roots(world.clone())),
        _ => Box::pin(sweep_by_list(world.clone(), own)),
    }
}

/// Polls a task so many times, or until it has ended: then the answer is true.
fn poll(task: &mut Task, times: u64) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(ended) = task.as_mut().poll(&mut context) {
            ended.expect("ends");
            return true;
        }
    }
    false
}

/// Polls random tasks; some are dropped half-way, and their records forgotten some time later.
async fn schedule(world: &Arc<World>, dice: &mut Dice, steps: u32) {
    let mut running: Vec<Task> = Vec::new();
    for step in 0..steps {
        if running.len() < 5 {
            running.push(task(world, dice));
        }
        let at = usize::try_from(dice.below(running.len() as u64)).expect("few");
        // A task that runs alone for a while meets others that have stood still for long.
        let times = dice.below(12) + 1;
        let mut task = running.swap_remove(at);
        if !poll(&mut task, times) {
            running.push(task);
        }
        if dice.one_in(200) && !running.is_empty() {
            let at = usize::try_from(dice.below(running.len() as u64)).expect("few");
            drop(running.swap_remove(at));
            // It may have been a rename.
            world.count("crashed", 1);
        }
        if step % 400 == 399 {
            // All that is left crashes. An operator, who knows that, forgets the records.
            running.clear();
            world.pinned.lock().clear();
            let sweep = Sweep::new(world.disk.clone()).expect("builds");
            for writer in sweep.writers().await.expect("read") {
                sweep.forget_writer(writer.id).await.expect("forgotten");
            }
        }
        world.reachable();
    }
}

#[tokio::test]
async fn nothing_reachable_is_ever_deleted_and_in_the_end_the_garbage_is_gone() {
    let mut counts = BTreeMap::new();
    for seed in 0..75 {
        let world = World::new();
        let mut dice = Dice(seed);
        schedule(&world, &mut dice, 1_200).await;
        let sweep = Sweep::new(world.disk.clone()).expect("builds");
        let live: Vec<String> = match world.reachable() {
            live if live.is_empty() => {
                world.disk.set("roots/0", "").await.expect("published");
                vec!["roots/0".to_owned()]
            }
            live => live.into_iter().collect(),
        };
        for _ in 0..3 {
            sweep.run(&roots()).await.expect("runs");
        }
        assert_eq!(keys(&*world.disk).await, live, "seed {seed}");
        let records = world.disk.keys("tiered.gc/").await.expect("listed");
        assert_eq!(records.len(), 1, "seed {seed}: {records:?}");
        for (what, count) in world.counts.lock().iter() {
            *counts.entry(*what).or_insert(0) += count;
        }
    }
    for what in [
        "published",
        "renamed",
        "deleted",
        "deleted by list",
        "changed",
        "held back",
        "superseded",
        "crashed",
    ] {
        assert!(counts.get(what).is_some_and(|count| *count > 50), "{what} is rare: {counts:?}");
    }
}
