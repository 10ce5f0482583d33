//! Tiers on servers: a schema or a prefix for each place, named after its folder, so that opening it again finds it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use tiered::{Error, ErrorKind, Result, Store};
use tiered_services::Service;

/// Largest value of the stacks, in bytes.
pub(crate) const MAX_VALUE: u64 = 4 << 20;

/// The URL of a server.
fn url(service: Service) -> Result<String> {
    service.url().ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("{} is not set; run `cargo xtask test`", service.variable()))
    })
}

/// A unique name, made of the place's folder, which is random.
fn id(folder: &Path, name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (folder, name).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The name of a schema of this process.
#[cfg(feature = "postgres")]
fn schema(id: &str) -> String {
    format!("tiered_matrix_{}_{id}", std::process::id())
}

/// Opens a table in a schema of its own.
#[cfg(feature = "postgres")]
pub(crate) async fn postgres(folder: &Path, name: &str) -> Result<Arc<dyn Store>> {
    let config = tiered::postgres::PostgresConfig::from_url(&url(Service::Postgres)?)?;
    let config = config.schema(&schema(&id(folder, name))).connections(6);
    Ok(Arc::new(config.max_value(MAX_VALUE).sweep(None).open().await?))
}

/// Opens a prefix of its own.
#[cfg(feature = "s3")]
pub(crate) async fn s3(folder: &Path, name: &str, max_value: u64) -> Result<Arc<dyn Store>> {
    let (access, secret) = tiered_services::S3_CREDENTIALS;
    let config = tiered::s3::S3Config::new(tiered_services::S3_BUCKET).endpoint(&url(Service::S3)?);
    let config = config.prefix(&format!("matrix/{}/", id(folder, name))).credentials(access, secret, None);
    Ok(Arc::new(config.max_value(max_value).open().await?))
}

/// Makes the bucket, where it is not there.
///
/// # Errors
/// The server's.
#[cfg(feature = "s3")]
pub async fn prepare_s3() -> Result<()> {
    use tiered::s3::aws_sdk_s3;
    let (access, secret) = tiered_services::S3_CREDENTIALS;
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(aws_sdk_s3::config::BehaviorVersion::latest())
        .region(aws_sdk_s3::config::Region::new("us-east-1"))
        .endpoint_url(url(Service::S3)?)
        .force_path_style(true)
        .credentials_provider(aws_sdk_s3::config::Credentials::new(access, secret, None, None, "tests"));
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let bucket = tiered_services::S3_BUCKET;
    if client.head_bucket().bucket(bucket).send().await.is_err() {
        // Another process may be faster; opening the store says what is wrong otherwise.
        client.create_bucket().bucket(bucket).send().await.ok();
    }
    Ok(())
}

/// Removes every schema that this process made.
///
/// # Errors
/// The server's.
#[cfg(feature = "postgres")]
pub(crate) async fn remove_schemas() -> Result<()> {
    use tiered::postgres::sqlx::{AssertSqlSafe, Connection as _, PgConnection, query_scalar, raw_sql};
    let failed = |error| Error::new(ErrorKind::Other, "a schema was not removed").with_source(error);
    let mut connection = PgConnection::connect(&url(Service::Postgres)?).await.map_err(failed)?;
    let own = "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)";
    let names: Vec<String> =
        query_scalar(own).bind(schema("")).fetch_all(&mut connection).await.map_err(failed)?;
    for name in names {
        let drop = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
        raw_sql(drop).execute(&mut connection).await.map_err(failed)?;
    }
    connection.close().await.map_err(failed)
}
