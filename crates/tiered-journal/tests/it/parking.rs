//! Parked writes: what a dropped one uncovers, and decisions that meet a flush under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tiered_core::{
    Aside, Batch, Durability, Journal, JournalRecord, Key, MemoryStore, OnPark, Put, Recovered, Result,
    Sequence, Store as _, TieredStore, VolatileJournal, WritePolicy,
};
use tiered_journal::FileJournal;

use crate::engine::{Picky, journal, open, read};
use crate::key;

/// Puts `value` under `k` and, so that the backend refuses both, under a key of bad name.
async fn refused(store: &TieredStore, bad: &str, value: &'static str) {
    let batch = Batch::new().put(key("k"), Put::new(value)).put(key(bad), Put::new(value));
    store.apply(batch).await.expect("acknowledged");
}

async fn drop_last(store: &TieredStore) {
    let last = store.parked().pop().expect("parked").sequence();
    store.drop_parked(last).await.expect("given up");
}

/// While a parked write lay over the key, others were flushed below it, past the frontend.
#[tokio::test]
async fn a_dropped_write_uncovers_what_was_flushed_below_it() {
    for on_park in [OnPark::Halt, OnPark::Skip] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
        let store = open(folder.path(), &back, on_park).await;
        store.put(&key("k"), Put::new("1")).await.expect("acknowledged");
        store.flush().await.expect("drains");
        back.down.store(true, Ordering::Relaxed);
        store.put(&key("k"), Put::new("2")).await.expect("acknowledged");
        refused(&store, "bad", "3").await;
        back.down.store(false, Ordering::Relaxed);
        store.flush().await.expect_err("refused");
        assert_eq!(read(&store, "k").await.expect("shown"), "3");
        drop_last(&store).await;
        assert_eq!(back.value("k").await.expect("flushed"), "2");
        assert_eq!(read(&store, "k").await.expect("the backend's"), "2", "{on_park:?}");
    }
}

/// Reads go on showing what is parked.
#[tokio::test]
async fn a_dropped_write_uncovers_one_that_is_parked() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
    let store = open(folder.path(), &back, OnPark::Skip).await;
    store.put(&key("k"), Put::new("1")).await.expect("acknowledged");
    for (bad, value) in [("bad2", "2"), ("bad3", "3")] {
        refused(&store, bad, value).await;
        store.flush().await.expect_err("refused");
    }
    drop_last(&store).await;
    assert_eq!(read(&store, "k").await.expect("shown"), "2");
    drop(store);
    let store = open(folder.path(), &back, OnPark::Skip).await;
    assert_eq!(read(&store, "k").await.expect("shown"), "2");
    // It can still be retried.
    back.strict.store(false, Ordering::Relaxed);
    store.retry_parked(store.parked()[0].sequence()).expect("is in line");
    store.flush().await.expect("accepted");
    assert_eq!(back.value("k").await.expect("flushed"), "2");
    let name = Key::new("bad3").expect("valid");
    assert!(store.head(&name, &tiered_core::ReadOptions::new()).await.expect("reads").is_none());
}

/// A journal that takes its time to write the list of what is parked, while it is told to.
#[derive(Debug)]
struct Reluctant {
    inner: VolatileJournal,
    /// Taken for as long as the list is not to be written.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[async_trait]
impl Journal for Reluctant {
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

/// A flush waits for what is in line again, although the flusher had not yet noted how it had left the line.
#[tokio::test]
async fn a_write_is_retried_while_its_parking_is_written_down() {
    let (turn, back) = (Arc::new(tokio::sync::Mutex::new(())), Picky::new(true));
    let journal = Reluctant { inner: VolatileJournal::new(), turn: Arc::clone(&turn) };
    let store = TieredStore::builder(Arc::new(MemoryStore::new()), Arc::new(back.clone()))
        .write_policy(WritePolicy::WriteBehind)
        .journal(Arc::new(journal))
        .build()
        .await
        .expect("builds");
    let held = turn.lock().await;
    store.put(&key("bad"), Put::new("1")).await.expect("acknowledged");
    while store.parked().is_empty() {
        tokio::task::yield_now().await;
    }
    back.down.store(true, Ordering::Relaxed);
    store.retry_parked(store.parked()[0].sequence()).expect("is in line");
    drop(held);
    while store.stats().flush_retries == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), store.flush()).await;
    assert!(early.is_err(), "{early:?}, while the write is in line");
    back.down.store(false, Ordering::Relaxed);
    back.strict.store(false, Ordering::Relaxed);
    store.flush().await.expect("accepted");
    assert_eq!(back.value("bad").await.expect("flushed"), "1");
}

