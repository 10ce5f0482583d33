//! The blocking API: where it may be called, and that it never panics and never waits for ever.

#![expect(clippy::disallowed_methods, reason = "tasks of a test, on runtimes of its own")]

use std::future::Future;
use std::io::{self, Read as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc;

use tiered::blocking::{BlockingStore, Runtime};
use tiered::sync::{PopulateMissing, SyncOptions};
use tiered::{
    Batch, CommitLevel, Delete, Error, ErrorKind, Event, Existed, Key, ListOptions, MemoryStore, Outcome,
    Put, ReadOptions, Store, StoreExt as _, TieredStore, VolatileJournal, WritePolicy,
};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, block_in_place, spawn_blocking, unconstrained};

fn memory() -> BlockingStore<MemoryStore> {
    BlockingStore::new(MemoryStore::new(), Runtime::new().expect("starts"))
}

/// Over tiers, so that `peek` answers for a key that was read before.
fn tiers(runtime: &Runtime) -> BlockingStore<TieredStore> {
    let store = runtime.wait(TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build());
    BlockingStore::new(store.expect("builds"), runtime.clone())
}

/// Every call that waits is refused, says what to do, and has done nothing.
fn is_refused_everywhere(store: &BlockingStore<TieredStore>) {
    let says = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("spawn_blocking"), "{error}");
        assert_eq!(error.write_outcome(), Outcome::NotApplied, "{error}");
    };
    let (key, options) = (Key::new("cold").expect("valid"), ReadOptions::new());
    says(store.get("cold").expect_err("get"));
    says(store.load("cold", &options).expect_err("load"));
    says(store.head("cold", &options).expect_err("head"));
    says(store.contains("cold").expect_err("contains"));
    says(store.get_range("cold", 0..1).expect_err("get_range"));
    says(store.get_ranges("cold", &[0..1, 1..2], &options).expect_err("get_ranges"));
    says(store.read("cold", &options).expect_err("read"));
    says(store.set("cold", "x").expect_err("set"));
    says(store.update("cold", |_| Some(Put::new("x"))).expect_err("update"));
    says(store.delete("cold", Delete::new()).expect_err("delete"));
    says(store.apply(Batch::new().put(key.clone(), Put::new("x"))).expect_err("apply"));
    says(store.write_from("cold", Put::new(""), io::Cursor::new("x")).expect_err("write_from"));
    says(store.keys("").expect_err("keys"));
    says(store.list(ListOptions::new()).next().expect("an answer").expect_err("list"));
    says(store.mark("m").expect_err("mark"));
    says(store.flush().expect_err("flush"));
    says(store.close().expect_err("close"));
    says(store.invalidate("cold").expect_err("invalidate"));
    says(store.sync(&PopulateMissing, &SyncOptions::new()).expect_err("sync"));
    says(store.runtime().open("memory:", tiered::Create::IfAbsent).expect_err("open"));
    let mut many = store.get_many(std::slice::from_ref(&key), &options);
    says(many.pop().expect("one a key").expect_err("get_many"));
    assert!(store.subscribe().next().is_none(), "a feed ends at once");
}

fn nothing_was_written(store: &BlockingStore<TieredStore>) {
    assert_eq!(store.keys("").expect("lists"), [Key::new("warm").expect("valid")]);
}

/// Runs `call` on a thread of its own and fails where it does not end.
fn ends<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(call()).ok());
    let result = receiver.recv_timeout(std::time::Duration::from_mins(1));
    assert!(result.is_ok(), "{what}: does not end, or panicked: {:?}", thread.is_finished());
    result.expect("just looked at")
}

#[test]
fn a_call_from_inside_an_async_task_is_refused_in_every_kind_of_task() {
    let runtime = Runtime::new().expect("starts");
    let store = tiers(&runtime);
    store.set("warm", "w").expect("written");
    store.get("warm").expect("read");
    let one = || Builder::new_current_thread().enable_all().build().expect("starts");
    let many = || Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    one().block_on(async { is_refused_everywhere(&store) });
    many().block_on(async { is_refused_everywhere(&store) });
    let task = store.clone();
    one().block_on(async {
        tokio::spawn(async move { is_refused_everywhere(&task) }).await.expect("no panic");
    });
    let task = store.clone();
    many().block_on(async {
        tokio::spawn(async move { is_refused_everywhere(&task) }).await.expect("no panic");
    });
    let task = store.clone();
    one().block_on(LocalSet::new().run_until(async move {
        tokio::task::spawn_local(async move { is_refused_everywhere(&task) }).await.expect("no panic");
    }));
    // On the store's own runtime: its hooks and adapters run there.
    let task = store.clone();
    let own = runtime.wait(async move {
        let refused = tokio::spawn(async move { is_refused_everywhere(&task) });
        Ok::<_, Error>(refused.await)
    });
    own.expect("waits").expect("no panic");
    nothing_was_written(&store);
}

