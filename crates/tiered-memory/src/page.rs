//! A page of a listing: the smallest keys of a walk through a cache without order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use tiered_core::{Key, ListOptions, Listed, Timestamp};

use crate::Cache;

/// Keys of a page: large pages for few walks, 2 MiB of pointers for bounded memory.
const PAGE: usize = 65_536;

/// Keys in order, and where the page after them begins; `None` if this is the last one.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) listed: Vec<Listed>,
    pub(crate) next: Option<Key>,
}

impl Page {
    /// The next page that `options` ask for.
    pub(crate) fn of(cache: &impl Cache, options: &ListOptions, now: Timestamp) -> Self {
        let mut smallest: BinaryHeap<ByKey> = BinaryHeap::new();
        let mut full = false;
        cache.visit(&mut |key, entry| {
            let visible = entry.metadata().is_visible(now, options.tombstones);
            if !visible || !options.contains(key) {
                return;
            }
            // A key beyond a full page is not copied.
            if smallest.len() == PAGE {
                full = true;
                if smallest.peek().is_some_and(|ByKey(largest)| largest.key <= *key) {
                    return;
                }
                smallest.pop();
            }
            smallest.push(ByKey(Listed::of_entry(key.clone(), entry, options)));
        });
        let mut listed: Vec<Listed> =
            smallest.into_sorted_vec().into_iter().map(|ByKey(listed)| listed).collect();
        // A key that was removed and inserted again during the walk may have been visited in two places.
        listed.dedup_by(|one, other| one.key == other.key);
        let next = listed.last().filter(|_| full).map(|listed| listed.key.clone());
        Self { listed, next }
    }
}

/// Ordered by key.
struct ByKey(Listed);

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
mod tests {
    use tiered_core::adapter::Stamp;
    use tiered_core::{Entry, Put};

    use super::*;

    /// A cache in which the walk meets these keys.
    struct Walked(Vec<Key>);

    impl Cache for Walked {
        fn get(&self, _: &Key) -> Option<Entry> {
            None
        }
        fn contains(&self, _: &Key) -> bool {
            false
        }
        fn insert(&self, _: &Key, _: Entry) {}
        fn remove(&self, _: &Key) {}
        fn visit(&self, visit: &mut dyn FnMut(&Key, &Entry)) {
            let entry = Stamp::system().entry(&Put::new("value"));
            self.0.iter().for_each(|key| visit(key, &entry));
        }
        fn clear(&self) {}
        fn used(&self) -> u64 {
            0
        }
    }

    #[test]
    fn a_key_that_is_met_twice_is_listed_once() {
        let met = ["b", "a", "c", "b", "a"].map(|name| Key::new(name).expect("valid"));
        let page = Page::of(&Walked(met.into()), &ListOptions::new(), Timestamp::from_millis(0));
        let listed: Vec<&str> = page.listed.iter().map(|listed| listed.key.as_str()).collect();
        assert_eq!((listed, page.next), (vec!["a", "b", "c"], None));
    }
}
