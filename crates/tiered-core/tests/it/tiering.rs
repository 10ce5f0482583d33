//! The tiering engine, through its public surface.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::{
    Batch, CommitLevel, Delete, ErrorKind, Existed, Feature, Key, ListOptions, Lookup, MemoryStore,
    Precondition, Put, ReadOptions, Source, Store, StoreExt as _, TieredBuilder, TieredStore,
    VolatileJournal, WritePolicy,
};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

struct Stack {
    store: TieredStore,
    front: MemoryStore,
    back: MemoryStore,
}

async fn stack(policy: WritePolicy) -> Stack {
    stack_with(policy, |builder| builder).await
}

async fn stack_with(policy: WritePolicy, change: impl FnOnce(TieredBuilder) -> TieredBuilder) -> Stack {
    let (front, back) = (MemoryStore::new(), MemoryStore::new());
    let mut builder = TieredStore::builder(front.clone(), back.clone()).write_policy(policy);
    if policy == WritePolicy::WriteBehind {
        builder = builder.journal(VolatileJournal::new());
    }
    let store = change(builder).build().await.expect("builds");
    Stack { store, front, back }
}

#[tokio::test]
async fn each_write_policy_writes_to_the_tiers_it_names() {
    for policy in WritePolicy::ALL.iter().copied() {
        let Stack { store, front, back } = stack(policy).await;
        let k = key("k");
        let written = store.put(&k, Put::new("v")).await.expect("written");
        let level =
            if policy == WritePolicy::WriteBehind { CommitLevel::Journaled } else { CommitLevel::Committed };
        assert_eq!(written.level, level);
        assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "v", "{policy}");
        written.receipt.durable(CommitLevel::Committed).await.expect("lands");
        store.flush().await.expect("flushed");
        let in_front = front.snapshot().contains_key(&k);
        let in_back = back.snapshot().contains_key(&k);
        let expected = match policy {
            // Under write-around it was the read above that filled the frontend.
            WritePolicy::WriteThrough | WritePolicy::WriteBehind | WritePolicy::WriteAround => (true, true),
            _ => (true, false),
        };
        assert_eq!((in_front, in_back), expected, "{policy}");
        assert_eq!(
            store.delete(&k, Delete::new().report_existed()).await.expect("deleted").existed,
            Existed::Yes
        );
        assert_eq!(
            store.delete(&k, Delete::new().report_existed()).await.expect("deleted").existed,
            Existed::No
        );
        assert!(store.get(&k).await.expect("reads").is_none());
        store.flush().await.expect("flushed");
        assert!(!back.snapshot().contains_key(&k));
        assert_eq!(store.stats().slots, 0, "an idle key holds no state under {policy}");
        store.close().await.expect("closes");
        assert_eq!(store.get(&k).await.expect_err("closed").kind(), ErrorKind::Closed);
        store.close().await.expect("closing twice is fine");
    }
}

#[tokio::test]
async fn a_miss_fills_the_frontend_with_the_same_entry() {
    let Stack { store, front, back } = stack(WritePolicy::WriteThrough).await;
    let k = key("k");
    back.put(&k, Put::new("v")).await.expect("written");
    let cold = store.load(&k, &ReadOptions::new()).await.expect("reads");
    assert_eq!(cold.source, Source::Backend);
    store.flush().await.expect("fills have ended");
    assert!(front.peek(&k).is_some());
    let hot = store.load(&k, &ReadOptions::new()).await.expect("reads");
    assert_eq!((hot.source, &hot.lookup), (Source::Frontend, &cold.lookup));
    assert_eq!(store.stats().fills, 1);
}

#[tokio::test]
async fn a_range_read_of_a_cold_entry_is_not_cached_as_the_whole_value() {
    let Stack { store, front, back } =
        stack_with(WritePolicy::WriteThrough, |builder| builder.block_size(None)).await;
    let k = key("k");
    back.put(&k, Put::new("hello world")).await.expect("written");
    assert_eq!(store.get_range(&k, 0..5).await.expect("reads").expect("found").value(), "hello");
    store.flush().await.expect("flushed");
    assert!(front.peek(&k).is_none());
    assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "hello world");
    assert_eq!(store.get_range(&k, 6..99).await.expect("reads").expect("found").value(), "world");
    let error = store.get_range(&k, 12..13).await.expect_err("beyond the end");
    assert_eq!(error.kind(), ErrorKind::InvalidRange);
}

#[tokio::test]
async fn a_listing_contains_pending_writes() {
    let Stack { store, .. } = stack(WritePolicy::WriteBehind).await;
    for name in ["a", "b", "c"] {
        store.put(&key(name), Put::new(name)).await.expect("written");
    }
    store.delete(&key("b"), Delete::new()).await.expect("deleted");
    let listed: Vec<_> = store.keys("").await.expect("lists");
    assert_eq!(listed, [key("a"), key("c")]);
    let first: Vec<_> =
        store.list(ListOptions::new().limit(1)).map(|l| l.expect("listed").key).collect().await;
    assert_eq!(first, [key("a")]);
}

#[tokio::test]
async fn conditional_writes_are_decided_by_the_authority() {
    for policy in WritePolicy::ALL.iter().copied() {
        let Stack { store, .. } = stack(policy).await;
        let k = key("k");
        let first = store.put(&k, Put::new("1").if_absent()).await.expect("absent");
        let again = store.put(&k, Put::new("2").if_absent()).await.expect_err("exists");
        assert_eq!(again.kind(), ErrorKind::PreconditionFailed, "{policy}");
        store.put(&k, Put::new("3").if_version(first.version.clone())).await.expect("matches");
        let stale = Delete::new().precondition(Precondition::Matches(first.version));
        let refused = store.delete(&k, stale).await.expect_err("changed");
        assert_eq!(refused.kind(), ErrorKind::PreconditionFailed, "{policy}");
        assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "3");
    }
}

