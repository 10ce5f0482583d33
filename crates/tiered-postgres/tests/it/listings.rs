//! Long listings: what the server reads for them, and where they end.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tiered_core::{Batch, Key, ListOptions, Put, Store};
use tiered_postgres::PostgresStore;

use crate::place::Schema;

fn key(number: usize) -> Key {
    Key::new(format!("k/{number:05}")).expect("valid")
}

/// A store with so many keys, over a single connection.
async fn filled(schema: &Schema, keys: usize) -> PostgresStore {
    let store = schema.config().connections(1).open().await.expect("opens");
    for from in (0..keys).step_by(1_000) {
        let batch: Batch = (from..from + 1_000).map(|number| (key(number), Put::new("x"))).collect();
        store.apply(batch).await.expect("applies");
    }
    store
}

/// The server plans a statement for any parameters once a connection has used it five times. By such a plan, too, a page must
/// begin where the one before has ended, and not read all rows before it.
#[tokio::test]
async fn a_long_listing_reads_each_row_about_once() {
    const KEYS: usize = 20_000;
    let schema = Schema::new();
    let store = filled(&schema, KEYS).await;
    let listed: Vec<_> =
        store.list(ListOptions::new()).map_ok(|listed| listed.key).try_collect().await.expect("lists");
    assert!(listed.iter().eq((0..KEYS).map(key).collect::<Vec<_>>().iter()));
    // What a connection has counted is seen once it is closed.
    store.close().await.expect("closes");
    let read = "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint FROM pg_stat_user_tables \
        WHERE schemaname = '{}' AND relname = 'tiered'";
    let (mut rows, keys) = (0, i64::try_from(KEYS).expect("small"));
    for _ in 0..400 {
        rows = schema.number(read).await;
        if rows >= keys {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!((keys..2 * keys).contains(&rows), "{rows} rows were read");
}

#[tokio::test]
async fn pages_that_are_asked_for_ahead_change_nothing() {
    let schema = Schema::new();
    let store = filled(&schema, 5_000).await;
    for (after, limit) in [(0, 5_000), (999, 3_000), (1_000, 3_001), (1_500, 10), (4_999, 1)] {
        let options = ListOptions::new().prefix("k/").start_after(key(after)).limit(limit);
        let listed: Vec<_> =
            store.list(options).map_ok(|listed| listed.key).try_collect().await.expect("lists");
        let expected: Vec<Key> = (after + 1..5_000).take(limit).map(key).collect();
        assert_eq!(listed, expected, "{limit} after {after}");
    }
    // One that is left while a page is under way gives its connection back, which is the only one.
    let mut left = store.list(ListOptions::new());
    for number in 0..2_001 {
        assert_eq!(left.next().await.expect("more").expect("reads").key, key(number));
    }
    drop(left);
    assert!(store.head(&key(0), &tiered_core::ReadOptions::new()).await.expect("reads").is_some());
    // The page after the one that was asked for ahead is not had from a closed store.
    let mut open = store.list(ListOptions::new());
    for _ in 0..1_001 {
        open.next().await.expect("more").expect("reads");
    }
    store.close().await.expect("closes");
    let rest: Vec<_> = open.collect().await;
    assert!(rest.last().expect("an end").is_err(), "it is not complete");
}
