//! Write-behind that owns its backend by a lease.

use std::sync::Arc;
use std::time::Duration;

use tiered_core::adapter::journal::Journal;
use tiered_core::ownership::Lease;
use tiered_core::{
    Delete, ErrorKind, Feature, ListOptions, MemoryStore, Put, Result, Sharing, Store, StoreExt as _,
    TieredStore, VolatileJournal, WritePolicy,
};

use crate::scripted::{self, Fate, Scripted, key, shared};

async fn open(backend: &Scripted, lease: Lease) -> Result<TieredStore> {
    let journal: Arc<dyn Journal> = Arc::new(VolatileJournal::new());
    let builder = TieredStore::builder(MemoryStore::new(), backend.clone());
    builder.write_policy(WritePolicy::WriteBehind).journal(journal).lease(lease).build().await
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_at_most_one_holder() {
    let backend = shared();
    let first = open(&backend, Lease::Acquire).await.expect("the lease is free");
    let refused = open(&backend, Lease::Acquire).await.expect_err("held");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    first.put(&key("k"), Put::new("1")).await.expect("put");
    first.close().await.expect("drained");
    let second = open(&backend, Lease::Acquire).await.expect("given back");
    assert_eq!(second.get(&key("k")).await.expect("get").expect("flushed").value(), "1");
    second.close().await.expect("closed");
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_writes_nothing() {
    let backend = shared();
    let before = open(&backend, Lease::Acquire).await.expect("the lease is free");
    before.put(&key("a"), Put::new("flushed")).await.expect("put");
    before.flush().await.expect("flushed");
    let after = open(&backend, Lease::TakeOver).await.expect("taken over");
    let late = before.put(&key("a"), Put::new("late")).await.expect("it does not know yet");
    before.flush().await.expect_err("it knows now");
    assert!(late.receipt.durable(tiered_core::CommitLevel::Committed).await.is_err());
    assert_eq!(before.parked().len(), 1, "kept until it is retried or dropped");
    for refused in [before.get(&key("a")).await.err(), before.put(&key("a"), Put::new("x")).await.err()] {
        assert_eq!(refused.expect("it serves nothing").kind(), ErrorKind::Locked);
    }
    assert!(before.peek(&key("a")).is_none());
    assert_eq!(after.get(&key("a")).await.expect("get").expect("there").value(), "flushed");
    after.put(&key("a"), Put::new("after")).await.expect("put");
    after.close().await.expect("drained");
    assert_eq!(backend.inner().get(&key("a")).await.expect("get").expect("there").value(), "after");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_fence_the_owner_itself() {
    let backend = shared();
    let store = open(&backend, Lease::Acquire).await.expect("the lease is free");
    for (number, fate) in [Fate::AnswerLost, Fate::RequestLost, Fate::AnswerLost].into_iter().enumerate() {
        backend.then(fate);
        let value = number.to_string();
        store.put(&key("k"), Put::new(value.clone())).await.expect("put");
        store.flush().await.expect("flushed");
        assert_eq!(backend.inner().get(&key("k")).await.expect("get").expect("there").value(), &value);
    }
    store.close().await.expect("closed");
}

#[tokio::test(start_paused = true)]
async fn the_lease_record_is_not_visible_as_a_key() {
    let backend = shared();
    let store = open(&backend, Lease::Acquire).await.expect("the lease is free");
    for name in ["a", "b", "c"] {
        store.put(&key(name), Put::new("1")).await.expect("put");
    }
    store.flush().await.expect("flushed");
    assert_eq!(store.keys("").await.expect("keys"), [key("a"), key("b"), key("c")]);
    let mut two = Vec::new();
    let mut listing = store.list(ListOptions::new().limit(2));
    while let Some(listed) = futures_util::StreamExt::next(&mut listing).await {
        two.push(listed.expect("listed").key);
    }
    assert_eq!(two, [key("a"), key("b")]);
    let owner = key(".tiered/owner");
    assert!(backend.inner().get(&owner).await.expect("get").is_some());
    for refused in
        [store.put(&owner, Put::new("x")).await.err(), store.delete(&owner, Delete::new()).await.err()]
    {
        assert_eq!(refused.expect("reserved").kind(), ErrorKind::InvalidKey);
    }
    store.close().await.expect("closed");
}

#[tokio::test]
async fn a_lease_needs_atomic_batches() {
    let backend = scripted::over(
        MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch)),
        Sharing::Shared,
    );
    let refused = open(&backend, Lease::Acquire).await.expect_err("refused");
    assert!(refused.message().contains("atomic batches"), "{refused}");
    let builder = TieredStore::builder(MemoryStore::new(), MemoryStore::new());
    let refused = builder.lease(Lease::Acquire).build().await.expect_err("a lease needs write-behind");
    assert_eq!(refused.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_record_of_another_program_under_the_leases_name_is_not_overwritten() {
    let backend = shared();
    backend.inner().put(&key(".tiered/owner"), Put::new("something else")).await.expect("put");
    let refused = open(&backend, Lease::TakeOver).await.expect_err("not ours");
    assert_eq!(refused.kind(), ErrorKind::Foreign);
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_lease_does_not_expire_by_default() {
    let home = MemoryStore::new().declaring(|all| all.with_sharing(Sharing::Shared));
    let below = TieredStore::builder(MemoryStore::new(), home.clone());
    let below = below.default_ttl(Duration::from_mins(30)).beneath_journal().build().await.expect("it fits");
    let above = TieredStore::builder(MemoryStore::new(), below).write_policy(WritePolicy::WriteBehind);
    let above = above.journal(VolatileJournal::new()).lease(Lease::Acquire).build().await.expect("it fits");
    let of = async |name: &str| home.get(name).await.expect("get").expect("there").metadata().expires_at;
    assert_eq!(of(".tiered/owner").await, None, "acquired");
    above.set("k", Put::new("1").never_expires()).await.expect("set");
    above.flush().await.expect("flushed");
    assert_eq!(of(".tiered/owner").await, None, "replaced by a flush");
    assert_eq!(of("k").await, None);
}
