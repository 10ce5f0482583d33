//! A copy that follows the table: everything that is written arrives, also what was written while the feed was cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tiered_core::adapter::{Clock as _, SystemClock};
use tiered_core::sync::{FullSync, SyncOptions, follow};
use tiered_core::{Batch, Delete, Key, MemoryStore, Put, Store as _, StoreExt as _};
use tiered_postgres::{Feed, PostgresConfig};

use crate::place::Schema;

const KEYS: u64 = 200;

/// How long the copy may take to arrive: the feed looks after a silent connection every few seconds.
const PATIENCE: Duration = Duration::from_mins(1);

fn key(number: u64) -> Key {
    Key::new(format!("k{number:03}")).expect("valid")
}

fn held(store: &MemoryStore) -> BTreeMap<Key, Bytes> {
    store.snapshot().into_iter().map(|(key, entry)| (key, entry.into_value())).collect()
}

/// Waits until the copy is what it should be.
async fn arrives(copy: &MemoryStore, expected: &BTreeMap<Key, Bytes>) {
    let clock = SystemClock::new();
    let begun = clock.uptime();
    while held(copy) != *expected {
        let waited = clock.uptime().saturating_sub(begun);
        assert!(waited < PATIENCE, "{} keys of {} after {waited:?}", held(copy).len(), expected.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_follows_single_writes_batches_deletes_and_a_cut_feed() {
    let schema = Schema::new();
    let url = format!("{}?application_name={}", tiered_services::Service::Postgres.required(), schema.name);
    let config = || PostgresConfig::from_url(&url).expect("a URL").schema(&schema.name);
    let source = Arc::new(config().feed(Feed::On).open().await.expect("opens"));
    let writer = schema.config().feed(Feed::On).open().await.expect("opens");
    let mut expected: BTreeMap<Key, Bytes> =
        (0..KEYS / 2).map(|number| (key(number), Bytes::from("before it began"))).collect();
    for (key, value) in &expected {
        writer.set(key, value.clone()).await.expect("written");
    }
    let copy = MemoryStore::new();
    let following = {
        let (source, copy) = (Arc::clone(&source), copy.clone());
        tokio::runtime::Handle::current()
            .spawn(async move { follow(&*source, &copy, &FullSync, &SyncOptions::new()).await })
    };
    arrives(&copy, &expected).await;

    // By single calls and by batches, some of them of the same key.
    for number in 0..KEYS {
        let value = Bytes::from(format!("written {number}"));
        writer.put(&key(number), Put::new(value.clone())).await.expect("written");
        expected.insert(key(number), value);
    }
    let batch =
        (0..KEYS).step_by(3).fold(Batch::new(), |batch, number| batch.delete(key(number), Delete::new()));
    writer.apply(batch).await.expect("applied");
    expected.retain(|held, _| !(0..KEYS).step_by(3).any(|number| *held == key(number)));
    arrives(&copy, &expected).await;

    // What is written while nobody listens is made up for.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}'";
    assert!(schema.number(cut).await > 0, "a connection was cut");
    for number in 0..KEYS / 4 {
        let value = Bytes::from(format!("meanwhile {number}"));
        writer.put(&key(number), Put::new(value.clone())).await.expect("written");
        expected.insert(key(number), value);
    }
    arrives(&copy, &expected).await;

    source.close().await.expect("closes");
    tokio::time::timeout(PATIENCE, following)
        .await
        .expect("ends with its source")
        .expect("without a panic")
        .ok();
}
