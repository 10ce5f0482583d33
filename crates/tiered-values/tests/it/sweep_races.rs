//! Sweeps that others come in between of, at one chosen call.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Batch, Delete, Key, MemoryStore, Put, Read, ReadOptions, Result, Store, StoreExt as _, Written,
};
use tiered_values::sweep::{Sweep, SweepOutcome};

use crate::sweep::{keys, roots, set};

/// A call of a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call<'c> {
    Load(&'c str),
    Put(&'c str),
    Apply,
}

type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happens before, or after, the first call that is looked for.
struct Between {
    is_it: fn(Call<'_>) -> bool,
    before: Mutex<Option<Event>>,
    after: Mutex<Option<Event>>,
}

impl fmt::Debug for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Between")
    }
}

impl Between {
    async fn call<T>(&self, call: Call<'_>, run: impl Future<Output = T>) -> T {
        let it = (self.is_it)(call);
        let before = if it { self.before.lock().take() } else { None };
        if let Some(event) = before {
            event.await;
        }
        let answer = run.await;
        let after = if it { self.after.lock().take() } else { None };
        if let Some(event) = after {
            event.await;
        }
        answer
    }
}

#[async_trait]
impl Interceptor for Between {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.call(Call::Load(key.as_str()), inner.load(key, options)).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.call(Call::Put(key.as_str()), inner.put(key, put)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        self.call(Call::Apply, inner.apply(batch)).await
    }
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
}

