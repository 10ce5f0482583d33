//! Damaged entries: listings tell of them and go on, syncs repair them, a sync on connecting says what it left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::adapter::BatchOutcomes;
use tiered_core::settings::OnConnectFailure;
use tiered_core::sync::{FullSync, PopulateMissing, Refresh, SyncOptions, sync, sync_keys};
use tiered_core::{
    Action, Atomicity, Batch, Delete, Deleted, Error, ErrorKind, Event, Feature, Key, ListOptions,
    ListStream, MemoryStore, Precondition, Put, Read, ReadOptions, Result, Store, StoreExt as _, TieredStore,
    VolatileJournal, WritePolicy, Written,
};

use crate::scripted::key;

/// A memory store some of whose entries are damaged.
pub(crate) type Torn = Intercept<Damage, MemoryStore>;

#[derive(Debug)]
pub(crate) struct Damage {
    damaged: Mutex<BTreeSet<Key>>,
}

/// A store with an entry for each of `names`, of which those of `damaged` cannot be read.
pub(crate) async fn torn(names: &[&str], damaged: &[&str]) -> Torn {
    let inner = MemoryStore::new()
        .declaring(|all| all.named("torn").with(Feature::DetectsCorruption).without(Feature::Peeks));
    for name in names {
        inner.put(&key(name), Put::new(format!("value of {name}"))).await.expect("written");
    }
    let damaged = Mutex::new(damaged.iter().map(|name| key(name)).collect());
    Intercept::new(inner, Damage { damaged })
}

impl Damage {
    fn check(&self, key: &Key) -> Result<()> {
        if self.damaged.lock().contains(key) {
            return Err(Error::new(ErrorKind::Corrupt, "its record is damaged").for_key(key));
        }
        Ok(())
    }

    /// The precondition that the store inside judges, once damage is out of the way.
    fn repair(&self, key: &Key, precondition: Precondition) -> Result<Precondition> {
        let is_torn = self.damaged.lock().contains(key);
        match precondition {
            Precondition::Damaged if !is_torn => Err(tiered_core::adapter::precondition_failed(key)),
            Precondition::None | Precondition::Damaged => {
                self.damaged.lock().remove(key);
                Ok(Precondition::None)
            }
            other => self.check(key).map(|()| other),
        }
    }
}

#[async_trait]
impl Interceptor for Damage {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    async fn load(&self, inner: &dyn Store, key: &Key, options: &ReadOptions) -> Result<Read> {
        self.check(key)?;
        inner.load(key, options).await
    }
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> Result<Written> {
        let precondition = self.repair(key, put.precondition.clone())?;
        inner.put(key, put.precondition(precondition)).await
    }
    async fn delete(&self, inner: &dyn Store, key: &Key, delete: Delete) -> Result<Deleted> {
        let precondition = self.repair(key, delete.precondition.clone())?;
        inner.delete(key, delete.precondition(precondition)).await
    }
    async fn apply(&self, inner: &dyn Store, batch: Batch) -> Result<BatchOutcomes> {
        let mut repaired = Batch::new();
        if batch.atomicity() == Atomicity::BestEffort {
            repaired = repaired.best_effort();
        }
        for (key, action) in batch.into_operations() {
            let action = match action {
                Action::Put(put) => {
                    let precondition = self.repair(&key, put.precondition.clone())?;
                    Action::Put(put.precondition(precondition))
                }
                Action::Delete(delete) => {
                    let precondition = self.repair(&key, delete.precondition.clone())?;
                    Action::Delete(delete.precondition(precondition))
                }
            };
            repaired.push(key, action);
        }
        inner.apply(repaired).await
    }
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        let torn = self.damaged.lock().clone();
        Box::pin(inner.list(options).map(move |listed| {
            let listed = listed?;
            if torn.contains(&listed.key) {
                return Err(Error::new(ErrorKind::Corrupt, "its record is damaged").for_key(&listed.key));
            }
            Ok(listed)
        }))
    }
}

async fn listed(store: &dyn Store, options: ListOptions) -> Vec<String> {
    let name = |listed: Result<tiered_core::Listed>| match listed {
        Ok(listed) => listed.key.to_string(),
        Err(error) => format!("!{}", error.key().expect("it names the key")),
    };
    store.list(options).map(name).collect().await
}

#[tokio::test]
async fn a_listing_continues_after_a_damaged_key() {
    let back = torn(&["a", "b", "c", "d"], &["b", "c"]).await;
    let store = TieredStore::builder(MemoryStore::new(), back)
        .write_policy(WritePolicy::WriteBehind)
        .journal(VolatileJournal::new())
        .build()
        .await
        .expect("builds");
    assert_eq!(listed(&store, ListOptions::new()).await, ["a", "!b", "!c", "d"]);
    store.put(&key("aa"), Put::new("pending")).await.expect("acknowledged");
    store.put(&key("c"), Put::new("pending")).await.expect("acknowledged");
    assert_eq!(listed(&store, ListOptions::new()).await, ["a", "aa", "!b", "c", "d"]);
    assert_eq!(listed(&store, ListOptions::new().limit(3)).await, ["a", "aa", "!b"]);
}

