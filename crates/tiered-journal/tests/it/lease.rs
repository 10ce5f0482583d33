//! Write-behind by lease, over a journal that outlives its process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::ownership::Lease;
use tiered_core::settings::OnPark;
use tiered_core::{
    Batch, CommitLevel, Durability, Error, ErrorKind, MemoryStore, ParkReason, Put, Result, Store,
    TieredStore, VolatileJournal, WritePolicy,
};
use tiered_journal::JournalConfig;

use crate::engine::read;
use crate::key;
use crate::picky::{Picky, picky};

async fn open(folder: &Path, back: &Picky, lease: Lease) -> Result<TieredStore> {
    // A store that was dropped leaves its journal when its tasks have noticed.
    let journal = loop {
        match JournalConfig::new(folder).segment_size(64 << 10).open().await {
            Err(error) if error.kind() == ErrorKind::Locked => tokio::task::yield_now().await,
            opened => break opened?,
        }
    };
    let builder = TieredStore::builder(MemoryStore::new(), back.clone());
    builder.write_policy(WritePolicy::WriteBehind).journal(journal).lease(lease).build().await
}

#[tokio::test]
async fn after_a_crash_the_same_journal_keeps_the_lease_and_flushes_each_write_once() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
    let store = open(folder.path(), &back, Lease::Acquire).await.expect("the lease is free");
    for index in 0..40 {
        store.put(&key(&format!("k{index}")), Put::new("1")).await.expect("acknowledged");
    }
    store.flush().await.expect("drains");
    back.down.store(true, Ordering::Relaxed);
    store.put(&key("late"), Put::new("1")).await.expect("acknowledged");
    drop(store);
    back.down.store(false, Ordering::Relaxed);
    let other = tempfile::tempdir().expect("a folder");
    let refused = open(other.path(), &back, Lease::Acquire)
        .await
        .expect_err("the lease is held although its owner ended");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    let store = open(folder.path(), &back, Lease::Acquire).await.expect("its own");
    assert!(store.stats().backlog <= 1, "what the record says was flushed is not flushed again");
    store.close().await.expect("drains");
    assert_eq!(back.value("late").await.expect("flushed"), "1");
    open(other.path(), &back, Lease::Acquire).await.expect("given back").close().await.expect("closes");
}

#[tokio::test]
async fn acknowledged_writes_of_a_former_owner_are_parked() {
    let (mine, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let back = picky(true);
    let before = open(mine.path(), &back, Lease::Acquire).await.expect("the lease is free");
    back.down.store(true, Ordering::Relaxed);
    before.put(&key("a"), Put::new("before")).await.expect("acknowledged");
    before.apply(Batch::new().put(key("b"), "before").put(key("c"), "before")).await.expect("acknowledged");
    drop(before);
    back.down.store(false, Ordering::Relaxed);
    let after = open(theirs.path(), &back, Lease::TakeOver).await.expect("taken over");
    after.put(&key("a"), Put::new("after")).await.expect("acknowledged");
    after.close().await.expect("drains");
    for _ in 0..2 {
        // However often it is opened, nothing goes over what others wrote.
        let before = open(mine.path(), &back, Lease::Acquire).await.expect("given back");
        let parked = before.parked();
        assert_eq!(parked.iter().map(|unit| unit.records.len()).collect::<Vec<_>>(), [1, 2]);
        assert!(parked[0].reason == ParkReason::LeaseLost, "{}", parked[0].reason);
        before.flush().await.expect_err("they are parked");
        assert_eq!(back.value("a").await.expect("theirs"), "after");
        drop(before);
    }
    let before = open(mine.path(), &back, Lease::Acquire).await.expect("its own");
    let sequences: Vec<_> = before.parked().iter().map(tiered_core::Parked::sequence).collect();
    before.drop_parked(sequences[0]).await.expect("dropped");
    before.retry_parked(sequences[1]).expect("in line");
    before.flush().await.expect("drains");
    assert_eq!(read(&before, "a").await.expect("theirs"), "after");
    assert_eq!(back.value("b").await.expect("retried"), "before");
    before.close().await.expect("closes");
}

/// A journal that does not write the list of what is parked, or takes its time over it.
#[derive(Debug)]
struct Stubborn {
    inner: VolatileJournal,
    fails: Arc<AtomicBool>,
    /// Taken for as long as the list is not to be written.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[async_trait]
impl Journal for Stubborn {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        self.inner.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.inner.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        let _turn = self.turn.lock().await;
        self.inner.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// What is parked is in the journal alone until its list is written: after a crash in the middle of that, a record of the
/// lease which says that everything before was flushed would lose it.
#[tokio::test]
async fn no_write_counts_as_flushed_while_the_parked_list_is_being_written() {
    let (fails, turn, back) = (Arc::new(AtomicBool::new(true)), Arc::default(), picky(true));
    let journal =
        Stubborn { inner: VolatileJournal::new(), fails: Arc::clone(&fails), turn: Arc::clone(&turn) };
    let store = TieredStore::builder(MemoryStore::new(), back.clone())
        .on_park(OnPark::Skip)
        .write_policy(WritePolicy::WriteBehind)
        .journal(journal)
        .lease(Lease::Acquire)
        .build()
        .await
        .expect("the lease is free");
    for name in ["bad1", "bad2"] {
        store.put(&key(name), Put::new("1")).await.expect("acknowledged");
    }
    store.flush().await.expect_err("refused");
    fails.store(false, Ordering::Relaxed);
    let held = turn.lock().await;
    let (last, dropping) = (store.parked().pop().expect("two are parked").sequence(), store.clone());
    let dropping = async move { dropping.drop_parked(last).await };
    let dropped = tokio::runtime::Handle::current().spawn(dropping);
    while store.parked().len() > 1 {
        tokio::task::yield_now().await;
    }
    let good = store.put(&key("good"), Put::new("1")).await.expect("acknowledged");
    good.receipt.durable(CommitLevel::Committed).await.expect("flushed");
    let record = back.value(".tiered/owner").await.expect("owned");
    let record = String::from_utf8_lossy(&record).into_owned();
    assert!(record.contains("flushed=0 "), "{record}, and no list has what is parked");
    drop(held);
    dropped.await.expect("no panic").expect("the list is written");
    assert_eq!(store.parked().len(), 1);
}
