//! Claims: two owners that do not know of each other never share a tier.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::Scope;
use tiered_core::sync::{PopulateMissing, SyncOptions, sync};
use tiered_core::{
    ErrorKind, MemoryStore, Put, Requirement, Store, StoreExt as _, TieredBuilder, TieredStore,
    VolatileJournal, WritePolicy,
};

use crate::scripted::{key, shared};

fn over(back: &MemoryStore) -> TieredBuilder {
    TieredStore::builder(MemoryStore::new(), back.clone())
}

#[tokio::test]
async fn a_tier_in_use_by_one_stack_is_refused_to_a_second() {
    let (front, back) = (MemoryStore::new(), MemoryStore::new());
    let one = TieredStore::builder(front.clone(), back.clone()).build().await.expect("builds");
    let error = over(&back).build().await.expect_err("it would serve old entries for ever");
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    let shares_front = TieredStore::builder(front.clone(), MemoryStore::new());
    assert_eq!(shares_front.build().await.expect_err("one frontend").kind(), ErrorKind::Locked);
    one.put(&key("k"), Put::new("1")).await.expect("written");
    drop(one);
    let two = over(&back).build().await.expect("given back with the last handle");
    assert_eq!(two.get(&key("k")).await.expect("reads").expect("there").value(), "1");
}

#[tokio::test]
async fn a_shareable_frontend_must_be_declared_private() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::FrontendOnly] {
        let over = || {
            let front = shared();
            TieredStore::builder(front, MemoryStore::new()).write_policy(policy)
        };
        let error = over().build().await.expect_err("another process could fill it");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("declare_private_frontend()"), "{error}");
        over().declare_private_frontend().build().await.expect("declared");
    }
}

/// A write that is past its gate runs to its end, also when the last handle is dropped. Until then the tiers are not given
/// back: a second stack would fill its frontend with the value before that write, and serve it without limit.
#[tokio::test(start_paused = true)]
async fn a_tier_is_released_only_after_its_last_write_has_ended() {
    for policy in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
        let back = MemoryStore::new();
        let slow = || Arc::new(Intercept::new(back.clone(), Slow));
        let one = TieredStore::builder(MemoryStore::new(), slow()).write_policy(policy);
        let one = match policy {
            WritePolicy::WriteBehind => one.journal(VolatileJournal::new()),
            _ => one,
        };
        let one = one.build().await.expect("builds");
        let written = key(policy.name());
        let put = one.put(&written, Put::new("1"));
        // Write-behind acknowledges; the others are dropped past their gate.
        tokio::time::timeout(SLOW / 10, put).await.ok();
        drop(one);
        let begun = tokio::time::Instant::now();
        let two = loop {
            match TieredStore::builder(MemoryStore::new(), slow()).build().await {
                Ok(two) => break two,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
            }
            assert!(begun.elapsed() < SLOW * 4, "given back in the end");
            tokio::time::sleep(SLOW / 10).await;
        };
        assert_eq!(two.get(&written).await.expect("reads").expect("there").value(), "1", "{policy}");
    }
}

const SLOW: std::time::Duration = std::time::Duration::from_secs(10);

/// Takes its time for every write.
#[derive(Debug)]
struct Slow;

#[async_trait::async_trait]
impl Interceptor for Slow {
    async fn before_write(&self) -> tiered_core::Result<()> {
        tokio::time::sleep(SLOW).await;
        Ok(())
    }
}

#[tokio::test]
async fn a_second_owner_of_pending_writes_is_refused() {
    let back = MemoryStore::new();
    let behind =
        || over(&back).write_policy(WritePolicy::WriteBehind).journal(VolatileJournal::new()).build();
    let one = behind().await.expect("builds");
    assert_eq!(behind().await.expect_err("two owners").kind(), ErrorKind::Locked);
    one.put(&key("k"), Put::new("1")).await.expect("acknowledged");
    drop(one);
    // What is pending is flushed before the tier is given back.
    let two = behind().await.expect("builds when the first has ended");
    assert_eq!(two.get(&key("k")).await.expect("reads").expect("flushed").value(), "1");
}

#[tokio::test]
async fn a_failed_build_releases_its_tiers() {
    let back = MemoryStore::new();
    let strict = over(&back).require(Requirement::Strict).build().await;
    assert_eq!(strict.expect_err("memory does not last").kind(), ErrorKind::Config);
    let front = MemoryStore::new();
    let held = back.claim(&Scope::Whole).await.expect("free");
    let build = TieredStore::builder(front.clone(), back.clone());
    build.build().await.expect_err("the backend is lent");
    drop(held);
    drop(front.claim(&Scope::Whole).await.expect("given back"));
    over(&back).build().await.expect("builds");
}

#[tokio::test]
async fn closing_a_stack_releases_its_tiers() {
    let inner = Arc::new(over(&MemoryStore::new()).build().await.expect("builds"));
    let outer =
        |inner: &Arc<TieredStore>| TieredStore::builder(MemoryStore::new(), Arc::clone(inner)).build();
    let one = outer(&inner).await.expect("builds");
    assert_eq!(outer(&inner).await.expect_err("the stack is in use").kind(), ErrorKind::Locked);
    one.close().await.expect("closes");
    drop(inner.claim(&Scope::Whole).await.expect("given back"));
}

#[tokio::test]
async fn a_revalidating_cache_may_share_its_backend() {
    let back = MemoryStore::new();
    let owner = over(&back).build().await.expect("builds");
    let cache = || over(&back).write_policy(WritePolicy::FrontendOnly);
    assert_eq!(cache().build().await.expect_err("for ever is too long").kind(), ErrorKind::Locked);
    let cache = cache().max_stale(Duration::ZERO).build().await.expect("it compares");
    for value in ["1", "2"] {
        owner.put(&key("k"), Put::new(value)).await.expect("written");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        assert_eq!(cache.get(&key("k")).await.expect("reads").expect("there").value(), value);
    }
}

#[tokio::test]
async fn a_sync_does_not_write_a_tier_of_a_live_stack() {
    let back = MemoryStore::new();
    let store = over(&back).build().await.expect("builds");
    let (source, target) = (MemoryStore::new(), back);
    let error = sync(&source, &target, &PopulateMissing, &SyncOptions::new()).await.expect_err("lent");
    assert_eq!(error.kind(), ErrorKind::Locked);
    store.put(&key("k"), Put::new("1")).await.expect("written");
    drop(store);
    sync(&source, &target, &PopulateMissing, &SyncOptions::new()).await.expect("given back");
    let users = target.claim(&Scope::prefix("users/")).await.expect("free");
    let orders = SyncOptions::new().prefix("orders/");
    sync(&source, &target, &PopulateMissing, &orders).await.expect("of other keys");
    drop(users);
}
