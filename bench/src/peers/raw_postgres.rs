//! Postgres by sqlx: the statements that one would write by hand, over a pool.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tiered::postgres::sqlx::postgres::PgPoolOptions;
use tiered::postgres::sqlx::{self, PgPool, Row as _};

use super::raw_redb::Records;
use super::{Peer, record};
use crate::workload::{Name, Workload};

/// Connections of each side.
pub const CONNECTIONS: u32 = 16;

/// The schema of everything that a run makes on the server.
pub const SCHEMA: &str = "tiered_bench";

/// A table with the columns and the index of the adapter of tiered: metadata that a query can look at, beside the value.
const COLUMNS: &str = "CREATE TABLE tiered_bench.columns (key bytea PRIMARY KEY, version text COLLATE \"C\" NOT NULL, \
     modified bigint NOT NULL, expires_at bigint, attributes jsonb, checksum bigint NOT NULL, value bytea NOT NULL, \
     session bigint, validated bigint, origin smallint NOT NULL, validator text); \
     ALTER TABLE tiered_bench.columns ALTER COLUMN value SET STORAGE EXTERNAL; \
     CREATE INDEX ON tiered_bench.columns (expires_at) WHERE expires_at IS NOT NULL";

/// A table of keys and records.
#[derive(Clone, Debug)]
pub struct RawPostgres(PgPool);

impl RawPostgres {
    /// An empty table; one of an earlier run is replaced, with the schema of both sides.
    pub async fn create(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        sqlx::raw_sql("DROP SCHEMA IF EXISTS tiered_bench CASCADE").execute(&pool).await?;
        sqlx::raw_sql("CREATE SCHEMA tiered_bench").execute(&pool).await?;
        sqlx::raw_sql("CREATE TABLE tiered_bench.raw (key bytea PRIMARY KEY, record bytea NOT NULL)")
            .execute(&pool)
            .await?;
        sqlx::raw_sql(COLUMNS).execute(&pool).await?;
        Ok(Self(pool))
    }

    /// Tells the server how many rows there are, as it finds out by itself after a while.
    pub async fn analyze(&self) -> Result<()> {
        sqlx::raw_sql("ANALYZE").execute(&self.0).await?;
        Ok(())
    }

    /// Copies every row into `to`, by a cursor and in transactions of 1,000 keys; how many they are.
    pub async fn copy_to(&self, to: &Records) -> Result<u64> {
        let mut rows =
            sqlx::query("SELECT key, record FROM tiered_bench.raw ORDER BY key").fetch(&self.0).chunks(1000);
        let (mut writer, mut count) = (to.writer(), 0);
        while let Some(rows) = rows.next().await {
            count += writer.write(rows.into_iter().map(|row| {
                let row = row?;
                let key = std::str::from_utf8(row.try_get(0)?).context("a key of another program")?;
                Ok((key.to_owned(), record::read(key, row.try_get(1)?)?))
            }))?;
        }
        Ok(count)
    }

    /// The server's version, and what a commit survives there.
    pub async fn settings(&self) -> Result<String> {
        let row = sqlx::query(
            "SELECT split_part(version(), ' ', 2), current_setting('fsync'), current_setting('synchronous_commit')",
        )
        .fetch_one(&self.0)
        .await?;
        let (version, fsync, commit): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(format!("version {version}, fsync = {fsync}, synchronous_commit = {commit}"))
    }

    /// Removes what the run made.
    pub async fn remove(self) -> Result<()> {
        sqlx::raw_sql("DROP SCHEMA IF EXISTS tiered_bench CASCADE").execute(&self.0).await?;
        self.0.close().await;
        Ok(())
    }

    /// Writes every key of the workload, `batch` by one statement, so many statements at a time.
    pub async fn write_all(&self, workload: &Workload, batch: usize, at_a_time: usize) -> Result<()> {
        let chunks: Vec<&[Name]> = workload.names.chunks(batch).collect();
        for chunks in chunks.chunks(at_a_time) {
            try_join_all(chunks.iter().map(|names| self.write_together(names, workload))).await?;
        }
        Ok(())
    }