#[test]
fn a_task_that_has_used_up_its_budget_is_refused_and_a_refusal_takes_nothing_from_it() {
    let store = memory();
    Builder::new_current_thread().enable_all().build().expect("starts").block_on(async {
        let budget = || {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            for _ in 0..300 {
                sender.send(()).expect("open");
            }
            std::iter::from_fn(|| {
                let mut next = std::pin::pin!(receiver.recv());
                let polled =
                    next.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                polled.is_ready().then_some(())
            })
            .count()
        };
        tokio::task::yield_now().await;
        let whole = budget();
        assert!(store.get("k").is_err(), "the budget is used up");
        tokio::task::yield_now().await;
        assert!(store.get("k").is_err());
        assert_eq!(budget(), whole, "the refusal took from the budget of the task");
    });
}

#[test]
fn a_hit_is_answered_inside_a_task_as_well() {
    let store = tiers(&Runtime::new().expect("starts"));
    store.set("warm", "w").expect("written");
    store.get("warm").expect("read");
    Builder::new_current_thread().build().expect("starts").block_on(async {
        assert_eq!(store.get("warm").expect("a hit").expect("there").value(), "w");
    });
}

#[test]
fn a_call_is_answered_on_every_thread_that_may_block() {
    let store = memory();
    store.set("k", "plain").expect("a plain thread");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    let within = store.clone();
    runtime.block_on(async move {
        let blocking = within.clone();
        spawn_blocking(move || blocking.set("k", "spawn_blocking"))
            .await
            .expect("no panic")
            .expect("written");
        let in_place = within.clone();
        let written = tokio::spawn(async move { block_in_place(|| in_place.set("k", "block_in_place")) });
        written.await.expect("no panic").expect("written");
        // The task is one again.
        assert!(within.set("k", "no").is_err());
    });
    // A runtime is current, and nothing is polled.
    let _current = runtime.enter();
    assert_eq!(store.get("k").expect("reads").expect("there").value(), "block_in_place");
    // A thread of `spawn_blocking` of the store's own runtime.
    let own = store.clone();
    let handle =
        store.runtime().wait(async { Ok::<_, Error>(tokio::runtime::Handle::current()) }).expect("waits");
    let read = handle.spawn_blocking(move || own.get("k"));
    store.runtime().wait(async { read.await.expect("no panic") }).expect("reads").expect("there");
}

#[test]
fn a_call_that_the_check_does_not_see_blocks_its_thread_and_ends() {
    let store = memory();
    let hidden = ends("an unconstrained task", move || {
        let runtime = Builder::new_current_thread().build().expect("starts");
        runtime.block_on(unconstrained(async { store.set("k", "v").map(drop) }))
    });
    hidden.expect("written");
    let store = memory();
    let nested = ends("another executor", move || {
        futures_util::future::FutureExt::now_or_never(async { store.set("k", "v").map(drop) })
    });
    nested.expect("does not wait").expect("written");
}

#[test]
fn dropping_stores_listings_and_the_runtime_inside_a_task_neither_panics_nor_waits() {
    for threads in [1, 2] {
        let made = ends("making", move || {
            let runtime = Runtime::with_threads(threads).expect("starts");
            let store = tiers(&runtime);
            store.set("k", "v").expect("written");
            let (listing, body) = (store.list(ListOptions::new()), store.read("k", &ReadOptions::new()));
            (runtime, store, listing, body.expect("reads").expect("there"))
        });
        let dropped = ends("dropping", move || {
            let runtime = Builder::new_current_thread().build().expect("starts");
            std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(async { drop(made) })))
        });
        assert!(dropped.is_ok(), "the last clone was dropped inside a task");
    }
}

#[test]
fn a_current_thread_runtime_and_no_threads_are_refused() {
    let runtime = Builder::new_current_thread().build().expect("starts");
    let refused = Runtime::of(runtime.handle().clone()).expect_err("nothing would drive it");
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.message().contains("multi-thread"));
    assert_eq!(Runtime::with_threads(0).expect_err("none").kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_store_works_on_a_runtime_of_the_program() {
    let tokio = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("starts");
    let runtime = Runtime::of(tokio.handle().clone()).expect("taken");
    let store = tiers(&runtime);
    drop(runtime);
    store.set("k", "v").expect("written");
    assert_eq!(store.get("k").expect("reads").expect("there").value(), "v");
    store.close().expect("closes");
}

#[test]
fn a_reader_that_fails_or_panics_writes_nothing_and_is_the_source() {
    struct Broken(u8);
    impl io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => {
                    buffer.fill(b'x');
                    Ok(buffer.len())
                }
                2 => Err(io::Error::other("the pipe broke")),
                _ => panic!("read after its end"),
            }
        }
    }
    let store = memory();
    let error = store.write_from("k", Put::new(""), Broken(0)).expect_err("breaks");
    assert!(error.chain().contains("the pipe broke"), "{}", error.chain());
    assert_eq!(error.write_outcome(), Outcome::NotApplied);
    let error = store.write_from("k", Put::new(""), Broken(2)).expect_err("panics");
    assert!(error.chain().contains("panicked"), "{}", error.chain());
    assert_eq!(error.write_outcome(), Outcome::NotApplied);
    assert!(store.get("k").expect("reads").is_none());
}

