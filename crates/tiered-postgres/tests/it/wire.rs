//! Faults on the wire, between the adapter and the real server. Afterwards nothing is left behind.

use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::{Batch, ErrorKind, Key, Outcome, Put, Store as _, StoreExt as _};
use tiered_postgres::{Feed, PostgresConfig, PostgresStore};
use tiered_services::{Mode, Proxy, Service};

use crate::place::Schema;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Behind a pooler others wait for sessions as well.
const POOLED_TIMEOUT: Duration = Duration::from_secs(3);

/// A store behind a proxy, with one connection, and one beside it.
struct Wire {
    schema: Schema,
    proxy: Proxy,
    store: PostgresStore,
    beside: PostgresStore,
}

impl Wire {
    async fn new() -> Self {
        Self::to(Service::Postgres).await
    }

    async fn to(service: Service) -> Self {
        let schema = Schema::new();
        let beside = schema.open().await;
        let proxy = Proxy::start(&service.address()).await.expect("listens");
        let url = service.required().replace(&service.address(), &proxy.address());
        let config = PostgresConfig::from_url(&format!("{url}?application_name={}", schema.name));
        let config = config.expect("a URL").schema(&schema.name).connections(1);
        let config = match service {
            Service::PgBouncer => config.statement_cache(0).timeout(POOLED_TIMEOUT),
            _ => config.timeout(TIMEOUT),
        };
        let store = config.open().await.expect("opens");
        Self { schema, proxy, store, beside }
    }

    /// The one connection is free again, and no transaction is open on the server.
    async fn is_clean(&self) {
        self.proxy.set(Mode::Pass);
        self.store.put(&key("after"), Put::new("after")).await.expect("the store works again");
        let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}' AND state <> 'idle'";
        for _ in 0..100 {
            if self.schema.number(open).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.schema.number(open).await, 0);
    }

    async fn value(&self, name: &str) -> Option<String> {
        let entry = self.beside.get(&key(name)).await.expect("reads")?;
        Some(String::from_utf8_lossy(entry.value()).into_owned())
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_has_an_unknown_outcome() {
    let wire = Wire::new().await;
    wire.store.put(&key("k"), Put::new("before")).await.expect("written");
    wire.proxy.set(Mode::SwallowAnswers);
    let swallowed = key("k");
    let put = wire.store.put(&swallowed, Put::new("swallowed"));
    let error = tokio::time::timeout(TIMEOUT * 2, put).await.expect("in time").expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown));
    assert_eq!(wire.value("k").await.as_deref(), Some("swallowed"), "it took effect");
    wire.is_clean().await;
    wire.proxy.set(Mode::SwallowAnswers);
    let batch = Batch::new().put(key("a"), Put::new("x").if_absent()).put(key("b"), Put::new("x"));
    let error = wire.store.apply(batch).await.expect_err("no answer");
    assert_eq!(error.write_outcome(), Outcome::Unknown, "{error}");
    wire.is_clean().await;
    // Its first statement was never answered, so the transaction never came to its end.
    let both = (wire.value("a").await, wire.value("b").await);
    assert_eq!(both.0.is_some(), both.1.is_some(), "all or nothing");
}

#[tokio::test]
async fn a_delayed_write_does_not_overtake_a_later_one() {
    let wire = Wire::new().await;
    for conditional in [false, true] {
        wire.is_clean().await;
        let version = wire.beside.put(&key("k"), Put::new("before")).await.expect("written").version;
        wire.proxy.set(Mode::HoldRequests);
        let put = Put::new("delayed");
        let put = if conditional { put.if_version(version) } else { put };
        let error = wire.store.put(&key("k"), put).await.expect_err("held");
        assert_eq!(error.write_outcome(), Outcome::Unknown, "{error}");
        wire.beside.put(&key("k"), Put::new("later")).await.expect("written");
        wire.proxy.set(Mode::Pass);
        // What was held arrives now, and the server refuses it by its deadline.
        tokio::time::sleep(TIMEOUT).await;
        assert_eq!(wire.value("k").await.as_deref(), Some("later"));
    }
    wire.is_clean().await;
}

#[tokio::test]
async fn a_lost_connection_costs_one_timeout() {
    let wire = Wire::new().await;
    wire.proxy.set(Mode::Silent);
    let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("nothing gets through");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown));
    // The dead connection is closed: the next call waits for another, which cannot be established either.
    let error = wire.store.put(&key("k"), Put::new("x")).await.expect_err("nothing gets through");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert_eq!(wire.value("k").await, None);
    wire.is_clean().await;
}

