//! A backend knows its journal: nothing writes it without seeing what the journal holds.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tiered_core::adapter::Scope;
use tiered_core::ownership::JournalsSeen;
use tiered_core::ownership::{self, JournalId};
use tiered_core::settings::OnPark;
use tiered_core::{
    ErrorKind, MemoryStore, ParkReason, Put, Result, Store, StoreExt as _, TieredBuilder, TieredStore,
    WritePolicy,
};

use crate::engine::{journal, open, read};
use crate::key;
use crate::picky::{Picky, picky};

fn without_journal(back: &Picky) -> TieredBuilder {
    TieredStore::builder(MemoryStore::new(), back.clone())
}

/// The only journal that the backend names.
async fn named(back: &Picky) -> JournalId {
    let all = ownership::journals(back).await.expect("reads");
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one")
}

/// A journal with a hundred acknowledged writes that never reached the backend, after its process has died.
async fn left_behind(folder: &Path, back: &Picky) {
    back.down.store(true, Ordering::Relaxed);
    let store = open(folder, back, OnPark::Auto).await;
    for index in 0..100 {
        store.put(&key(&format!("k{index:02}")), Put::new("journaled")).await.expect("acknowledged");
    }
    drop(store);
    back.down.store(false, Ordering::Relaxed);
}

fn refused(built: Result<TieredStore>, journal: JournalId) {
    let error = built.expect_err("the journal's writes would not be seen");
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.message().contains(&journal.to_string()), "{error}");
    assert!(error.message().contains("abandon"), "{error}");
}

#[tokio::test]
async fn a_backend_is_not_opened_for_writing_without_its_journal() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    left_behind(folder.path(), &back).await;
    let journal = named(&back).await;
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround] {
        refused(without_journal(&back).write_policy(policy).build().await, journal);
    }
    let other = tempfile::tempdir().expect("a folder");
    let behind = without_journal(&back).write_policy(WritePolicy::WriteBehind);
    refused(behind.journal(crate::engine::journal(other.path()).await).build().await, journal);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.close().await.expect("drains");
    assert_eq!(ownership::journals(&back).await.expect("reads"), [], "an empty journal leaves the mark");
    let store = without_journal(&back).build().await.expect("nothing waits any more");
    assert_eq!(read(&store, "k42").await.expect("flushed"), "journaled");
}

#[tokio::test]
async fn a_store_that_never_writes_reports_the_missing_journal() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let local = || without_journal(&back).write_policy(WritePolicy::FrontendOnly);
    let store = local().build().await.expect("builds");
    assert_eq!(store.guarantees().journals, JournalsSeen::All);
    drop(store);
    left_behind(folder.path(), &back).await;
    let store = local().build().await.expect("it writes nothing");
    assert_eq!(store.guarantees().journals, JournalsSeen::NotAll);
}

#[tokio::test]
async fn writes_of_an_abandoned_journal_are_parked() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    left_behind(folder.path(), &back).await;
    let journal = named(&back).await;
    assert!(ownership::abandon(&back, journal).await.expect("abandoned"));
    assert!(!ownership::abandon(&back, journal).await.expect("nothing to give up"));
    let store = without_journal(&back).build().await.expect("nothing is waited for");
    store.put(&key("k42"), Put::new("newer")).await.expect("written");
    drop(store);
    for round in 0..2 {
        let store = open(folder.path(), &back, OnPark::Auto).await;
        assert_eq!(store.parked().len(), 100, "round {round}");
        assert!(store.parked().iter().all(|parked| parked.reason == ParkReason::Abandoned));
        store.flush().await.expect_err("parked");
        assert_eq!(back.value("k42").await.expect("there"), "newer", "nothing old comes back");
        assert_eq!(named(&back).await, journal, "it owns the backend again");
        drop(store);
    }
    let store = open(folder.path(), &back, OnPark::Auto).await;
    for parked in store.parked() {
        let retried = parked.records.iter().any(|(_, record)| record.key == key("k07"));
        if retried {
            store.retry_parked(parked.sequence()).expect("parked");
        } else {
            store.drop_parked(parked.sequence()).await.expect("dropped");
        }
    }
    store.flush().await.expect("decided");
    assert_eq!(back.value("k07").await.expect("retried"), "journaled");
    assert_eq!(back.value("k42").await.expect("there"), "newer");
    store.close().await.expect("closes");
}

/// Waits until so many writes are parked.
async fn until_parked(store: &TieredStore, count: u64) {
    let all = async {
        while store.stats().parked != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all).await.expect("parked");
}

