//! Batches of a sync: what becomes of each key where a batch, or one operation of it, does not take effect.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{BatchOutcomes, Reads};
use tiered_core::sync::{
    FullSync, Refresh, SyncOptions, SyncReport, WalkOptions, sync, sync_keys, walk_sync,
};
use tiered_core::{
    Action, Atomicity, Batch, Delete, Deleted, Entry, Error, ErrorKind, Feature, Key, ListOptions,
    ListStream, MemoryStore, Outcome, Put, Read, ReadOptions, Result, Store, StoreExt as _, TieredStore,
    Written,
};

use crate::scripted::key;

/// What a batch meets.
#[derive(Clone, Debug)]
enum Meets {
    /// The store refuses batches of this kind.
    Refusal,
    /// The store is out of reach, and has nothing of it.
    Outage,
    /// It takes effect, and the answer is lost.
    LostAnswer,
    /// Another process writes this key before it.
    Overtaking(Key),
    /// Another process deletes this key before it.
    Deleting(Key),
}

/// A target that watches its batches.
#[derive(Debug, Default)]
struct Watch {
    meets: Mutex<VecDeque<Meets>>,
    /// Whether a walk writes to it.
    is_of_walk: bool,
    /// Operations and bytes of each batch.
    batches: Mutex<Vec<(usize, u64)>>,
    /// Writes of one key.
    singles: AtomicU64,
    /// Bytes of the batches that are under way, and the most that there were.
    under_way: AtomicU64,
    most: AtomicU64,
    /// How long batches take, one after the other.
    times: Mutex<VecDeque<Duration>>,
}

type Watched = Intercept<Watch, MemoryStore>;

fn watched(inner: MemoryStore, meets: &[Meets]) -> Watched {
    Intercept::new(inner, Watch { meets: Mutex::new(meets.iter().cloned().collect()), ..Watch::default() })
}

fn bytes(action: &Action) -> u64 {
    match action {
        Action::Put(put) => put.value.len() as u64,
        Action::Delete(_) => 0,
    }
}

#[async_trait]
impl Interceptor for Watch {
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let judged = if self.is_of_walk { Atomicity::Required } else { Atomicity::PerItem };
        assert_eq!(
            batch.atomicity(),
            judged,
            "a refusal sinks what may refer to the refused, and nothing else"
        );
        let size = batch.operations().iter().map(|(_, action)| bytes(action)).sum();
        self.batches.lock().push((batch.len(), size));
        self.most.fetch_max(self.under_way.fetch_add(size, Ordering::Relaxed) + size, Ordering::Relaxed);
        let time = self.times.lock().pop_front();
        tokio::time::sleep(time.unwrap_or_default()).await;
        let met = self.meets.lock().pop_front();
        let unavailable = |outcome| Err(Error::new(ErrorKind::Unavailable, "down").outcome_is(outcome));
        let applied = match met {
            Some(Meets::Refusal) => {
                Err(Error::new(ErrorKind::Unsupported, "no batches").outcome_is(Outcome::NotApplied))
            }
            Some(Meets::Outage) => unavailable(Outcome::NotApplied),
            Some(Meets::LostAnswer) => {
                inner.apply(batch).await?;
                unavailable(Outcome::Unknown)
            }
            Some(Meets::Overtaking(key)) => {
                inner.put(&key, Put::new("of others")).await?;
                inner.apply(batch).await
            }
            Some(Meets::Deleting(key)) => {
                inner.delete(&key, Delete::new()).await?;
                inner.apply(batch).await
            }
            None => inner.apply(batch).await,
        };
        self.under_way.fetch_sub(size, Ordering::Relaxed);
        applied
    }

    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.singles.fetch_add(1, Ordering::Relaxed);
        inner.put(key, put).await
    }

    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        self.singles.fetch_add(1, Ordering::Relaxed);
        inner.delete(key, delete).await
    }
}

/// A source that lists no values, some of whose entries cannot be read or vanish.
#[derive(Debug, Default)]
struct Reading {
    damaged: Option<Key>,
    vanishing: Option<Key>,
    /// Reads of many keys that fail, all keys of them.
    outages: AtomicU64,
    /// Keys of each read of many.
    asked: Mutex<Vec<usize>>,
}

