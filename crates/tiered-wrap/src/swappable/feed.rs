//! The feed of changes across exchanges.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tiered_core::Feature;
use tiered_core::adapter::{Change, ChangeStream};
use tokio::sync::watch;

use super::Shared;

struct Feed {
    shared: Arc<Shared>,
    exchanges: watch::Receiver<u64>,
    changes: ChangeStream,
    /// Of the store that `changes` come from.
    number: u64,
}

pub(super) fn changes(shared: &Arc<Shared>) -> Option<ChangeStream> {
    if !shared.capabilities.has(Feature::Changes) {
        return None;
    }
    let exchanges = shared.calls.exchanges();
    let inside = shared.calls.inside();
    let (number, changes) = (inside.number, inside.store.changes()?);
    let feed = Feed { shared: Arc::clone(shared), exchanges, changes, number };
    Some(Box::pin(stream::unfold(feed, |mut feed| async move {
        let change = feed.next().await?;
        Some((change, feed))
    })))
}

impl Feed {
    async fn next(&mut self) -> Option<Change> {
        let number = self.number;
        let change = tokio::select! {
            biased;
            // This feed holds the sender: the wait cannot fail.
            _ = self.exchanges.wait_for(|now| *now > number) => None,
            change = self.changes.next() => change,
        };
        if change.is_some() {
            return change;
        }
        // The store was exchanged, or it is closed. Only an exchange changes the number.
        let inside = self.shared.calls.begin().await;
        if inside.number == number {
            return None;
        }
        let changes = inside.store.changes()?;
        self.number = inside.number;
        self.changes = changes;
        Some(Change::Resync)
    }
}
