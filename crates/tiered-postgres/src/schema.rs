//! The tables: made, recognised, and brought up to date.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqlSafeStr};
use tiered_core::Create;
use tiered_core::{Durability, Error, ErrorKind, Result};

use crate::client::{Client, Purpose};
use crate::config::{Limits, PostgresConfig};
use crate::sql::Query;

/// What brings the tables from one version to the next: entry `n` makes version `n + 1`. They are never changed once
/// published, only added to. `{table}`, `{meta}`, `{chunks}` and `{loose}` are the quoted names of tables, `{index}` that of
/// an index, `{release}` that of a function.
const MIGRATIONS: [&str; 3] = [
    "CREATE TABLE {meta} (name text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL);
     CREATE TABLE {table} (
         key bytea PRIMARY KEY,
         version text COLLATE \"C\" NOT NULL,
         modified bigint NOT NULL,
         expires_at bigint,
         attributes jsonb,
         checksum bigint NOT NULL,
         value bytea NOT NULL,
         session bigint,
         validated bigint,
         origin smallint NOT NULL DEFAULT 0,
         validator text
     );
     ALTER TABLE {table} ALTER COLUMN value SET STORAGE EXTERNAL",
    "CREATE INDEX {index} ON {table} (expires_at) WHERE expires_at IS NOT NULL",
    // A row without a value has it in chunks. A program from before this version that still runs writes rows with values,
    // and cannot read one without: it reports it as damaged.
    //
    // Whatever removes or replaces such a row marks its chunks in the same transaction. They stay for another 60 s, for
    // those who are reading them.
    "ALTER TABLE {table} ALTER COLUMN value DROP NOT NULL, ADD COLUMN content bytea, ADD COLUMN size bigint;
     CREATE TABLE {chunks} (
         content bytea NOT NULL,
         start bigint NOT NULL,
         data bytea NOT NULL,
         PRIMARY KEY (content, start)
     );
     ALTER TABLE {chunks} ALTER COLUMN data SET STORAGE EXTERNAL;
     CREATE TABLE {loose} (
         content bytea PRIMARY KEY,
         bytes bigint NOT NULL,
         ends double precision NOT NULL,
         doomed boolean NOT NULL DEFAULT false
     );
     CREATE FUNCTION {release}() RETURNS trigger LANGUAGE plpgsql AS $release$
     BEGIN
         INSERT INTO {loose} (content, bytes, ends)
             VALUES (OLD.content, coalesce(OLD.size, 0), extract(epoch FROM clock_timestamp())::float8 + 60)
             ON CONFLICT (content) DO NOTHING;
         RETURN NULL;
     END
     $release$;
     CREATE TRIGGER tiered_deleted AFTER DELETE ON {table} FOR EACH ROW
         WHEN (OLD.value IS NULL AND OLD.content IS NOT NULL) EXECUTE FUNCTION {release}();
     CREATE TRIGGER tiered_replaced AFTER UPDATE ON {table} FOR EACH ROW
         WHEN (OLD.value IS NULL AND OLD.content IS NOT NULL
             AND (NEW.value IS NOT NULL OR NEW.content IS DISTINCT FROM OLD.content))
         EXECUTE FUNCTION {release}()",
];

/// The version from which on there are chunks.
const CHUNKED: usize = 3;

/// The row of the meta table that holds the schema's version. Marks have other names: theirs have no colon.
const VERSION: &str = "tiered:schema";

/// The quoted names of the tables, and of what belongs to them.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) schema: String,
    /// The entries.
    pub(crate) table: String,
    /// The schema's version, and marks.
    pub(crate) meta: String,
    /// The chunks of large values.
    pub(crate) chunks: String,
    /// The values in chunks that no row refers to.
    pub(crate) loose: String,
    index: String,
    release: String,
}

impl Names {
    /// The configuration's names, which were checked.
    pub(crate) fn of(config: &PostgresConfig) -> Self {
        Self::new(&config.schema, &config.table)
    }

    pub(crate) fn new(schema: &str, table: &str) -> Self {
        let within = |suffix: &str| format!("\"{schema}\".\"{table}{suffix}\"");
        Self {
            schema: format!("\"{schema}\""),
            table: within(""),
            meta: within("_meta"),
            chunks: within("_chunks"),
            loose: within("_loose"),
            index: format!("\"{table}_expiry\""),
            release: within("_release"),
        }
    }