impl Reading {
    async fn meets(&self, inner: &dyn Store, key: &Key) -> Result<()> {
        if self.vanishing.as_ref() == Some(key) {
            inner.delete(key, Delete::new()).await?;
        }
        if self.damaged.as_ref() == Some(key) {
            return Err(Error::new(ErrorKind::Corrupt, "damaged").for_key(key));
        }
        Ok(())
    }
}

#[async_trait]
impl Interceptor for Reading {
    fn list(&self, inner: &dyn Store, mut options: ListOptions) -> ListStream {
        options.values = None;
        inner.list(options)
    }

    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.meets(inner, key).await?;
        inner.load(key, options).await
    }

    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.asked.lock().push(keys.len());
        let down = self.outages.load(Ordering::Relaxed) > 0;
        self.outages.store(0, Ordering::Relaxed);
        let mut reads = Reads::new();
        for key in keys {
            let met = self.meets(inner, key).await;
            reads.push(match met {
                _ if down => Err(Error::new(ErrorKind::Unavailable, "down").for_key(key)),
                Ok(()) => inner.load(key, options).await,
                Err(error) => Err(error),
            });
        }
        reads
    }
}

fn name(index: usize) -> Key {
    key(&format!("{index:03}"))
}

async fn filled(keys: usize, value: &str) -> MemoryStore {
    let store = MemoryStore::new();
    for index in 0..keys {
        store.put(&name(index), Put::new(value.to_owned())).await.expect("written");
    }
    store
}

fn values(store: &MemoryStore) -> BTreeMap<Key, bytes::Bytes> {
    store.snapshot().into_iter().map(|(key, entry)| (key, entry.into_value())).collect()
}

async fn full(source: &impl tiered_core::AsStore, target: &Watched, options: &SyncOptions) -> SyncReport {
    sync(source, target, &FullSync, options).await.expect("syncs")
}

#[tokio::test]
async fn keys_move_in_batches_of_the_size_asked_for() {
    let (source, target) = (filled(25, "new").await, watched(filled(40, "old").await, &[]));
    let report = full(&source, &target, &SyncOptions::new().batch(10)).await;
    assert_eq!((report.copied, report.removed, report.bytes), (25, 15, 75));
    let sizes: Vec<usize> = target.batches.lock().iter().map(|(operations, _)| *operations).collect();
    assert_eq!(sizes, [10, 10, 10, 10], "copies and removals share batches");
    assert_eq!(target.singles.load(Ordering::Relaxed), 0);
    assert_eq!(source.snapshot(), target.inner().snapshot());
}

#[tokio::test]
async fn a_store_that_refuses_batches_gets_its_keys_one_by_one() {
    let (source, target) = (filled(25, "new").await, watched(filled(30, "old").await, &[Meets::Refusal]));
    let report = full(&source, &target, &SyncOptions::new().batch(10).concurrency(1)).await;
    assert_eq!((report.copied, report.removed, report.failed), (25, 5, 0));
    assert_eq!((target.batches.lock().len(), target.singles.load(Ordering::Relaxed)), (1, 30));
    assert_eq!(source.snapshot(), target.inner().snapshot());
}

#[tokio::test]
async fn a_store_without_atomic_batches_gets_its_keys_one_by_one() {
    for feature in [Feature::AtomicBatch, Feature::ConditionalDelete] {
        let inner = MemoryStore::new().declaring(|all| all.without(feature));
        let (source, target) = (filled(25, "new").await, watched(inner, &[]));
        let report = sync(&source, &target, &Refresh, &SyncOptions::new()).await.expect("syncs");
        assert_eq!((report.copied, target.batches.lock().len()), (25, 0));
        assert_eq!(target.singles.load(Ordering::Relaxed), 25);
    }
}

#[tokio::test]
async fn a_key_that_others_write_in_the_middle_of_a_batch_keeps_their_value() {
    let (added, replaced, extra) = (name(3), name(14), name(25));
    for overtaken in [&added, &replaced, &extra] {
        let old = filled(30, "old").await;
        old.delete(&added, Delete::new()).await.expect("deleted");
        let (source, target) =
            (filled(20, "new").await, watched(old, &[Meets::Overtaking(overtaken.clone())]));
        let report = full(&source, &target, &SyncOptions::new()).await;
        assert_eq!((report.copied + report.removed, report.skipped, report.failed), (29, 1, 0));
        let mut expected = values(&source);
        expected.insert(overtaken.clone(), "of others".into());
        assert_eq!(values(target.inner()), expected);
    }
}

