//! Rows: as other programs see them, damaged, expired, many.

use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::{
    Applied, Attributes, Batch, Delete, ErrorKind, Existed, Key, ListOptions, Outcome, Put, ReadOptions,
    Store as _, StoreExt as _, Timestamp, Version, adapter,
};

use crate::place::Schema;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

#[tokio::test]
async fn a_row_can_be_read_with_psql() {
    let schema = Schema::new();
    let store = schema.open().await;
    let attributes = Attributes::new().with("kind", "grüße").expect("valid");
    let put = adapter::with_version(Put::new("hello").attributes(attributes), Version::from_u128(255));
    store.put(&key("users/42"), put).await.expect("written");
    // As docs/src/postgres.md has it.
    let there = "SELECT count(*) FROM {}.tiered WHERE convert_from(key, 'UTF8') = 'users/42' \
        AND convert_from(value, 'UTF8') = 'hello' AND attributes ->> 'kind' = 'grüße' \
        AND version = '000000000000000000000000000000ff' AND to_timestamp(modified / 1000) <= now()";
    assert_eq!(schema.number(there).await, 1);
    let external = "SELECT count(*) FROM pg_attribute WHERE attrelid = '{}.tiered'::regclass \
        AND attname = 'value' AND attstorage = 'e'";
    assert_eq!(schema.number(external).await, 1);
}

#[tokio::test]
async fn a_damaged_row_is_an_error_and_never_wrong_data() {
    let schema = Schema::new();
    let store = schema.open().await;
    let columns = [
        ("value", "'other'"),
        ("checksum", "-1"),
        ("version", "'nonsense'"),
        ("attributes", "'{\"A B\": \"c\"}'"),
        ("attributes", "'[1]'"),
        ("origin", "9"),
    ];
    for (column, to) in columns {
        store.put(&key("k"), Put::new("value")).await.expect("written");
        schema.execute(&format!("UPDATE {{}}.tiered SET {column} = {to}")).await;
        let error = store.get(&key("k")).await.expect_err(column);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{column}: {error}");
    }
    store.put(&key("k"), Put::new("value")).await.expect("written over");
    assert!(store.get(&key("k")).await.expect("reads").is_some());
}

