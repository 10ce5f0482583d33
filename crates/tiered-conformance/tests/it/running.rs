//! What a run leaves behind, and what it survives.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{
    DerivedReads, Ending, Factory, Fault, FaultStore, Faults, Intercept, Interceptor, Report, RunOptions,
    cases, run,
};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::{
    Action, Batch, Capabilities, Delete, Deleted, Durability, Error, ErrorKind, Feature, Key, MemoryStore,
    Put, Read, ReadOptions, Result, Sharing, Store, StoreExt as _,
};

#[tokio::test]
async fn the_suite_leaves_existing_keys_unchanged() {
    let store = MemoryStore::new();
    for name in ["a", "conformance", "conformance-", "conformance.", "k", "~"] {
        store.put(&Key::new(name).expect("valid"), Put::new("the user's")).await.expect("written");
    }
    let before = store.snapshot();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let report = run(
        move || {
            let store = Arc::clone(&shared);
            async move { store }
        },
        RunOptions::new(),
    )
    .await;
    assert!(report.is_ok(), "{report}");
    assert_eq!(store.snapshot(), before, "nothing is left behind, and nothing else was touched");
}

/// What a store does that cannot even be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Panics,
    Hangs,
    /// Blocks the thread that calls, as a lock that is never released does.
    Blocks,
    /// The same when deleting, which removing the keys of a case needs.
    BlocksDeletes,
}

fn block() -> ! {
    loop {
        std::thread::park();
    }
}

#[derive(Debug)]
struct Troubled(Trouble);

#[async_trait]
impl Interceptor for Troubled {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }

    #[expect(clippy::panic, reason = "that is what is tested")]
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        match self.0 {
            Trouble::Panics => panic!("this store panics when it is read"),
            Trouble::Hangs => std::future::pending().await,
            Trouble::Blocks => block(),
            Trouble::BlocksDeletes => inner.load(key, options).await,
        }
    }

    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        if self.0 == Trouble::BlocksDeletes {
            block();
        }
        inner.delete(key, delete).await
    }

    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let deletes = batch.operations().iter().any(|(_, action)| matches!(action, Action::Delete(_)));
        if self.0 == Trouble::BlocksDeletes && deletes {
            block();
        }
        inner.apply(batch).await
    }
}

fn troubled(trouble: Trouble) -> (MemoryStore, impl Factory) {
    let inner = MemoryStore::new();
    let plain =
        inner.clone().declaring(|_| Capabilities::new("troubled", Durability::Volatile, Sharing::Exclusive));
    let store: Arc<dyn Store> = Arc::new(Intercept::new(plain, Troubled(trouble)));
    let factory = move || {
        let store = Arc::clone(&store);
        async move { store }
    };
    (inner, factory)
}

#[tokio::test]
async fn a_panic_fails_its_case_and_the_other_cases_run() {
    let (inner, factory) = troubled(Trouble::Panics);
    let report = run(factory, RunOptions::new()).await;
    assert_eq!(report.cases.len(), cases().count(), "every case is reported");
    let whole = report.case("read_whole").map(|case| &case.ending);
    let told = matches!(whole, Some(Ending::Failed(why)) if why.contains("[read.whole] the store panicked: this store"));
    assert!(told, "{whole:?}");
    assert_eq!(report.case("list_limit").map(|case| &case.ending), Some(&Ending::Passed), "it reads nothing");
    assert!(inner.snapshot().is_empty(), "the keys of failed cases are removed as well");
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn failure<'r>(report: &'r Report, case: &str) -> &'r str {
    match report.case(case).map(|case| &case.ending) {
        Some(Ending::Failed(why)) => why,
        other => panic!("{case}: {other:?}"),
    }
}

#[tokio::test]
async fn a_hang_fails_its_case_at_the_deadline_and_the_other_cases_run() {
    let (inner, factory) = troubled(Trouble::Hangs);
    let options = RunOptions::new().deadline(Duration::from_millis(300));
    let report = run(factory, options.only(["read_whole", "list_limit"])).await;
    assert!(failure(&report, "read_whole").contains("[read.whole] the case did not end within 0.3 s"));
    assert_eq!(report.case("list_limit").map(|case| &case.ending), Some(&Ending::Passed), "it reads nothing");
    assert!(inner.snapshot().is_empty(), "the keys of failed cases are removed as well");
}

