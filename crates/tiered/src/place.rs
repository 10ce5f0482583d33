//! The place that a URL of a scheme of the workspace names, and its life: opened, looked for, destroyed.

use std::path::Path;
use std::sync::Arc;

// Both adapters have the same type.
#[cfg(feature = "redb")]
use tiered_redb::ReadMode;
#[cfg(all(feature = "rocksdb", not(feature = "redb")))]
use tiered_rocksdb::ReadMode;

#[cfg(any(feature = "redb", feature = "rocksdb"))]
use tiered_core::WriteDurability;
use tiered_core::adapter::opening::Before;
use tiered_core::adapter::url::{StoreUrl, parse_bytes};
use tiered_core::{Capabilities, Create, Error, ErrorKind, MemoryStore, Operation, Result, Store};

use crate::open::unknown;

/// What a URL names, with all of its parameters read.
pub(crate) enum Place {
    Memory(MemoryStore),
    #[cfg(feature = "moka")]
    Moka(tiered_moka::MokaConfig),
    #[cfg(feature = "quick")]
    Quick(tiered_quick::QuickConfig),
    #[cfg(feature = "redb")]
    Redb(Box<tiered_redb::RedbConfig>),
    #[cfg(feature = "rocksdb")]
    Rocksdb(Box<tiered_rocksdb::RocksdbConfig>),
    #[cfg(feature = "postgres")]
    Postgres(Box<tiered_postgres::PostgresConfig>),
    #[cfg(feature = "s3")]
    S3(Box<tiered_s3::S3Config>),
    #[cfg(feature = "object-store")]
    Objects(Box<tiered_object_store::v0_14::ObjectTierConfig>),
}

impl Place {
    /// The place that `url` names.
    pub(crate) fn of(url: StoreUrl) -> Result<Self> {
        match url.scheme() {
            "memory" => memory(url),
            #[cfg(feature = "moka")]
            "moka" => moka(url),
            #[cfg(feature = "quick")]
            "quick" => quick(url),
            #[cfg(feature = "redb")]
            "redb" => redb(url),
            #[cfg(feature = "rocksdb")]
            "rocksdb" => rocksdb(url),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => postgres(url),
            #[cfg(feature = "s3")]
            "s3" => s3(url),
            #[cfg(feature = "object-store")]
            "object" => objects(url),
            other => Err(unknown(other)),
        }
    }

    /// Opens the store there. A store in memory is always new.
    pub(crate) async fn open(self, create: Create) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory(store) => {
                let _ = create;
                Arc::new(store)
            }
            #[cfg(feature = "moka")]
            Self::Moka(config) => Arc::new(config.build()?),
            #[cfg(feature = "quick")]
            Self::Quick(config) => Arc::new(config.build()?),
            #[cfg(feature = "redb")]
            Self::Redb(config) => Arc::new(config.create(create).open().await?),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb(config) => Arc::new(config.create(create).open().await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => Arc::new(config.create(create).open().await?),
            #[cfg(feature = "s3")]
            Self::S3(config) => Arc::new(config.create(create).open().await?),
            #[cfg(feature = "object-store")]
            Self::Objects(config) => Arc::new(config.create(create).open().await?),
        })
    }

    /// Whether it may outlive the process.
    pub(crate) fn lasts(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            #[cfg(feature = "moka")]
            Self::Moka(_) => false,
            #[cfg(feature = "quick")]
            Self::Quick(_) => false,
            #[cfg(any(
                feature = "redb",
                feature = "rocksdb",
                feature = "postgres",
                feature = "s3",
                feature = "object-store"
            ))]
            _ => true,
        }
    }

    /// Removes a store that was just made, where it was not used since; whether it was removed.
    pub(crate) async fn take_back(self, before: Before) -> Result<bool> {
        match self {
            #[cfg(feature = "redb")]
            Self::Redb(config) => config.take_back(before).await,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb(config) => config.take_back(before).await,
            _ => {
                let _ = before;
                Ok(false)
            }
        }
    }

    /// Whether there is a store. Never, in memory.
    pub(crate) async fn exists(self) -> Result<bool> {
        match self {
            Self::Memory(_) => Ok(false),
            #[cfg(feature = "moka")]
            Self::Moka(_) => Ok(false),
            #[cfg(feature = "quick")]
            Self::Quick(_) => Ok(false),
            #[cfg(feature = "redb")]
            Self::Redb(config) => config.exists().await,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb(config) => config.exists().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => config.exists().await,
            #[cfg(feature = "s3")]
            Self::S3(config) => config.exists().await,
            #[cfg(feature = "object-store")]
            Self::Objects(config) => config.exists().await,
        }
    }

    /// Removes the store.
    pub(crate) async fn destroy(self) -> Result<()> {
        match self {
            Self::Memory(_) => Err(in_memory()),
            #[cfg(feature = "moka")]
            Self::Moka(_) => Err(in_memory()),
            #[cfg(feature = "quick")]
            Self::Quick(_) => Err(in_memory()),
            #[cfg(feature = "redb")]
            Self::Redb(config) => config.destroy().await,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb(config) => config.destroy().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => config.destroy().await,
            #[cfg(feature = "s3")]
            Self::S3(config) => config.destroy().await,
            #[cfg(feature = "object-store")]
            Self::Objects(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "object: removes no store; remove the objects below its prefix by other means",
            )
            .during(Operation::Destroy)),
        }
    }
}

