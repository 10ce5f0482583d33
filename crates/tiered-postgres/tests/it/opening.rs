//! Opening: what is made, what is refused, what is needed.

use std::time::Duration;

use tiered_core::adapter::Checksum;
use tiered_core::{Delete, ErrorKind, Key, Outcome, Put, Store as _, StoreExt as _, Version};
use tiered_postgres::sqlx::{self, AssertSqlSafe};
use tiered_postgres::{Create, Feed, PostgresConfig};
use tiered_services::Service;

use crate::place::{Schema, connect};

fn key() -> Key {
    Key::new("k").expect("valid")
}

#[tokio::test]
async fn a_table_of_another_program_is_refused_and_unchanged() {
    let schema = Schema::new();
    schema.execute("CREATE SCHEMA {}; CREATE TABLE {}.tiered (key bytea PRIMARY KEY, mine text)").await;
    let error = schema.config().open().await.expect_err("foreign");
    assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
    assert!(error.to_string().contains("choose another name"), "{error}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{}'";
    assert_eq!(schema.number(tables).await, 1);
    schema.config().table("other").open().await.expect("opens beside it");
}

#[tokio::test]
async fn create_never_makes_no_table() {
    let schema = Schema::new();
    let error = schema.config().create(Create::Never).open().await.expect_err("absent");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    schema.open().await.close().await.expect("closes");
    schema.config().create(Create::Never).open().await.expect("is there now");
}

/// The tables of the first version of the schema, with an entry.
async fn make_first_version(schema: &Schema) {
    let checksum = Checksum::of(b"kept").as_u32();
    schema
        .execute(&format!(
            "CREATE SCHEMA {{}};
             CREATE TABLE {{}}.tiered_meta (name text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL);
             CREATE TABLE {{}}.tiered (key bytea PRIMARY KEY, version text COLLATE \"C\" NOT NULL,
                 modified bigint NOT NULL, expires_at bigint, attributes jsonb, checksum bigint NOT NULL,
                 value bytea NOT NULL, session bigint, validated bigint, origin smallint NOT NULL DEFAULT 0,
                 validator text);
             ALTER TABLE {{}}.tiered ALTER COLUMN value SET STORAGE EXTERNAL;
             INSERT INTO {{}}.tiered_meta VALUES ('tiered:schema', '1');
             INSERT INTO {{}}.tiered (key, version, modified, checksum, value)
                 VALUES ('k', lpad('1', 32, '0'), 1, {checksum}, 'kept')"
        ))
        .await;
}

#[tokio::test]
async fn older_tables_are_brought_up_to_date_and_newer_ones_refused() {
    for version in [1, 2] {
        let schema = Schema::new();
        make_first_version(&schema).await;
        if version == 2 {
            schema
                .execute(
                    "CREATE INDEX tiered_expiry ON {}.tiered (expires_at) WHERE expires_at IS NOT NULL;
                     UPDATE {}.tiered_meta SET value = '2' WHERE name = 'tiered:schema'",
                )
                .await;
        }
        let store = schema.open().await;
        let entry = store.get(&key()).await.expect("reads").expect("kept");
        assert_eq!((entry.value().as_ref(), entry.version()), (&b"kept"[..], &Version::from_u128(1)));
        let index = "SELECT count(*) FROM pg_indexes WHERE schemaname = '{}' AND indexname = 'tiered_expiry'";
        assert_eq!(schema.number(index).await, 1);
        let body = futures_util::stream::iter((0..3).map(|part| Ok(vec![part; 1 << 20].into())));
        store.put_stream(&key(), Put::new(""), Box::pin(body)).await.expect("written");
        assert_eq!(store.get(&key()).await.expect("reads").expect("there").value().len(), 3 << 20);
        schema.execute("UPDATE {}.tiered_meta SET value = '99' WHERE name = 'tiered:schema'").await;
        let error = schema.config().open().await.expect_err("newer");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("99"), "{error}");
    }
}

#[tokio::test]
async fn concurrent_first_opens_all_succeed() {
    let schema = Schema::new();
    let opening = (0..8).map(|_| schema.config().connections(1).open());
    for opened in futures_util::future::join_all(opening).await {
        opened.expect("opens");
    }
    // Several tables in one schema that is not there yet.
    for _ in 0..4 {
        let schema = Schema::new();
        let opening = (0..8).map(|index| schema.config().table(&format!("t{index}")).connections(1).open());
        for opened in futures_util::future::join_all(opening).await {
            opened.expect("opens");
        }
    }
}