/// On one thread, which the store blocks: only what runs outside of the runtime can end the case.
#[tokio::test]
async fn a_blocked_thread_fails_its_case_at_the_deadline_and_the_other_cases_run() {
    let (inner, factory) = troubled(Trouble::Blocks);
    let options = RunOptions::new().deadline(Duration::from_millis(300));
    let report = run(factory, options.only(["read_whole", "race_reads", "list_limit"])).await;
    for case in ["read_whole", "race_reads"] {
        let why = failure(&report, case);
        assert!(why.contains("[read.whole] the case did not end within 0.3 s"), "{case}: {why}");
    }
    assert_eq!(report.case("list_limit").map(|case| &case.ending), Some(&Ending::Passed), "it reads nothing");
    assert!(inner.snapshot().is_empty(), "the keys of blocked cases are removed as well");
}

#[tokio::test]
async fn a_blocking_removal_of_keys_ends_at_its_limit() {
    let (_, factory) = troubled(Trouble::BlocksDeletes);
    let options = RunOptions::new().deadline(Duration::from_millis(300));
    let report = run(factory, options.only(["delete_existing", "read_whole"])).await;
    for case in ["delete_existing", "read_whole"] {
        let why = failure(&report, case);
        assert!(why.contains("removing the keys of the case took more than 0.3 s"), "{case}: {why}");
    }
    assert!(failure(&report, "delete_existing").starts_with("[delete.existed] the case did not end within"));
}

#[test]
fn a_test_of_the_macro_ends_at_the_deadline_although_its_store_blocks() {
    let limit = Duration::from_millis(300);
    let ended = std::panic::catch_unwind(|| {
        tiered_conformance::prove_within(limit, "read_whole", || async {
            tiered_conformance::share(troubled(Trouble::Blocks).1)
        });
    });
    let why = ended.expect_err("the case fails");
    let why = why.downcast_ref::<String>().expect("a message");
    assert!(
        why.starts_with("read_whole of troubled: [read.whole] the case did not end within 0.3 s"),
        "{why}"
    );
    // A factory that blocks is no store at all, and ends as well.
    let ended = std::panic::catch_unwind(|| {
        tiered_conformance::prove_within(limit, "read_whole", || async {
            // Blocks, and has a type.
            std::thread::scope(|scope| scope.spawn(|| block()).join()).ok();
            tiered_conformance::share(troubled(Trouble::Blocks).1)
        });
    });
    let why = ended.expect_err("the case fails");
    assert_eq!(why.downcast_ref::<String>().expect("a message"), "read_whole did not end within 0.3 s");
}

/// A factory whose store cannot be opened.
struct Shut;

#[async_trait]
impl Factory for Shut {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Err(Error::new(ErrorKind::Locked, "another process holds the place"))
    }
}

#[tokio::test]
async fn a_store_that_does_not_open_fails_every_case() {
    let report = run(Shut, RunOptions::new()).await;
    assert_eq!((report.failed(), report.passed()), (cases().count(), 0));
    let last = report.to_string().lines().last().map(str::to_owned);
    assert_eq!(last, Some(format!("0 passed, {} failed, 0 skipped", cases().count())));
}

/// A store that answers that it has refused something has not done it.
#[tokio::test(start_paused = true)]
async fn a_repeated_batch_does_not_apply_refused_operations() {
    let inner = MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch));
    let faults = Arc::new(Faults::new(1).with(Fault::Duplicate, 1));
    let store = FaultStore::new("twice", Arc::new(inner.clone()), faults);
    let key = Key::new("k").expect("valid");
    inner.put(&key, Put::new("old")).await.expect("written");
    let batch = Batch::new().delete(key.clone(), Delete::new()).put(key.clone(), Put::new("new").if_absent());
    let outcomes = store.apply(batch.best_effort()).await.expect("answered");
    assert!(outcomes[1].is_err(), "it is there: {outcomes:?}");
    let left = inner.get(&key).await.expect("reads");
    assert!(left.is_none_or(|entry| entry.value() == "old"), "what was refused was done after all");
}