/// What is at the place of `url` before a store is made there. `None` where nothing is taken back: a server shows to others
/// what was made, and they may use it already.
pub(crate) fn before(url: &StoreUrl) -> Option<Before> {
    matches!(url.scheme(), "redb" | "rocksdb").then(|| Before::at(Path::new(url.path())))
}

fn in_memory() -> Error {
    let message = "a store in memory ends with its last handle; there is nothing to destroy";
    Error::new(ErrorKind::NotFound, message).during(Operation::Destroy)
}

/// The parameter that every scheme has.
fn max_value(url: &mut StoreUrl) -> Result<u64> {
    url.take("max_value").map_or(Ok(Capabilities::DEFAULT_MAX_VALUE), |text| parse_bytes(&text))
}

/// Refuses a path for a store that takes none.
fn no_path(url: &StoreUrl) -> Result<()> {
    if url.path().is_empty() {
        return Ok(());
    }
    let message = format!("{}: takes no path; parameters follow a question mark", url.scheme());
    Err(Error::new(ErrorKind::Config, message).during(Operation::Open))
}

fn memory(mut url: StoreUrl) -> Result<Place> {
    no_path(&url)?;
    let max_value = max_value(&mut url)?;
    url.finish(&["max_value"])?;
    Ok(Place::Memory(MemoryStore::new().declaring(|capabilities| capabilities.with_max_value(max_value))))
}

/// What a memory tier holds where the URL does not say: tens of thousands of small entries, and little for any machine.
#[cfg(any(feature = "moka", feature = "quick"))]
const CAPACITY: u64 = 64 << 20;

/// The parameters of every memory tier: its capacity, and its time to live.
#[cfg(any(feature = "moka", feature = "quick"))]
fn bounded(url: &mut StoreUrl) -> Result<(u64, Option<std::time::Duration>)> {
    no_path(url)?;
    let capacity = url.take("capacity").map_or(Ok(CAPACITY), |text| parse_bytes(&text))?;
    let ttl = url.take("ttl").map(|text| tiered_core::adapter::url::parse_duration(&text)).transpose()?;
    Ok((capacity, ttl))
}

#[cfg(feature = "moka")]
fn moka(mut url: StoreUrl) -> Result<Place> {
    use tiered_moka::{MokaConfig, Policy};
    let (capacity, ttl) = bounded(&mut url)?;
    let policy = match url.take("policy").as_deref() {
        None | Some("lru") => Policy::Lru,
        Some("tinylfu") => Policy::TinyLfu,
        Some(other) => return Err(choice("policy", other, "lru, tinylfu")),
    };
    let max_value = max_value(&mut url)?;
    url.finish(&["capacity", "ttl", "policy", "max_value"])?;
    let config = MokaConfig::new(capacity).max_value(max_value).policy(policy);
    Ok(Place::Moka(ttl.into_iter().fold(config, MokaConfig::ttl)))
}

