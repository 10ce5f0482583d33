//! Logs: appends lose nothing, reads have no gaps, trims never bring numbers back.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_conformance::{Fault, FaultStore, Faults, Intercept, Interceptor};
use tiered_core::settings::OnUnknown;
use tiered_core::{
    AsStore as _, Key, MemoryStore, Outcome, Put, Read, ReadOptions, Result, Store, StoreExt as _,
    TieredSettings, TieredStore, Written,
};
use tiered_values::{Error, Log};
use tokio::sync::Semaphore;

use crate::stacks;

fn some(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

/// A log with segments of so many elements.
pub(crate) fn log_of(store: impl tiered_core::AsStore, elements: u32) -> Log {
    Log::builder(store, "log").segment_elements(some(elements)).build().expect("valid")
}

/// All that a new handle reads.
pub(crate) async fn contents(store: Arc<dyn Store>) -> Vec<(u64, Bytes)> {
    let log = log_of(store, 3);
    let first = log.range().await.expect("a range").start;
    log.read(first, usize::MAX).await.expect("read")
}

fn texts(elements: &[(u64, Bytes)]) -> Vec<&str> {
    elements.iter().map(|(_, bytes)| std::str::from_utf8(bytes).expect("text")).collect()
}

fn assert_no_gaps(elements: &[(u64, Bytes)]) {
    for (at, (number, _)) in (elements.first().map_or(0, |first| first.0)..).zip(elements) {
        assert_eq!(at, *number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_times_twenty_five_appends_give_a_hundred_elements_on_every_stack() {
    for stack in stacks::all().await {
        let tasks = (0..4).map(|task| {
            // Handles of their own, with other bounds: they agree by what is stored alone.
            let log = log_of(stack.store.clone(), 5 + task);
            tokio::runtime::Handle::current().spawn(async move {
                let mut numbers = Vec::new();
                for round in 0..25 {
                    numbers.push(log.append(format!("{task}/{round:02}")).await.expect("appended"));
                }
                numbers
            })
        });
        let mut told = Vec::new();
        for (task, numbers) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
            let numbers = numbers.await.expect("no panic");
            assert!(numbers.is_sorted(), "a writer's elements are in its order: {}", stack.name);
            told.extend(
                numbers.into_iter().zip(0..).map(|(number, round)| (number, format!("{task}/{round:02}"))),
            );
        }
        told.sort();
        let found = contents(stack.store.clone()).await;
        let found: Vec<(u64, String)> = found
            .into_iter()
            .map(|(number, bytes)| (number, String::from_utf8(bytes.to_vec()).expect("text")))
            .collect();
        assert_eq!(found, told, "{}", stack.name);
        assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        stack.close().await;
    }
}

#[tokio::test]
async fn segments_keep_their_bounds_and_a_large_element_has_one_of_its_own() {
    let store = Arc::new(MemoryStore::new());
    let log = Log::builder(store.clone(), "log")
        .segment_bytes(200)
        .segment_elements(some(4))
        .build()
        .expect("valid");
    let sizes = [10, 10, 10, 10, 10, 120, 10, 1000, 10, 0, 0, 0, 0, 0];
    for (number, size) in (0..).zip(sizes) {
        assert_eq!(log.append(vec![b'x'; size]).await.expect("appended"), number);
    }
    let read = log.read(0, 100).await.expect("read");
    assert_eq!(read.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), sizes);
    assert_no_gaps(&read);
    let mut elements = 0;
    for key in store.keys("log/segments/").await.expect("listed") {
        let size = store.get(&key).await.expect("read").expect("there").size();
        assert!(size <= 200 || size == 38 + 20 + 1000, "{size}");
        elements += 1;
    }
    assert!((6..=8).contains(&elements), "{elements} segments");
    let too_large =
        Log::new(MemoryStore::new().declaring(|all| all.with_max_value(64)), "log").expect("valid");
    too_large.append(vec![0; 6]).await.expect("fits");
    let error = too_large.append(vec![0; 7]).await.expect_err("too large");
    assert!(matches!(error, Error::Invalid { .. }) && error.write_outcome() == Outcome::NotApplied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_that_are_appended_together_stay_together() {
    let store = Arc::new(MemoryStore::new());
    let tasks = (0..4).map(|task: usize| {
        let log = log_of(store.clone(), 4);
        tokio::runtime::Handle::current().spawn(async move {
            for round in 0..10 {
                let elements: Vec<String> =
                    (0..=task * 2).map(|index| format!("{task}/{round}/{index}")).collect();
                let len = elements.len() as u64;
                let numbers = log.append_all(elements.clone()).await.expect("appended");
                assert_eq!(numbers.end - numbers.start, len);
                let read = log.read(numbers.start, elements.len()).await.expect("read");
                assert_eq!(texts(&read), elements);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no panic");
    }
    let log = log_of(store, 4);
    let nothing: [&str; 0] = [];
    assert_eq!(log.append_all(nothing).await.expect("nothing to add"), 160..160);
    assert_eq!(log.range().await.expect("a range"), 0..160);
}

#[tokio::test]
async fn reading_begins_at_any_element_and_goes_as_far_as_asked() {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 3);
    assert_eq!(
        (log.read(0, 9).await.expect("empty"), log.read(5, 9).await.expect("empty")),
        (vec![], vec![])
    );
    for number in 0..10_u64 {
        log.append(number.to_string()).await.expect("appended");
        for handle in [log.clone(), log_of(store.clone(), 1)] {
            for from in 0..=number + 2 {
                for limit in [0, 1, 2, 4, 100] {
                    let expected: Vec<(u64, Bytes)> = (from..=number)
                        .take(limit)
                        .map(|number| (number, number.to_string().into()))
                        .collect();
                    assert_eq!(handle.read(from, limit).await.expect("read"), expected, "{from} {limit}");
                }
            }
        }
    }
    let (sum, next) = log.fold(4, 0, |sum, number, _| sum + number).await.expect("folded");
    assert_eq!((sum, next), (4 + 5 + 6 + 7 + 8 + 9, 10));
}

#[tokio::test]
async fn a_trim_removes_whole_segments_and_never_brings_a_number_back() {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 3);
    assert_eq!(log.trim(7).await.expect("nothing there"), 0);
    for number in 0..9_u64 {
        assert_eq!(log.append(number.to_string()).await.expect("appended"), number);
    }
    let old_handle = log_of(store.clone(), 3);
    old_handle.read(0, 1).await.expect("read");
    for (before, first) in [(0, 0), (2, 0), (3, 3), (5, 3), (1, 3)] {
        assert_eq!(log.trim(before).await.expect("trimmed"), first, "before {before}");
    }
    assert_eq!(log.range().await.expect("a range"), 3..9);
    for from in 0..3 {
        for handle in [&log, &old_handle, &log_of(store.clone(), 3)] {
            assert!(matches!(handle.read(from, 1).await, Err(Error::Trimmed { first: 3 })));
        }
    }
    // All of it: the last segment stays, sealed as it is.
    assert_eq!(log.trim(u64::MAX).await.expect("trimmed"), 6);
    assert_eq!(store.keys("log/").await.expect("listed").len(), 2);
    for (number, handle) in (9..).zip([log_of(store.clone(), 3), log.clone(), old_handle]) {
        assert_eq!(handle.append("new").await.expect("appended"), number);
    }
    assert_eq!(log.range().await.expect("a range"), 6..12);
}

/// A trim that fails after it moved the head leaves segments that are no part of the log any more.
#[tokio::test]
async fn a_handle_that_stands_at_a_segment_below_the_head_finds_the_end() {
    let store = Arc::new(MemoryStore::new());
    let old = log_of(store.clone(), 3);
    old.append("0").await.expect("appended");
    let log = log_of(store.clone(), 3);
    for number in 1..10_u64 {
        log.append(number.to_string()).await.expect("appended");
    }
    let kept: Vec<_> = store.snapshot().into_iter().collect();
    assert_eq!(log.trim(9).await.expect("trimmed"), 9);
    for (key, entry) in kept.into_iter().filter(|(key, _)| key.as_str() != "log/segments/0000000000000009") {
        store.put(&key, tiered_core::adapter::verbatim(&entry)).await.expect("as if it had not been deleted");
    }
    assert!(matches!(old.read(0, 1).await, Err(Error::Trimmed { first: 9 })));
    assert_eq!(old.append("10").await.expect("appended"), 10);
    assert_eq!(texts(&contents(store).await), ["9", "10"]);
}

#[tokio::test]
async fn a_store_that_would_lose_elements_is_refused() {
    let error = Log::new(stacks::cache(), "log").expect_err("it evicts");
    assert_eq!(tiered_core::Error::from(error).kind(), tiered_core::ErrorKind::Unsupported);
    let without = |all: tiered_core::Capabilities| all.without(tiered_core::Feature::ConditionalPut);
    Log::new(MemoryStore::new().declaring(without), "log").expect_err("it has no conditional puts");
}

#[tokio::test]
async fn logs_whose_names_begin_alike_do_not_mix() {
    let store = Arc::new(MemoryStore::new());
    let names = ["a", "a/segments", "a/segments/0000000000000000", "ab"];
    let logs: Vec<Log> = names.iter().map(|name| Log::new(store.clone(), name).expect("valid")).collect();
    for (log, name) in logs.iter().zip(names) {
        assert_eq!(log.append(name).await.expect("appended"), 0);
    }
    for (log, name) in logs.iter().zip(names) {
        assert_eq!(log.read(0, 9).await.expect("read"), [(0, name.into())]);
        assert_eq!(log.trim(1).await.expect("trimmed"), 0);
        assert_eq!(log.append("next").await.expect("appended"), 1);
    }
    Log::new(store.clone(), &"x".repeat(1000)).expect_err("its keys are too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_during_trims_and_appends_see_a_run_or_a_clear_error() {
    for stack in stacks::all().await {
        let writer = log_of(stack.store.clone(), 4);
        let appending = tokio::runtime::Handle::current().spawn(async move {
            for number in 0..150_u64 {
                assert_eq!(writer.append(number.to_string()).await.expect("appended"), number);
                if number % 10 == 9 {
                    writer.trim(number - 6).await.expect("trimmed");
                }
            }
        });
        let reader = log_of(stack.store.clone(), 4);
        let (mut next, mut trimmed) = (0, 0);
        while next < 150 {
            match reader.read(next, 7).await {
                Ok(run) => {
                    for (number, bytes) in run {
                        assert_eq!((number, bytes), (next, Bytes::from(next.to_string())), "{}", stack.name);
                        next += 1;
                    }
                }
                Err(Error::Trimmed { first }) => {
                    assert!(first > next, "{}", stack.name);
                    (next, trimmed) = (first, trimmed + 1);
                }
                Err(error) => panic!("{}: {error}", stack.name),
            }
            tokio::task::yield_now().await;
        }
        appending.await.expect("no panic");
        assert!(trimmed < 20);
        stack.close().await;
    }
}

/// Which calls are held back.
#[derive(Debug, PartialEq)]
enum Held {
    Loads,
    Puts,
}

/// Holds calls that concern one key back until they are let through, one by one.
#[derive(Debug)]
struct Asleep {
    held: Held,
    met: Semaphore,
    go: Semaphore,
}

impl Asleep {
    fn new(held: Held) -> Arc<Self> {
        Arc::new(Self { held, met: Semaphore::new(0), go: Semaphore::new(0) })
    }

    async fn pass(&self, held: Held, key: &Key) {
        if held == self.held && key.as_str() == SECOND {
            self.met.add_permits(1);
            self.go.acquire().await.expect("open").forget();
        }
    }

    async fn met(&self) {
        self.met.acquire().await.expect("open").forget();
    }
}

const SECOND: &str = "log/segments/0000000000000002";

/// The store's side of it.
#[derive(Debug)]
struct HeldBack(Arc<Asleep>);

#[async_trait]
impl Interceptor for HeldBack {
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.0.pass(Held::Loads, key).await;
        inner.load(key, options).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        self.0.pass(Held::Puts, key).await;
        inner.put(key, put).await
    }
}

/// A writer goes on from a segment to the next one; in between both are trimmed, and a delayed writer leaves a segment in
/// the place of the next one.
#[tokio::test]
async fn a_writer_does_not_append_to_what_another_one_left_below_the_head() {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 2);
    for number in 0..2_u64 {
        log.append(number.to_string()).await.expect("appended");
    }
    let (slow, asleep) = (Asleep::new(Held::Loads), Asleep::new(Held::Puts));
    let walker = log_of(Intercept::new(store.clone(), HeldBack(slow.clone())), 2);
    slow.go.add_permits(1);
    assert_eq!(walker.range().await.expect("a range"), 0..2);
    slow.met().await;
    let sleeper = log_of(Intercept::new(store.clone(), HeldBack(asleep.clone())), 2);
    let spawn = |log: Log, element: &'static str| {
        tokio::runtime::Handle::current().spawn(async move { log.append(element).await })
    };
    let late = spawn(sleeper, "late");
    asleep.met().await;
    let walking = spawn(walker, "walker");
    slow.met().await;
    for number in 2..7_u64 {
        assert_eq!(log.append(number.to_string()).await.expect("appended"), number);
    }
    log.trim(6).await.expect("trimmed");
    asleep.go.add_permits(1);
    late.await.expect("no panic").expect_err("not in the log");
    assert!(store.contains(SECOND).await.expect("read"));
    slow.go.add_permits(9);
    assert_eq!(walking.await.expect("no panic").expect("appended"), 7);
    assert_eq!(texts(&contents(store).await), ["6", "walker"]);
}

/// The first attempt to create a segment gets no answer. It arrives when the test says so.
#[derive(Clone, Debug, Default)]
struct ComesLate(Arc<std::sync::Mutex<Option<(Key, Put)>>>);

#[async_trait]
impl Interceptor for ComesLate {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        if put.precondition == tiered_core::Precondition::Absent {
            let mut caught = self.0.lock().expect("no panic");
            if caught.is_none() {
                *caught = Some((key.clone(), put));
                let lost = tiered_core::Error::new(tiered_core::ErrorKind::TimedOut, "no answer");
                return Err(lost.outcome_is(Outcome::Unknown));
            }
        }
        inner.put(key, put).await
    }
}

/// The segment that comes late was created a second time, appended to by others, and trimmed. It is not taken for that one.
#[tokio::test]
async fn a_first_attempt_that_comes_after_a_trim_takes_no_append_of_others() {
    let store = Arc::new(MemoryStore::new());
    let others = log_of(store.clone(), 3);
    others.append_all(["0", "1", "2"]).await.expect("appended");
    let late = ComesLate::default();
    let log = log_of(Intercept::new(store.clone(), late.clone()), 3);
    assert_eq!(log.append("3").await.expect("appended by the second attempt"), 3);
    assert_eq!(others.append("4").await.expect("appended"), 4);
    for number in 5..8_u64 {
        assert_eq!(log.append(number.to_string()).await.expect("appended"), number);
    }
    assert_eq!(log.trim(6).await.expect("trimmed"), 6);
    let (key, put) = late.0.lock().expect("no panic").take().expect("the first attempt");
    assert!(!store.contains(key.clone()).await.expect("read"), "trimmed");
    store.put(&key, put).await.expect("it arrives");
    assert_eq!(others.append("8").await.expect("appended"), 8);
    assert_eq!(texts(&contents(store).await), ["6", "7", "8"]);
}

/// A writer is about to create a segment; others create it, fill it, go on, and trim it. Then the writer goes on.
#[tokio::test]
async fn a_writer_that_was_delayed_while_its_place_was_trimmed_brings_no_number_back() {
    let store = Arc::new(MemoryStore::new());
    let log = log_of(store.clone(), 2);
    for number in 0..2_u64 {
        log.append(number.to_string()).await.expect("appended");
    }
    let asleep = Asleep::new(Held::Puts);
    let sleeper = log_of(Intercept::new(store.clone(), HeldBack(asleep.clone())), 2);
    let task =
        tokio::runtime::Handle::current().spawn(async move { (sleeper.append("late").await, sleeper) });
    asleep.met().await;
    for number in 2..7_u64 {
        assert_eq!(log.append(number.to_string()).await.expect("appended"), number);
    }
    assert_eq!(log.trim(6).await.expect("trimmed"), 6);
    asleep.go.add_permits(1);
    let (answer, sleeper) = task.await.expect("no panic");
    assert_eq!(answer.expect_err("not in the log").write_outcome(), Outcome::Unknown);
    // What it left is no part of the log, for any handle.
    assert!(store.contains(SECOND).await.expect("read"));
    for handle in [&log, &sleeper, &log_of(store.clone(), 2)] {
        assert_eq!(handle.range().await.expect("a range").start, 6);
        assert!(matches!(handle.read(2, 1).await, Err(Error::Trimmed { first: 6 })));
        let next = handle.range().await.expect("a range").end;
        assert_eq!(handle.append("more").await.expect("appended"), next);
    }
    log.trim(6).await.expect("trimmed");
    assert!(!store.contains(SECOND).await.expect("read"), "the next trim deletes it");
    let found = contents(store).await;
    assert_eq!(texts(&found), ["6", "more", "more", "more"]);
}

/// Answers are lost, requests come late or twice or not at all, under three writers.
#[tokio::test(start_paused = true)]
async fn each_acknowledged_element_is_in_the_log_once_under_faults() {
    under_faults(async |faulty| faulty.into_store()).await;
}

/// The same beneath the engine, which has its own ways with unknown outcomes.
#[tokio::test(start_paused = true)]
async fn each_acknowledged_element_is_in_the_log_once_under_faults_of_the_backend() {
    for on_unknown in [OnUnknown::Report, OnUnknown::Retry] {
        under_faults(async |faulty| {
            let mut settings = TieredSettings::default();
            settings.on_unknown = on_unknown;
            let stack = TieredStore::builder(MemoryStore::new(), faulty).settings(settings);
            stack.build().await.expect("builds").into_store()
        })
        .await;
    }
}

async fn under_faults(stack: impl AsyncFn(FaultStore) -> Arc<dyn Store>) {
    let mut unknown = 0;
    for seed in 0..40 {
        let faults = Faults::new(seed)
            .with(Fault::ErrorAfter, 4)
            .with(Fault::DelayedApply, 8)
            .with(Fault::ErrorBefore, 9)
            .with(Fault::Duplicate, 7)
            .request_lifetime(Duration::from_millis(40));
        let faults = Arc::new(faults);
        let memory = Arc::new(MemoryStore::new());
        faults.heal();
        let store = stack(FaultStore::new("faulty", memory.clone(), faults.clone())).await;
        faults.resume();
        let writer = |task: u32| {
            let log = log_of(store.clone(), 3);
            async move {
                let (mut must, mut may) = (Vec::new(), Vec::new());
                for round in 0..12 {
                    let element = format!("{task}/{round}");
                    match log.append(element.clone()).await {
                        Ok(number) => must.push((number, element)),
                        Err(error) if error.write_outcome() == Outcome::Unknown => may.push(element),
                        Err(_) => {}
                    }
                }
                (must, may)
            }
        };
        let (one, other, third) = futures_util::join!(writer(1), writer(2), writer(3));
        tokio::time::sleep(Duration::from_secs(5)).await;
        let found = contents(memory).await;
        assert_no_gaps(&found);
        let all: BTreeSet<&str> = texts(&found).into_iter().collect();
        assert_eq!(all.len(), found.len(), "seed {seed}: one is in twice");
        let mut allowed = BTreeSet::new();
        for (must, may) in [&one, &other, &third] {
            for (number, element) in must {
                assert!(found.contains(&(*number, element.clone().into())), "seed {seed}: {element} is lost");
                allowed.insert(element.as_str());
            }
            unknown += may.len();
            allowed.extend(may.iter().map(String::as_str));
        }
        assert!(all.is_subset(&allowed), "seed {seed}: a refused one is in");
    }
    assert!(unknown < 5, "lost answers are made good: {unknown} of 1440 are not");
}