#[tokio::test]
async fn a_role_needs_only_the_documented_privileges() {
    let schema = Schema::new();
    schema.open().await;
    let role = format!("{}_role", schema.name);
    // As docs/src/postgres.md has it.
    schema
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'a password'; GRANT USAGE ON SCHEMA {{}} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {{}}.tiered, {{}}.tiered_meta, {{}}.tiered_chunks, \
             {{}}.tiered_loose TO {role}"
        ))
        .await;
    let url = Service::Postgres.required();
    let (_, rest) = url.split_once("://").expect("a URL");
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let config = PostgresConfig::from_url(&format!("postgres://{role}:a%20password@{place}")).expect("a URL");
    let store = config.schema(&schema.name).feed(Feed::On).open().await.expect("opens");
    let version = store.put(&key(), Put::new("v")).await.expect("written").version;
    store.put(&key(), Put::new("w").if_version(version)).await.expect("replaced");
    store.set_mark("m", Some("x".into())).await.expect("marked");
    let body = futures_util::stream::iter((0..3).map(|part| Ok(vec![part; 1 << 20].into())));
    store.put_stream(&key(), Put::new(""), Box::pin(body)).await.expect("streamed");
    store.delete(&key(), Delete::new()).await.expect("deleted");
    schema.execute("UPDATE {}.tiered_loose SET ends = 0").await;
    assert_eq!(store.sweep().await.expect("swept"), 0);
    assert_eq!(schema.number("SELECT count(*) FROM {}.tiered_chunks").await, 0);
    store.close().await.expect("closes");
    schema.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_the_password() {
    let config = PostgresConfig::from_url("postgres://user:hunter2@127.0.0.1:1/db").expect("a URL");
    let error = config.timeout(Duration::from_millis(500)).open().await.expect_err("no server listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.write_outcome(), Outcome::NotApplied);
    let text = format!("{} {error:?}", error.chain());
    assert!(text.contains("127.0.0.1:1/db") && !text.contains("hunter2"), "{text}");
    let url = Service::Postgres.required();
    let (server, _) = url.rsplit_once('/').expect("a database");
    let config = PostgresConfig::from_url(&format!("{server}/no_such_database")).expect("a URL");
    let error = config.open().await.expect_err("no database");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
}

#[tokio::test]
async fn required_tls_never_falls_back_to_plain_text() {
    // The server for tests has none.
    for mode in ["require", "verify-full"] {
        let url = format!("{}?sslmode={mode}", Service::Postgres.required());
        let error = PostgresConfig::from_url(&url).expect("a URL").open().await.expect_err("no TLS");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(error.to_string().contains("TLS"), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused() {
    let name = Schema::new().name.replace("tiered_test", "tiered_ascii");
    let mut connection = connect().await;
    let create = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("created");
    let url = Service::Postgres.required();
    let (server, _) = url.rsplit_once('/').expect("a database");
    let opened = PostgresConfig::from_url(&format!("{server}/{name}")).expect("a URL").open().await;
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(drop).execute(&mut connection).await.expect("dropped");
    let error = opened.expect_err("another encoding");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("SQL_ASCII"), "{error}");
}

#[test]
fn opening_outside_of_a_runtime_is_refused() {
    let config = PostgresConfig::from_url("postgres://u@127.0.0.1:1/d").expect("a URL");
    let mut opening = std::pin::pin!(config.open());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let opened = opening.as_mut().poll(&mut context);
    assert!(opened.is_ready(), "it waits for what nothing drives");
    let std::task::Poll::Ready(Err(error)) = opened else { return };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn a_revoked_login_is_an_outage() {
    let schema = Schema::new();
    schema.open().await;
    let role = format!("{}_late", schema.name);
    schema
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {{}} TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON {{}}.tiered, {{}}.tiered_meta TO {role}"
        ))
        .await;
    let url = Service::Postgres.required().replace("://postgres@", &format!("://{role}@"));
    let config = PostgresConfig::from_url(&url).expect("a URL").schema(&schema.name);
    let store = config.open().await.expect("opens");
    schema.execute(&format!("ALTER ROLE {role} NOLOGIN")).await;
    let ended = format!(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    assert!(schema.number(&ended).await >= 1);
    let refused = async || {
        // The first call may meet the ended session.
        store.put(&key(), Put::new("v")).await.ok();
        store.put(&key(), Put::new("v")).await.expect_err("not let in")
    };
    let error = refused().await;
    // A write is not to be given up for it, as one that the server refuses is.
    assert_eq!(
        (error.kind(), error.write_outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.to_string().contains("pg_hba.conf"), "{error}");
    let config = PostgresConfig::from_url(&url).expect("a URL").schema(&schema.name);
    let error = config.open().await.expect_err("not let in");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    schema.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
