//! Parked writes: what a dropped one uncovers, and decisions that meet a flush under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tiered_core::adapter::journal::{Aside, Journal, JournalRecord, Recovered, Sequence};
use tiered_core::settings::OnPark;
use tiered_core::{
    Applied, Batch, CommitLevel, Durability, ErrorKind, Key, MemoryStore, Put, Result, Store as _,
    TieredStore, VolatileJournal, WritePolicy,
};
use tiered_journal::FileJournal;

use crate::engine::{journal, open, read};
use crate::key;
use crate::picky::picky;

/// Puts `value` under `k` and, so that the backend refuses both, under a key of bad name.
async fn refused(store: &TieredStore, bad: &str, value: &'static str) {
    let batch = Batch::new().put(key("k"), Put::new(value)).put(key(bad), Put::new(value));
    store.apply(batch).await.expect("acknowledged");
}

async fn drop_last(store: &TieredStore) {
    let last = store.parked().pop().expect("parked").sequence();
    store.drop_parked(last).await.expect("dropped");
}

/// While a parked write lay over the key, others were flushed below it, past the frontend.
#[tokio::test]
async fn dropping_a_parked_write_reveals_the_flushed_value_below_it() {
    for on_park in [OnPark::Halt, OnPark::Skip] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
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
async fn dropping_a_parked_write_reveals_an_earlier_parked_one() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
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
async fn a_write_can_be_retried_while_its_parking_is_being_recorded() {
    let (turn, back) = (Arc::new(tokio::sync::Mutex::new(())), picky(true));
    let journal = Reluctant { inner: VolatileJournal::new(), turn: Arc::clone(&turn) };
    let store = TieredStore::builder(MemoryStore::new(), back.clone())
        .write_policy(WritePolicy::WriteBehind)
        .journal(journal)
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
async fn the_remaining_operations_of_a_parked_batch_can_be_retried_or_dropped() {
    for drops in [true, false] {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
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
pub(crate) struct Untrimmed(pub(crate) FileJournal);

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
async fn a_refusal_after_a_restart_restores_no_older_value() {
    for (atomic, names, bad) in [(true, true, "z"), (true, false, "z"), (false, true, "k"), (true, true, "k")]
    {
        let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(atomic));
        back.names.store(names, Ordering::Relaxed);
        let open = async || {
            let journal = journal(folder.path()).await;
            TieredStore::builder(MemoryStore::new(), back.clone())
                .write_policy(WritePolicy::WriteBehind)
                .journal(Untrimmed(journal))
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
async fn a_flush_ends_although_an_older_write_of_a_key_is_retried() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(true));
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

/// A journal that cannot write its list so many times, and remembers what it was asked for.
#[derive(Debug, Default)]
struct Unlisting {
    inner: VolatileJournal,
    failures: std::sync::atomic::AtomicU64,
    /// The first sequences of what the list has, and those up to which records were forgotten, in the order of the calls.
    calls: parking_lot::Mutex<Vec<Call>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Listed(Vec<Sequence>),
    Forgotten(Sequence),
}

#[async_trait]
impl Journal for Unlisting {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    async fn append(&self, records: &[JournalRecord]) -> Result<Sequence> {
        self.inner.append(records).await
    }
    async fn trim(&self, sequence: Sequence) -> Result<()> {
        self.calls.lock().push(Call::Forgotten(sequence));
        self.inner.trim(sequence).await
    }
    async fn set_aside(&self, aside: &Aside) -> Result<()> {
        let fails = |left: u64| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(tiered_core::Error::new(tiered_core::ErrorKind::Full, "no room for the list"));
        }
        let listed = aside.parked.iter().map(tiered_core::Parked::sequence).collect();
        self.calls.lock().push(Call::Listed(listed));
        self.inner.set_aside(aside).await
    }
    async fn recover(&self, backend: &[u8]) -> Result<Recovered> {
        self.inner.recover(backend).await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// What is parked is in the journal's list before the journal forgets its records, however often the list cannot be
/// written, and however many writes of a key are parked.
#[tokio::test]
async fn no_parked_write_leaves_the_journal_before_it_is_listed() {
    for failures in 0..6 {
        let (journal, back) = (Arc::new(Unlisting::default()), picky(false));
        journal.failures.store(failures, Ordering::Relaxed);
        let store = TieredStore::builder(MemoryStore::new(), back)
            .write_policy(WritePolicy::WriteBehind)
            .journal(Arc::clone(&journal) as Arc<dyn Journal>)
            .build()
            .await
            .expect("builds");
        let mut parked = std::collections::BTreeSet::new();
        for (name, value) in [("bad", "1"), ("k", "1"), ("bad", "2"), ("l", "1"), ("bad", "3"), ("k", "2")] {
            store.put(&key(name), Put::new(value)).await.expect("acknowledged");
            let flushed = store.flush().await;
            parked.extend(store.parked().iter().map(tiered_core::Parked::sequence));
            assert_eq!(flushed.is_err(), !store.parked().is_empty());
        }
        assert_eq!(parked.len(), 3, "each write of the key");
        let mut listed = std::collections::BTreeSet::new();
        for call in journal.calls.lock().iter() {
            match call {
                Call::Listed(sequences) => listed.extend(sequences.iter().copied()),
                Call::Forgotten(up_to) => {
                    let lost: Vec<_> =
                        parked.range(..=*up_to).filter(|first| !listed.contains(*first)).collect();
                    assert!(lost.is_empty(), "{lost:?} forgotten and not listed, after {failures} failures");
                }
            }
        }
        assert_eq!(listed, parked, "in the end all are listed");
    }
}

/// Of several operations of a batch on a key only the last one ever takes effect, refused or not.
#[tokio::test]
async fn a_refused_last_operation_on_a_key_is_not_replaced_by_an_earlier_one_of_the_batch() {
    let (folder, back) = (tempfile::tempdir().expect("a folder"), picky(false));
    let store = open(folder.path(), &back, OnPark::Auto).await;
    store.put(&key("k"), Put::new("before")).await.expect("acknowledged");
    let batch = Batch::new().best_effort();
    let batch = batch.put(key("k"), Put::new("replaced")).put(key("k"), Put::new("bad"));
    let outcomes = store.apply(batch).await.expect("acknowledged");
    assert!(outcomes.iter().all(Result::is_ok));
    store.flush().await.expect_err("refused");
    for outcome in outcomes {
        let Ok(Applied::Put(written)) = outcome else { panic!("a put") };
        let refused = written.receipt.durable(CommitLevel::Committed).await.expect_err("parked");
        assert_eq!(refused.kind(), ErrorKind::TooLarge);
    }
    let parked = store.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(back.value("k").await.expect("there"), "before");
    store.drop_parked(parked[0].sequence()).await.expect("dropped");
    assert_eq!(read(&store, "k").await.expect("there"), "before");
    let seen: Vec<Bytes> = back.history.lock().iter().map(|(_, value)| value.clone()).collect();
    assert!(!seen.contains(&Bytes::from("replaced")), "{seen:?}");
    store.close().await.expect("closes");
}
