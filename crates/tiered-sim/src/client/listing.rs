//! Listings: of all keys, of those under a prefix, behind a key, up to a limit.

use futures_util::StreamExt as _;
use tiered_core::{Key, ListOptions, Store, TieredStore};

use super::{Begun, Clients};
use crate::history::Effect;

impl Clients {
    pub(super) async fn list(&self, store: &TieredStore) {
        let options = self.listing_options();
        let begun: Vec<Begun> = (0..self.keys.len()).map(|key| self.begin(key, Effect::Present)).collect();
        let mut listing = store.list(options.clone());
        let mut found = Vec::new();
        while let Some(listed) = listing.next().await {
            match listed {
                Ok(listed) => found.push(listed.key),
                Err(_) => return begun.into_iter().for_each(|begun| self.forget(begun)),
            }
        }
        if let Err(why) = judge(&options, &found) {
            self.fault(0, &format!("{why}: {found:?} under {options:?}"));
        }
        // Up to where it tells what is there and what is not; behind a full page nothing is told.
        let full = options.limit.is_some_and(|limit| found.len() >= limit);
        let end = if full { found.last().cloned() } else { None };
        for (begun, name) in begun.into_iter().zip(&self.keys) {
            let told = options.contains(name) && (!full || end.as_ref().is_some_and(|end| name <= end));
            // A local cache lists what the frontend has, which need not be all.
            if !told || self.config.is_local() {
                self.forget(begun);
                continue;
            }
            // A listing tells presence alone.
            let effect = if found.contains(name) { Effect::Present } else { Effect::Read(0) };
            self.end(begun, effect);
        }
    }

    fn listing_options(&self) -> ListOptions {
        let mut options = ListOptions::new();
        let some = |chosen: u64| usize::try_from(chosen).ok().and_then(|index| self.keys.get(index));
        if let Some(key) = some(self.below(4 * self.keys.len() as u64)) {
            options = options.prefix(key.as_str());
        }
        if let Some(key) = some(self.below(3 * self.keys.len() as u64)) {
            options = options.start_after(key.clone());
        }
        if self.below(2) == 0 {
            options = options.limit(usize::try_from(1 + self.below(self.keys.len() as u64)).unwrap_or(1));
        }
        options
    }
}

fn judge(options: &ListOptions, found: &[Key]) -> Result<(), &'static str> {
    if !found.is_sorted_by(|one, next| one < next) {
        return Err("a listing out of order, or with a key twice");
    }
    if options.limit.is_some_and(|limit| found.len() > limit) {
        return Err("a listing beyond its limit");
    }
    if !found.iter().all(|key| options.contains(key)) {
        return Err("a listing of what was not asked for");
    }
    Ok(())
}
