//! Crowds on one key: leaders that go away, thousands that wait, backends that fail or panic, a frontend that never
//! works.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tiered_conformance::{DerivedReads, Fault, FaultStore, Faults, Intercept, Interceptor};
use tiered_core::{
    Error, ErrorKind, Feature, Key, MemoryStore, Outcome, Put, Read, ReadOptions, Result, Store,
    StoreExt as _, TieredStore, VolatileJournal, WritePolicy,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

/// What happens to reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// They wait.
    Shut,
    Failing,
    Panicking,
}

/// A memory store that counts reads of one key, and holds them back.
type Slow = Intercept<Gate, MemoryStore>;

#[derive(Debug)]
struct Gate {
    mode: watch::Sender<Mode>,
    of: Key,
    reads: AtomicU64,
}

/// Without [`Feature::Peeks`]: every read can wait.
fn slow(of: &Key) -> Slow {
    let inner = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    let gate = Gate { mode: watch::Sender::new(Mode::Open), of: of.clone(), reads: AtomicU64::new(0) };
    Intercept::new(inner, gate)
}

impl Gate {
    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Interceptor for Gate {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        if *key == self.of {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let mut mode = self.mode.subscribe();
            let mode = *mode.wait_for(|mode| *mode != Mode::Shut).await.expect("the sender is here");
            match mode {
                Mode::Failing => return Err(Error::new(ErrorKind::Unavailable, "down")),
                #[expect(clippy::panic, reason = "a store that panics")]
                Mode::Panicking => panic!("a store that panics"),
                Mode::Open | Mode::Shut => {}
            }
        }
        inner.load(key, options).await
    }
    async fn close(&self, _inner: &dyn Store) -> Result<()> {
        Ok(())
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// On one thread and on several.
fn runtimes() -> [Runtime; 2] {
    let one = Builder::new_current_thread().enable_time().build();
    let many = Builder::new_multi_thread().worker_threads(4).enable_time().build();
    [one.expect("a runtime"), many.expect("a runtime")]
}

/// Runs in a task of the runtime, so that several threads are several.
fn on_each<F: Future<Output = ()> + Send + 'static>(test: impl Fn() -> F) {
    for runtime in runtimes() {
        let task = runtime.spawn(test());
        runtime.block_on(task).expect("no panic");
    }
}

async fn over(back: &Slow, policy: WritePolicy) -> TieredStore {
    let front = Arc::new(MemoryStore::new());
    let builder = TieredStore::builder(front, back.clone()).write_policy(policy);
    builder.build().await.expect("builds")
}

/// Waits for something that other tasks bring about.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

/// So many readers of one key, all of them waiting for one flight before `go`. What each got.
async fn crowd(store: &TieredStore, k: &Key, size: u64, go: impl FnOnce()) -> Vec<Result<Option<String>>> {
    let before = store.stats();
    let readers = (0..size).map(|_| {
        let (store, k) = (store.clone(), k.clone());
        Handle::current().spawn(async move {
            let entry = store.get(&k).await?;
            Ok(entry.map(|entry| String::from_utf8_lossy(entry.value()).into_owned()))
        })
    });
    let readers: Vec<_> = readers.collect();
    until(|| store.stats().joined - before.joined == size - 1).await;
    go();
    join_all(readers).await.into_iter().map(|read| read.expect("no panic")).collect()
}

#[test]
fn a_load_survives_300_leaders_that_are_dropped() {
    on_each(|| async {
        let k = key("k");
        let back = slow(&k);
        back.put(&k, Put::new("v")).await.expect("written");
        let store = over(&back, WritePolicy::WriteThrough).await;
        Gate::set(&back, Mode::Shut);
        for _ in 0..300 {
            assert!(store.get(&k).now_or_never().is_none(), "polled once and dropped");
        }
        let read = crowd(&store, &k, 1, || Gate::set(&back, Mode::Open));
        // The first leader's read goes on and answers all followers.
        assert_eq!(read.await[0].as_ref().expect("reads").as_deref(), Some("v"));
        assert_eq!(back.reads(), 1);
        store.flush().await.expect("flushes");
        assert_eq!(store.stats().slots, 0);
    });
}

#[test]
fn ten_thousand_readers_share_one_load() {
    on_each(|| async {
        let k = key("k");
        let back = slow(&k);
        // Under write-around a write leaves nothing in the frontend.
        let store = over(&back, WritePolicy::WriteAround).await;
        for generation in 1..=2_u64 {
            let value = format!("value {generation}");
            store.put(&k, Put::new(value.clone())).await.expect("written");
            Gate::set(&back, Mode::Shut);
            for read in crowd(&store, &k, 10_000, || Gate::set(&back, Mode::Open)).await {
                assert_eq!(read.expect("reads"), Some(value.clone()));
            }
            assert_eq!(back.reads(), generation, "one read for a generation");
            store.flush().await.expect("flushes");
            assert_eq!(store.stats().slots, 0);
        }
    });
}

#[test]
fn a_failed_or_panicking_load_gives_every_reader_an_error() {
    for mode in [Mode::Failing, Mode::Panicking] {
        on_each(move || async move {
            let k = key("k");
            let back = slow(&k);
            back.put(&k, Put::new("v")).await.expect("written");
            let store = over(&back, WritePolicy::WriteThrough).await;
            Gate::set(&back, Mode::Shut);
            for read in crowd(&store, &k, 1_000, || Gate::set(&back, mode)).await {
                let error = read.expect_err("the read failed");
                let expected = if mode == Mode::Failing { ErrorKind::Unavailable } else { ErrorKind::Other };
                assert_eq!(error.kind(), expected);
            }
            assert_eq!(back.reads(), 1);
            until(|| store.stats().slots == 0).await;
            Gate::set(&back, Mode::Open);
            assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "v");
            store.close().await.expect("closes");
        });
    }
}

