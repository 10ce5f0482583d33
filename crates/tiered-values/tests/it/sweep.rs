//! Sweeps: what is observed, spared and deleted.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{
    Entry, ErrorKind, Feature, Key, MemoryStore, Put, Result, Store, StoreExt as _, TieredStore, Timestamp,
};
use tiered_values::sweep::{KeepList, Roots, Sweep, SweepOutcome, SweepReport, Verdict};
use tiered_values::{Error, StoreTools as _};

use crate::stacks;

/// A value lists the keys that it refers to, one on a line.
pub(crate) fn lines(_: &Key, entry: &Entry) -> Result<Vec<Key>> {
    String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
}

/// Roots under `roots/`, leaves under `leaves/`, nodes elsewhere.
pub(crate) fn roots() -> Roots {
    Roots::new(lines).under("roots/").leaves_under("leaves/")
}

pub(crate) async fn set(store: &dyn Store, key: &str, value: &str) {
    store.set(key, Put::new(value.to_owned())).await.expect("written");
}

/// All keys but the records of sweeps.
pub(crate) async fn keys(store: &dyn Store) -> Vec<String> {
    let keys = store.keys("").await.expect("listed");
    keys.iter().map(|key| key.as_str().to_owned()).filter(|key| !key.starts_with("tiered.gc/")).collect()
}

async fn keep(sweep: &Sweep, keys: &[&str]) -> KeepList {
    KeepList::new(sweep.horizon().await.expect("read"), keys.iter().copied()).expect("valid")
}

async fn run(sweep: &Sweep) -> SweepReport {
    let mut would = sweep.dry_run(&roots()).await.expect("looks");
    let did = sweep.run(&roots()).await.expect("runs");
    assert_eq!(did.outcome, SweepOutcome::Completed);
    would.outcome = SweepOutcome::Completed;
    assert_eq!(would, did, "a dry run tells what a run does");
    did
}

#[tokio::test]
async fn what_is_not_kept_is_observed_by_one_run_and_deleted_by_the_next() {
    let store = Arc::new(MemoryStore::new());
    for key in ["a", "b", "c"] {
        set(&*store, key, key).await;
    }
    let sweep = Sweep::new(store.clone()).expect("builds");
    let before = store.snapshot();
    let dry = sweep.dry_run(&keep(&sweep, &["b"]).await).await.expect("looks");
    assert_eq!((dry.outcome, dry.observed, dry.deleted), (SweepOutcome::DryRun, 2, 0));
    assert_eq!(store.snapshot(), before, "a dry run touches nothing");

    let first = sweep.run(&keep(&sweep, &["b"]).await).await.expect("runs");
    assert_eq!((first.generation, first.listed, first.live, first.observed), (0, 3, 1, 2));
    let before = store.snapshot();
    let dry = sweep.dry_run(&keep(&sweep, &["b"]).await).await.expect("looks");
    assert_eq!((dry.observed, dry.deleted), (0, 2));
    assert_eq!(store.snapshot(), before, "a dry run touches nothing");
    let second = sweep.run(&keep(&sweep, &["b"]).await).await.expect("runs");
    assert_eq!((second.generation, second.horizon, second.deleted), (1, 1, 2));
    assert_eq!(keys(&*store).await, ["b"]);
    let third = sweep.run(&keep(&sweep, &["b"]).await).await.expect("runs");
    assert_eq!((third.generation, third.listed, third.live, third.observed, third.deleted), (2, 1, 1, 0, 0));
    assert_eq!(store.keys("tiered.gc/").await.expect("listed").len(), 1, "the head alone");
}

#[tokio::test]
async fn what_roots_reach_stays_through_nodes_and_cycles() {
    let store = Arc::new(MemoryStore::new());
    for (key, value) in [
        ("roots/1", "node\nabsent"),
        ("roots/2", "leaves/2"),
        ("node", "leaves/1\nnode\nroots/1"),
        ("old", "leaves/3"),
        ("leaves/1", "not a key\n\u{1}"),
        ("leaves/2", ""),
        ("leaves/3", ""),
    ] {
        set(&*store, key, value).await;
    }
    let sweep = Sweep::new(store.clone()).expect("builds");
    let first = run(&sweep).await;
    assert_eq!((first.listed, first.live, first.observed, first.missing), (7, 5, 2, 1));
    assert_eq!(run(&sweep).await.deleted, 2);
    assert_eq!(keys(&*store).await, ["leaves/1", "leaves/2", "node", "roots/1", "roots/2"]);
}

