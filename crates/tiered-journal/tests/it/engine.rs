//! Write-behind over the journal: restarts, outages, refusals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tiered_core::hooks;
use tiered_core::settings::OnPark;
use tiered_core::{
    Action, Batch, CommitLevel, Delete, Durability, Entry, Error, ErrorKind, Event, Feature, ListOptions,
    MemoryStore, Put, Store, StoreExt as _, TieredStore, WritePolicy,
};
use tiered_journal::{FileJournal, JournalConfig};

use crate::key;
use crate::picky::{self, Picky, picky};

/// A store that was dropped leaves its journal when its tasks have noticed.
pub(crate) async fn journal(folder: &Path) -> FileJournal {
    loop {
        match JournalConfig::new(folder).segment_size(64 << 10).open().await {
            Err(error) if error.kind() == ErrorKind::Locked => tokio::task::yield_now().await,
            opened => break opened.expect("opens"),
        }
    }
}

pub(crate) async fn open(folder: &Path, back: &Picky, on_park: OnPark) -> TieredStore {
    let journal = journal(folder).await;
    TieredStore::builder(MemoryStore::new(), back.clone())
        .write_policy(WritePolicy::WriteBehind)
        .on_park(on_park)
        .journal(journal)
        .build()
        .await
        .expect("builds")
}

pub(crate) async fn read(store: &TieredStore, name: &str) -> Option<Bytes> {
    store.get(&key(name)).await.expect("reads").map(Entry::into_value)
}

async fn count(store: &dyn Store) -> usize {
    use futures_util::TryStreamExt as _;
    store.list(ListOptions::new()).try_fold(0, |count, _| async move { Ok(count + 1) }).await.expect("lists")
}

#[tokio::test]
async fn acknowledged_writes_survive_a_killed_process() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    back.down.store(true, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    assert_eq!(store.guarantees().durability, Durability::PowerLoss);
    for index in 0..50 {
        let written = store.put(&key(&format!("k{:02}", index % 20)), Put::new(format!("{index}"))).await;
        assert_eq!(written.expect("acknowledged").level, CommitLevel::Journaled);
    }
    let batch =
        (0..700).fold(Batch::new(), |batch, index| batch.put(key(&format!("b{index:03}")), Put::new("x")));
    store.apply(batch).await.expect("acknowledged");
    store.delete(&key("k01"), Delete::new()).await.expect("acknowledged");
    drop(store);
    for round in 0..3 {
        let store = open(folder.path(), &back, OnPark::Auto).await;
        assert_eq!(store.stats().backlog, 751, "round {round}");
        assert_eq!(read(&store, "k05").await.expect("pending"), "45");
        assert_eq!(read(&store, "k01").await, None);
        assert_eq!(count(&store).await, 719);
        assert_eq!(back.value("k05").await, None);
    }
    back.down.store(false, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.flush().await.expect("drains");
    assert_eq!(back.value("k05").await.expect("flushed"), "45");
    assert_eq!(back.value("k01").await, None);
    assert_eq!(count(back.inner()).await, 719);
    store.close().await.expect("closes");
    let store = open(folder.path(), &back, OnPark::Auto).await;
    assert_eq!(store.stats().backlog, 0, "nothing is repeated after a clean close");
}

#[tokio::test]
async fn on_park_halt_a_refused_write_stops_the_flush() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let store = open(folder.path(), &back, OnPark::Auto).await;
    let mut events = store.subscribe();
    back.down.store(true, Ordering::Relaxed);
    for index in 0..30 {
        store.put(&key(&format!("before{index}")), Put::new("1")).await.expect("acknowledged");
    }
    let bad = Batch::new().put(key("with-bad"), Put::new("1")).put(key("bad"), Put::new("1"));
    let mut outcomes = store.apply(bad).await.expect("acknowledged");
    let after = store.put(&key("after"), Put::new("1")).await.expect("acknowledged");
    assert!(store.parked().is_empty(), "an outage parks nothing");
    back.down.store(false, Ordering::Relaxed);
    let error = store.flush().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{}", error.chain());
    for index in 0..30 {
        assert!(back.value(&format!("before{index}")).await.is_some());
    }
    assert_eq!((back.value("with-bad").await, back.value("after").await), (None, None), "a prefix");
    let parked = store.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].records.len(), 2, "a batch is parked as a whole");
    assert!(parked[0].reason.to_string().contains("no such keys"), "{}", parked[0].reason);
    assert_eq!(read(&store, "bad").await.expect("acknowledged, and shown"), "1");
    let Some(Ok(tiered_core::Applied::Put(written))) = outcomes.pop() else { panic!("a put") };
    let refused = written.receipt.durable(CommitLevel::Committed).await.expect_err("parked");
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    let seen = loop {
        if let Event::Parked { key } = events.next().await.expect("open") {
            break key;
        }
    };
    assert_eq!(seen.as_str(), "with-bad");
    // Still so after a restart, which tries again.
    drop(store);
    drop(events);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.flush().await.expect_err("refused");
    let sequence = store.parked()[0].sequence();
    store.retry_parked(sequence).expect("is in line");
    store.flush().await.expect_err("refused again");
    back.strict.store(false, Ordering::Relaxed);
    store.retry_parked(sequence).expect("is in line");
    store.flush().await.expect("done");
    assert_eq!(back.value("bad").await.expect("flushed"), "1");
    assert_eq!(back.value("after").await.expect("flushed"), "1");
    assert_eq!((store.stats().parked, store.stats().backlog), (0, 0));
    assert!(store.retry_parked(sequence).is_err());
    after.receipt.durable(CommitLevel::Committed).await.expect_err("its store was dropped");
}

