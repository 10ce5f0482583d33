//! The feed of changes across exchanges.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tiered_conformance::{Intercept, Interceptor};
use tiered_core::adapter::{Change, ChangeStream};
use tiered_core::{Feature, MemoryStore, Store};
use tiered_wrap::Swappable;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::key;

/// Tells of changes that a test makes up.
#[derive(Debug)]
struct Told(broadcast::Sender<String>);

#[async_trait]
impl Interceptor for Told {
    fn changes(&self, _inner: &dyn Store) -> Option<ChangeStream> {
        let told = self.0.subscribe();
        Some(Box::pin(stream::unfold(told, |mut told| async move {
            let text = told.recv().await.ok()?;
            Some((Change::Key { key: key(&text), version: None }, told))
        })))
    }
}

fn told() -> Intercept<Told, MemoryStore> {
    let memory = MemoryStore::new().declaring(|all| all.with(Feature::Changes));
    Intercept::new(memory, Told(broadcast::Sender::new(16)))
}

async fn next(feed: &mut ChangeStream) -> Option<Change> {
    timeout(Duration::from_secs(5), feed.next()).await.expect("in time")
}

#[tokio::test(start_paused = true)]
async fn a_feed_goes_on_at_the_new_store_after_a_resync() {
    let (first, second) = (told(), told());
    let store = Swappable::new(first.clone());
    let mut feed = store.changes().expect("declared");
    first.0.send("a".to_owned()).expect("followed");
    assert!(matches!(next(&mut feed).await, Some(Change::Key { key, .. }) if key == super::key("a")));
    let new = second.clone();
    store.swap(|_| async { Ok(new) }).await.expect("exchanged");
    assert!(matches!(next(&mut feed).await, Some(Change::Resync)));
    second.0.send("b".to_owned()).expect("followed");
    assert!(matches!(next(&mut feed).await, Some(Change::Key { key, .. }) if key == super::key("b")));
}

#[tokio::test]
async fn a_store_that_has_no_feed_gives_none() {
    assert!(Swappable::new(MemoryStore::new()).changes().is_none());
    let silent = Swappable::declaring(told(), |all| all.without(Feature::Changes)).expect("declares less");
    assert!(silent.changes().is_none());
}