    fn fill(&self, template: &str) -> AssertSqlSafe<String> {
        let names = [
            ("{table}", &self.table),
            ("{meta}", &self.meta),
            ("{chunks}", &self.chunks),
            ("{loose}", &self.loose),
            ("{index}", &self.index),
            ("{release}", &self.release),
            ("{schema}", &self.schema),
        ];
        let fill = |text: String, (name, is): (&str, &String)| text.replace(name, is);
        AssertSqlSafe(names.into_iter().fold(template.to_owned(), fill))
    }
}

/// A statement that is run once: no connection keeps it.
fn once<'q>(statement: impl SqlSafeStr) -> Query<'q> {
    sqlx::query(statement).persistent(false)
}

/// What there is.
enum Found {
    Nothing,
    Foreign,
    Version(usize),
}

/// Brings the tables to this version, under a lock that others who open the store wait for. Where they are there
/// already, nothing is locked and no right to create is needed.
pub(crate) async fn prepare(client: &Client, names: &Names, create: Create) -> Result<()> {
    let owned = Arc::new(names.clone());
    let look = Arc::clone(&owned);
    let found = client.run(Purpose::Read, move |connection| {
        let names = Arc::clone(&look);
        Box::pin(async move { find(connection, &names).await })
    });
    match found.await? {
        Found::Version(_) if create == Create::New => return Err(already_there()),
        Found::Version(version) if version == MIGRATIONS.len() => return Ok(()),
        Found::Nothing if create == Create::Never => {
            return Err(Error::new(ErrorKind::NotFound, "the table does not exist; create it"));
        }
        found => check(&found)?,
    }
    let migrated = client.run(Purpose::Write, move |connection| {
        let names = Arc::clone(&owned);
        Box::pin(async move { migrate(connection, &names, create).await })
    });
    migrated.await?
}

fn already_there() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a store already; connect to it, or destroy it first")
}

/// Whether there are tables of a store.
pub(crate) async fn exists(client: &Client, names: &Names) -> Result<bool> {
    let owned = Arc::new(names.clone());
    let found = client.run(Purpose::Read, move |connection| {
        let names = Arc::clone(&owned);
        Box::pin(async move { find(connection, &names).await })
    });
    match found.await? {
        Found::Nothing => Ok(false),
        Found::Version(_) => Ok(true),
        foreign @ Found::Foreign => check(&foreign).map(|()| false),
    }
}

/// Removes the tables of a store in one transaction. The schema stays: it may have been there before.
pub(crate) async fn remove(client: &Client, names: &Names) -> Result<()> {
    let owned = Arc::new(names.clone());
    let removed = client.run(Purpose::Write, move |connection| {
        let names = Arc::clone(&owned);
        Box::pin(async move { drop_tables(connection, &names).await })
    });
    removed.await?
}

async fn drop_tables(connection: &mut PgConnection, names: &Names) -> Result<Result<()>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    lock_schema(&mut transaction, names).await?;
    let found = find(&mut transaction, names).await?;
    let refused = match &found {
        Found::Nothing => Err(Error::new(ErrorKind::NotFound, "there is no such table")),
        found => check(found),
    };
    if let Err(error) = refused {
        transaction.rollback().await?;
        return Ok(Err(error));
    }
    // Views and tables of others that depend on them are a reason to fail, and the server names them.
    let drop = match found {
        Found::Version(version) if version >= CHUNKED => {
            "DROP TABLE {table}, {meta}, {chunks}, {loose}; DROP FUNCTION {release}()"
        }
        _ => "DROP TABLE {table}, {meta}",
    };
    sqlx::raw_sql(names.fill(drop)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(Ok(()))
}

