//! Batches with several operations on one key, where the backend carries them out one by one.

use tiered_conformance::{Intercept, Interceptor};
use tiered_core::settings::OnUnknown;
use tiered_core::{
    Batch, Entry, Feature, Key, MemoryStore, Outcome, Put, Store, StoreExt as _, TieredStore,
    VolatileJournal, WritePolicy,
};

/// Found by the simulation: an operation that a later one was to replace answered `Ok`, and the later one was refused.
#[tokio::test]
async fn an_acknowledged_batch_operation_stays_although_a_later_one_is_refused() {
    for (policy, on_unknown) in [
        (WritePolicy::WriteThrough, OnUnknown::Report),
        (WritePolicy::WriteThrough, OnUnknown::Retry),
        (WritePolicy::WriteAround, OnUnknown::Report),
        (WritePolicy::WriteAround, OnUnknown::Retry),
        (WritePolicy::WriteBehind, OnUnknown::Report),
        (WritePolicy::FrontendOnly, OnUnknown::Report),
    ] {
        let what = format!("{policy}, {on_unknown:?}");
        let back = MemoryStore::new().declaring(|all| all.without(Feature::AtomicBatch));
        let mut builder =
            TieredStore::builder(MemoryStore::new(), back).write_policy(policy).on_unknown(on_unknown);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(VolatileJournal::new());
        }
        let store = builder.build().await.expect("builds");
        let key = Key::new("k").expect("valid");
        store.put(&key, Put::new("old")).await.expect("put");
        store.get(&key).await.expect("in the frontend");
        let batch = Batch::new()
            .best_effort()
            .put(key.clone(), "earlier")
            .put(key.clone(), Put::new("last").if_absent());
        let outcomes = store.apply(batch).await.expect("one by one");
        let refused = outcomes[1].as_ref().expect_err("it is there").write_outcome();
        assert_eq!(refused, Outcome::NotApplied, "{what}");
        let expected = match &outcomes[0] {
            Ok(_) => "earlier",
            Err(error) => {
                assert_eq!(error.write_outcome(), Outcome::NotApplied, "{what}");
                "old"
            }
        };
        let shown = store.get(&key).await.expect("reads").map(Entry::into_value);
        assert_eq!(shown.expect("there"), expected, "{what}");
        store.flush().await.expect("flushed");
        if policy != WritePolicy::FrontendOnly {
            let there = store.backend().get(&key).await.expect("reads").map(Entry::into_value);
            assert_eq!(there.expect("there"), expected, "{what}");
        }
    }
}

/// Found by the simulation (seed 1119): a read that had begun before a local batch saw the value of an operation that a
/// later one of the same batch replaced, although that one was conditional on the value before both.
#[tokio::test]
async fn a_local_batch_stores_only_the_last_operation_on_each_key() {
    let front = Intercept::new(MemoryStore::new(), Seen::default());
    let store = TieredStore::builder(front.clone(), MemoryStore::new())
        .write_policy(WritePolicy::FrontendOnly)
        .build()
        .await
        .expect("builds");
    let key = Key::new("k").expect("valid");
    let old = store.put(&key, Put::new("old")).await.expect("put").version;
    let batch = Batch::new()
        .best_effort()
        .put(key.clone(), Put::new("replaced"))
        .put(key.clone(), Put::new("new").if_version(old.clone()))
        .put(key.clone(), Put::new("refused").if_absent());
    let outcomes = store.apply(batch).await.expect("one for each");
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(*front.0.lock(), ["old", "new"]);
    assert_eq!(store.get(&key).await.expect("get").expect("there").value(), "new");
}

/// The values that were put.
#[derive(Debug, Default)]
struct Seen(parking_lot::Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Interceptor for Seen {
    async fn put(&self, inner: &dyn Store, key: &Key, put: Put) -> tiered_core::Result<tiered_core::Written> {
        self.0.lock().push(String::from_utf8_lossy(&put.value).into_owned());
        inner.put(key, put).await
    }
}
