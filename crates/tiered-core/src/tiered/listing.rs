//! Listings: the backend's, overlaid with what is pending.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::Fuse;
use futures_util::{StreamExt as _, stream};

use super::behind::OWNER;
use super::engine::Engine;
use crate::error::{Operation, Result};
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed, is_damaged_key};
use crate::planted::Plant;
use crate::policy::{ReadPolicy, WritePolicy};
use crate::slot::PendingState;
use crate::store::Store;

impl Engine {
    pub(super) fn list(self: &Arc<Self>, options: ListOptions) -> ListStream {
        let engine = Arc::clone(self);
        // Nothing is looked at before the first key is asked for.
        Box::pin(stream::once(async move { engine.begin_list(&options) }).flatten())
    }

    fn begin_list(self: &Arc<Self>, options: &ListOptions) -> ListStream {
        if let Err(error) = self.check_open(Operation::List) {
            return Box::pin(stream::iter([Err(error)]));
        }
        let local = self.settings.write_policy == WritePolicy::FrontendOnly
            || self.settings.read_policy == ReadPolicy::FrontendOnly;
        let base = if local { &self.frontend } else { &self.backend };
        if self.planted.has(Plant::ListingCapturesLate) {
            return self.list_backwards(Arc::clone(base), options.clone());
        }
        // Before the base's listing begins: a write that leaves the overlay after this is in the base.
        let overlay = self.pending_within(options);
        if overlay.is_empty() {
            return self.without_owner(base.list(self.with_owner(options)), options.limit);
        }
        let hidden = overlay.iter().filter(|(_, listed)| listed.is_none()).count();
        let options_of_base = self.with_owner(options);
        let limit = options_of_base.limit.map(|limit| limit.saturating_add(hidden));
        let merge = Merge {
            base: self.without_owner(base.list(ListOptions { limit, ..options_of_base }), limit).fuse(),
            ahead: None,
            overlay,
            left: options.limit.unwrap_or(usize::MAX),
        };
        merge.into_stream()
    }

    /// Options under which there is one more key, where the lease's record may be among them.
    fn with_owner(&self, options: &ListOptions) -> ListOptions {
        let limit = options.limit.map(|limit| limit.saturating_add(usize::from(self.is_leased())));
        ListOptions { limit, ..options.clone() }
    }

    /// The listing without the lease's record, up to `limit`.
    fn without_owner(&self, listing: ListStream, limit: Option<usize>) -> ListStream {
        if !self.is_leased() {
            return listing;
        }
        let is_owner = |listed: &Result<Listed>| key_of(listed).is_some_and(|key| key.as_str() == OWNER);
        let others = listing.filter(move |listed| futures_util::future::ready(!is_owner(listed)));
        Box::pin(others.take(limit.unwrap_or(usize::MAX)))
    }

    /// Captures what is pending when the base's listing is over: a deliberate bug.
    fn list_backwards(self: &Arc<Self>, base: Arc<dyn Store>, options: ListOptions) -> ListStream {
        let engine = Arc::clone(self);
        let listed = async move {
            let base: Vec<Result<Listed>> = base.list(options.clone()).collect().await;
            let overlay = engine.pending_within(&options);
            let merge = Merge {
                base: (Box::pin(stream::iter(base)) as ListStream).fuse(),
                ahead: None,
                overlay,
                left: options.limit.unwrap_or(usize::MAX),
            };
            merge.into_stream()
        };
        Box::pin(stream::once(listed).flatten())
    }

    /// The pending writes that a listing with these options meets: a listed key, or `None` for a deleted one.
    fn pending_within(&self, options: &ListOptions) -> VecDeque<(Key, Option<Listed>)> {
        if self.planted.has(Plant::ListingMissesPending) || self.behind.is_none() {
            return VecDeque::new();
        }
        let now = self.stamp.now();
        self.slots
            .all_pending()
            .into_iter()
            .filter(|(key, _)| options.contains(key))
            .map(|(key, state)| {
                let listed = match state {
                    PendingState::Written(entry) if entry.metadata().is_live(now) => {
                        Some(Listed::of_entry(key.clone(), &entry, options))
                    }
                    PendingState::Written(_) | PendingState::Deleted => None,
                };
                (key, listed)
            })
            .collect()
    }
}

/// The key that an item of a listing tells of, a damaged one too.
fn key_of(listed: &Result<Listed>) -> Option<&Key> {
    match listed {
        Ok(listed) => Some(&listed.key),
        Err(error) if is_damaged_key(error) => error.key(),
        Err(_) => None,
    }
}

/// Two ordered sequences as one; where both have a key, the overlay's counts: a pending write replaces what is damaged.
struct Merge {
    base: Fuse<ListStream>,
    /// The base's next item, where it was read already. It tells of a key.
    ahead: Option<Result<Listed>>,
    overlay: VecDeque<(Key, Option<Listed>)>,
    left: usize,
}

impl Merge {
    fn into_stream(self) -> ListStream {
        Box::pin(stream::unfold(Some(self), |merge| async move {
            let mut merge = merge?;
            match merge.next().await {
                Some(listed) if key_of(&listed).is_some() => Some((listed, Some(merge))),
                Some(ended) => Some((ended, None)),
                None => None,
            }
        }))
    }

    async fn next(&mut self) -> Option<Result<Listed>> {
        while self.left > 0 {
            if self.ahead.is_none() {
                match self.base.next().await {
                    Some(ended) if key_of(&ended).is_none() => return Some(ended),
                    ahead => self.ahead = ahead,
                }
            }
            let ahead = self.ahead.as_ref().and_then(key_of);
            let from_overlay = match (ahead, self.overlay.front()) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some(ahead), Some((key, _))) => key <= ahead,
            };
            let listed = if from_overlay {
                let Some((key, listed)) = self.overlay.pop_front() else { continue };
                if self.ahead.as_ref().and_then(key_of) == Some(&key) {
                    self.ahead = None;
                }
                listed.map(Ok)
            } else {
                self.ahead.take()
            };
            if let Some(listed) = listed {
                self.left -= 1;
                return Some(listed);
            }
        }
        None
    }
}