#[tokio::test]
async fn dropping_a_parked_write_leaves_the_backends_value() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    back.strict.store(false, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.put(&key("bad"), Put::new("old")).await.expect("acknowledged");
    store.flush().await.expect("drains");
    back.strict.store(true, Ordering::Relaxed);
    let written = store.put(&key("bad"), Put::new("new")).await.expect("acknowledged");
    store.put(&key("after"), Put::new("1")).await.expect("acknowledged");
    store.flush().await.expect_err("refused");
    assert_eq!(read(&store, "bad").await.expect("shown"), "new");
    store.drop_parked(store.parked()[0].sequence()).await.expect("dropped");
    assert_eq!(read(&store, "bad").await.expect("the backend's"), "old");
    let error = written.receipt.durable(CommitLevel::Committed).await.expect_err("dropped");
    assert!(error.to_string().contains("dropped"), "{error}");
    store.flush().await.expect("goes on");
    assert_eq!(back.value("after").await.expect("flushed"), "1");
    // As after a crash: what was dropped does not come back.
    drop(store);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.flush().await.expect("nothing is refused");
    assert_eq!(read(&store, "bad").await.expect("the backend's"), "old");
}

#[tokio::test]
async fn on_park_continue_a_later_write_replaces_a_parked_one() {
    for atomic in [true, false] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(atomic));
        let store = open(folder.path(), &back, OnPark::Skip).await;
        for name in ["a", "bad1", "b", "bad2", "c"] {
            store.put(&key(name), Put::new("1")).await.expect("acknowledged");
        }
        let error = store.flush().await.expect_err("two are parked");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        for name in ["a", "b", "c"] {
            assert_eq!(back.value(name).await.expect("flushed"), "1");
        }
        let names = |store: &TieredStore| -> Vec<String> {
            let parked = store.parked().into_iter().flat_map(|parked| parked.records);
            parked.map(|(_, record)| record.key.as_str().to_owned()).collect()
        };
        assert_eq!(names(&store), ["bad1", "bad2"]);
        // Parked writes outlive the process, and are shown.
        drop(store);
        let store = open(folder.path(), &back, OnPark::Skip).await;
        assert_eq!(names(&store), ["bad1", "bad2"]);
        assert_eq!(read(&store, "bad1").await.expect("shown"), "1");
        let again = store.put(&key("bad1"), Put::new("2")).await.expect("acknowledged");
        again.receipt.durable(CommitLevel::Committed).await.expect_err("refused as well");
        assert_eq!(store.parked().len(), 3);
        // The backend becomes less picky: of two parked writes of a key the later one counts.
        back.strict.store(false, Ordering::Relaxed);
        store.retry_parked(store.parked()[0].sequence()).expect("is in line");
        store.flush().await.expect_err("others are parked");
        assert_eq!(back.value("bad1").await, None, "superseded");
        store.put(&key("bad1"), Put::new("3")).await.expect("acknowledged");
        store.retry_parked(store.parked()[0].sequence()).expect("is in line");
        store.flush().await.expect("nothing is parked");
        assert_eq!(back.value("bad1").await.expect("flushed"), "3");
        assert_eq!(back.value("bad2").await.expect("flushed"), "1");
        assert_eq!((store.stats().parked, store.stats().backlog), (0, 0));
        store.close().await.expect("closes");
        let store = open(folder.path(), &back, OnPark::Skip).await;
        assert!(store.parked().is_empty());
        assert_eq!(read(&store, "bad1").await.expect("flushed"), "3");
    }
}

#[tokio::test]
async fn a_journal_is_bound_to_its_backend() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.close().await.expect("closes");
    let journal = || async { Arc::new(JournalConfig::new(folder.path()).open().await.expect("opens")) };
    // An untouched journal has no backend yet.
    let behind =
        |back: Picky| TieredStore::builder(MemoryStore::new(), back).write_policy(WritePolicy::WriteBehind);
    let store = behind(back.clone()).journal(journal().await).build().await.expect("builds");
    store.put(&key("k"), Put::new("v")).await.expect("acknowledged");
    store.close().await.expect("closes");
    let refused = behind(picky(true)).journal(journal().await).build().await.expect_err("another backend");
    assert_eq!(refused.kind(), ErrorKind::Config, "{}", refused.chain());
    let nameless = picky::declaring(|all| all.without(Feature::KeepsMarks));
    let refused =
        behind(nameless.clone()).journal(journal().await).build().await.expect_err("unknown backend");
    assert!(refused.to_string().contains("backend_id"), "{refused}");
    behind(back).journal(journal().await).build().await.expect("its own");
}

