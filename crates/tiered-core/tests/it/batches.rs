//! Batches with several operations on one key, where the backend carries them out one by one.

use std::sync::Arc;

use tiered_core::{
    Batch, Entry, Feature, Key, MemoryStore, OnUnknown, Outcome, Put, Store as _, StoreExt as _,
    TieredSettings, TieredStore, VolatileJournal, WritePolicy,
};

/// Found by the simulation: an operation that a later one was to replace answered `Ok`, and the later one was refused.
#[tokio::test]
async fn what_a_batch_acknowledges_is_there_although_a_later_operation_of_it_is_refused() {
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
        let settings = TieredSettings { write_policy: policy, on_unknown, ..TieredSettings::default() };
        let mut builder =
            TieredStore::builder(Arc::new(MemoryStore::new()), Arc::new(back)).settings(settings);
        if policy == WritePolicy::WriteBehind {
            builder = builder.journal(Arc::new(VolatileJournal::new()));
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
