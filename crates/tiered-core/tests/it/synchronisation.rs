//! Strategies, walks, and what may happen meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tiered_conformance::{DerivedReads, Intercept, Interceptor};
use tiered_core::sync::{
    Decision, DryRun, FullSync, PopulateMissing, Refresh, StrategyName, SyncOptions, SyncStrategy,
    WalkOptions, sync, sync_keys, walk_sync,
};
use tiered_core::{Entry, ErrorKind, Feature, Key, Listed, MemoryStore, Put, Result, Store, TieredStore};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn shared(store: &MemoryStore) -> Arc<dyn Store> {
    Arc::new(store.clone())
}

fn values(store: &MemoryStore) -> BTreeMap<String, String> {
    let text = |entry: Entry| String::from_utf8(entry.into_value().to_vec()).expect("text");
    store.snapshot().into_iter().map(|(key, entry)| (key.as_str().to_owned(), text(entry))).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// For random sides each strategy gives what a model gives, a dry run counts the same and writes nothing.
    #[test]
    fn a_strategy_equals_its_model(
        ours in prop::collection::btree_map("[a-d]{1,2}", "[xy]", 0..12),
        theirs in prop::collection::btree_map("[a-d]{1,2}", "[xy]", 0..12),
        which in 0..3_usize,
    ) {
        let name = StrategyName::ALL[which];
        runtime().block_on(async {
            let (source, target) = (MemoryStore::new(), MemoryStore::new());
            for (k, v) in &ours {
                source.put(&key(k), Put::new(v.clone())).await.expect("written");
            }
            for (k, v) in &theirs {
                target.put(&key(k), Put::new(v.clone())).await.expect("written");
            }
            let mut model = match name {
                StrategyName::FullSync => BTreeMap::new(),
                _ => theirs.clone(),
            };
            for (k, v) in &ours {
                if name != StrategyName::PopulateMissing || !theirs.contains_key(k) {
                    model.insert(k.clone(), v.clone());
                }
            }
            let strategy = name.strategy();
            let dry = SyncOptions::new().dry_run(DryRun::Yes);
            let counted = sync(&shared(&source), &shared(&target), strategy.as_ref(), &dry).await.expect("counts");
            assert_eq!(values(&target), theirs);
            let done =
                sync(&shared(&source), &shared(&target), strategy.as_ref(), &SyncOptions::new()).await.expect("syncs");
            assert_eq!(values(&target), model);
            assert_eq!(done, counted);
            assert_eq!((done.listed_from, done.listed_to), (ours.len() as u64, theirs.len() as u64));
            for (k, entry) in source.snapshot() {
                if target.snapshot().get(&k).is_some_and(|copy| copy.version() == entry.version()) {
                    assert_eq!(target.snapshot().get(&k), Some(&entry), "copies are verbatim");
                }
            }
            let again =
                sync(&shared(&source), &shared(&target), strategy.as_ref(), &SyncOptions::new()).await.expect("syncs");
            assert_eq!((again.copied, again.removed), (0, 0), "a second run has nothing to do");
        });
    }
}

#[tokio::test]
async fn refused_combinations_say_what_to_do() {
    let store = shared(&MemoryStore::new());
    let onto_itself = sync(&store, &store, &FullSync, &SyncOptions::new()).await.expect_err("the same store");
    assert_eq!(onto_itself.kind(), ErrorKind::Config);
    let plain = shared(&MemoryStore::new().declaring(|all| all.without(Feature::ConditionalPut)));
    let racy = sync(&store, &plain, &Refresh, &SyncOptions::new()).await.expect_err("racy");
    assert_eq!(racy.kind(), ErrorKind::Config);
    sync(&store, &plain, &PopulateMissing, &SyncOptions::new()).await.expect("adds only");
}

#[derive(Debug)]
struct OnlyLarge;

impl SyncStrategy for OnlyLarge {
    fn name(&self) -> &'static str {
        "only-large"
    }
    fn decide(&self, source: Option<&Listed>, target: Option<&Listed>) -> Decision {
        match (source, target) {
            (Some(source), None) if source.size > 3 => Decision::Copy,
            _ => Decision::Skip,
        }
    }
}

#[tokio::test]
async fn a_custom_strategy_and_named_keys_copy_exactly_their_keys() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for (k, v) in [("a", "1"), ("b", "four"), ("c", "3")] {
        source.put(&key(k), Put::new(v)).await.expect("written");
    }
    let (from, to) = (shared(&source), shared(&target));
    let report = sync(&from, &to, &OnlyLarge, &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.copied, report.bytes), (1, 4));
    let report = sync_keys(&from, &to, &[key("a"), key("none")], &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.copied, report.vanished), (1, 1));
    assert_eq!(values(&target).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_closure_is_accepted_as_a_strategy_on_connect() {
    let (frontend, backend) = (MemoryStore::new(), MemoryStore::new());
    for (k, v) in [("a", "1"), ("b", "four")] {
        backend.put(&key(k), Put::new(v)).await.expect("written");
    }
    let only_large = |source: Option<&Listed>, _: Option<&Listed>| match source {
        Some(source) if source.size > 3 => Decision::Copy,
        _ => Decision::Skip,
    };
    let strategy: Arc<dyn SyncStrategy> = Arc::new(only_large);
    assert_eq!(format!("{strategy:?}"), "SyncStrategy(\"custom\")");
    let builder = TieredStore::builder(shared(&frontend), shared(&backend)).on_connect(strategy);
    let store = builder.build().await.expect("builds");
    assert_eq!(store.connected().map(|report| report.copied), Some(1));
}

#[tokio::test]
async fn a_sync_resumes_after_its_checkpoint() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    for index in 0..100 {
        source.put(&key(&format!("{index:03}")), Put::new("v")).await.expect("written");
    }
    let options = SyncOptions::new().after(key("089"));
    let report = sync(&shared(&source), &shared(&target), &FullSync, &options).await.expect("syncs");
    assert_eq!(report.copied, 10);
}