#[tokio::test]
async fn a_journaled_operation_is_recovered_unchanged() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    back.down.store(true, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    let attributes = tiered_core::Attributes::new().with("a", "b").expect("valid");
    let put = Put::new("v").attributes(attributes).expires_in(std::time::Duration::from_hours(1));
    let written = store.put(&key("k"), put).await.expect("acknowledged");
    let before = store.get(&key("k")).await.expect("reads").expect("there");
    drop(store);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    let after = store.get(&key("k")).await.expect("reads").expect("there");
    assert_eq!(before, after);
    assert_eq!(*after.version(), written.version);
    let (_, recovered) = tiered_journal::Report::read(folder.path()).expect("reads");
    assert!(matches!(recovered.records.as_slice(), [(1, record)] if matches!(record.action, Action::Put(_))));
}

/// The list of parked writes is as true as the journal: what is in line again is in it until the backend has it, and
/// no longer.
#[tokio::test]
async fn a_retried_parked_write_is_neither_lost_nor_applied_twice() {
    for on_park in [OnPark::Halt, OnPark::Skip] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
        let store = open(folder.path(), &back, on_park).await;
        for name in ["bad", "other-1"] {
            store.put(&key(name), Put::new("1")).await.expect("acknowledged");
        }
        store.flush().await.expect_err("refused");
        // In line again while the backend is away; something else changes the list; then a crash.
        back.down.store(true, Ordering::Relaxed);
        store.retry_parked(store.parked()[0].sequence()).expect("is in line");
        drop(store);
        let store = open(folder.path(), &back, on_park).await;
        assert_eq!(read(&store, "bad").await.expect("acknowledged"), "1", "{on_park:?}");
        back.down.store(false, Ordering::Relaxed);
        back.strict.store(false, Ordering::Relaxed);
        for parked in store.parked() {
            store.retry_parked(parked.sequence()).expect("is in line");
        }
        store.flush().await.expect("accepted now");
        assert_eq!(back.value("bad").await.expect("flushed"), "1");
        store.put(&key("bad"), Put::new("2")).await.expect("acknowledged");
        for _ in 0..40 {
            // Enough to forget the segment.
            store.put(&key("filler"), Put::new(vec![7; 10 << 10])).await.expect("acknowledged");
            store.flush().await.expect("accepted");
        }
        drop(store);
        let store = open(folder.path(), &back, on_park).await;
        assert_eq!(read(&store, "bad").await.expect("the later one"), "2", "{on_park:?}");
        store.flush().await.expect("nothing is refused");
        assert_eq!(back.value("bad").await.expect("the later one"), "2", "{on_park:?}");
    }
}

#[tokio::test]
async fn a_retried_write_survives_the_removal_of_its_segment() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let store = open(folder.path(), &back, OnPark::Skip).await;
    for name in ["bad1", "bad2"] {
        store.put(&key(name), Put::new("1")).await.expect("acknowledged");
    }
    for _ in 0..40 {
        store.put(&key("filler"), Put::new(vec![7; 10 << 10])).await.expect("acknowledged");
        store.flush().await.expect_err("two are parked");
    }
    back.down.store(true, Ordering::Relaxed);
    let parked = store.parked();
    store.retry_parked(parked[0].sequence()).expect("is in line");
    store.drop_parked(parked[1].sequence()).await.expect("dropped, which writes the list");
    drop(store);
    let store = open(folder.path(), &back, OnPark::Skip).await;
    assert_eq!(read(&store, "bad1").await.expect("acknowledged"), "1");
    assert_eq!(read(&store, "bad2").await, None);
}

#[tokio::test]
async fn what_a_journal_recovers_calls_no_hook() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    back.down.store(true, Ordering::Relaxed);
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.set("k", "1").await.expect("acknowledged");
    drop(store);
    back.down.store(false, Ordering::Relaxed);
    let builder = TieredStore::builder(MemoryStore::new(), back.clone());
    let refuse = |_: &hooks::Mutation| Err(Error::new(ErrorKind::PermissionDenied, "read-only from now on"));
    let store = builder
        .write_policy(WritePolicy::WriteBehind)
        .journal(journal(folder.path()).await)
        .hook(hooks::before(refuse))
        .build()
        .await
        .expect("builds");
    store.flush().await.expect("an acknowledged write is not refused any more");
    assert_eq!(back.value("k").await.expect("flushed"), "1");
    assert_eq!(store.set("k", "2").await.expect_err("refused").kind(), ErrorKind::PermissionDenied);
    assert_eq!(store.stats().hook_refusals, 1);
}
