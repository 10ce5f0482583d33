//! A server of the tests' own, with a superuser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tiered_core::adapter::{Change, VersionMint};
use tiered_core::{ErrorKind, Key, Outcome, Put, Store as _, StoreExt as _};
use tiered_postgres::sqlx::{self, AssertSqlSafe, Connection as _, PgConnection};
use tiered_postgres::{Feed, PostgresConfig};
use tiered_services::Service;
use tokio::sync::{Mutex, MutexGuard};

/// One at a time: all tests share the server.
static SERVER: Mutex<()> = Mutex::const_new(());

/// How long a crashed server may take to come back: it works off its log, and the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(3);

async fn own() -> MutexGuard<'static, ()> {
    assert_eq!(
        std::env::var("TIERED_TEST_POSTGRES_OWN").as_deref(),
        Ok("1"),
        "this test kills the server; set TIERED_TEST_POSTGRES_OWN=1 where that may be, as `cargo xtask test` does"
    );
    SERVER.lock().await
}

async fn connect() -> PgConnection {
    let connecting = async {
        loop {
            match PgConnection::connect(&Service::Postgres.required()).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.expect("the server is there")
}

async fn execute(statement: String) {
    let ran = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connect().await).await;
    ran.expect("runs");
}

/// Kills one of the server's processes: it ends all sessions, and recovers from its log.
async fn crash() {
    let mut victim = connect().await;
    let pid: i32 =
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut victim).await.expect("a process");
    let kill = format!("COPY (SELECT 1) TO PROGRAM 'kill -9 {pid}'");
    // Its session ends with the others.
    sqlx::raw_sql(AssertSqlSafe(kill)).execute(&mut connect().await).await.ok();
    let gone = sqlx::query("SELECT 1").execute(&mut victim).await;
    assert!(gone.is_err(), "the server did not crash");
    drop(connect().await);
}

fn schema() -> String {
    format!("tiered_server_{:032x}", VersionMint::from_entropy().mint().as_u128().expect("an id"))
}

/// What one writer did to its key.
struct Written {
    key: Key,
    acknowledged: u64,
    /// Those after it that may have taken effect.
    unknown: Vec<u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_no_acknowledged_write() {
    let _server = own().await;
    let schema = schema();
    let config = PostgresConfig::from_url(&Service::Postgres.required()).expect("a URL").schema(&schema);
    let config = config.timeout(Duration::from_secs(5)).connections(4).feed(Feed::On);
    let store = config.open().await.expect("opens");
    let mut changes = store.changes().expect("a feed");
    assert_eq!(changes.next().await, Some(Change::Resync));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::runtime::Handle::current().spawn(async move {
                let key = Key::try_from(format!("w{writer}")).expect("valid");
                let mut written = Written { key, acknowledged: 0, unknown: Vec::new() };
                let mut refused = 0;
                for number in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match store.put(&written.key, Put::new(number.to_string())).await {
                        Ok(_) => (written.acknowledged, written.unknown) = (number, Vec::new()),
                        Err(error) if error.write_outcome() == Outcome::Unknown => {
                            written.unknown.push(number);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
                            refused += 1;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                }
                (written, refused)
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        crash().await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (written, _) = writer.await.expect("writes");
        let entry = store.get(&written.key).await.expect("reads").expect("written");
        let found: u64 =
            std::str::from_utf8(entry.value()).ok().and_then(|text| text.parse().ok()).expect("a number");
        let allowed = found == written.acknowledged || written.unknown.contains(&found);
        assert!(allowed, "{found} after {} and {:?}", written.acknowledged, written.unknown);
        assert!(written.acknowledged > 20, "it was written to after the crashes: {}", written.acknowledged);
    }
    // The feed has begun again, or this would not end.
    while tokio::time::timeout(PATIENCE, changes.next()).await.expect("the feed is back")
        != Some(Change::Resync)
    {}
    let idle =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tiered' AND state LIKE 'idle in%'";
    let left: i64 = sqlx::query_scalar(idle).fetch_one(&mut connect().await).await.expect("counts");
    assert_eq!(left, 0, "open transactions");
    store.close().await.expect("closes");
    execute(format!("DROP SCHEMA {schema} CASCADE")).await;
}

/// Writes a file into the server's folder.
async fn place(name: &str, content: &str) {
    let lines = content.replace('\n', "|");
    let copy = format!(
        "COPY (SELECT unnest(string_to_array('{lines}', '|'))) TO PROGRAM 'umask 077; rm -f {name}; cat > {name}'"
    );
    execute(copy).await;
}

#[tokio::test]
async fn the_certificate_of_the_server_is_verified() {
    let _server = own().await;
    place("tiered-tests.pem", include_str!("tls/server.pem")).await;
    place("tiered-tests.key", include_str!("tls/server.key")).await;
    for setting in ["ssl_cert_file = 'tiered-tests.pem'", "ssl_key_file = 'tiered-tests.key'", "ssl = on"] {
        execute(format!("ALTER SYSTEM SET {setting}")).await;
    }
    execute("SELECT pg_reload_conf()".to_owned()).await;
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/tls/ca.pem");
    let url = |parameters: &str| format!("{}?{parameters}", Service::Postgres.required());
    let verified = url(&format!("sslmode=verify-full&sslrootcert={root}"));
    // The server takes its new settings when it comes to it.
    let connecting = async {
        loop {
            match PgConnection::connect(&verified).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let mut connection = tokio::time::timeout(PATIENCE, connecting).await.expect("TLS");
    assert!(sqlx::query_scalar::<_, bool>(encrypted).fetch_one(&mut connection).await.expect("answers"));
    let schema = schema();
    let open = |url: String| {
        let config = PostgresConfig::from_url(&url).expect("a URL").schema(&schema);
        async move { config.timeout(Duration::from_secs(5)).open().await }
    };
    let store = open(verified).await.expect("a certificate that is known");
    let key = Key::new("k").expect("valid");
    store.put(&key, Put::new("secret")).await.expect("written");
    store.close().await.expect("closes");
    // An untrusted certificate is refused, with a hint.
    let error = open(url("sslmode=verify-full")).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    assert!(error.chain().contains("sslrootcert"), "{}", error.chain());
    for setting in ["ssl", "ssl_cert_file", "ssl_key_file"] {
        execute(format!("ALTER SYSTEM RESET {setting}")).await;
    }
    execute("SELECT pg_reload_conf()".to_owned()).await;
    execute(format!("DROP SCHEMA {schema} CASCADE")).await;
}