fn references(_: &Key, entry: &Entry) -> Result<Vec<Key>> {
    String::from_utf8_lossy(entry.value()).split_whitespace().map(Key::new).collect()
}

#[tokio::test]
async fn a_walk_copies_reachable_keys_and_no_root_before_its_parts() {
    let (source, target) = (MemoryStore::new(), MemoryStore::new());
    let graph = [
        ("root", "left right"),
        ("left", "leaf"),
        ("right", "leaf"),
        ("leaf", ""),
        ("apart", ""),
        ("torn", "leaf gone"),
        ("a", "b"),
        ("b", "a leaf"),
    ];
    for (k, v) in graph {
        source.put(&key(k), Put::new(v)).await.expect("written");
    }
    let roots = [key("root"), key("torn"), key("a"), key("root")];
    let report = walk_sync(&shared(&source), &shared(&target), &roots, &references, &WalkOptions::new())
        .await
        .expect("walks");
    let copied: Vec<String> = values(&target).into_keys().collect();
    assert_eq!(copied, ["a", "b", "leaf", "left", "right", "root"]);
    assert_eq!((report.roots, report.reached, report.missing, report.held_back), (3, 8, 1, 2));
    assert!(report.cycles > 0);
}

#[tokio::test]
async fn a_running_store_syncs_its_frontend() {
    let (front, back) = (MemoryStore::new(), MemoryStore::new());
    for k in ["a", "b", "c"] {
        back.put(&key(k), Put::new(k)).await.expect("written");
    }
    front.put(&key("extra"), Put::new("old")).await.expect("written");
    front.put(&key("a"), Put::new("stale")).await.expect("written");
    let store = TieredStore::builder(shared(&front), shared(&back)).build().await.expect("builds");
    let report = store.sync(&FullSync, &SyncOptions::new()).await.expect("syncs");
    assert_eq!((report.copied, report.removed), (3, 1));
    assert_eq!(values(&front), values(&back));
    assert_eq!(store.stats().slots, 0);
    drop(store);
    let connected = TieredStore::builder(shared(&MemoryStore::new()), shared(&back))
        .on_connect(PopulateMissing)
        .build()
        .await
        .expect("builds");
    assert_eq!(connected.stats().fills, 3);
}

/// A source whose listing goes on only when a key that it listed before has been read: as with a server that answers
/// one request after the other, and holds the listing back for a copy that has begun.
#[derive(Debug)]
struct OneAtATime(Arc<tokio::sync::Notify>);

#[async_trait::async_trait]
impl Interceptor for OneAtATime {
    fn derived_reads(&self) -> DerivedReads {
        DerivedReads::Load
    }
    async fn load(
        &self,
        inner: &dyn Store,
        key: &Key,
        options: &tiered_core::ReadOptions,
    ) -> Result<tiered_core::Read> {
        // The answer takes another turn, which only a task that polls for it gives.
        tokio::task::yield_now().await;
        self.0.notify_one();
        inner.load(key, options).await
    }
    fn list(&self, inner: &dyn Store, mut options: tiered_core::ListOptions) -> tiered_core::ListStream {
        use futures_util::StreamExt as _;
        // Every copy is a read.
        options.values = None;
        let read = Arc::clone(&self.0);
        let listing = inner.list(options).enumerate().then(move |(index, listed)| {
            let read = Arc::clone(&read);
            async move {
                if index > 0 {
                    read.notified().await;
                }
                listed
            }
        });
        Box::pin(listing)
    }
}

#[tokio::test(start_paused = true)]
async fn copies_continue_while_the_sync_waits_for_a_listing() {
    let source = MemoryStore::new().declaring(|all| all.without(tiered_core::Feature::Peeks));
    let source = Intercept::new(source, OneAtATime(Arc::default()));
    for name in ["a", "b", "c", "d"] {
        source.put(&key(name), Put::new(name)).await.expect("written");
    }
    let (source, target): (Arc<dyn Store>, _) = (Arc::new(source), MemoryStore::new());
    let target_store = shared(&target);
    let options = SyncOptions::new();
    let syncing = sync(&source, &target_store, &FullSync, &options);
    let report = tokio::time::timeout(std::time::Duration::from_mins(1), syncing).await.expect("goes on");
    assert_eq!(report.expect("copies").copied, 4);
    assert_eq!(values(&target).len(), 4);
}