#[cfg(feature = "quick")]
fn quick(mut url: StoreUrl) -> Result<Place> {
    use tiered_quick::QuickConfig;
    let (capacity, ttl) = bounded(&mut url)?;
    let items = url.take("items").map(|text| number("items", &text)).transpose()?;
    let max_value = url.take("max_value").map(|text| parse_bytes(&text)).transpose()?;
    url.finish(&["capacity", "ttl", "items", "max_value"])?;
    let config = ttl.into_iter().fold(QuickConfig::new(capacity), QuickConfig::ttl);
    let config = items.into_iter().fold(config, QuickConfig::items);
    Ok(Place::Quick(max_value.into_iter().fold(config, QuickConfig::max_value)))
}

/// Bytes of memory.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn memory_of(text: &str) -> Result<usize> {
    Ok(usize::try_from(parse_bytes(text)?).unwrap_or(usize::MAX))
}

/// The durability of an embedded store.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn write_durability(text: &str) -> Result<WriteDurability> {
    match text {
        "sync" => Ok(WriteDurability::Sync),
        "buffer" => Ok(WriteDurability::Buffer),
        other => Err(choice("durability", other, "sync, buffer")),
    }
}

/// A number.
#[cfg(any(feature = "quick", feature = "postgres", feature = "object-store"))]
fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<N> {
    text.parse().map_err(|_| {
        Error::new(ErrorKind::Config, format!("{name} is not a number; write digits only"))
            .during(Operation::Open)
    })
}

/// Where the reads of an embedded store run.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn read_mode(text: &str) -> Result<ReadMode> {
    match text {
        "adaptive" => Ok(ReadMode::Adaptive),
        "inline" => Ok(ReadMode::Inline),
        "threads" => Ok(ReadMode::Threads),
        other => Err(choice("reads", other, "adaptive, inline, threads")),
    }
}

/// Refuses a value that is none of `choices`.
#[cfg(any(
    feature = "moka",
    feature = "redb",
    feature = "rocksdb",
    feature = "postgres",
    feature = "s3",
    feature = "object-store"
))]
fn choice(name: &str, given: &str, choices: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{name}={given} is unknown; use one of {choices}"))
        .during(Operation::Open)
}

#[cfg(feature = "redb")]
fn redb(mut url: StoreUrl) -> Result<Place> {
    use tiered_redb::{RedbConfig, Verify};
    if url.path().is_empty() {
        return Err(Error::new(ErrorKind::Config, "redb: needs a file, such as redb:data.redb")
            .during(Operation::Open));
    }
    let mut config = RedbConfig::new(url.path()).max_value(max_value(&mut url)?);
    if let Some(cache) = url.take("cache") {
        config = config.cache(memory_of(&cache)?);
    }
    if let Some(durability) = url.take("durability") {
        config = config.durability(write_durability(&durability)?);
    }
    if let Some(verify) = url.take("verify") {
        config = config.verify(match verify.as_str() {
            "auto" => Verify::Auto,
            "always" => Verify::Always,
            "never" => Verify::Never,
            other => return Err(choice("verify", other, "auto, always, never")),
        });
    }
    if let Some(access) = url.take("access") {
        config = config.access(match access.as_str() {
            "read-write" => tiered_redb::Access::ReadWrite,
            "read-only" => tiered_redb::Access::ReadOnly,
            other => return Err(choice("access", other, "read-write, read-only")),
        });
    }
    if let Some(reads) = url.take("reads") {
        config = config.reads(read_mode(&reads)?);
    }
    if let Some(capacity) = url.take("capacity") {
        config = config.capacity(parse_bytes(&capacity)?);
    }
    url.finish(&["cache", "durability", "verify", "access", "reads", "capacity", "max_value"])?;
    Ok(Place::Redb(Box::new(config)))
}