#[tokio::test]
async fn a_delete_of_a_listed_key_is_not_undone() {
    let (source, target) =
        (filled(20, "new").await, watched(filled(20, "old").await, &[Meets::Deleting(name(7))]));
    let report = full(&source, &target, &SyncOptions::new()).await;
    assert_eq!((report.copied, report.skipped), (19, 1));
    assert!(!target.inner().contains(name(7).as_str()).await.expect("looks"));
}

#[tokio::test]
async fn a_damaged_value_and_a_vanished_key_of_a_batch_are_counted_and_gone_past() {
    let reading = Reading { damaged: Some(name(4)), vanishing: Some(name(6)), ..Reading::default() };
    let (source, target) =
        (Intercept::new(filled(20, "new").await, reading), watched(MemoryStore::new(), &[]));
    let last = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&last);
    let options =
        SyncOptions::new().on_progress(move |progress| *seen.lock() = Some(progress.checkpoint.clone()));
    let report = full(&source, &target, &options).await;
    assert_eq!((report.copied, report.vanished, report.failed, report.damaged), (18, 1, 1, 1));
    assert_eq!(report.failures.first().map(|failure| &failure.key), Some(&name(4)));
    let last = last.lock().take().expect("told");
    assert_eq!((&last.after, &last.failed), (&Some(name(19)), &vec![name(4)]));
    assert_eq!((last.report.copied, last.report.failed), (18, 0), "what failed is not settled");
    assert_eq!(*source.asked.lock(), [20]);
    // A resumed sync tries the damaged key again, and no other.
    let report = full(source.inner(), &target, &SyncOptions::new().resume(last)).await;
    assert_eq!((report.listed_from, report.copied, report.vanished, report.failed), (20, 19, 1, 0));
}

