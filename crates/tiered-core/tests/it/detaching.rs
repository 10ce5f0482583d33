//! Taking a stack apart while its backend stays open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::Scope;
use tiered_core::{
    AsStore, Error, ErrorKind, MemoryStore, Result, Store, StoreExt as _, TieredStore, VolatileJournal,
    WritePolicy,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::scripted::{Trouble, key, scripted};

async fn behind(backend: impl AsStore) -> TieredStore {
    let builder = TieredStore::builder(MemoryStore::new(), backend).write_policy(WritePolicy::WriteBehind);
    builder.journal(VolatileJournal::new()).build().await.expect("builds")
}

/// A backend whose writes take a hundred seconds, and whose flushes wait for a permit.
#[derive(Debug)]
struct Slow(Semaphore);

#[async_trait]
impl Interceptor for Slow {
    async fn before_write(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(100)).await;
        Ok(())
    }

    async fn flush(&self, inner: &dyn Store) -> Result<()> {
        self.0.acquire().await.expect("never closed").forget();
        inner.flush().await
    }

    async fn close(&self, _: &dyn Store) -> Result<()> {
        // What it holds is looked at afterwards.
        Ok(())
    }
}

/// A stack that waits ten seconds for the calls under way when it ends. Detaching it has begun, and has flushed what came before
/// a write that has begun as well.
async fn with_a_slow_write()
-> (TieredStore, Intercept<Slow, MemoryStore>, JoinHandle<Result<()>>, JoinHandle<Result<()>>) {
    let back = Intercept::new(MemoryStore::new(), Slow(Semaphore::new(0)));
    let builder = TieredStore::builder(MemoryStore::new(), back.clone());
    let store = builder.close_deadline(Duration::from_secs(10)).build().await.expect("builds");
    let spawn = |call: fn(TieredStore) -> BoxFuture<'static, Result<()>>| {
        Handle::current().spawn(call(store.clone()))
    };
    let detaching = spawn(|store| Box::pin(async move { store.detach().await.map(drop) }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let write = spawn(|store| Box::pin(async move { store.set("slow", "v").await.map(drop) }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    back.0.add_permits(100);
    tokio::time::sleep(Duration::from_secs(1)).await;
    (store, back, write, detaching)
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_backend_which_stays_open_and_is_free() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
        let back = MemoryStore::new();
        let builder = TieredStore::builder(MemoryStore::new(), back.clone()).write_policy(policy);
        let journal = policy == WritePolicy::WriteBehind;
        let builder = if journal { builder.journal(VolatileJournal::new()) } else { builder };
        let store = builder.build().await.expect("builds");
        store.set("a", "1").await.expect("stored");
        let left = store.detach().await.expect("detached");
        assert_eq!(left.get("a").await.expect("reads").expect("is there").value(), "1", "{policy}");
        assert!(back.claim(&Scope::Whole).await.is_ok(), "{policy}");
        assert_eq!(store.get("a").await.expect_err("closed").kind(), ErrorKind::Closed, "{policy}");
        assert_eq!(store.detach().await.expect_err("closed").kind(), ErrorKind::Closed, "{policy}");
        store.close().await.expect("closed already");
        assert!(back.get("a").await.is_ok(), "{policy}: closing it again leaves the backend open");
    }
}

#[tokio::test(start_paused = true)]
async fn pending_writes_are_flushed_first_while_calls_go_on() {
    let back = scripted();
    back.trouble(&key("k0"), Trouble::Slow(Duration::from_secs(20)));
    let store = behind(back.clone()).await;
    for index in 0..50 {
        store.set(format!("k{index}").as_str(), "v").await.expect("stored");
    }
    let detaching = Handle::current().spawn({
        let store = store.clone();
        async move { store.detach().await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    store.set("later", "v").await.expect("calls go on");
    detaching.await.expect("runs").expect("detached");
    assert_eq!(back.inner().keys("").await.expect("lists").len(), 51);
}

/// Refuses every write while it is told to.
#[derive(Debug)]
struct Refusing(AtomicBool);

#[async_trait]
impl Interceptor for Refusing {
    async fn before_write(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unsupported, "the table is read-only"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_store_with_a_parked_write_stays_as_it_is() {
    let back = Intercept::new(MemoryStore::new(), Refusing(AtomicBool::new(false)));
    let store = behind(back.clone()).await;
    back.0.store(true, Ordering::Release);
    store.set("a", "1").await.expect("acknowledged");
    store.detach().await.expect_err("it is parked, and would be lost");
    assert_eq!(store.get("a").await.expect("open").expect("shown").value(), "1");
    back.0.store(false, Ordering::Release);
    for parked in store.parked() {
        store.retry_parked(parked.sequence()).expect("is parked");
    }
    let left = store.detach().await.expect("detached");
    assert_eq!(left.get("a").await.expect("reads").expect("is there").value(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_calls_do_not_end_in_time_is_open_again() {
    let (store, back, write, detaching) = with_a_slow_write().await;
    assert_eq!(store.get("a").await.expect_err("refused meanwhile").kind(), ErrorKind::Closed);
    let error = detaching.await.expect("runs").expect_err("a write is under way");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    store.set("a", "1").await.expect("calls go on");
    write.await.expect("runs").expect("stored");
    store.detach().await.expect("detached");
    assert!(back.inner().contains("a").await.expect("reads"));
}

#[tokio::test(start_paused = true)]
async fn closing_is_no_part_of_an_attempt_to_detach_that_fails() {
    let (store, _, write, detaching) = with_a_slow_write().await;
    let begun = Instant::now();
    store.close().await.expect("closes");
    assert!(begun.elapsed() > Duration::from_secs(15), "it waited for the attempt, then for the write");
    detaching.await.expect("runs").expect_err("a write was under way");
    assert_eq!(store.set("a", "1").await.expect_err("closed").kind(), ErrorKind::Closed);
    write.await.expect("runs").ok();
}

#[tokio::test]
async fn a_store_that_the_journal_of_a_stack_above_counts_in_is_not_detached() {
    let back = MemoryStore::new();
    let above = "+000000000000000000000000000000ff";
    back.set_mark("tiered.journals", Some(above.into())).await.expect("set");
    let builder = TieredStore::builder(MemoryStore::new(), back.clone()).beneath_journal();
    let store = builder.build().await.expect("builds");
    assert_eq!(store.detach().await.expect_err("counted in").kind(), ErrorKind::Locked);
    store.set("a", "1").await.expect("open");
    back.set_mark("tiered.journals", None).await.expect("set");
    store.detach().await.expect("detached");
}

#[tokio::test]
async fn a_store_that_keeps_writes_in_its_frontend_is_not_detached() {
    let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    let store = builder.write_policy(WritePolicy::FrontendOnly).build().await.expect("builds");
    store.set("a", "1").await.expect("stored");
    assert_eq!(store.detach().await.expect_err("would lose it").kind(), ErrorKind::Unsupported);
    assert!(store.contains("a").await.expect("open"));
}