#[test]
fn a_value_is_read_and_written_in_parts_of_any_size() {
    let store = memory();
    let value: Vec<u8> = (0..300_001_u32).map(|index| (index % 251) as u8).collect();
    let written =
        store.write_from("k", Put::new("not looked at"), io::Cursor::new(value.clone())).expect("written");
    let mut body = store.read("k", &ReadOptions::new()).expect("reads").expect("there");
    assert_eq!(body.metadata().version, written.version);
    let (mut read, mut buffer) = (Vec::<u8>::new(), [0; 777]);
    loop {
        let length = body.read(&mut buffer).expect("reads");
        if length == 0 {
            break;
        }
        read.extend(buffer.iter().take(length));
    }
    assert!(read == value, "another value came back");
    let mut part = store.read("k", &ReadOptions::new().range(10..20)).expect("reads").expect("there");
    assert_eq!(part.next_part().expect("reads").expect("bytes"), value.get(10..20).unwrap_or_default());
    assert!(part.next_part().expect("reads").is_none());
}

#[cfg(feature = "redb")]
#[test]
fn listings_and_bodies_can_be_read_past_their_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::new().expect("starts");
    let url = format!("redb:{}", folder.path().join("store").display());
    let store = runtime.open(&url, tiered::Create::IfAbsent).expect("opens");
    let text = "a line\n".repeat(100_000) + "the last one";
    store.set("log", text.clone()).expect("written");
    let body = store.read("log", &ReadOptions::new()).expect("reads").expect("there");
    let lines: io::Result<Vec<String>> = io::BufRead::lines(io::BufReader::new(body)).collect();
    assert_eq!(lines.expect("text").len(), 100_001);
    let mut body = store.read("log", &ReadOptions::new()).expect("reads").expect("there");
    while body.next_part().expect("reads").is_some() {}
    assert!(body.next_part().expect("reads").is_none());
    let mut entries = store.list(ListOptions::new());
    assert_eq!(entries.by_ref().take(100).count(), 1);
    assert_eq!(entries.by_ref().take(100).count(), 0);
    // A loop over a refused listing ends.
    let task = store.clone();
    let refused = Builder::new_current_thread().build().expect("starts");
    assert_eq!(refused.block_on(async { task.list(ListOptions::new()).count() }), 1);
}

#[test]
fn threads_of_a_program_share_a_store() {
    let store = tiers(&Runtime::new().expect("starts"));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let change = |old: Option<&tiered::Entry>| {
                        let count: u32 = old
                            .map_or("0", |old| std::str::from_utf8(old.value()).unwrap_or("0"))
                            .parse()
                            .unwrap_or(0);
                        Some(Put::new((count + 1).to_string()))
                    };
                    store.update("counter", change).expect("updated");
                }
            });
        }
    });
    assert_eq!(store.get("counter").expect("reads").expect("there").value(), "100");
}

#[test]
fn tiers_are_synced_watched_and_flushed_without_async() {
    let runtime = Runtime::new().expect("starts");
    let backend = MemoryStore::new();
    runtime.wait(backend.set("before", "1")).expect("written");
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone())
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .declare_sole_writer();
    let store = BlockingStore::new(runtime.wait(builder.build()).expect("builds"), runtime.clone());
    let mut events = store.subscribe();
    let report = store.sync(&PopulateMissing, &SyncOptions::new()).expect("syncs");
    assert_eq!(report.copied, 1);
    let written = store.set("k", "v").expect("written");
    store.durable(&written.receipt, CommitLevel::Committed).expect("flushed");
    assert_eq!(runtime.wait(backend.get("k")).expect("reads").expect("there").value(), "v");
    assert!(events.any(|event| matches!(event, Event::Written { .. })), "the feed waits for events");
    let deleted = store.delete("k", Delete::new().report_existed()).expect("deleted");
    assert_eq!(deleted.existed, Existed::Yes);
    let shared: Arc<dyn Store> = Arc::new(store.inner().clone());
    assert!(BlockingStore::new(shared, runtime).get("k").expect("reads").is_none());
    store.close().expect("closes");
    assert_eq!(store.get("other").expect_err("closed").kind(), ErrorKind::Closed);
}