#[tokio::test]
async fn keys_that_could_not_be_read_together_are_read_one_by_one() {
    let reading = Reading { outages: AtomicU64::new(1), ..Reading::default() };
    let (source, target) =
        (Intercept::new(filled(20, "new").await, reading), watched(MemoryStore::new(), &[]));
    let report = full(&source, &target, &SyncOptions::new().max_failures(0)).await;
    assert_eq!((report.copied, report.failed), (20, 0));
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_written_key_by_key_and_counted_once() {
    for met in [Meets::Outage, Meets::LostAnswer] {
        let old = filled(30, "old").await;
        old.delete(&name(3), Delete::new()).await.expect("deleted");
        let (source, target) = (filled(20, "new").await, watched(old, std::slice::from_ref(&met)));
        let report = full(&source, &target, &SyncOptions::new().max_failures(0)).await;
        assert_eq!((report.copied, report.removed, report.skipped, report.failed), (20, 10, 0, 0), "{met:?}");
        assert_eq!(source.snapshot(), target.inner().snapshot());
        assert_eq!(target.batches.lock().len(), 1);
    }
}

#[tokio::test]
async fn an_operation_that_is_refused_fails_alone() {
    let source = filled(20, "new").await;
    source.put(&name(5), Put::new("too large")).await.expect("written");
    let target = watched(MemoryStore::new().declaring(|all| all.with_max_value(4)), &[]);
    let report = full(&source, &target, &SyncOptions::new()).await;
    assert_eq!((report.copied, report.failed, target.batches.lock().len()), (19, 1, 1));
    assert_eq!(report.failures.first().map(|failure| &failure.key), Some(&name(5)));
    let none = sync(&source, &target, &FullSync, &SyncOptions::new().max_failures(0)).await;
    assert_eq!(none.expect_err("one may not fail").key(), Some(&name(5)));
}

#[tokio::test(start_paused = true)]
async fn batches_keep_within_the_bytes_of_the_options() {
    let source = filled(60, &"x".repeat(5 << 10)).await;
    source.put(&name(30), Put::new("x".repeat(40 << 10))).await.expect("written");
    let target = watched(MemoryStore::new(), &[]);
    *target.times.lock() = std::iter::repeat_n(Duration::from_millis(10), 100).collect();
    let report = full(&source, &target, &SyncOptions::new().byte_budget(64 << 10).concurrency(4)).await;
    assert_eq!(report.copied, 60);
    let batches = target.batches.lock().clone();
    assert!(batches.iter().all(|(operations, size)| *size <= 16 << 10 || *operations == 1), "{batches:?}");
    assert!(batches.contains(&(3, 15 << 10)), "{batches:?}");
    let most = target.most.load(Ordering::Relaxed);
    assert!((46 << 10..=64 << 10).contains(&most), "{most} bytes were under way");
}

/// Stopped anywhere and resumed, a sync ends as one that was not stopped.
#[tokio::test(start_paused = true)]
async fn a_sync_that_is_stopped_in_the_middle_resumes_behind_its_last_whole_batch() {
    let mut stopped = 0;
    for seed in 0..40_u64 {
        let (source, target) = (filled(90, "new").await, watched(filled(120, "old").await, &[]));
        let millis = |index: u64| Duration::from_millis((index * 31 + seed * 17) % 50);
        *target.times.lock() = (0..30).map(millis).collect();
        let last = Arc::new(Mutex::new(None));
        let (seen, from, to) = (Arc::clone(&last), source.clone(), target.inner().clone());
        let options = SyncOptions::new().batch(7).concurrency(3).on_progress(move |progress| {
            let (from, to) = (from.snapshot(), to.snapshot());
            for index in 0..120 {
                let name = name(index);
                if progress.checkpoint.after.as_ref().is_some_and(|after| name <= *after) {
                    assert_eq!(from.get(&name), to.get(&name), "{name} is behind the checkpoint");
                }
            }
            *seen.lock() = Some(progress.checkpoint.clone());
        });
        let syncing = sync(&source, &target, &FullSync, &options);
        stopped +=
            u64::from(tokio::time::timeout(Duration::from_millis(20 + seed * 5), syncing).await.is_err());
        let mut options = SyncOptions::new();
        options.resume = last.lock().take();
        full(&source, &target, &options).await;
        assert_eq!(source.snapshot(), target.inner().snapshot(), "seed {seed}");
    }
    assert!(stopped > 5, "{stopped} were stopped");
}

/// A backend to which a write is made through its own store while a batch of it is read.
#[derive(Debug, Default)]
struct Interrupted {
    store: Mutex<Option<TieredStore>>,
    reads: AtomicU64,
}

#[async_trait]
impl Interceptor for Interrupted {
    async fn get_many(&self, inner: &dyn Store, keys: &[Key], options: &ReadOptions) -> Reads {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let reads = inner.get_many(keys, options).await;
        let store = self.store.lock().take();
        if let Some(store) = store {
            store.put(&name(3), Put::new("newer")).await.expect("written");
            store.delete(&name(5), Delete::new()).await.expect("deleted");
        }
        reads
    }
}

#[tokio::test]
async fn a_write_revokes_the_fill_of_its_key_alone() {
    let front = MemoryStore::new();
    let backend = Arc::new(Intercept::new(filled(20, "new").await, Interrupted::default()));
    let shared: Arc<dyn Store> = Arc::<Intercept<Interrupted, MemoryStore>>::clone(&backend);
    let store = TieredStore::builder(front.clone(), shared).build().await.expect("builds");
    *backend.store.lock() = Some(store.clone());
    store.sync(&FullSync, &SyncOptions::new()).await.expect("syncs");
    assert_eq!(backend.reads.load(Ordering::Relaxed), 1, "one read for the batch");
    let held = values(&front);
    assert_eq!(held.get(&name(3)), Some(&"newer".into()));
    assert_eq!(held.get(&name(5)), None);
    assert_eq!(held.len(), 19);
    assert_eq!((store.stats().fills, store.stats().slots), (18, 0));
}

#[tokio::test]
async fn a_filter_leaves_keys_out_on_both_sides() {
    let (source, target) = (filled(20, "new").await, watched(filled(40, "old").await, &[]));
    let options = SyncOptions::new().filter(|key: &Key| key.as_str().ends_with('1'));
    let report = full(&source, &target, &options).await;
    assert_eq!((report.listed_from, report.listed_to, report.copied, report.removed), (2, 4, 2, 2));
    let held = values(target.inner());
    assert_eq!((held.get(&name(1)), held.get(&name(2))), (Some(&"new".into()), Some(&"old".into())));
    assert_eq!((held.get(&name(31)), held.len()), (None, 38));
}

/// Reads and writes of a walk: many keys each, and no parent before its children.
#[tokio::test]
async fn a_walk_reads_and_copies_many_keys_at_once_and_no_root_before_its_parts() {
    let source = filled(2_000, "").await;
    let names: Vec<String> = (0..2_000).map(|index| name(index).as_str().to_owned()).collect();
    for (root, some) in names.chunks(100).enumerate() {
        let root = Key::new(format!("root-{root}")).expect("valid");
        source.put(&root, Put::new(some.join(" "))).await.expect("written");
    }
    let roots: Vec<Key> = (0..20).map(|root| Key::new(format!("root-{root}")).expect("valid")).collect();
    let references = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
        String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
    };
    let reading = Intercept::new(source.clone(), Reading::default());
    let target = Intercept::new(MemoryStore::new(), Watch { is_of_walk: true, ..Watch::default() });
    // One is there already, and is the same; one is older.
    let there = source.get(&name(3)).await.expect("reads").expect("there");
    target.inner().put(&name(3), tiered_core::adapter::verbatim(&there)).await.expect("written");
    target.inner().put(&name(5), Put::new("old")).await.expect("written");
    let report = walk_sync(&reading, &target, &roots, &references, &WalkOptions::new()).await.expect("walks");
    assert_eq!((report.reached, report.sync.copied, report.sync.skipped), (2_020, 2_019, 1));
    assert_eq!(source.snapshot(), target.inner().snapshot());
    let asked = reading.asked.lock().clone();
    // Twice for each group: how large the values are, then these.
    assert!(asked.len() <= 100, "{asked:?}");
    let batches = target.batches.lock().len();
    assert!(batches <= 10, "{batches} batches");
}