#[tokio::test]
async fn a_damaged_key_among_many_fails_alone() {
    let back = torn(&["a", "b", "c"], &["b"]).await;
    let store = TieredStore::builder(MemoryStore::new(), back).build().await.expect("builds");
    let keys = [key("a"), key("b"), key("absent"), key("c"), key("b")];
    for _ in 0..2 {
        let reads = store.get_many(&keys, &ReadOptions::new()).await;
        let [Ok(a), Err(one), Ok(absent), Ok(c), Err(other)] = reads.as_slice() else { panic!("{reads:?}") };
        assert!(a.entry().is_some() && absent.entry().is_none() && c.entry().is_some());
        for error in [one, other] {
            assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key("b"))), "{error}");
        }
    }
}

#[tokio::test]
async fn a_sync_repairs_damaged_target_entries_and_keeps_those_whose_source_is_damaged() {
    let strategies: [(&dyn tiered_core::sync::SyncStrategy, [u64; 6], &[&str]); 3] = [
        (&PopulateMissing, [2, 1, 0, 2, 2, 2], &["a", "both", "!extra", "kept", "missing", "only"]),
        (&Refresh, [2, 1, 0, 2, 2, 2], &["a", "both", "!extra", "kept", "missing", "only"]),
        (&FullSync, [2, 1, 2, 1, 1, 1], &["a", "both", "kept", "missing"]),
    ];
    for (strategy, expected, after) in strategies {
        let source = torn(&["a", "both", "kept", "missing"], &["kept"]).await;
        let target = torn(&["both", "extra", "kept", "only"], &["both", "extra"]).await;
        // One entry is the same on both sides.
        let same = source.inner().get(&key("a")).await.expect("reads").expect("there");
        target.inner().put(&key("a"), tiered_core::adapter::verbatim(&same)).await.expect("written");
        let kept = target.inner().get(&key("kept")).await.expect("reads");
        let (from, to): (Arc<dyn Store>, Arc<dyn Store>) = (Arc::new(source), Arc::new(target.clone()));
        let report = sync(&from, &to, strategy, &SyncOptions::new()).await.expect("it goes on");
        let counts =
            [report.copied, report.repaired, report.removed, report.failed, report.damaged, report.skipped];
        assert_eq!(counts, expected, "{}: {report:?}", strategy.name());
        assert_eq!(listed(&target, ListOptions::new()).await, after, "{}", strategy.name());
        assert_eq!(
            target.inner().get(&key("kept")).await.expect("reads"),
            kept,
            "damaged at the source is there"
        );
    }
}

#[tokio::test]
async fn a_sync_of_named_keys_repairs_damaged_entries_and_leaves_good_ones() {
    let source: Arc<dyn Store> = Arc::new(torn(&["a", "ab"], &[]).await);
    let torn = torn(&["a", "ab"], &["ab"]).await;
    let target: Arc<dyn Store> = Arc::new(torn.clone());
    let report =
        sync_keys(&source, &target, &[key("a"), key("ab")], &SyncOptions::new()).await.expect("copies");
    assert_eq!((report.copied, report.failed), (2, 0));
    let good = torn.put(&key("a"), Put::new("x").precondition(Precondition::Damaged)).await;
    assert_eq!(good.expect_err("it is good").kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn a_sync_on_connect_reports_the_keys_it_skipped() {
    let names: Vec<String> = (0..100).map(|index| format!("k{index:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let back = torn(&names, &names[..10]).await;
    let build = |failure| {
        let builder = TieredStore::builder(MemoryStore::new(), back.clone())
            .on_connect(PopulateMissing)
            .on_connect_failure(failure);
        let events = builder.subscribe();
        async move { (builder.build().await, events) }
    };
    let (store, mut events) = build(OnConnectFailure::Report).await;
    let store = store.expect("builds");
    let report = store.connected().expect("there was one");
    assert_eq!((report.copied, report.failed, report.damaged), (90, 10, 10));
    assert_eq!(store.stats().sync_failures, 10);
    loop {
        match events.next().await.expect("the store is open") {
            Event::SyncFailed { failed } => break assert_eq!(failed, 10),
            Event::Filled { .. } => {}
            other => assert_eq!(other, Event::SyncFailed { failed: 10 }),
        }
    }
    drop(store);
    let (refused, _) = build(OnConnectFailure::Fail).await;
    let error = refused.expect_err("it left ten out");
    assert_eq!(error.key(), Some(&key("k00")), "{}", error.chain());
}

/// A key is not taken for one that begins with it, in a plain target and in a live one.
#[tokio::test]
async fn a_sync_of_a_named_key_copies_no_longer_key() {
    let (limit, keys, options) = (std::time::Duration::from_secs(10), [key("a")], SyncOptions::new());
    let source: Arc<dyn Store> = Arc::new(torn(&["a", "ab"], &[]).await);
    let plain: Arc<dyn Store> = Arc::new(torn(&["ab"], &[]).await);
    let copied = sync_keys(&source, &plain, &keys, &options);
    let report = tokio::time::timeout(limit, copied).await.expect("it ends").expect("copies");
    assert_eq!((report.copied, report.failed), (1, 0));
    assert_eq!(plain.get(&key("a")).await.expect("reads").expect("copied").value(), "value of a");
    let front = MemoryStore::new();
    front.put(&key("ab"), Put::new("longer")).await.expect("written");
    let live = TieredStore::builder(front, source).build().await.expect("builds");
    let copied = live.sync_keys(&keys, &options);
    let report = tokio::time::timeout(limit, copied).await.expect("it ends").expect("copies");
    assert_eq!((report.copied, report.failed), (1, 0));
    assert!(live.peek(&key("a")).is_some());
}
