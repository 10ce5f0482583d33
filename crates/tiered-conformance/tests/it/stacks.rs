//! A tiered store is a store: stacks of the reference store pass the same cases.

use std::sync::Arc;

use async_trait::async_trait;
use tiered_conformance::{Effort, Factory, Place, RunOptions, cases, run};
use tiered_core::adapter::Stamp;
use tiered_core::{
    Feature, MemoryStore, ReadPolicy, Result, Store, TieredStore, VolatileJournal, WritePolicy,
};

use crate::broken::sessions::{Disk, Forgets};
use crate::broken::sharing::{Alone, Server};

async fn stack(
    frontend: Arc<dyn Store>,
    backend: Arc<dyn Store>,
    write: WritePolicy,
    read: ReadPolicy,
) -> Arc<dyn Store> {
    let mut builder = TieredStore::builder(frontend, backend).write_policy(write).read_policy(read);
    if write == WritePolicy::WriteBehind {
        builder = builder.journal(VolatileJournal::new());
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
async fn two_tiers_pass_under_every_policy() {
    for write in WritePolicy::ALL.iter().copied() {
        for read in ReadPolicy::ALL.iter().copied() {
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
async fn three_tiers_pass() {
    for outer in [WritePolicy::WriteThrough, WritePolicy::WriteBehind] {
        for inner in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
            let read = ReadPolicy::FrontendFirst;
            let lower = stack(memory(&[Feature::Peeks]), memory(&[]), inner, read).await;
            passes(stack(memory(&[]), lower, outer, read).await, &format!("{outer} over {inner}")).await;
        }
    }
}

/// Builds a new stack over a lasting or shared backend each time that its place is opened.
struct Stacked<P> {
    backend: P,
    write: WritePolicy,
}

#[async_trait]
impl<P: Place> Place for Stacked<P> {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let backend = self.backend.open().await?;
        let mut builder = TieredStore::builder(memory(&[]), Arc::clone(&backend)).write_policy(self.write);
        if self.write == WritePolicy::WriteBehind {
            builder = builder.journal(VolatileJournal::new());
        }
        match builder.build().await {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => {
                backend.close().await?;
                Err(error)
            }
        }
    }
}

/// Stacks on a manual clock, with places of their own.
struct Places<F> {
    store: Arc<dyn Store>,
    place: F,
}

#[async_trait]
impl<P: Place, F: Fn() -> Stacked<P> + Send + Sync + 'static> Factory for Places<F> {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(Arc::clone(&self.store))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new((self.place)()))
    }
}

async fn passes_with_places<P: Place>(
    what: &str,
    without: &[&str],
    place: impl Fn() -> Stacked<P> + Send + Sync + 'static,
) {
    let store = place().open().await.expect("builds");
    let names = cases().map(|case| case.name).filter(|name| !without.contains(name));
    let options = RunOptions::new().effort(Effort::Brief).only(names);
    let report = run(Places { store, place }, options).await;
    assert!(report.is_ok(), "{what}\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stacks_over_a_durable_backend_pass() {
    for write in [WritePolicy::WriteThrough, WritePolicy::WriteAround, WritePolicy::WriteBehind] {
        passes_with_places(&format!("{write}, lasting"), &[], move || Stacked {
            backend: Disk::new(Forgets::Nothing, &Stamp::system()),
            write,
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stacks_over_a_shared_backend_pass() {
    for write in [WritePolicy::WriteThrough, WritePolicy::WriteAround] {
        // The server of these tests is not closed with a handle of it.
        passes_with_places(&format!("{write}, shared"), &["life_close"], move || Stacked {
            backend: Server::new(Alone::Nothing, &Stamp::system()),
            write,
        })
        .await;
    }
}