/// The backend does not take the mark of a journal that was given up. The journal knows what is parked, all the same.
#[tokio::test]
async fn a_write_retried_before_the_mark_is_read_is_not_parked_again() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    left_behind(folder.path(), &back).await;
    let journal = named(&back).await;
    assert!(ownership::abandon(&back, journal).await.expect("abandoned"));
    let [reads_fail, writes_fail] = &back.marks_down;
    writes_fail.store(true, Ordering::Relaxed);
    let refused = TieredStore::builder(MemoryStore::new(), back.clone())
        .write_policy(WritePolicy::WriteBehind)
        .journal(crate::engine::journal(folder.path()).await);
    assert_eq!(refused.build().await.expect_err("no mark").kind(), ErrorKind::Unavailable);
    reads_fail.store(true, Ordering::Relaxed);
    writes_fail.store(false, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    assert_eq!(store.parked().len(), 100, "the journal's list says so");
    for unit in store.parked() {
        store.retry_parked(unit.sequence()).expect("parked");
    }
    reads_fail.store(false, Ordering::Relaxed);
    store.flush().await.expect("retried, and not parked again");
    assert_eq!(back.value("k07").await.expect("retried"), "journaled");
    store.close().await.expect("closes");
}

/// The backend says late that the journal was given up, and then does not take its mark for a while.
#[tokio::test]
async fn a_write_retried_by_hand_is_not_parked_again() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    left_behind(folder.path(), &back).await;
    let journal = named(&back).await;
    assert!(ownership::abandon(&back, journal).await.expect("abandoned"));
    let [reads_fail, writes_fail] = &back.marks_down;
    reads_fail.store(true, Ordering::Relaxed);
    writes_fail.store(true, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.put(&key("early"), Put::new("before it is known")).await.expect("acknowledged");
    reads_fail.store(false, Ordering::Relaxed);
    until_parked(&store, 101).await;
    let retried =
        store.parked().into_iter().find(|unit| unit.records[0].1.key == key("k07")).expect("parked");
    store.retry_parked(retried.sequence()).expect("parked");
    store.put(&key("late"), Put::new("before the mark is there")).await.expect("acknowledged");
    assert_eq!(store.stats().parked, 100);
    // Another process, which sees no mark yet.
    back.put(&key("late"), Put::new("of another")).await.expect("written");
    writes_fail.store(false, Ordering::Relaxed);
    until_parked(&store, 101).await;
    assert_eq!(named(&back).await, journal, "it owns the backend again");
    for unit in store.parked() {
        assert_ne!(unit.records[0].1.key, key("k07"), "parked again");
        store.drop_parked(unit.sequence()).await.expect("dropped");
    }
    store.flush().await.expect("decided");
    assert_eq!(back.value("k07").await.expect("retried"), "journaled");
    assert_eq!(back.value("late").await.expect("there"), "of another", "what was written meanwhile stays");
    store.close().await.expect("closes");
}

/// Turns the journal's segments into those of a version that knew no marks.
fn made_before_marks(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().ends_with(".segment") {
            let mut bytes = std::fs::read(entry.path()).expect("reads");
            bytes.get_mut(16..20).expect("a header").copy_from_slice(&1u32.to_le_bytes());
            std::fs::write(entry.path(), bytes).expect("writes");
        }
    }
}

#[tokio::test]
async fn a_journal_older_than_marks_is_adopted_once() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    left_behind(folder.path(), &back).await;
    let journal = named(&back).await;
    drop(crate::engine::journal(folder.path()).await);
    made_before_marks(folder.path());
    ownership::abandon(&back, journal).await.expect("as if it had never been named");
    back.down.store(true, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    assert_eq!((store.parked().len(), store.stats().backlog), (0, 100));
    assert_eq!(named(&back).await, journal);
    // The flush waits for the backend: it ends with the store.
    while store.stats().flush_retries == 0 {
        tokio::task::yield_now().await;
    }
    drop(store);
    back.down.store(false, Ordering::Relaxed);
    ownership::abandon(&back, journal).await.expect("abandoned");
    let store = open(folder.path(), &back, OnPark::Auto).await;
    assert_eq!(store.parked().len(), 100, "it knows now that it was named");
}

#[tokio::test]
async fn a_stack_that_another_journal_names_is_not_opened_alone() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let outer = |inner: TieredStore, path: std::path::PathBuf| async move {
        let journal = journal(&path).await;
        TieredStore::builder(MemoryStore::new(), inner)
            .write_policy(WritePolicy::WriteBehind)
            .journal(journal)
            .build()
            .await
            .expect("builds")
    };
    let inner = without_journal(&back).build().await.expect("builds");
    let store = outer(inner, folder.path().to_owned()).await;
    back.down.store(true, Ordering::Relaxed);
    store.put(&key("k"), Put::new("journaled")).await.expect("acknowledged");
    drop(store);
    back.down.store(false, Ordering::Relaxed);
    // The outer store's tasks hold the inner one for a moment.
    while back.claim(&Scope::Whole).await.is_err() {
        tokio::task::yield_now().await;
    }
    let above = named(&back).await;
    refused(without_journal(&back).build().await, above);
    let inner = without_journal(&back).beneath_journal().build().await.expect("as its backend");
    let store = outer(inner, folder.path().to_owned()).await;
    store.flush().await.expect("drains");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "journaled");
    store.close().await.expect("closes");
    assert_eq!(ownership::journals(&back).await.expect("reads"), []);
}