    /// The same into a table with a column for each of version, time, expiry, attributes, checksum and value.
    pub async fn write_columns(&self, workload: &Workload, batch: usize, at_a_time: usize) -> Result<()> {
        let chunks: Vec<&[Name]> = workload.names.chunks(batch).collect();
        for chunks in chunks.chunks(at_a_time) {
            try_join_all(chunks.iter().map(|names| self.write_rows(names, &workload.value))).await?;
        }
        Ok(())
    }

    async fn write_rows(&self, names: &[Name], value: &Bytes) -> Result<()> {
        let keys: Vec<&[u8]> = names.iter().map(|name| name.text.as_bytes()).collect();
        let versions: Vec<String> = names.iter().map(|_| format!("{:032x}", fastrand::u128(..))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let checksums: Vec<i64> = names.iter().map(|_| i64::from(crc32c::crc32c(value))).collect();
        let values: Vec<&[u8]> = names.iter().map(|_| &value[..]).collect();
        sqlx::query(
            "INSERT INTO tiered_bench.columns (key, version, modified, expires_at, attributes, checksum, value, origin) \
             SELECT u.key, u.version, u.modified, u.expires_at, u.attributes::jsonb, u.checksum, u.value, 0 \
             FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bytea[]) \
             AS u (key, version, modified, expires_at, attributes, checksum, value) \
             ON CONFLICT (key) DO UPDATE SET version = EXCLUDED.version, modified = EXCLUDED.modified, \
             expires_at = EXCLUDED.expires_at, attributes = EXCLUDED.attributes, checksum = EXCLUDED.checksum, \
             value = EXCLUDED.value, session = NULL, validated = NULL, origin = EXCLUDED.origin, validator = NULL",
        )
        .bind(keys)
        .bind(versions)
        .bind(vec![now; names.len()])
        .bind(vec![None::<i64>; names.len()])
        .bind(vec![None::<String>; names.len()])
        .bind(checksums)
        .bind(values)
        .execute(&self.0)
        .await?;
        Ok(())
    }

    async fn write_together(&self, names: &[Name], workload: &Workload) -> Result<()> {
        let keys: Vec<&[u8]> = names.iter().map(|name| name.text.as_bytes()).collect();
        let records = names.iter().map(|name| record::write(&name.text, &workload.value));
        let records: Vec<Vec<u8>> = records.collect::<Result<_>>()?;
        sqlx::query(
            "INSERT INTO tiered_bench.raw (key, record) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
             ON CONFLICT (key) DO UPDATE SET record = EXCLUDED.record",
        )
        .bind(keys)
        .bind(records)
        .execute(&self.0)
        .await?;
        Ok(())
    }
}

impl Peer for RawPostgres {
    async fn get(&self, name: &Name) -> Result<Option<usize>> {
        let row = sqlx::query("SELECT record FROM tiered_bench.raw WHERE key = $1")
            .bind(name.text.as_bytes())
            .fetch_optional(&self.0)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(record::read(&name.text, row.try_get(0)?)?.len()))
    }

    async fn put(&self, name: &Name, value: Bytes) -> Result<()> {
        sqlx::query(
            "INSERT INTO tiered_bench.raw (key, record) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET record = EXCLUDED.record",
        )
        .bind(name.text.as_bytes())
        .bind(record::write(&name.text, &value)?)
        .execute(&self.0)
        .await?;
        Ok(())
    }

    async fn get_many(&self, names: &[&Name]) -> Result<usize> {
        let keys: Vec<&[u8]> = names.iter().map(|name| name.text.as_bytes()).collect();
        let rows = sqlx::query("SELECT key, record FROM tiered_bench.raw WHERE key = ANY ($1)")
            .bind(keys)
            .fetch_all(&self.0)
            .await?;
        for row in &rows {
            let key = std::str::from_utf8(row.try_get(0)?).context("a key of another program")?;
            std::hint::black_box(record::read(key, row.try_get(1)?)?);
        }
        Ok(rows.len())
    }
}
