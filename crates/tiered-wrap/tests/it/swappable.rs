//! A store that is exchanged while it is used.

mod exchanges;
mod feeds;
mod journals;
mod moves;
mod refusals;
mod traffic;

use std::sync::Arc;

use async_trait::async_trait;
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::{Entry, Feature, Key, MemoryStore, Result, Store, TieredStore};
use tiered_wrap::Swappable;
use tokio::sync::Semaphore;

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

/// A frontend over the store inside. It is in memory, and answers no `peek`, so that either can stand in for the other.
pub(crate) async fn attach(store: &Swappable) -> Result<TieredStore> {
    store.swap(|backend| TieredStore::builder(MemoryStore::new(), backend).build()).await
}

pub(crate) async fn detach(store: &Swappable, stack: TieredStore) -> Result<Arc<dyn Store>> {
    store.detach(&stack).await
}

/// Memory whose writes wait for a permit, and whose `peek` finds nothing.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Semaphore);

#[async_trait]
impl Interceptor for Held {
    async fn before_write(&self) -> Result<()> {
        self.0.acquire().await.expect("never closed").forget();
        Ok(())
    }

    fn peek(&self, _inner: &dyn Store, _key: &Key) -> Option<Entry> {
        None
    }
}

/// Memory whose writes wait.
pub(crate) fn held() -> Intercept<Held, MemoryStore> {
    let memory = MemoryStore::new().declaring(|all| all.without(Feature::Peeks));
    Intercept::new(memory, Held(Semaphore::new(0)))
}