/// Serialises processes that make or remove stores in one schema at the same time.
async fn lock_schema(transaction: &mut PgConnection, names: &Names) -> Result<(), sqlx::Error> {
    once("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("tiered:{}", names.schema))
        .execute(transaction)
        .await?;
    Ok(())
}

fn check(found: &Found) -> Result<()> {
    match found {
        Found::Foreign => Err(Error::new(
            ErrorKind::Foreign,
            "the table is not a store's; choose another name for the table",
        )),
        Found::Version(version) if *version > MIGRATIONS.len() => Err(Error::new(
            ErrorKind::Config,
            format!(
                "the tables have version {version}, this program knows {}; use a newer one",
                MIGRATIONS.len()
            ),
        )),
        Found::Nothing | Found::Version(_) => Ok(()),
    }
}

async fn find(connection: &mut PgConnection, names: &Names) -> Result<Found, sqlx::Error> {
    let exist = once("SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL")
        .bind(&names.table)
        .bind(&names.meta)
        .fetch_one(&mut *connection)
        .await?;
    let (table, meta): (bool, bool) = (exist.try_get(0)?, exist.try_get(1)?);
    if !table && !meta {
        return Ok(Found::Nothing);
    }
    if !meta {
        return Ok(Found::Foreign);
    }
    let version = once(names.fill("SELECT value FROM {meta} WHERE name = $1"))
        .bind(VERSION)
        .fetch_optional(connection)
        .await?;
    let version = version.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose()?;
    let version = version.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
    Ok(version.filter(|_| table).map_or(Found::Foreign, Found::Version))
}

async fn migrate(
    connection: &mut PgConnection,
    names: &Names,
    create: Create,
) -> Result<Result<()>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    lock_schema(&mut transaction, names).await?;
    // Reads the catalogue: the session's cache is from before it waited for the lock.
    let schema = once("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)");
    let schema = schema.bind(names.schema.trim_matches('"')).fetch_one(&mut *transaction).await?;
    if !schema.try_get::<bool, _>(0)? {
        once(names.fill("CREATE SCHEMA IF NOT EXISTS {schema}")).execute(&mut *transaction).await?;
    }
    let found = find(&mut transaction, names).await?;
    // Another process may have made it since it was looked for.
    let refused = match &found {
        Found::Version(_) if create == Create::New => Err(already_there()),
        found => check(found),
    };
    if let Err(error) = refused {
        transaction.rollback().await?;
        return Ok(Err(error));
    }
    let from = if let Found::Version(version) = found { version } else { 0 };
    for step in MIGRATIONS.iter().skip(from) {
        sqlx::raw_sql(names.fill(step)).execute(&mut *transaction).await?;
    }
    once(names.fill(
        "INSERT INTO {meta} (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
    ))
    .bind(VERSION)
    .bind(MIGRATIONS.len().to_string().into_bytes())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Ok(()))
}

/// What the server says of itself.
struct Server {
    encoding: String,
    /// Milliseconds.
    limits: Limits,
    /// Whether a commit survives a power loss.
    synced: bool,
    clock: f64,
}

/// What the server is: refuses one that cannot hold a store, and tells what a commit survives there.
pub(crate) async fn inspect(client: &Client, limits: Limits) -> Result<Durability> {
    let server = client.run(Purpose::Read, |connection| {
        Box::pin(async move {
            let setting = |name| format!("(SELECT setting::bigint FROM pg_settings WHERE name = '{name}')");
            let row = once(AssertSqlSafe(format!(
                "SELECT current_setting('server_encoding'), {}, {}, \
                 current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off', \
                 extract(epoch FROM clock_timestamp())::float8",
                setting(Limits::STATEMENT),
                setting(Limits::IDLE)
            )))
            .fetch_one(connection)
            .await?;
            Ok(Server {
                encoding: row.try_get(0)?,
                limits: Limits { statement: row.try_get(1)?, idle: row.try_get(2)? },
                synced: row.try_get(3)?,
                clock: row.try_get(4)?,
            })
        })
    });
    let server = server.await?;
    client.clock().set(server.clock);
    if server.encoding != "UTF8" {
        return Err(Error::new(
            ErrorKind::Config,
            format!("the database is encoded in {}; attributes need UTF8", server.encoding),
        ));
    }
    if server.limits != limits {
        // Without these limits, the time in which an unknown write can still take effect is unbounded.
        return Err(Error::new(
            ErrorKind::Config,
            "the session does not have the limits that it was opened with: a pooler ignores `options`; open with statement_cache=0",
        ));
    }
    Ok(if server.synced { Durability::PowerLoss } else { Durability::ProcessKill })
}
