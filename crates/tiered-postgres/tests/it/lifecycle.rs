//! Tables that are new, looked for, and destroyed.

use tiered_core::{ErrorKind, Key, Put, Store as _};
use tiered_postgres::Create;

use crate::place::Schema;

const TABLES: &str = "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{}'";

#[tokio::test]
async fn new_tables_are_new_and_destroyed_ones_gone() {
    let schema = Schema::new();
    assert!(!schema.config().exists().await.expect("tells"));
    assert_eq!(schema.config().destroy().await.expect_err("absent").kind(), ErrorKind::NotFound);
    let store = schema.config().create(Create::New).open().await.expect("made");
    store.put(&Key::new("k").expect("valid"), Put::new("v")).await.expect("written");
    store.set_mark("mine", Some("v".into())).await.expect("set");
    store.close().await.expect("closes");
    assert!(schema.config().exists().await.expect("tells"));
    let again = schema.config().create(Create::New).open().await.expect_err("there");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");
    schema.config().destroy().await.expect("destroyed");
    assert_eq!(schema.number(TABLES).await, 0);
    let functions =
        "SELECT count(*) FROM pg_proc JOIN pg_namespace AS of ON of.oid = pronamespace WHERE nspname = '{}'";
    assert_eq!(schema.number(functions).await, 0);
    assert!(!schema.config().exists().await.expect("tells"));
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = '{}'";
    assert_eq!(schema.number(schemas).await, 1, "the schema stays");
}

#[tokio::test]
async fn of_concurrent_creations_one_succeeds() {
    let schema = Schema::new();
    let opening = (0..6).map(|_| schema.config().connections(1).create(Create::New).open());
    let mut made = 0;
    for opened in futures_util::future::join_all(opening).await {
        match opened {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}"),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn tables_of_others_stay() {
    let schema = Schema::new();
    schema.execute("CREATE SCHEMA {}; CREATE TABLE {}.tiered (key bytea PRIMARY KEY, mine text)").await;
    for kind in [
        schema.config().exists().await.expect_err("foreign").kind(),
        schema.config().destroy().await.expect_err("foreign").kind(),
    ] {
        assert_eq!(kind, ErrorKind::Foreign);
    }
    let config = || schema.config().table("other");
    config().open().await.expect("opens").close().await.expect("closes");
    config().destroy().await.expect("destroyed");
    assert_eq!(schema.number(TABLES).await, 1);
    // From before there were chunks, beside tables of others that have such names now.
    schema
        .execute(
            "CREATE TABLE {}.old (key bytea); CREATE TABLE {}.old_meta (name text, value bytea);
             INSERT INTO {}.old_meta VALUES ('tiered:schema', '2');
             CREATE TABLE {}.old_chunks (mine text)",
        )
        .await;
    schema.config().table("old").destroy().await.expect("destroyed");
    assert_eq!(schema.number(TABLES).await, 2);
}

#[tokio::test]
async fn what_others_have_built_on_the_tables_keeps_them() {
    let schema = Schema::new();
    schema.open().await.close().await.expect("closes");
    schema.execute("CREATE VIEW {}.mine AS SELECT key FROM {}.tiered").await;
    let error = schema.config().destroy().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
    assert!(error.to_string().contains("drop those first"), "{error}");
    assert!(schema.config().exists().await.expect("tells"), "all of it is there");
    schema.execute("DROP VIEW {}.mine").await;
    schema.config().destroy().await.expect("destroyed");
}