#[tokio::test]
async fn a_key_that_is_written_between_two_runs_survives_the_second() {
    let store = Arc::new(MemoryStore::new());
    for key in ["roots/1", "leaves/1", "leaves/2"] {
        set(&*store, key, "").await;
    }
    let sweep = Sweep::new(store.clone()).expect("builds");
    run(&sweep).await;
    set(&*store, "leaves/1", "").await;
    let report = run(&sweep).await;
    assert_eq!((report.observed, report.rewritten, report.deleted), (1, 1, 1));
    assert_eq!(keys(&*store).await, ["leaves/1", "roots/1"]);
    assert_eq!(run(&sweep).await.deleted, 1);
}

#[tokio::test]
async fn a_writer_under_way_holds_back_what_it_wrote_until_it_ends() {
    let store = Arc::new(MemoryStore::new());
    let sweep = Sweep::new(store.clone()).expect("builds");
    set(&*store, "roots/1", "").await;
    set(&*store, "leaves/old", "").await;
    run(&sweep).await;
    let write = sweep.begin_write("a test").await.expect("begins");
    set(&*store, "leaves/new", "").await;
    set(&*store, "leaves/unused", "").await;
    // What was observed before it began is not held back.
    let report = run(&sweep).await;
    assert_eq!((report.deleted, report.observed, report.held_back), (1, 2, 0));
    for _ in 0..3 {
        let report = run(&sweep).await;
        assert_eq!((report.deleted, report.observed, report.held_back, report.horizon), (0, 0, 2, 1));
        let holders: Vec<_> = report.holders().collect();
        assert_eq!((holders.len(), holders[0].id, holders[0].label.as_str()), (1, write.id(), "a test"));
        assert_eq!(holders[0].generation, 1);
    }
    set(&*store, "roots/1", "leaves/new").await;
    write.end().await.expect("ends");
    let report = run(&sweep).await;
    assert_eq!((report.deleted, report.held_back, report.writers.len()), (1, 0, 0));
    assert_eq!(keys(&*store).await, ["leaves/new", "roots/1"]);
}

#[tokio::test]
async fn the_record_of_a_crashed_writer_holds_back_until_it_is_forgotten() {
    let store = Arc::new(MemoryStore::new());
    let sweep = Sweep::new(store.clone()).expect("builds");
    set(&*store, "roots/1", "").await;
    let label = "ä".repeat(200);
    let id = sweep.begin_write(&label).await.expect("begins").id();
    set(&*store, "leaves/1", "").await;
    run(&sweep).await;
    assert_eq!(run(&sweep).await.held_back, 1);
    let writers = sweep.writers().await.expect("read");
    assert_eq!((writers[0].id, writers[0].label.as_str()), (id, "ä".repeat(128).as_str()));
    assert!(sweep.forget_writer(writers[0].id.to_string().parse().expect("an id")).await.expect("forgets"));
    assert!(!sweep.forget_writer(id).await.expect("absent"));
    assert_eq!(run(&sweep).await.deleted, 1);
}

#[tokio::test]
async fn a_keep_list_judges_by_the_horizon_that_was_taken_before_it() {
    let store = Arc::new(MemoryStore::new());
    let sweep = Sweep::new(store.clone()).expect("builds");
    set(&*store, "a", "").await;
    let write = sweep.begin_write("publishes after the list was made").await.expect("begins");
    set(&*store, "leaf", "").await;
    let old = keep(&sweep, &["a"]).await;
    assert_eq!(sweep.run(&old).await.expect("runs").observed, 1);
    set(&*store, "a", "leaf").await;
    write.end().await.expect("ends");
    // The list lacks the leaf, and no record holds it back any more. The horizon does.
    for _ in 0..3 {
        let report = sweep.run(&old).await.expect("runs");
        assert_eq!((report.deleted, report.held_back, report.writers.len()), (0, 1, 0));
    }
    let new = keep(&sweep, &["a"]).await;
    assert_eq!(sweep.run(&new).await.expect("runs").deleted, 1);
}

#[tokio::test]
async fn a_cut_off_spares_and_never_condemns() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::seeded(1)));
    let store = Arc::new(MemoryStore::with_stamp(stamp));
    set(&*store, "roots/1", "").await;
    set(&*store, "leaves/old", "").await;
    clock.advance(Duration::from_secs(10));
    set(&*store, "leaves/young", "").await;
    let sweep = |cut_off| {
        let builder = Sweep::builder(store.clone()).older_than(Timestamp::from_millis(cut_off));
        builder.build().expect("builds")
    };
    // However old they are by the clock: a version must be observed first.
    assert_eq!(run(&sweep(u64::MAX)).await.deleted, 0);
    let report = run(&sweep(999)).await;
    assert_eq!((report.deleted, report.too_new), (0, 2));
    let report = run(&sweep(1_000)).await;
    assert_eq!((report.deleted, report.too_new), (1, 1));
    assert_eq!(keys(&*store).await, ["leaves/young", "roots/1"]);
    assert_eq!(run(&sweep(u64::MAX)).await.deleted, 1);
}