/// A dropped read of many keys fails no follower that waits for one of them.
#[test]
fn a_dropped_read_of_many_keys_fails_no_follower() {
    on_each(|| async {
        let (first, second) = (key("a"), key("b"));
        let (front, back) = (slow(&second), slow(&first));
        back.put(&first, Put::new("v")).await.expect("written");
        let builder = TieredStore::builder(front.clone(), back.clone());
        let store = builder.build().await.expect("builds");
        Gate::set(&front, Mode::Shut);
        let keys = [first.clone(), second];
        let options = ReadOptions::new();
        let mut many = Box::pin(store.get_many(&keys, &options));
        assert!(many.as_mut().now_or_never().is_none(), "it waits for the second key");
        let follower = {
            let (store, first) = (store.clone(), first.clone());
            Handle::current().spawn(async move { store.get(&first).await })
        };
        until(|| store.stats().joined == 1 || back.reads() == 1).await;
        drop(many);
        let read = follower.await.expect("no panic").expect("nothing failed");
        assert_eq!(read.expect("found").value(), "v");
    });
}

#[test]
fn a_frontend_that_always_fails_changes_no_answer() {
    const KEYS: usize = 8;
    const BOUND: usize = 4;
    for policy in WritePolicy::ALL.iter().copied() {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let faults = Arc::new(Faults::new(1).with(Fault::ErrorBefore, 1));
            faults.heal();
            let memory = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
            let front = FaultStore::new("frontend", Arc::new(memory), Arc::clone(&faults));
            let back = Arc::new(MemoryStore::new());
            let mut builder = TieredStore::builder(front, back).write_policy(policy).max_quarantined(BOUND);
            if policy == WritePolicy::WriteBehind {
                builder = builder.journal(VolatileJournal::new());
            }
            let store = builder.build().await.expect("builds");
            faults.resume();
            let local = policy == WritePolicy::FrontendOnly;
            let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
            let mut tasks = Vec::new();
            for index in 0..KEYS {
                let (writer, all, k) = (store.clone(), Arc::clone(&acknowledged), key(&format!("k{index}")));
                tasks.push(Handle::current().spawn(async move {
                    for count in 1..=50_u64 {
                        let written = writer.put(&k, Put::new(count.to_string())).await;
                        if local {
                            let error = written.expect_err("nowhere to write to");
                            assert_eq!(error.write_outcome(), Outcome::NotApplied);
                        } else {
                            written.expect("the backend has it");
                            all[index].store(count, Ordering::Relaxed);
                        }
                    }
                }));
                for _ in 0..4 {
                    let (store, all, k) =
                        (store.clone(), Arc::clone(&acknowledged), key(&format!("k{index}")));
                    tasks.push(Handle::current().spawn(async move {
                        for _ in 0..50 {
                            let least = all[index].load(Ordering::Relaxed);
                            let read = store.get(&k).await;
                            if local {
                                read.expect_err("nowhere to read from");
                                continue;
                            }
                            let seen = read.expect("the backend answers").map_or(0, |entry| {
                                String::from_utf8_lossy(entry.value()).parse().expect("a number")
                            });
                            assert!(seen >= least, "{policy}: {seen} after {least}");
                        }
                    }));
                }
            }
            let all = tokio::time::timeout(Duration::from_hours(1), join_all(tasks)).await;
            for task in all.expect("every task ends") {
                task.expect("no panic");
            }
            assert!(store.stats().quarantined <= BOUND as u64, "{policy}: the quarantine is bounded");
            faults.heal();
            tokio::time::sleep(Duration::from_mins(1)).await;
            store.flush().await.expect("flushes");
            let stats = store.stats();
            assert_eq!((stats.quarantined, stats.slots, stats.backlog), (0, 0, 0), "{policy}");
            store.close().await.expect("closes");
        });
    }
}