#[cfg(feature = "rocksdb")]
fn rocksdb(mut url: StoreUrl) -> Result<Place> {
    use tiered_rocksdb::RocksdbConfig;
    if url.path().is_empty() {
        return Err(Error::new(ErrorKind::Config, "rocksdb: needs a folder, such as rocksdb:data.rocksdb")
            .during(Operation::Open));
    }
    let mut config = RocksdbConfig::new(url.path()).max_value(max_value(&mut url)?);
    if let Some(cache) = url.take("cache") {
        let cache = memory_of(&cache)?;
        if cache < RocksdbConfig::MIN_CACHE {
            return Err(Error::new(ErrorKind::Config, "cache must be at least 1MiB for rocksdb:")
                .during(Operation::Open));
        }
        config = config.cache(cache);
    }
    if let Some(buffer) = url.take("write_buffer") {
        config = config.write_buffer(memory_of(&buffer)?);
    }
    if let Some(durability) = url.take("durability") {
        config = config.durability(write_durability(&durability)?);
    }
    if let Some(access) = url.take("access") {
        config = config.access(match access.as_str() {
            "read-write" => tiered_rocksdb::Access::ReadWrite,
            "read-only" => tiered_rocksdb::Access::ReadOnly,
            other => return Err(choice("access", other, "read-write, read-only")),
        });
    }
    if let Some(reads) = url.take("reads") {
        config = config.reads(read_mode(&reads)?);
    }
    if let Some(capacity) = url.take("capacity") {
        config = config.capacity(parse_bytes(&capacity)?);
    }
    url.finish(&["cache", "write_buffer", "durability", "access", "reads", "capacity", "max_value"])?;
    Ok(Place::Rocksdb(Box::new(config)))
}

#[cfg(feature = "postgres")]
fn postgres(mut url: StoreUrl) -> Result<Place> {
    use tiered_core::adapter::url::parse_duration;
    use tiered_postgres::{Feed, PostgresConfig};
    /// The driver's own parameters, which are passed on.
    const DRIVER: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "options"];
    const KNOWN: [&str; 14] = [
        "table",
        "schema",
        "connections",
        "timeout",
        "feed",
        "sweep",
        "statement_cache",
        "max_value",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "application_name",
        "options",
    ];
    let driver: Vec<String> =
        DRIVER.into_iter().filter_map(|name| Some(format!("{name}={}", url.take(name)?))).collect();
    let mut config = PostgresConfig::from_url(&format!("postgres:{}?{}", url.path(), driver.join("&")))?;
    if let Some(table) = url.take("table") {
        config = config.table(&table);
    }
    if let Some(schema) = url.take("schema") {
        config = config.schema(&schema);
    }
    if let Some(connections) = url.take("connections") {
        config = config.connections(number::<u32>("connections", &connections)?);
    }
    if let Some(timeout) = url.take("timeout") {
        config = config.timeout(parse_duration(&timeout)?);
    }
    if let Some(feed) = url.take("feed") {
        config = config.feed(match feed.as_str() {
            "on" => Feed::On,
            "off" => Feed::Off,
            other => return Err(choice("feed", other, "on, off")),
        });
    }
    if let Some(sweep) = url.take("sweep") {
        config = config.sweep(if sweep == "off" { None } else { Some(parse_duration(&sweep)?) });
    }
    if let Some(statements) = url.take("statement_cache") {
        config = config.statement_cache(number::<u32>("statement_cache", &statements)? as usize);
    }
    if let Some(max_value) = url.take("max_value") {
        config = config.max_value(parse_bytes(&max_value)?);
    }
    url.finish(&KNOWN)?;
    Ok(Place::Postgres(Box::new(config)))
}

#[cfg(feature = "object-store")]
fn objects(mut url: StoreUrl) -> Result<Place> {
    use tiered_object_store::v0_14::ObjectTierConfig;
    use tiered_object_store::{Conditional, Keys, Order};
    let mut config = ObjectTierConfig::at(url.path())?.max_value(max_value(&mut url)?);
    if let Some(order) = url.take("order") {
        config = config.order(match order.as_str() {
            "checked" => Order::Checked,
            "sorted" => Order::Sorted,
            other => return Err(choice("order", other, "checked, sorted")),
        });
    }
    if let Some(keys) = url.take("keys") {
        config = config.keys(match keys.as_str() {
            "paths" => Keys::Paths,
            "flat" => Keys::Flat,
            other => return Err(choice("keys", other, "paths, flat")),
        });
    }
    if let Some(conditional) = url.take("conditional") {
        config = config.conditional(match conditional.as_str() {
            "probe" => Conditional::Probe,
            "off" => Conditional::Off,
            other => return Err(choice("conditional", other, "probe, off")),
        });
    }
    if let Some(max_key) = url.take("max_key") {
        config = config.max_key(number("max_key", &max_key)?);
    }
    url.finish(&["order", "keys", "conditional", "max_key", "max_value"])?;
    Ok(Place::Objects(Box::new(config)))
}