fn before(
    store: &Arc<MemoryStore>,
    is_it: fn(Call<'_>) -> bool,
    event: impl Future<Output = ()> + Send + 'static,
) -> Sweep {
    let by = Between { is_it, before: Mutex::new(Some(Box::pin(event))), after: Mutex::new(None) };
    Sweep::new(Intercept::new(store.clone(), by)).expect("builds")
}

fn after(
    store: &Arc<MemoryStore>,
    is_it: fn(Call<'_>) -> bool,
    event: impl Future<Output = ()> + Send + 'static,
) -> Sweep {
    let by = Between { is_it, before: Mutex::new(None), after: Mutex::new(Some(Box::pin(event))) };
    Sweep::new(Intercept::new(store.clone(), by)).expect("builds")
}

/// A live leaf, and so many that are not.
async fn prepared(garbage: u32) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    set(&*store, "roots/1", "leaves/live").await;
    set(&*store, "leaves/live", "").await;
    for number in 0..garbage {
        set(&*store, &format!("leaves/{number}"), "").await;
    }
    store
}

#[tokio::test]
async fn of_two_runs_at_once_one_counts_and_each_key_is_deleted_once() {
    let positions: [fn(Call<'_>) -> bool; 3] = [
        |call| call == Call::Put("tiered.gc/head"),
        |call| call == Call::Apply,
        |call| matches!(call, Call::Load(key) if key.starts_with("tiered.gc/snapshots/")),
    ];
    for (position, is_it) in positions.into_iter().enumerate() {
        for earlier in 0..3 {
            let store = prepared(10).await;
            let other = Sweep::new(store.clone()).expect("builds");
            for _ in 0..earlier.min(1) {
                other.run(&roots()).await.expect("runs");
            }
            if earlier == 2 {
                set(&*store, "leaves/more", "").await;
            }
            let found = Arc::new(Mutex::new(None));
            let tell = found.clone();
            let slow = before(&store, is_it, async move {
                *tell.lock() = Some(other.run(&roots()).await.expect("runs"));
            });
            let slow = slow.run(&roots()).await.expect("runs");
            let fast = found.lock().take();
            let what = format!("position {position}, earlier {earlier}: {slow:?} {fast:?}");
            let garbage = if earlier == 2 { 11 } else { 10 };
            let mut deleted = slow.deleted + fast.as_ref().map_or(0, |fast| fast.deleted);
            if let Some(fast) = &fast {
                assert_eq!(fast.outcome, SweepOutcome::Completed, "{what}");
                assert_eq!(slow.outcome, SweepOutcome::Superseded, "{what}");
            }
            if earlier == 0 {
                assert_eq!(deleted, 0, "neither counts for the other: {what}");
            }
            let next = Sweep::new(store.clone()).expect("builds");
            for _ in 0..2 {
                deleted += next.run(&roots()).await.expect("runs").deleted;
            }
            assert_eq!(deleted, garbage, "{what}");
            assert_eq!(keys(&*store).await, ["leaves/live", "roots/1"], "{what}");
            assert_eq!(store.keys("tiered.gc/").await.expect("listed").len(), 1, "the head alone: {what}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_written_after_it_was_listed_survives() {
    let store = prepared(3).await;
    Sweep::new(store.clone()).expect("builds").run(&roots()).await.expect("runs");
    let writer = store.clone();
    let sweep =
        before(&store, |call| call == Call::Apply, async move { set(&*writer, "leaves/1", "").await });
    let report = sweep.run(&roots()).await.expect("runs");
    assert_eq!((report.deleted, report.changed), (2, 1));
    assert_eq!(keys(&*store).await, ["leaves/1", "leaves/live", "roots/1"]);
}

#[tokio::test]
async fn a_whole_write_between_the_records_and_the_roots_is_safe() {
    // The leaf was observed by the generation that is complete. The writer begins, uses it again and ends while the run is
    // between two calls.
    for is_late in [false, true] {
        let store = prepared(1).await;
        Sweep::new(store.clone()).expect("builds").run(&roots()).await.expect("runs");
        let (writer, writing) = (store.clone(), Sweep::new(store.clone()).expect("builds"));
        let write = async move {
            let write = writing.begin_write("").await.expect("begins");
            set(&*writer, "leaves/0", "").await;
            set(&*writer, "roots/2", "leaves/0").await;
            write.end().await.expect("ends");
        };
        let is_it: fn(Call<'_>) -> bool =
            if is_late { |call| call == Call::Apply } else { |call| call == Call::Load("roots/1") };
        let sweep = before(&store, is_it, write);
        let report = sweep.run(&roots()).await.expect("runs");
        assert_eq!(report.deleted, 0, "{report:?}");
        assert_eq!(keys(&*store).await, ["leaves/0", "leaves/live", "roots/1", "roots/2"]);
    }
}

#[tokio::test]
async fn a_writer_that_ends_before_its_root_is_read_is_found_by_the_walk() {
    // It is under way when the snapshot is made, and ends before the next run.
    let store = prepared(0).await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    let write = sweep.begin_write("").await.expect("begins");
    set(&*store, "leaves/new", "").await;
    sweep.run(&roots()).await.expect("runs");
    set(&*store, "roots/2", "leaves/new").await;
    write.end().await.expect("ends");
    assert_eq!(sweep.run(&roots()).await.expect("runs").deleted, 0);
    assert_eq!(keys(&*store).await, ["leaves/live", "leaves/new", "roots/1", "roots/2"]);
}

/// Moves what `roots/from` refers to, by two publishes.
async fn rename(store: &MemoryStore, from: &str, to: &str) {
    let old = store.get(from).await.expect("read").expect("there");
    store.set(to, Put::new(old.value().clone())).await.expect("published");
    store.delete(&Key::new(from).expect("valid"), Delete::new()).await.expect("deleted");
}

/// A leaf that was observed although it is live now, under one root.
async fn observed_and_live(root: &str) -> Arc<MemoryStore> {
    let store = prepared(0).await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    let write = sweep.begin_write("").await.expect("begins");
    set(&*store, "leaves/moved", "").await;
    sweep.run(&roots()).await.expect("runs");
    set(&*store, root, "leaves/moved").await;
    write.end().await.expect("ends");
    store
}

#[tokio::test]
async fn a_root_that_is_renamed_during_the_walk_is_not_missed() {
    // To a name before it and to one behind it, whichever is read first.
    for (from, to) in [("roots/5", "roots/0"), ("roots/5", "roots/9"), ("roots/5", "roots/1")] {
        let positions: [fn(Call<'_>) -> bool; 2] =
            [|call| call == Call::Load("roots/1"), |call| call == Call::Load("roots/5")];
        for is_it in positions {
            for is_after in [false, true] {
                let store = observed_and_live(from).await;
                let renaming = store.clone();
                let event = async move { rename(&renaming, from, to).await };
                let sweep = if is_after { after(&store, is_it, event) } else { before(&store, is_it, event) };
                let report = sweep.run(&roots()).await.expect("runs");
                assert!(
                    store.contains("leaves/moved").await.expect("read"),
                    "{from} {to} {is_after}: {report:?}"
                );
                assert!(
                    store.contains(to).await.expect("read") && !store.contains(from).await.expect("read")
                );
            }
        }
    }
}

#[tokio::test]
async fn a_missing_node_that_is_written_during_the_walk_is_walked() {
    let store = observed_and_live("roots/3").await;
    // Read first, and found missing.
    set(&*store, "roots/9", "nodes/gone").await;
    let writer = store.clone();
    let by = Between {
        is_it: |call| call == Call::Load("nodes/gone"),
        before: Mutex::new(None),
        after: Mutex::new(Some(Box::pin(async move {
            // A publish, which relies on what the other root refers to. That root goes before it is read.
            set(&*writer, "nodes/gone", "leaves/moved").await;
            writer.delete(&Key::new("roots/3").expect("valid"), Delete::new()).await.expect("deleted");
        }))),
    };
    let one = std::num::NonZeroUsize::new(1).expect("not zero");
    let sweep = Sweep::builder(Intercept::new(store.clone(), by)).concurrency(one).build().expect("builds");
    let report = sweep.run(&roots()).await.expect("runs");
    // A root that goes is not missing.
    assert_eq!((report.deleted, report.missing), (0, 0), "{report:?}");
    assert_eq!(keys(&*store).await, ["leaves/live", "leaves/moved", "nodes/gone", "roots/1", "roots/9"]);
}

#[tokio::test]
async fn a_node_that_is_swept_during_the_walk_hides_nothing() {
    // The root leads to the leaf through a node. After the root was read, it is replaced by one that has another node, and
    // another run deletes the first one, which was observed before it was published.
    let store = prepared(0).await;
    let other = Sweep::new(store.clone()).expect("builds");
    let write = other.begin_write("").await.expect("begins");
    set(&*store, "leaves/deep", "").await;
    set(&*store, "nodes/1", "leaves/deep").await;
    other.run(&roots()).await.expect("observes both");
    set(&*store, "roots/2", "nodes/1").await;
    write.end().await.expect("ends");

    let replacing = store.clone();
    let sweep = before(&store, |call| call == Call::Load("nodes/1"), async move {
        let write = other.begin_write("").await.expect("begins");
        set(&*replacing, "nodes/2", "leaves/deep").await;
        // The leaf is reachable from the root that is replaced.
        set(&*replacing, "roots/2", "nodes/2").await;
        write.end().await.expect("ends");
        assert_eq!(other.run(&roots()).await.expect("runs").deleted, 1, "the first node");
    });
    let report = sweep.run(&roots()).await.expect("runs");
    assert_eq!((report.outcome, report.deleted), (SweepOutcome::Superseded, 0));
    assert_eq!(keys(&*store).await, ["leaves/deep", "leaves/live", "nodes/2", "roots/1", "roots/2"]);
}

#[tokio::test]
async fn roots_that_never_stand_still_end_the_run_before_any_delete() {
    /// Replaces a root whenever it is read.
    #[derive(Debug)]
    struct Restless;
    #[async_trait]
    impl Interceptor for Restless {
        async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
            let read = inner.load(key, options).await;
            if key.as_str() == "roots/1" {
                inner.put(key, Put::new("leaves/live")).await?;
            }
            read
        }
        fn derived_reads(&self) -> DerivedReads {
            DerivedReads::Load
        }
    }
    let store = prepared(1).await;
    for key in ["roots/0", "roots/2", "roots/3"] {
        set(&*store, key, "").await;
    }
    Sweep::new(store.clone()).expect("builds").run(&roots()).await.expect("runs");
    let sweep = Sweep::new(Intercept::new(store.clone(), Restless)).expect("builds");
    let error = sweep.run(&roots()).await.expect_err("contended");
    assert!(error.is_retryable(), "{error}");
    let is_named = matches!(&error, tiered_values::Error::Contended { key, .. } if key.as_str() == "roots/1");
    assert!(is_named, "{error}");
    assert_eq!(keys(&*store).await, ["leaves/0", "leaves/live", "roots/0", "roots/1", "roots/2", "roots/3"]);
}
