//! What a run leaves behind, and what it survives.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tiered_conformance::{Ending, Factory, RunOptions, cases, run};
use tiered_core::{
    Capabilities, Delete, Deleted, Durability, Error, ErrorKind, Key, ListOptions, ListStream, MemoryStore,
    Put, Read, ReadOptions, Result, Sharing, Store, Written,
};

#[tokio::test]
async fn the_data_of_the_user_stay_as_they_are() {
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
}

#[derive(Debug)]
struct Troubled {
    inner: MemoryStore,
    trouble: Trouble,
    capabilities: Capabilities,
}

#[async_trait]
impl Store for Troubled {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    #[expect(clippy::panic, reason = "that is what is tested")]
    async fn load(&self, _key: &Key, _options: &ReadOptions) -> Result<Read> {
        match self.trouble {
            Trouble::Panics => panic!("this store panics when it is read"),
            Trouble::Hangs => std::future::pending().await,
        }
    }

    async fn put(&self, key: &Key, put: Put) -> Result<Written> {
        self.inner.put(key, put).await
    }

    async fn delete(&self, key: &Key, delete: Delete) -> Result<Deleted> {
        self.inner.delete(key, delete).await
    }

    fn list(&self, options: ListOptions) -> ListStream {
        self.inner.list(options)
    }
}

fn troubled(trouble: Trouble) -> (MemoryStore, impl Factory) {
    let inner = MemoryStore::new();
    let capabilities = Capabilities::new("troubled", Durability::Volatile, Sharing::Exclusive);
    let store: Arc<dyn Store> = Arc::new(Troubled { inner: inner.clone(), trouble, capabilities });
    let factory = move || {
        let store = Arc::clone(&store);
        async move { store }
    };
    (inner, factory)
}

#[tokio::test]
async fn a_panic_fails_its_case_and_the_others_go_on() {
    let (inner, factory) = troubled(Trouble::Panics);
    let report = run(factory, RunOptions::new()).await;
    assert_eq!(report.cases.len(), cases().count(), "every case is reported");
    let whole = report.case("read_whole").map(|case| &case.ending);
    let told = matches!(whole, Some(Ending::Failed(why)) if why.contains("[read.whole] the store panicked: this store"));
    assert!(told, "{whole:?}");
    assert_eq!(report.case("list_limit").map(|case| &case.ending), Some(&Ending::Passed), "it reads nothing");
    assert!(inner.snapshot().is_empty(), "the keys of failed cases are removed as well");
}

#[tokio::test(start_paused = true)]
async fn a_hang_fails_its_case_at_the_deadline() {
    let (inner, factory) = troubled(Trouble::Hangs);
    let report = run(factory, RunOptions::new().deadline(Duration::from_secs(3))).await;
    let whole = report.case("read_whole").map(|case| &case.ending);
    let told = matches!(whole, Some(Ending::Failed(why)) if why.contains("did not end within 3 s"));
    assert!(told, "{whole:?}");
    assert!(inner.snapshot().is_empty(), "the keys of failed cases are removed as well");
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