#[cfg(feature = "s3")]
fn s3(mut url: StoreUrl) -> Result<Place> {
    use tiered_core::adapter::url::parse_duration;
    use tiered_s3::{Addressing, BulkDelete, Conditional, Layout, S3Config, Tls};
    let path = url.path().trim_start_matches('/').to_owned();
    let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
    if bucket.is_empty() || !url.path().starts_with("//") {
        return Err(Error::new(ErrorKind::Config, "s3: needs a bucket, such as s3://bucket/prefix")
            .during(Operation::Open));
    }
    let mut config = S3Config::new(bucket).prefix(prefix).max_value(max_value(&mut url)?);
    if let Some(region) = url.take("region") {
        config = config.region(&region);
    }
    if let Some(endpoint) = url.take("endpoint") {
        config = config.endpoint(&endpoint);
    }
    if let Some(profile) = url.take("profile") {
        config = config.profile(&profile);
    }
    if let Some(layout) = url.take("layout") {
        config = config.layout(match layout.as_str() {
            "raw" => Layout::Raw,
            "enveloped" => Layout::Enveloped,
            other => return Err(choice("layout", other, "raw, enveloped")),
        });
    }
    if let Some(conditional) = url.take("conditional") {
        config = config.conditional(match conditional.as_str() {
            "probe" => Conditional::Probe,
            "off" => Conditional::Off,
            other => return Err(choice("conditional", other, "probe, off")),
        });
    }
    if let Some(bulk) = url.take("bulk_delete") {
        config = config.bulk_delete(match bulk.as_str() {
            "auto" => BulkDelete::Auto,
            "crc" => BulkDelete::Crc,
            "md5" => BulkDelete::Md5,
            "single" => BulkDelete::Single,
            other => return Err(choice("bulk_delete", other, "auto, crc, md5, single")),
        });
    }
    if let Some(addressing) = url.take("addressing") {
        config = config.addressing(match addressing.as_str() {
            "auto" => Addressing::Auto,
            "path" => Addressing::Path,
            "host" => Addressing::Host,
            other => return Err(choice("addressing", other, "auto, path, host")),
        });
    }
    if let Some(timeout) = url.take("timeout") {
        config = config.timeout(parse_duration(&timeout)?);
    }
    if let Some(multipart) = url.take("multipart") {
        config = config.multipart(parse_bytes(&multipart)?);
    }
    if let Some(tls) = url.take("tls") {
        config = config.tls(match tls.as_str() {
            "required" => Tls::Required,
            "optional" => Tls::Optional,
            other => return Err(choice("tls", other, "required, optional")),
        });
    }
    if let Some(credentials) = url.take("credentials") {
        config = match credentials.as_str() {
            "environment" => config,
            "none" => config.anonymous(),
            // The value may be a secret: it is not shown.
            _ => return Err(choice("credentials", "…", "environment, none")),
        };
    }
    url.finish(&[
        "region",
        "endpoint",
        "profile",
        "layout",
        "conditional",
        "bulk_delete",
        "addressing",
        "timeout",
        "multipart",
        "tls",
        "credentials",
        "max_value",
    ])?;
    Ok(Place::S3(Box::new(config)))
}

#[cfg(all(test, feature = "redb"))]
mod tests {
    use super::*;

    #[test]
    fn where_reads_run_is_a_parameter() {
        let place = |url: &str| StoreUrl::parse(url).and_then(Place::of);
        for reads in ["adaptive", "inline", "threads"] {
            assert!(place(&format!("redb:d?reads={reads}")).is_ok(), "{reads}");
        }
        let error = place("redb:d?reads=maybe").map(drop).expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("adaptive, inline, threads"), "{error}");
    }
}