#[tokio::test]
async fn a_slow_answer_within_the_timeout_is_awaited() {
    let wire = Wire::new().await;
    wire.proxy.set(Mode::Drip(16));
    wire.store.put(&key("k"), Put::new("slow")).await.expect("written");
    assert_eq!(wire.store.get(&key("k")).await.expect("reads").expect("there").value(), "slow");
    wire.is_clean().await;
}

#[tokio::test]
async fn calls_after_a_reset_or_an_ended_session_succeed() {
    let wire = Wire::new().await;
    wire.store.put(&key("k"), Put::new("x")).await.expect("written");
    wire.proxy.cut();
    assert!(wire.store.get(&key("k")).await.expect("a read is sent again").is_some());
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}'";
    assert!(wire.schema.number(ended).await >= 1);
    assert!(wire.store.get(&key("k")).await.expect("a read is sent again").is_some());
    assert!(wire.schema.number(ended).await >= 1);
    match wire.store.put(&key("k"), Put::new("y")).await {
        Ok(_) => assert_eq!(wire.value("k").await.as_deref(), Some("y")),
        Err(error) => assert_eq!(error.write_outcome(), Outcome::Unknown, "{error}"),
    }
    wire.is_clean().await;
}

#[tokio::test]
async fn calls_succeed_after_the_server_restarts() {
    let wire = Wire::new().await;
    wire.store.put(&key("k"), Put::new("x")).await.expect("written");
    wire.proxy.refuse(true);
    wire.proxy.cut();
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("down");
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut), "{error}");
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("down");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    wire.proxy.refuse(false);
    assert!(wire.store.get(&key("k")).await.expect("up again").is_some());
    wire.is_clean().await;
}

#[tokio::test]
async fn a_call_blocked_by_a_lock_ends_at_the_statement_timeout() {
    let wire = Wire::new().await;
    wire.store.put(&key("k"), Put::new("x")).await.expect("written");
    let mut other = crate::place::connect().await;
    let lock = format!("BEGIN; SELECT 1 FROM {}.tiered FOR UPDATE", wire.schema.name);
    tiered_postgres::sqlx::raw_sql(tiered_postgres::sqlx::AssertSqlSafe(lock))
        .execute(&mut other)
        .await
        .expect("locks");
    let error = wire.store.put(&key("k"), Put::new("y")).await.expect_err("locked");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::NotApplied), "{error}");
    drop(other);
    wire.is_clean().await;
    assert_eq!(wire.value("k").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_feed_that_lost_its_connection_reconnects() {
    use tiered_core::adapter::Change;
    let schema = Schema::new();
    let beside = schema.config().feed(Feed::On).open().await.expect("opens");
    let proxy = Proxy::start(&Service::Postgres.address()).await.expect("listens");
    let url = Service::Postgres.required().replace(&Service::Postgres.address(), &proxy.address());
    let config = PostgresConfig::from_url(&url).expect("a URL").schema(&schema.name);
    let store = config.timeout(TIMEOUT).feed(Feed::On).open().await.expect("opens");
    let mut changes = store.changes().expect("a feed");
    assert_eq!(changes.next().await, Some(Change::Resync));
    proxy.set(Mode::Silent);
    beside.put(&key("k"), Put::new("unheard")).await.expect("written");
    // Long enough for the feed to ask, and to hear nothing.
    let next = tokio::time::timeout(Duration::from_secs(8), changes.next()).await;
    assert!(next.is_err(), "nothing gets through: {next:?}");
    proxy.set(Mode::Pass);
    let next = tokio::time::timeout(Duration::from_secs(20), changes.next()).await.expect("noticed");
    assert_eq!(next, Some(Change::Resync));
}

#[tokio::test]
async fn behind_a_pooler_only_a_lost_commit_has_an_unknown_outcome() {
    let wire = Wire::to(Service::PgBouncer).await;
    wire.store.put(&key("k"), Put::new("before")).await.expect("written");
    wire.proxy.set(Mode::SwallowAnswers);
    let error = wire.store.put(&key("k"), Put::new("never sent")).await.expect_err("no answer");
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert_eq!(wire.value("k").await.as_deref(), Some("before"));
    wire.is_clean().await;
    wire.proxy.set(Mode::SwallowAfter("COMMIT"));
    let error = wire.store.put(&key("k"), Put::new("committed")).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown), "{error}");
    assert_eq!(wire.value("k").await.as_deref(), Some("committed"), "it took effect");
    wire.is_clean().await;
    wire.proxy.set(Mode::SwallowAfter("UPDATE SET"));
    let error = wire.store.put(&key("k"), Put::new("in a transaction")).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown), "{error}");
    wire.is_clean().await;
    assert_eq!(wire.value("k").await.as_deref(), Some("committed"), "it was not committed");
}

