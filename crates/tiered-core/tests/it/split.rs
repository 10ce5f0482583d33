//! Splitting keys into ranges: how even the parts are, and that they are ranges of all keys.

use std::sync::atomic::{AtomicU64, Ordering};

use tiered_conformance::{Intercept, Interceptor};
use tiered_core::sync::{FullSync, SyncOptions, split, sync};
use tiered_core::{Key, ListOptions, ListStream, MemoryStore, Put, Store};

use crate::scripted::key;

async fn store_of(names: impl IntoIterator<Item = String>) -> MemoryStore {
    let store = MemoryStore::new();
    for name in names {
        store.put(&key(&name), Put::new("v")).await.expect("written");
    }
    store
}

/// How many keys each part has.
fn sizes(store: &MemoryStore, prefix: &str, borders: &[Key]) -> Vec<usize> {
    let mut sizes = vec![0; borders.len() + 1];
    for name in store.snapshot().into_keys().filter(|name| name.as_str().starts_with(prefix)) {
        let part = borders.partition_point(|border| *border < name);
        *sizes.get_mut(part).expect("a part") += 1;
    }
    sizes
}

/// Whether the largest part is at most a quarter larger than the mean.
fn are_even(sizes: &[usize]) -> bool {
    let most = sizes.iter().copied().max().unwrap_or_default();
    most * sizes.len() * 4 <= sizes.iter().sum::<usize>() * 5
}

/// Names whose order has nothing to do with their numbers.
fn hashed(number: u64) -> String {
    format!(
        "{:016x}",
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93)
    )
}

#[tokio::test]
async fn parts_are_even_whatever_the_keys_look_like() {
    let counted = store_of((0..60_000).map(|number| format!("users/{number:09}"))).await;
    let ids = store_of((0..60_000).map(hashed)).await;
    // Tenants of very different sizes, of which one has most.
    let tenants = store_of((0..60_000_u64).map(|number| {
        let tenant = if number % 10 < 7 { 3 } else { number % 40 };
        format!("tenant-{tenant:02}/{}", hashed(number))
    }))
    .await;
    let days = store_of(
        (0..60_000_u64)
            .map(|number| format!("2026/{:02}/{:02}/{number:07}", number % 97 % 12 + 1, number % 28 + 1)),
    )
    .await;
    for (what, store) in [("counted", &counted), ("ids", &ids), ("tenants", &tenants), ("days", &days)] {
        for parts in [2, 7, 16] {
            let borders = split(store, "", parts).await.expect("splits");
            let sizes = sizes(store, "", &borders);
            assert_eq!(sizes.len(), parts, "{what}");
            assert!(are_even(&sizes), "{what}: {sizes:?}");
            assert_eq!(
                borders,
                split(store, "", parts).await.expect("splits"),
                "the same keys, the same parts"
            );
        }
    }
}

#[tokio::test]
async fn few_keys_are_split_exactly_and_fewer_than_parts_into_as_many_as_there_are() {
    let store = store_of((0..1_000).map(|number| format!("{number:03}"))).await;
    let borders = split(&store, "", 4).await.expect("splits");
    assert_eq!(sizes(&store, "", &borders), [250; 4]);
    let counted = Intercept::new(store.clone(), Requests::default());
    split(&counted, "", 4).await.expect("splits");
    assert_eq!(counted.lists.load(Ordering::Relaxed), 1);
    assert_eq!(split(&store, "", 1).await.expect("one part"), []);
    assert_eq!(split(&store, "nothing/", 4).await.expect("no keys"), []);
    let three = store_of(["a", "b", "c"].map(str::to_owned)).await;
    let borders = split(&three, "", 8).await.expect("splits");
    assert!(sizes(&three, "", &borders).iter().all(|size| *size <= 1), "{borders:?}");
    assert!(split(&store, "", 0).await.is_err());
}

#[tokio::test]
async fn a_prefix_that_is_a_key_and_names_without_order_are_counted_as_well() {
    let names = (0..5_000_u64).flat_map(|number| [format!("a{number:05}"), format!("a{number:05}/x")]);
    let store = store_of(names.chain([
        "a".to_owned(),
        "b".to_owned(),
        "a\u{10ffff}\u{10ffff}".to_owned(),
        "a\u{10ffff}b".to_owned(),
    ]))
    .await;
    let borders = split(&store, "a", 5).await.expect("splits");
    assert!(are_even(&sizes(&store, "a", &borders)));
    assert!(borders.iter().all(|border| border.as_str().starts_with('a')));
}

#[tokio::test]
async fn names_that_are_long_and_alike_are_split_as_well_and_cost_few_requests() {
    let store = store_of((0..5_000).map(|number| format!("{}/{number:05}", "x".repeat(300)))).await;
    let counted = Intercept::new(store.clone(), Requests::default());
    let borders = split(&counted, "", 2).await.expect("splits");
    assert!(borders.len() == 1 && are_even(&sizes(&store, "", &borders)), "{borders:?}");
    let requests = counted.lists.load(Ordering::Relaxed);
    assert!(requests < 500, "{requests} requests");
}

/// Counts listings.
#[derive(Debug, Default)]
struct Requests {
    lists: AtomicU64,
}

impl Interceptor for Requests {
    fn list(&self, inner: &dyn Store, options: ListOptions) -> ListStream {
        self.lists.fetch_add(1, Ordering::Relaxed);
        inner.list(options)
    }
}

#[tokio::test]
async fn the_parts_together_are_the_whole_and_no_key_is_in_two() {
    let source = store_of((0..4_000).map(hashed)).await;
    let target = store_of((3_000..5_000).map(hashed)).await;
    let borders = split(&source, "", 5).await.expect("splits");
    let (mut copied, mut removed, mut listed) = (0, 0, 0);
    for part in 0..5_usize {
        let mut options = SyncOptions::new();
        options.after = part.checked_sub(1).map(|before| borders[before].clone());
        options.through = borders.get(part).cloned();
        let report = sync(&source, &target, &FullSync, &options).await.expect("syncs");
        copied += report.copied;
        removed += report.removed;
        listed += report.listed_from;
    }
    assert_eq!((copied, removed, listed), (3_000 + 1_000, 1_000, 4_000));
    assert_eq!(source.snapshot(), target.snapshot());
}
