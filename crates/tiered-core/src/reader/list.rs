//! Listings: those of one tier, with the pending writes laid over.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::Fuse;
use futures_util::{StreamExt as _, stream};

use super::Reader;
use crate::clock::Timestamp;
use crate::effect::Effect;
use crate::error::Result;
use crate::key::Key;
use crate::list::{ListOptions, ListStream, Listed};
use crate::plan::Side;
use crate::store::Store as _;

impl Reader {
    pub(crate) fn list(&self, options: &ListOptions) -> ListStream {
        let (now, most) = (self.stamp.now(), options.limit.unwrap_or(usize::MAX));
        // Before the base's listing begins: a write that is flushed after this is in the base.
        let pending =
            self.slots.first_pending(most, |key| options.contains(key), |effect| is_shown(effect, now));
        if pending.is_empty() {
            return self.without_reserved(self.base(self.with_reserved(options)), options.limit);
        }
        let hidden = pending.values().filter(|effect| !is_shown(effect, now)).count();
        let options_of_base = self.with_reserved(options);
        let limit = options_of_base.limit.map(|limit| limit.saturating_add(hidden));
        let merge = Merge {
            base: self.without_reserved(self.base(ListOptions { limit, ..options_of_base }), limit).fuse(),
            ahead: None,
            pending,
            now,
            options: options.clone(),
            left: most,
        };
        merge.into_stream()
    }

    /// The listing of the tier that listings come from.
    fn base(&self, options: ListOptions) -> ListStream {
        match self.plan.lists() {
            Side::Frontend => self.frontend.tier().past_breaker().list(options),
            Side::Backend => self.backend.past_breaker().list(options),
        }
    }

    /// Options under which there is one more key, where the lease's record may be among them.
    fn with_reserved(&self, options: &ListOptions) -> ListOptions {
        let more = usize::from(self.plan.lease().is_some());
        ListOptions { limit: options.limit.map(|limit| limit.saturating_add(more)), ..options.clone() }
    }

    /// The listing without the lease's record, up to `limit`.
    fn without_reserved(&self, listing: ListStream, limit: Option<usize>) -> ListStream {
        if self.plan.lease().is_none() {
            return listing;
        }
        let plan = Arc::clone(&self.plan);
        let is_reserved = move |listed: &Result<Listed>| key_of(listed).is_some_and(|key| plan.reserves(key));
        let others = listing.filter(move |listed| futures_util::future::ready(!is_reserved(listed)));
        Box::pin(others.take(limit.unwrap_or(usize::MAX)))
    }
}

/// Whether a listing at `now` shows what a pending write leaves.
fn is_shown(effect: &Effect, now: Timestamp) -> bool {
    matches!(effect, Effect::Put(entry) if entry.metadata().is_live(now))
}

/// The key that an item of a listing tells of, a damaged one too.
fn key_of(listed: &Result<Listed>) -> Option<&Key> {
    match listed {
        Ok(listed) => Some(&listed.key),
        Err(error) if error.damaged_key().is_some() => error.key(),
        Err(_) => None,
    }
}

/// Two ordered sequences as one; where both have a key, the pending write counts: a pending write replaces what is damaged.
struct Merge {
    base: Fuse<ListStream>,
    /// The base's next item, where it was read already. It tells of a key.
    ahead: Option<Result<Listed>>,
    pending: BTreeMap<Key, Effect>,
    now: Timestamp,
    options: ListOptions,
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
            let from_pending = match (ahead, self.pending.first_key_value()) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some(ahead), Some((key, _))) => key <= ahead,
            };
            let listed = if from_pending {
                let Some((key, effect)) = self.pending.pop_first() else { continue };
                if self.ahead.as_ref().and_then(key_of) == Some(&key) {
                    self.ahead = None;
                }
                match effect {
                    Effect::Put(entry) if entry.metadata().is_live(self.now) => {
                        Some(Ok(Listed::of_entry(key, &entry, &self.options)))
                    }
                    Effect::Put(_) | Effect::Delete(_) => None,
                }
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
