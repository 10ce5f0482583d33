//! Listings across exchanges.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tiered_core::{ListOptions, ListStream, Listed, Result};

use super::Shared;

struct Listing {
    shared: Arc<Shared>,
    /// What is still to be listed.
    rest: ListOptions,
    /// The listing of a store inside, and which one it is.
    of: Option<(u64, ListStream)>,
}

pub(super) fn list(shared: Arc<Shared>, options: ListOptions) -> ListStream {
    let listing = Listing { shared, rest: options, of: None };
    Box::pin(stream::unfold(listing, |mut listing| async move {
        let listed = listing.next().await?;
        Some((listed, listing))
    }))
}

impl Listing {
    async fn next(&mut self) -> Option<Result<Listed>> {
        loop {
            let now = self.shared.calls.inside().number;
            let (number, listing) = match &mut self.of {
                Some((number, listing)) if *number == now => (*number, listing),
                of => {
                    let inside = self.shared.calls.begin().await;
                    let of = of.insert((inside.number, inside.store.list(self.rest.clone())));
                    (of.0, &mut of.1)
                }
            };
            let listed = listing.next().await;
            let key = match &listed {
                Some(Ok(listed)) => Some(&listed.key),
                Some(Err(error)) => error.damaged_key(),
                None => None,
            };
            if let Some(key) = key {
                self.rest.start_after = Some(key.clone());
                self.rest.limit = self.rest.limit.map(|limit| limit.saturating_sub(1));
                return listed;
            }
            // It has ended, or was closed for an exchange: then it goes on at the next store.
            if self.shared.calls.begin().await.number == number {
                return listed;
            }
        }
    }
}
