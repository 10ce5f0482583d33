//! The feed of changes.

use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::adapter::{Change, ChangeStream};
use tiered_core::{Batch, Delete, Feature, Key, Put, Store as _};
use tiered_postgres::Feed;

use crate::place::Schema;

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

async fn next(changes: &mut ChangeStream) -> Option<Change> {
    tokio::time::timeout(Duration::from_secs(20), changes.next()).await.expect("in time")
}

#[tokio::test]
async fn changes_by_other_processes_arrive_in_order() {
    let schema = Schema::new();
    let writer = schema.config().feed(Feed::On).open().await.expect("opens");
    let reader = schema.config().feed(Feed::On).open().await.expect("opens");
    assert!(reader.capabilities().has(Feature::Changes));
    let mut changes = reader.changes().expect("a feed");
    assert_eq!(next(&mut changes).await, Some(Change::Resync));
    let version = writer.put(&key("a b"), Put::new("x")).await.expect("written").version;
    assert_eq!(next(&mut changes).await, Some(Change::Key { key: key("a b"), version: Some(version) }));
    // Neither a refused write nor a read is announced.
    writer.put(&key("a b"), Put::new("x").if_absent()).await.expect_err("there");
    writer.delete(&key("a b"), Delete::new()).await.expect("deleted");
    assert_eq!(next(&mut changes).await, Some(Change::Key { key: key("a b"), version: None }));
    let batch = Batch::new().put(key("c"), Put::new("x").if_absent()).delete(key("d"), Delete::new());
    writer.apply(batch).await.expect("applies");
    let batch = Batch::new().delete(key("e"), Delete::new());
    writer.put(&key("e"), Put::new("x")).await.expect("written");
    writer.apply(batch).await.expect("applies");
    let mut told = Vec::new();
    for _ in 0..4 {
        match next(&mut changes).await {
            Some(Change::Key { key, version }) => told.push((key.to_string(), version.is_some())),
            other => told.push((format!("{other:?}"), false)),
        }
    }
    let expected = [("c", true), ("d", false), ("e", true), ("e", false)];
    assert_eq!(told, expected.map(|(key, written)| (key.to_owned(), written)));
    reader.close().await.expect("closes");
    assert_eq!(next(&mut changes).await, None);
}

#[tokio::test]
async fn a_feed_that_lost_its_connection_reports_a_gap() {
    let schema = Schema::new();
    let url = format!("{}?application_name={}", tiered_services::Service::Postgres.required(), schema.name);
    let config = tiered_postgres::PostgresConfig::from_url(&url).expect("a URL");
    let store = config.schema(&schema.name).feed(Feed::On).connections(1).open().await.expect("opens");
    let mut changes = store.changes().expect("a feed");
    assert_eq!(next(&mut changes).await, Some(Change::Resync));
    schema
        .number(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}' AND query LIKE 'LISTEN%'",
        )
        .await;
    assert_eq!(next(&mut changes).await, Some(Change::Resync));
    store.put(&key("k"), Put::new("x")).await.expect("written");
    assert!(matches!(next(&mut changes).await, Some(Change::Key { .. })));
}

#[tokio::test]
async fn a_store_without_feed_declares_no_changes() {
    let schema = Schema::new();
    let store = schema.open().await;
    assert!(store.changes().is_none() && !store.capabilities().has(Feature::Changes));
}

#[test]
fn a_feed_can_be_dropped_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (schema, feed) = runtime.block_on(async {
        let schema = Schema::new();
        let store = schema.config().feed(Feed::On).open().await.expect("opens");
        let mut changes = store.changes().expect("a feed");
        assert_eq!(next(&mut changes).await, Some(Change::Resync));
        (schema, changes)
    });
    drop(feed);
    drop(schema);
}