#[tokio::test]
async fn a_batch_reaches_both_tiers() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteBehind, WritePolicy::WriteAround] {
        let Stack { store, back, .. } = stack(policy).await;
        let batch = Batch::new()
            .put(key("a"), Put::new("1"))
            .put(key("a"), Put::new("2"))
            .put(key("b"), Put::new("3"))
            .delete(key("c"), Delete::new());
        let outcomes = store.apply(batch).await.expect("applied");
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(store.get(&key("a")).await.expect("reads").expect("found").value(), "2");
        store.flush().await.expect("flushed");
        assert_eq!(back.peek(&key("a")).expect("there").value(), "2");
        assert_eq!(store.stats().slots, 0);
        let refused = store
            .apply(Batch::new().put(key("d"), Put::new("1")).put(key("a"), Put::new("1").if_absent()))
            .await
            .expect_err("a exists");
        assert_eq!(refused.kind(), ErrorKind::PreconditionFailed);
        assert!(store.get(&key("d")).await.expect("reads").is_none());
        assert_eq!(store.stats().slots, 0);
    }
}

#[tokio::test]
async fn ten_thousand_readers_of_a_cold_key_share_one_read() {
    let Stack { store, back, .. } = stack(WritePolicy::WriteThrough).await;
    let k = key("k");
    back.put(&k, Put::new("v")).await.expect("written");
    let readers = (0..10_000).map(|_| {
        let (store, k) = (store.clone(), k.clone());
        async move { store.load(&k, &ReadOptions::new()).await.expect("reads").into_entry().expect("found") }
    });
    let entries = futures_util::future::join_all(readers).await;
    assert!(entries.iter().all(|entry| entry.value() == "v"));
    assert_eq!(store.stats().backend_reads, 1);
}

#[tokio::test]
async fn under_frontend_only_a_deleted_key_stays_deleted_although_the_backend_has_it() {
    let Stack { store, back, .. } = stack(WritePolicy::FrontendOnly).await;
    let k = key("k");
    back.put(&k, Put::new("theirs")).await.expect("written");
    assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "theirs");
    store.flush().await.expect("fills have ended");
    assert_eq!(
        store.delete(&k, Delete::new().report_existed()).await.expect("deleted").existed,
        Existed::Yes
    );
    assert!(store.get(&k).await.expect("reads").is_none());
    let part = store.get_range(&k, 2..4).await.expect("absent, whatever the range");
    assert!(part.is_none());
    assert_eq!(store.keys("").await.expect("lists"), []);
    store.put(&k, Put::new("ours").if_absent()).await.expect("a tombstone is absent");
    assert_eq!(store.get(&k).await.expect("reads").expect("found").value(), "ours");
    assert_eq!(back.peek(&k).expect("untouched").value(), "theirs");
}

#[tokio::test]
async fn frontend_only_reads_never_call_the_backend() {
    let read_policy = tiered_core::ReadPolicy::FrontendOnly;
    let Stack { store, back, .. } =
        stack_with(WritePolicy::WriteThrough, |builder| builder.read_policy(read_policy)).await;
    back.put(&key("theirs"), Put::new("v")).await.expect("written");
    assert!(store.get(&key("theirs")).await.expect("reads").is_none());
    store.put(&key("ours"), Put::new("v")).await.expect("written");
    assert!(store.get(&key("ours")).await.expect("reads").is_some());
    assert_eq!(store.stats().backend_reads, 0);
    let (old, new) = store
        .update(&key("theirs"), |old| old.map(|old| Put::new(format!("{}!", old.size()))))
        .await
        .expect("an update starts from the authority");
    assert!(old.is_some() && new.is_some());
}

#[tokio::test]
async fn wrong_combinations_are_refused() {
    let (front, back) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
    let refused = |builder: TieredBuilder| async move {
        builder.build().await.expect_err("cannot work").kind() == ErrorKind::Config
    };
    let builder = || TieredStore::builder(front.clone(), back.clone());
    assert!(refused(builder().write_policy(WritePolicy::WriteBehind)).await);
    assert!(refused(builder().journal(VolatileJournal::new())).await);
    assert!(refused(TieredStore::builder(front.clone(), front.clone())).await);
    let forgetful = MemoryStore::new().declaring(|c| c.without(Feature::KeepsNotes));
    assert!(refused(TieredStore::builder(forgetful, back.clone())).await);
    assert!(refused(builder().require(tiered_core::Requirement::Strict)).await, "memory is not durable");
}

#[tokio::test(start_paused = true)]
async fn a_stale_entry_is_revalidated_and_kept_or_replaced() {
    let Stack { store, back, .. } =
        stack_with(WritePolicy::WriteThrough, |builder| builder.max_stale(Duration::ZERO)).await;
    let k = key("k");
    store.put(&k, Put::new("1")).await.expect("written");
    let read = store
        .load(&k, &ReadOptions::new().freshness(tiered_core::Freshness::MaxStale(Duration::ZERO)))
        .await
        .expect("reads");
    assert!(matches!(read.lookup, Lookup::Found(_)));
    back.put(&k, Put::new("2")).await.expect("another process writes");
    let fresh = store.load(&k, &ReadOptions::new().authoritative()).await.expect("reads");
    assert_eq!(fresh.into_entry().expect("found").value(), "2");
}