#[tokio::test]
async fn the_sweep_removes_expired_rows_and_keeps_the_others() {
    let schema = Schema::new();
    let store = schema.config().sweep(Some(Duration::from_millis(50))).open().await.expect("opens");
    for index in 0..2_500 {
        let expired = Put::new("x").expires_at(Timestamp::from_millis(1));
        store.put(&key(&format!("expired/{index:04}")), expired).await.expect("written");
    }
    store.put(&key("later"), Put::new("x").expires_in(Duration::from_hours(1))).await.expect("written");
    store.put(&key("never"), Put::new("x")).await.expect("written");
    let far = Put::new("x").expires_at(Timestamp::from_millis(u64::MAX));
    store.put(&key("far"), far).await.expect("written");
    let rows = "SELECT count(*) FROM {}.tiered";
    for _ in 0..200 {
        if schema.number(rows).await == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(schema.number(rows).await, 3);
    let far = store.get(&key("far")).await.expect("reads").expect("lives");
    assert_eq!(far.metadata().expires_at, Some(Timestamp::from_millis(u64::MAX)));
    assert_eq!(store.keys("").await.expect("lists"), [key("far"), key("later"), key("never")]);
}

#[tokio::test]
async fn a_batch_of_several_statements_is_all_or_nothing() {
    let schema = Schema::new();
    // Long enough for a busy machine.
    let store = schema.config().timeout(Duration::from_mins(1)).open().await.expect("opens");
    let mut batch = Batch::new();
    for index in 0..12_000 {
        batch = batch.put(key(&format!("small/{index:05}")), Put::new("x"));
    }
    for index in 0..10 {
        batch = batch.put(key(&format!("large/{index}")), Put::new(vec![7_u8; 4 << 20]));
    }
    store.put(&key("gone"), Put::new("x")).await.expect("written");
    let batch = batch.delete(key("gone"), Delete::new());
    let refused = batch.clone().put(key("taken"), Put::new("x").if_absent());
    store.put(&key("taken"), Put::new("x")).await.expect("written");
    let error = store.apply(refused).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
    assert_eq!(schema.number("SELECT count(*) FROM {}.tiered").await, 2);
    let outcomes = store.apply(batch).await.expect("applies");
    assert!(matches!(outcomes.last(), Some(Ok(Applied::Delete(deleted))) if deleted.existed == Existed::Yes));
    assert_eq!(schema.number("SELECT count(*) FROM {}.tiered").await, 12_011);
}

#[tokio::test]
async fn batches_in_opposite_orders_do_not_deadlock() {
    let schema = Schema::new();
    let store = schema.config().connections(8).open().await.expect("opens");
    // The server undoes one of two batches that wait for each other, a second later, and counts it.
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let before = schema.number(deadlocks).await;
    let rounds = (0..16).map(|round| {
        let store = store.clone();
        async move {
            for turn in 0..8 {
                let mut keys: Vec<_> = (0..20).map(|index| key(&format!("k{index:02}"))).collect();
                if round % 2 == 0 {
                    keys.reverse();
                }
                let mut batch = Batch::new();
                for (index, key) in keys.into_iter().enumerate() {
                    batch = match (index + turn) % 3 {
                        0 => batch.delete(key, Delete::new()),
                        _ => batch.put(key, Put::new("x")),
                    };
                }
                store.apply(batch).await.expect("applies");
            }
        }
    });
    futures_util::future::join_all(rounds).await;
    store.close().await.expect("closes");
    assert_eq!(schema.number(deadlocks).await, before);
}

#[tokio::test]
async fn a_stream_of_a_replaced_entry_ends_with_an_error() {
    use futures_util::TryStreamExt as _;
    let schema = Schema::new();
    let store = schema.open().await;
    let large = vec![7_u8; 9 << 20];
    store.put(&key("large"), Put::new(large.clone())).await.expect("written");
    let read = || async {
        store.read_stream(&key("large"), &ReadOptions::new()).await.expect("opens").expect("there")
    };
    let (_, body) = read().await;
    let parts: Vec<_> = body.try_collect().await.expect("streams");
    assert_eq!((parts.len(), parts.concat()), (3, large));
    let (_, mut body) = read().await;
    body.try_next().await.expect("streams").expect("a part");
    store.put(&key("large"), Put::new("other")).await.expect("written");
    assert_eq!(body.try_next().await.expect_err("replaced").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_dropped_call_leaves_no_open_transaction() {
    let schema = Schema::new();
    let url = format!("{}?application_name={}", tiered_services::Service::Postgres.required(), schema.name);
    let config = tiered_postgres::PostgresConfig::from_url(&url).expect("a URL");
    let store = config.schema(&schema.name).connections(1).open().await.expect("opens");
    store.put(&key("k"), Put::new("x")).await.expect("written");
    for index in 0..200_u64 {
        let patience = Duration::from_micros(index * 20);
        let batch = Batch::new().put(key("k"), Put::new("y")).put(key("new"), Put::new("y").if_absent());
        tokio::time::timeout(patience, store.apply(batch)).await.ok();
        tokio::time::timeout(patience, store.get(&key("k"))).await.ok();
        tokio::time::timeout(patience, store.delete(&key("new"), Delete::new())).await.ok();
        let listed = store.list(ListOptions::new());
        drop(listed);
    }
    store.put(&key("k"), Put::new("last")).await.expect("the one connection is free");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "last");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND state <> 'idle'";
    assert_eq!(schema.number(left).await, 0);
    store.close().await.expect("closes");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'";
    for _ in 0..100 {
        if schema.number(left).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(schema.number(left).await, 0);
}

#[tokio::test]
async fn errors_of_the_server_show_no_values() {
    let schema = Schema::new();
    let store = schema.open().await;
    schema.execute("ALTER TABLE {}.tiered ADD CONSTRAINT short CHECK (octet_length(value) < 8)").await;
    let error = store.put(&key("k"), Put::new("hunter2 hunter2")).await.expect_err("refused");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Other, Outcome::NotApplied), "{error}");
    let shown = format!("{} {error:?}", error.chain());
    assert!(shown.contains("short") && shown.contains("23514"), "{shown}");
    // As bytes of a row are shown.
    let hex = "68756e746572";
    assert!(!shown.contains("hunter2") && !shown.contains(hex), "{shown}");
}

#[tokio::test]
async fn another_value_under_the_same_version_does_not_count_as_a_repeated_write() {
    let schema = Schema::new();
    let store = schema.open().await;
    let (version, before) = (Version::from_u128(7), Version::from_u128(6));
    let put = |value: &'static str| adapter::with_version(Put::new(value), version.clone());
    for put in [put("one").if_absent(), put("one").if_absent()] {
        // The second is the first once more, as after a lost answer.
        store.put(&key("k"), put).await.expect("written");
    }
    store.put(&key("k"), put("one").if_version(before.clone())).await.expect("the same write");
    // The first has another size, the second another checksum.
    for value in ["three", "two"] {
        for put in [put(value).if_absent(), put(value).if_version(before.clone())] {
            let batch = Batch::new().put(key("k"), put.clone());
            let error = store.put(&key("k"), put).await.expect_err(value);
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
            let error = store.apply(batch).await.expect_err(value);
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{error}");
        }
    }
    let entry = store.get(&key("k")).await.expect("reads").expect("there");
    assert_eq!((entry.value().as_ref(), entry.version()), (&b"one"[..], &version));
}

#[tokio::test]
async fn a_listing_reports_damaged_rows_and_continues() {
    let schema = Schema::new();
    let store = schema.open().await;
    // More than a page, the last of which is damaged.
    let names: Vec<String> = (0..1_005).map(|index| format!("k{index:04}")).collect();
    let batch = names.iter().fold(Batch::new(), |batch, name| batch.put(key(name), Put::new("x")));
    store.apply(batch).await.expect("applies");
    let damaged = ["k0000", "k0500", "k0999", "k1004"];
    for name in damaged {
        let damage =
            format!("UPDATE {{}}.tiered SET version = 'nonsense' WHERE convert_from(key, 'UTF8') = '{name}'");
        schema.execute(&damage).await;
    }
    let listed: Vec<_> = store.list(ListOptions::new()).collect().await;
    assert_eq!(listed.len(), names.len());
    for (listed, name) in listed.into_iter().zip(&names) {
        match listed {
            Ok(listed) => assert_eq!((listed.key, damaged.contains(&name.as_str())), (key(name), false)),
            Err(error) => {
                assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key(name))), "{error}");
                assert!(damaged.contains(&name.as_str()), "{error}");
            }
        }
    }
    let limited: Vec<_> = store.list(ListOptions::new().limit(2)).collect().await;
    assert!(matches!(limited.as_slice(), [Err(_), Ok(listed)] if listed.key == key("k0001")));
    let reads = store.get_many(&[key("k0001"), key("k0500")], &ReadOptions::new()).await;
    let [Ok(read), Err(error)] = reads.as_slice() else { panic!("{reads:?}") };
    assert!(read.entry().is_some(), "damage is one key's");
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some(&key("k0500"))), "{error}");
}