#[tokio::test]
async fn a_clock_that_jumps_changes_nothing() {
    let mut seen = Vec::new();
    let forever = Duration::from_hours(100 * 365 * 24);
    for jumps in [[0, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1]] {
        let start = Timestamp::from_millis(4_102_444_800_000);
        let clock = Arc::new(ManualClock::new(start));
        let store =
            Arc::new(MemoryStore::with_stamp(Stamp::new(clock.clone(), Arc::new(VersionMint::seeded(1)))));
        let sweep = Sweep::new(store.clone()).expect("builds");
        set(&*store, "roots/1", "").await;
        set(&*store, "leaves/garbage", "").await;
        let write = sweep.begin_write("").await.expect("begins");
        set(&*store, "leaves/live", "").await;
        let mut reports = Vec::new();
        for (turn, jump) in jumps.into_iter().enumerate() {
            clock.set_wall(match jump {
                0 => start,
                1 => start.saturating_add(forever),
                _ => Timestamp::from_millis(1),
            });
            let mut report = run(&sweep).await;
            for writer in &mut report.writers {
                writer.began = None;
                writer.id = "00000000000000000000000000000000".parse().expect("an id");
            }
            assert!(store.contains("leaves/live").await.expect("read"));
            reports.push(report);
            if turn == 1 {
                set(&*store, "roots/1", "leaves/live").await;
                let id = write.id();
                sweep.forget_writer(id).await.expect("forgotten");
            }
        }
        drop(write);
        assert_eq!(reports.iter().map(|report| report.deleted).collect::<Vec<_>>(), [0, 0, 1, 0]);
        seen.push(reports);
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stack_is_swept() {
    for stack in stacks::all().await {
        let store = stack.store.clone();
        if stack.name == "frontend-only" {
            match Sweep::new(store) {
                Err(Error::Store(error)) => assert_eq!(error.kind(), ErrorKind::Unsupported),
                other => panic!("its listing lacks what only the backend has: {other:?}"),
            }
            stack.close().await;
            continue;
        }
        let sweep = Sweep::new(store.clone()).unwrap_or_else(|error| panic!("{}: {error}", stack.name));
        let write = sweep.begin_write("").await.expect("begins");
        for number in 0..20 {
            set(&*store, &format!("leaves/{number:02}"), "").await;
        }
        set(&*store, "roots/1", "leaves/07\nleaves/13").await;
        write.end().await.expect("ends");
        assert_eq!(run(&sweep).await.observed, 18, "{}", stack.name);
        // In the cache as well.
        assert!(store.contains("leaves/01").await.expect("read"));
        assert_eq!(run(&sweep).await.deleted, 18, "{}", stack.name);
        assert_eq!(keys(&*store).await, ["leaves/07", "leaves/13", "roots/1"], "{}", stack.name);
        assert!(!store.contains("leaves/01").await.expect("read"), "{}", stack.name);
        stack.close().await;
    }
}

#[tokio::test]
async fn both_tiers_are_empty_of_what_was_deleted() {
    let (front, back) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let store = TieredStore::builder(front.clone(), back.clone()).build().await.expect("builds");
    set(&store, "roots/1", "leaves/2").await;
    set(&store, "leaves/1", "").await;
    set(&store, "leaves/2", "").await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    run(&sweep).await;
    for tier in [&front, &back] {
        assert!(tier.contains("leaves/1").await.expect("read"));
    }
    assert_eq!(run(&sweep).await.deleted, 1);
    for tier in [&front, &back] {
        assert!(!tier.contains("leaves/1").await.expect("read"));
        assert!(tier.contains("leaves/2").await.expect("read"));
    }
}

#[tokio::test]
async fn snapshots_are_chunked_and_other_scopes_are_carried() {
    let store = Arc::new(MemoryStore::new());
    for number in 0..300 {
        for scope in ["a/", "b/", "c/"] {
            set(&*store, &format!("{scope}{number:03}"), "").await;
        }
    }
    set(&*store, "b/live", "").await;
    let scoped = |prefix: &str| {
        let builder = Sweep::builder(store.clone()).prefix(prefix).chunk_bytes(500);
        builder.batch(NonZeroUsize::new(7).expect("not zero")).build().expect("builds")
    };
    let all = scoped("");
    let report = all.run(&keep(&all, &["b/live"]).await).await.expect("runs");
    assert_eq!((report.listed, report.live, report.observed), (901, 1, 900));
    let chunks = store.keys("tiered.gc/snapshots/").await.expect("listed").len();
    assert!(chunks > 80, "{chunks}");
    let middle = scoped("b/");
    let report = middle.run(&keep(&middle, &["b/live"]).await).await.expect("runs");
    assert_eq!((report.listed, report.live, report.deleted), (301, 1, 300));
    assert_eq!(keys(&*store).await.len(), 601);
    // What the first run observed in the other scopes still counts.
    for scope in ["c/", "a/"] {
        let sweep = scoped(scope);
        let report = sweep.run(&keep(&sweep, &["b/live"]).await).await.expect("runs");
        assert_eq!((report.listed, report.deleted, report.observed), (300, 300, 0));
    }
    assert_eq!(keys(&*store).await, ["b/live"]);
    assert_eq!(store.keys("tiered.gc/").await.expect("listed").len(), 1, "the head alone");
}

#[tokio::test]
async fn a_callback_sees_each_key_that_is_not_live() {
    let store = Arc::new(MemoryStore::new());
    for key in ["a", "b", "c"] {
        set(&*store, key, "").await;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tell = seen.clone();
    let sweep = Sweep::builder(store.clone())
        .on_key(move |key, verdict| tell.lock().push((key.as_str().to_owned(), verdict)))
        .build()
        .expect("builds");
    sweep.run(&keep(&sweep, &["b"]).await).await.expect("runs");
    sweep.run(&keep(&sweep, &["b"]).await).await.expect("runs");
    let expected =
        [Verdict::Observed, Verdict::Deleted].map(|verdict| ["a", "c"].map(|key| (key.to_owned(), verdict)));
    assert_eq!(*seen.lock(), expected.concat());
}

#[tokio::test]
async fn the_record_of_a_lease_is_no_garbage() {
    let store = Arc::new(MemoryStore::new());
    for key in [".tiered/owner", "roots/1", "leaves/1"] {
        set(&*store, key, "").await;
    }
    let sweep = Sweep::new(store.clone()).expect("builds");
    assert_eq!(run(&sweep).await.listed, 2);
    run(&sweep).await;
    assert_eq!(keys(&*store).await, [".tiered/owner", "roots/1"]);
}

#[tokio::test]
async fn a_touch_under_the_record_renews_a_leaf() {
    let store = Arc::new(MemoryStore::new());
    set(&*store, "roots/1", "").await;
    set(&*store, "leaves/1", "").await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    run(&sweep).await;
    let write = sweep.begin_write("").await.expect("begins");
    store.touch("leaves/1", tiered_core::Expiry::Never).await.expect("touched").expect("there");
    run(&sweep).await;
    run(&sweep).await;
    set(&*store, "roots/1", "leaves/1").await;
    write.end().await.expect("ends");
    assert_eq!(run(&sweep).await.deleted, 0);
    assert_eq!(keys(&*store).await.len(), 2);
}

#[tokio::test]
async fn a_store_that_cannot_keep_the_rules_is_refused_before_it_is_touched() {
    for feature in [Feature::ConditionalPut, Feature::ConditionalDelete, Feature::UniqueValidators] {
        let store = MemoryStore::new().declaring(|capabilities| capabilities.without(feature));
        match Sweep::new(store) {
            Err(Error::Store(error)) => assert_eq!(error.kind(), ErrorKind::Unsupported),
            other => panic!("{feature:?}: {other:?}"),
        }
    }
    match Sweep::new(stacks::cache()) {
        Err(Error::Store(error)) => assert!(error.to_string().contains("evicts"), "{error}"),
        other => panic!("{other:?}"),
    }
    for builder in [
        Sweep::builder(MemoryStore::new()).records(""),
        Sweep::builder(MemoryStore::new()).records("gc/").prefix("gc/writers/"),
    ] {
        assert!(matches!(builder.build(), Err(Error::Invalid { .. })));
    }
    let short = MemoryStore::new().declaring(|capabilities| capabilities.with_max_key(64));
    assert!(matches!(Sweep::new(short), Err(Error::Store(error)) if error.kind() == ErrorKind::InvalidKey));
}

#[tokio::test]
async fn nothing_at_all_to_keep_is_an_error() {
    let store = Arc::new(MemoryStore::new());
    set(&*store, "leaves/1", "").await;
    let sweep = Sweep::new(store.clone()).expect("builds");
    let before = store.snapshot();
    assert!(matches!(sweep.run(&keep(&sweep, &[]).await).await, Err(Error::Invalid { .. })));
    assert!(matches!(sweep.run(&roots()).await, Err(Error::Invalid { .. })));
    match sweep.run(&roots().root("typo").expect("valid")).await {
        Err(Error::Store(error)) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(error.key().map(Key::as_str), Some("typo"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.snapshot(), before);
}
