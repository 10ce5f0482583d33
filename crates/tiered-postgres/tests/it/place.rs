//! Schemas of their own on the server for tests, removed at the end.

use std::sync::Arc;
use std::time::Duration;

use tiered_conformance::{Factory, Place};
use tiered_core::adapter::{Stamp, VersionMint};
use tiered_core::testing::ManualClock;
use tiered_core::{Result, Store, Timestamp};
use tiered_postgres::sqlx::{self, AssertSqlSafe, Connection as _, PgConnection};
use tiered_postgres::{PostgresConfig, PostgresStore};
use tiered_services::Service;

/// A schema of its own. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
}

impl Schema {
    pub(crate) fn new() -> Self {
        let id = VersionMint::from_entropy().mint().as_u128().expect("an id");
        Self { name: format!("tiered_test_{:016x}", id >> 64) }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        self.config_on(Service::Postgres)
    }

    /// On the server itself, or through the pooler before it.
    pub(crate) fn config_on(&self, service: Service) -> PostgresConfig {
        let config = PostgresConfig::from_url(&service.required()).expect("a URL");
        let config = config.schema(&self.name).connections(4);
        if service == Service::PgBouncer { config.statement_cache(0) } else { config }
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        self.config().open().await.expect("opens")
    }

    /// A statement of the tests' own. `{}` is the schema.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = connect().await;
        let statement = statement.replace("{}", &self.name);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("runs");
        connection.close().await.expect("closes");
    }

    /// The one number that a statement of the tests' own answers.
    pub(crate) async fn number(&self, statement: &str) -> i64 {
        let mut connection = connect().await;
        let statement = statement.replace("{}", &self.name);
        let number = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut connection).await;
        connection.close().await.expect("closes");
        number.expect("a number")
    }
}

/// A connection that is the tests' own.
pub(crate) async fn connect() -> PgConnection {
    PgConnection::connect(&Service::Postgres.required()).await.expect("connects")
}

impl Drop for Schema {
    fn drop(&mut self) {
        // On a thread of its own: a test may end inside a runtime that waits for nothing.
        let name = self.name.clone();
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = connect().await;
                let statement = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
                sqlx::raw_sql(statement).execute(&mut connection).await.expect("drops");
            });
        });
        removed.join().ok();
    }
}

/// A store on a manual clock, for the conformance suite.
pub(crate) struct Server {
    service: Service,
    schema: Schema,
    stamp: Stamp,
    clock: Arc<ManualClock>,
    store: PostgresStore,
}

impl Server {
    pub(crate) async fn new(service: Service) -> Self {
        let schema = Schema::new();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000_000)));
        let stamp = Stamp::new(clock.clone(), Arc::new(VersionMint::from_entropy()));
        let config = schema.config_on(service).stamp(stamp.clone()).max_value(4 << 20).sweep(None);
        let store = config.open().await.expect("opens");
        Self { service, schema, stamp, clock, store }
    }
}

struct Room(Service, Schema, Stamp);

#[async_trait::async_trait]
impl Place for Room {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        let config = self.1.config_on(self.0).stamp(self.2.clone()).timeout(Duration::from_secs(5));
        Ok(Arc::new(config.open().await?))
    }
}

#[async_trait::async_trait]
impl Factory for Server {
    async fn open(&self) -> Result<Arc<dyn Store>> {
        assert!(!self.schema.name.is_empty());
        Ok(Arc::new(self.store.clone()))
    }

    async fn place(&self) -> Option<Arc<dyn Place>> {
        Some(Arc::new(Room(self.service, Schema::new(), self.stamp.clone())))
    }

    fn clock(&self) -> Option<Arc<ManualClock>> {
        Some(Arc::clone(&self.clock))
    }
}