#[tokio::test]
async fn behind_a_pooler_a_delayed_commit_does_not_overtake_a_later_write() {
    let wire = Wire::to(Service::PgBouncer).await;
    for text in ["UPDATE SET", "COMMIT"] {
        wire.beside.put(&key("k"), Put::new("before")).await.expect("written");
        wire.proxy.set(Mode::HoldFrom(text));
        let error = wire.store.put(&key("k"), Put::new("delayed")).await.expect_err("held");
        // Both wait for the timeout: the server may have ended the transaction in time to say so.
        let known = error.message().contains("ended a transaction");
        assert_eq!(
            error.write_outcome(),
            if known { Outcome::NotApplied } else { Outcome::Unknown },
            "{error}"
        );
        // The row is free when the server has ended the transaction that stands still.
        wire.beside.put(&key("k"), Put::new("later")).await.expect("written");
        wire.proxy.set(Mode::Pass);
        tokio::time::sleep(POOLED_TIMEOUT).await;
        assert_eq!(wire.value("k").await.as_deref(), Some("later"), "{text}");
        wire.is_clean().await;
    }
}

#[tokio::test]
async fn behind_a_pooler_calls_after_a_reset_or_an_ended_session_succeed() {
    let wire = Wire::to(Service::PgBouncer).await;
    wire.store.put(&key("k"), Put::new("x")).await.expect("written");
    wire.proxy.cut();
    assert!(wire.store.get(&key("k")).await.expect("a read is sent again").is_some());
    wire.proxy.cut();
    // Nothing of it was sent when the connection turned out to be broken, so that it is begun again.
    wire.store.put(&key("k"), Put::new("y")).await.expect("begun again");
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{}'";
    wire.schema.number(ended).await;
    assert_eq!(wire.store.get(&key("k")).await.expect("reads").expect("there").value(), "y");
    wire.is_clean().await;
}

/// A body in parts of a MiB, between which something happens to the connection.
fn disturbed(parts: u8, between: impl Fn(u8) + Send + 'static) -> tiered_core::ByteStream {
    Box::pin(futures_util::stream::iter(0..parts).map(move |part| {
        between(part);
        Ok(vec![part; 1 << 20].into())
    }))
}

#[tokio::test]
async fn an_upload_goes_on_over_another_connection_where_one_breaks() {
    let wire = Wire::new().await;
    let proxy = std::sync::Arc::new(wire.proxy);
    let cut = std::sync::Arc::clone(&proxy);
    let body = disturbed(6, move |part| {
        if part % 2 == 1 {
            cut.cut();
        }
    });
    wire.store.put_stream(&key("k"), Put::new("").if_absent(), body).await.expect("written");
    let entry = wire.beside.get(&key("k")).await.expect("reads").expect("there");
    assert!(entry.value().iter().enumerate().all(|(at, byte)| at >> 20 == usize::from(*byte)));
    assert_eq!(entry.size(), 6 << 20);
    assert_eq!(wire.schema.number("SELECT count(*) FROM {}.tiered_chunks").await, 6);
}

#[tokio::test]
async fn a_publication_whose_answer_is_lost_has_an_unknown_outcome() {
    let wire = Wire::new().await;
    let proxy = std::sync::Arc::new(wire.proxy);
    // Before it is published nothing is in doubt.
    let swallow = std::sync::Arc::clone(&proxy);
    let body = disturbed(4, move |part| {
        if part == 2 {
            swallow.set(Mode::SwallowAnswers);
        }
    });
    let error = wire.store.put_stream(&key("k"), Put::new(""), body).await.expect_err("no answer");
    assert_eq!(error.write_outcome(), Outcome::NotApplied, "{error}");
    assert!(wire.beside.get(&key("k")).await.expect("reads").is_none());
    proxy.set(Mode::Pass);
    // From then on the connection has the statement prepared, and sends it with its parameters alone. Only the publication
    // has the key.
    wire.store.put_stream(&key("k"), Put::new(""), disturbed(4, drop)).await.expect("written");
    let swallow = std::sync::Arc::clone(&proxy);
    let body = disturbed(4, move |part| {
        if part == 2 {
            swallow.set(Mode::SwallowAfter("published"));
        }
    });
    let error = wire.store.put_stream(&key("published"), Put::new(""), body).await.expect_err("no answer");
    assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::TimedOut, Outcome::Unknown), "{error}");
    let entry = wire.beside.get(&key("published")).await.expect("reads").expect("it took effect");
    assert_eq!(entry.size(), 4 << 20);
}