#[tokio::test]
async fn named_keys_are_read_and_copied_many_at_once() {
    let source = filled(2_000, "new").await;
    let reading = Intercept::new(source.clone(), Reading::default());
    let target = watched(MemoryStore::new(), &[]);
    let there = source.get(&name(3)).await.expect("reads").expect("there");
    target.inner().put(&name(3), tiered_core::adapter::verbatim(&there)).await.expect("written");
    target.inner().put(&name(5), Put::new("old")).await.expect("written");
    let keys: Vec<Key> = (0..1_990).chain([5_000]).map(name).collect();
    let options = SyncOptions::new().batch(100);
    let report = sync_keys(&reading, &target, &keys, &options).await.expect("syncs");
    assert_eq!((report.copied, report.skipped, report.vanished, report.failed), (1_989, 1, 1, 0));
    assert_eq!(values(target.inner()).len(), 1_990);
    assert_eq!(values(target.inner()).get(&name(5)), Some(&"new".into()));
    assert_eq!(target.batches.lock().len(), 20);
    // Twice for each batch: how large the values are, then these. And the two that the target had.
    let asked = reading.asked.lock().len();
    assert!(asked <= 2 * 20 + 4, "{asked} reads");
    // The bound on bytes holds within a batch.
    let target = watched(MemoryStore::new(), &[]);
    let options = SyncOptions::new().byte_budget(16 * 30);
    sync_keys(&source, &target, &keys, &options).await.expect("syncs");
    let most = target.batches.lock().iter().map(|(_, bytes)| *bytes).max();
    assert_eq!(most, Some(30), "of a share of 30 bytes, ten values of 3");
}

#[tokio::test]
async fn bounds_of_nothing_count_as_one() {
    let (source, target) = (filled(20, "new").await, watched(MemoryStore::new(), &[]));
    let mut options = SyncOptions::new();
    (options.concurrency, options.batch, options.byte_budget) = (0, 0, 0);
    assert_eq!(full(&source, &target, &options).await.copied, 20);
    let roots: Vec<Key> = (0..20).map(name).collect();
    let none = |_: &Key, _: &Entry| -> Result<Vec<Key>> { Ok(Vec::new()) };
    let nothing = WalkOptions::new().concurrency(0).batch(0).byte_budget(0);
    let walked = walk_sync(&source, &MemoryStore::new(), &roots, &none, &nothing).await.expect("walks");
    assert_eq!(walked.sync.copied, 20);
}
