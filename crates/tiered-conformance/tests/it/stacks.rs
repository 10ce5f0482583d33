//! A tiered store is a store: stacks of the reference store pass the same cases.

use std::sync::Arc;

use tiered_conformance::{Effort, RunOptions, run};
use tiered_core::{Feature, MemoryStore, ReadPolicy, Store, TieredStore, VolatileJournal, WritePolicy};

async fn stack(
    frontend: Arc<dyn Store>,
    backend: Arc<dyn Store>,
    write: WritePolicy,
    read: ReadPolicy,
) -> Arc<dyn Store> {
    let mut builder = TieredStore::builder(frontend, backend).write_policy(write).read_policy(read);
    if write == WritePolicy::WriteBehind {
        builder = builder.journal(Arc::new(VolatileJournal::new()));
    }
    Arc::new(builder.build().await.expect("builds"))
}

fn memory(features: &[Feature]) -> Arc<dyn Store> {
    Arc::new(
        MemoryStore::new().declaring(|all| features.iter().fold(all, |all, feature| all.without(*feature))),
    )
}

async fn passes(store: Arc<dyn Store>, what: &str) {
    let report = run(
        move || {
            let store = Arc::clone(&store);
            async move { store }
        },
        RunOptions::new().effort(Effort::Brief),
    )
    .await;
    assert!(report.is_ok(), "{what}\n{report}");
}

#[tokio::test]
async fn two_tiers_under_every_policy() {
    for write in WritePolicy::ALL {
        for read in ReadPolicy::ALL {
            if (write, read) == (WritePolicy::WriteAround, ReadPolicy::FrontendOnly) {
                continue;
            }
            for missing in [&[][..], &[Feature::Peeks], &[Feature::AtomicBatch]] {
                let store = stack(memory(missing), memory(missing), write, read).await;
                passes(store, &format!("{write}, {read}, without {missing:?}")).await;
            }
        }
    }
}

#[tokio::test]
async fn three_tiers() {
    for outer in [WritePolicy::WriteThrough, WritePolicy::WriteBehind] {
        for inner in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
            let read = ReadPolicy::FrontendFirst;
            let lower = stack(memory(&[Feature::Peeks]), memory(&[]), inner, read).await;
            passes(stack(memory(&[]), lower, outer, read).await, &format!("{outer} over {inner}")).await;
        }
    }
}
