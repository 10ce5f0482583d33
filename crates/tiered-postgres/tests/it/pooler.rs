//! Through a pooler in transaction mode: each transaction may get another session of the server, and a session serves
//! others before and after it.

use std::str::FromStr as _;
use std::time::Duration;

use tiered_core::{
    Batch, Delete, ErrorKind, Feature, Key, ListOptions, Outcome, Put, Store as _, StoreExt as _,
};
use tiered_postgres::sqlx::postgres::PgConnectOptions;
use tiered_postgres::sqlx::{self, AssertSqlSafe, ConnectOptions as _, Row as _};
use tiered_postgres::{Feed, PostgresConfig};
use tiered_services::Service;

use crate::place::{Schema, connect};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_few_sessions_and_never_run_each_others_statements() {
    let schema = Schema::new();
    let mut stores = Vec::new();
    // Twice as many connections as the pooler has sessions.
    for _ in 0..6 {
        stores.push(schema.config_on(Service::PgBouncer).open().await.expect("opens"));
    }
    let clients =
        stores.iter().enumerate().flat_map(|(index, store)| (0..4).map(move |lane| (index, lane, store)));
    let work = clients.map(|(index, lane, store)| async move {
        let own = key(&format!("client/{index}/{lane}"));
        for turn in 0..30 {
            let value = format!("{own} {turn}");
            let version = store.put(&own, Put::new(value.clone())).await.expect("written").version;
            let read = store.get(&own).await.expect("reads").expect("there");
            assert_eq!(read.value(), value.as_str());
            store.put(&own, Put::new("x").if_absent()).await.expect_err("there");
            store.put(&own, Put::new("replaced").if_version(version)).await.expect("replaced");
            let other = key(&format!("{own}/batch"));
            let batch =
                Batch::new().put(other.clone(), Put::new(value.clone())).delete(own.clone(), Delete::new());
            store.apply(batch).await.expect("applies");
            assert!(store.get(&own).await.expect("reads").is_none());
            let listed = store.keys(&format!("{own}/")).await.expect("lists");
            assert_eq!(listed, [other]);
        }
    });
    futures_util::future::join_all(work).await;
    let version =
        stores.first().expect("a store").put(&key("last"), Put::new("x")).await.expect("written").version;
    assert_eq!(schema.number("SELECT count(*) FROM {}.tiered").await, 25);
    for store in &stores {
        assert_eq!(*store.get(&key("last")).await.expect("reads").expect("there").version(), version);
    }
}

#[tokio::test]
async fn behind_a_pooler_statement_limits_need_no_settings_of_role_or_pooler() {
    let schema = Schema::new();
    let config = schema.config_on(Service::PgBouncer).connections(1).timeout(Duration::from_secs(4));
    let store = config.open().await.expect("opens");
    store.put(&key("k"), Put::new("x")).await.expect("written");
    // The time of a statement is limited all the same.
    let mut other = connect().await;
    let lock = AssertSqlSafe(format!("BEGIN; SELECT 1 FROM {}.tiered FOR UPDATE", schema.name));
    sqlx::raw_sql(lock).execute(&mut other).await.expect("locks");
    let error = store.put(&key("k"), Put::new("y")).await.expect_err("locked");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::NotApplied), "{error}");
    drop(other);
    store.put(&key("k"), Put::new("z")).await.expect("the session is usable");
    // What was set went with the transaction: others who share the session do not meet it.
    for _ in 0..10 {
        let beside = PgConnectOptions::from_str(&Service::PgBouncer.required()).expect("a URL");
        let mut beside = beside.extra_float_digits(None).connect().await.expect("connects");
        let limit = sqlx::raw_sql("SHOW statement_timeout").fetch_one(&mut beside).await.expect("answers");
        assert_eq!(limit.try_get::<String, _>(0).expect("text"), "0");
    }
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "z");
}

#[tokio::test]
async fn concurrent_first_opens_all_succeed() {
    let schema = Schema::new();
    let opening = (0..8).map(|_| schema.config_on(Service::PgBouncer).connections(1).open());
    for opened in futures_util::future::join_all(opening).await {
        let store = opened.expect("opens");
        assert!(
            store.capabilities().has(Feature::AtomicBatch) && !store.capabilities().has(Feature::Changes)
        );
    }
}

#[tokio::test]
async fn an_undeclared_pooler_is_refused_at_opening() {
    let schema = Schema::new();
    let config = schema.config_on(Service::PgBouncer).statement_cache(100);
    let error = config.open().await.expect_err("the pooler takes no options");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Config, Outcome::NotApplied),
        "{}",
        error.chain()
    );
    assert!(error.to_string().contains("statement_cache=0"), "{error}");
}

#[tokio::test]
async fn a_feed_behind_a_pooler_is_refused() {
    let schema = Schema::new();
    let error =
        schema.config_on(Service::PgBouncer).feed(Feed::On).open().await.expect_err("no notifications");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("connect to the server itself"), "{error}");
}

#[tokio::test]
async fn a_dropped_call_behind_a_pooler_breaks_no_session() {
    let schema = Schema::new();
    let url = format!("{}?application_name={}", Service::PgBouncer.required(), schema.name);
    let config = PostgresConfig::from_url(&url).expect("a URL").statement_cache(0);
    let store = config.schema(&schema.name).connections(1).open().await.expect("opens");
    store.put(&key("k"), Put::new("x")).await.expect("written");
    for index in 0..200_u64 {
        let patience = Duration::from_micros(index * 30);
        let batch = Batch::new().put(key("k"), Put::new("y")).put(key("new"), Put::new("y").if_absent());
        tokio::time::timeout(patience, store.apply(batch)).await.ok();
        tokio::time::timeout(patience, store.get(&key("k"))).await.ok();
        tokio::time::timeout(patience, store.delete(&key("new"), Delete::new())).await.ok();
        drop(store.list(ListOptions::new()));
    }
    store.put(&key("k"), Put::new("last")).await.expect("the one connection is free");
    assert_eq!(store.get(&key("k")).await.expect("reads").expect("there").value(), "last");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND state <> 'idle'";
    assert_eq!(schema.number(left).await, 0);
}

#[tokio::test]
async fn a_write_is_not_applied_when_the_pooler_cannot_reach_the_server() {
    let schema = Schema::new();
    let name = schema.name.replace("tiered_test", "tiered_pooled");
    let mut connection = connect().await;
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"));
    sqlx::raw_sql(create).execute(&mut connection).await.expect("created");
    let url = Service::PgBouncer.required();
    let (server, _) = url.rsplit_once('/').expect("a database");
    let config = PostgresConfig::from_url(&format!("{server}/{name}")).expect("a URL").statement_cache(0);
    let opened = config.timeout(Duration::from_secs(2)).open().await;
    let used = match &opened {
        Ok(store) => store.put(&key("k"), Put::new("x")).await.map(drop),
        Err(_) => Ok(()),
    };
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(drop).execute(&mut connection).await.expect("dropped");
    used.expect("written");
    let error = opened.expect("opens").put(&key("k"), Put::new("y")).await.expect_err("it was dropped");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{}",
        error.chain()
    );
    assert!(error.to_string().contains("pooler"), "{}", error.chain());
}