/// A later write of one key replaces that part of a parked batch; the rest is known by its own first sequence.
#[tokio::test]
async fn what_is_left_of_a_parked_batch_can_be_decided_on() {
    for drops in [true, false] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
        let store = open(folder.path(), &back, OnPark::Skip).await;
        refused(&store, "bad", "1").await;
        store.flush().await.expect_err("refused");
        store.put(&key("k"), Put::new("2")).await.expect("acknowledged");
        store.flush().await.expect_err("a part is parked");
        let parked = store.parked();
        assert_eq!((parked.len(), parked[0].records.len()), (1, 1));
        back.strict.store(false, Ordering::Relaxed);
        if drops {
            drop_last(&store).await;
        } else {
            store.retry_parked(parked[0].sequence()).expect("is in line");
        }
        store.flush().await.expect("nothing is parked");
        assert_eq!(back.value("bad").await.is_some(), !drops);
        assert_eq!(back.value("k").await.expect("flushed"), "2");
    }
}

/// A journal whose trims are lost, as those before a crash can be.
#[derive(Debug)]
struct Untrimmed(FileJournal);

#[async_trait]
impl Journal for Untrimmed {
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        self.0.append(records).await
    }
    async fn trim(&self, _: Sequence) -> Result<()> {
        Ok(())
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        self.0.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.0.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// What was flushed already is in the journal still, and something after it is refused: the backend gets neither a
/// half of it nor an older value of a key, be it for a moment.
#[tokio::test]
async fn a_refusal_after_a_restart_does_not_take_the_backend_back() {
    for (atomic, names, bad) in [(true, true, "z"), (true, false, "z"), (false, true, "k"), (true, true, "k")]
    {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(atomic));
        back.names.store(names, Ordering::Relaxed);
        let open = async || {
            let journal = journal(folder.path()).await;
            TieredStore::builder(Arc::new(MemoryStore::new()), Arc::new(back.clone()))
                .write_policy(WritePolicy::WriteBehind)
                .journal(Arc::new(Untrimmed(journal)))
                .build()
                .await
                .expect("builds")
        };
        let store = open().await;
        for value in ["1", "2", "3", "4"] {
            store.put(&key("k"), Put::new(value)).await.expect("acknowledged");
        }
        store.flush().await.expect("drains");
        back.down.store(true, Ordering::Relaxed);
        store.put(&key("l"), Put::new("5")).await.expect("acknowledged");
        store.put(&key(bad), Put::new("bad")).await.expect("acknowledged");
        store.put(&key("m"), Put::new("6")).await.expect("acknowledged");
        drop(store);
        back.history.lock().clear();
        back.down.store(false, Ordering::Relaxed);
        let store = open().await;
        store.flush().await.expect_err("refused");
        let of_key = |name: &str| {
            let history = back.history.lock();
            history
                .iter()
                .filter(|(k, _)| *k == key(name))
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(of_key("k"), ["4"], "atomic: {atomic}, named: {names}, refused: {bad}");
        assert_eq!(of_key("l"), ["5"]);
        assert_eq!(of_key("m").is_empty(), atomic, "it halts before what is refused where it can");
        assert_eq!(store.parked().len(), 1);
        store.close().await.ok();
    }
}

/// Whatever takes records out of line moves the barrier of a flush.
#[tokio::test]
async fn a_flush_ends_after_an_older_write_of_a_key_was_retried() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), Picky::new(true));
    let store = open(folder.path(), &back, OnPark::Skip).await;
    for value in ["1", "2"] {
        store.put(&key("bad"), Put::new(value)).await.expect("acknowledged");
        store.flush().await.expect_err("refused");
    }
    let parked: Vec<_> = store.parked().iter().map(tiered_core::Parked::sequence).collect();
    assert_eq!(parked.len(), 2);
    store.retry_parked(parked[0]).expect("parked");
    let limit = std::time::Duration::from_secs(10);
    let flushed = tokio::time::timeout(limit, store.flush()).await.expect("it ends");
    flushed.expect_err("the newer one is parked still");
    store.drop_parked(parked[1]).await.expect("dropped");
    tokio::time::timeout(limit, store.flush()).await.expect("it ends").expect("nothing is left");
    tokio::time::timeout(limit, store.close()).await.expect("it ends").expect("closes");
}
