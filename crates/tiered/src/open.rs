//! Stores by URL.

use std::sync::Arc;

use tiered_core::url::{StoreUrl, parse_bytes};
use tiered_core::{Capabilities, Error, ErrorKind, MemoryStore, Operation, Result, Store};

/// The schemes, with the feature that each needs (none: always there) and what it opens.
pub const SCHEMES: [(&str, Option<&str>, &str); 4] = [
    ("memory", None, "memory:?max_value=… — in this process, unbounded"),
    ("moka", Some("moka"), "moka:?capacity=64MiB&ttl=60s&max_value=… — in this process, bounded"),
    (
        "redb",
        Some("redb"),
        "redb:FILE?cache=64MiB&durability=sync|buffer&verify=auto|always|never&max_value=…",
    ),
    (
        "rocksdb",
        Some("rocksdb"),
        "rocksdb:DIR?cache=64MiB&write_buffer=64MiB&durability=sync|buffer&max_value=…",
    ),
];

/// What to do where a store does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Make it.
    IfAbsent,
    /// Fail with [`ErrorKind::NotFound`].
    Never,
}

/// Opens the store that `url` names: one of [`SCHEMES`].
///
/// # Errors
/// [`ErrorKind::Config`] for an unknown scheme or parameter, or a scheme whose feature is not compiled in; else the
/// adapter's own.
///
/// # Cancel safety
/// As the adapter's opening.
pub async fn open(url: &str, create: Create) -> Result<Arc<dyn Store>> {
    let url = StoreUrl::parse(url)?;
    match url.scheme() {
        "memory" => memory(url),
        #[cfg(feature = "moka")]
        "moka" => moka(url),
        #[cfg(feature = "redb")]
        "redb" => redb(url, create).await,
        #[cfg(feature = "rocksdb")]
        "rocksdb" => rocksdb(url, create).await,
        other => Err(unknown(other, create)),
    }
}

fn unknown(scheme: &str, _: Create) -> Error {
    let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
    let message = if let Some((name, feature, _)) = known {
        format!("the scheme {name}: needs the feature {}; build with it", feature.unwrap_or(name))
    } else {
        let names = SCHEMES.map(|(name, ..)| name).join(":, ");
        format!("unknown scheme {scheme}:; use one of {names}:")
    };
    Error::new(ErrorKind::Config, message).during(Operation::Open)
}

/// The parameter that every scheme has.
fn max_value(url: &mut StoreUrl) -> Result<u64> {
    url.take("max_value").map_or(Ok(Capabilities::DEFAULT_MAX_VALUE), |text| parse_bytes(&text))
}

/// Refuses a path where a store has no place.
fn no_path(url: &StoreUrl) -> Result<()> {
    if url.path().is_empty() {
        return Ok(());
    }
    let message = format!("{}: takes no path; parameters follow a question mark", url.scheme());
    Err(Error::new(ErrorKind::Config, message).during(Operation::Open))
}

fn memory(mut url: StoreUrl) -> Result<Arc<dyn Store>> {
    no_path(&url)?;
    let max_value = max_value(&mut url)?;
    url.finish(&["max_value"])?;
    Ok(Arc::new(MemoryStore::new().declaring(|capabilities| capabilities.max_value(max_value))))
}

#[cfg(feature = "moka")]
fn moka(mut url: StoreUrl) -> Result<Arc<dyn Store>> {
    use tiered_core::url::parse_duration;
    /// Enough for a few ten thousand small entries, little enough for any machine.
    const CAPACITY: u64 = 64 << 20;
    no_path(&url)?;
    let capacity = url.take("capacity").map_or(Ok(CAPACITY), |text| parse_bytes(&text))?;
    let ttl = url.take("ttl").map(|text| parse_duration(&text)).transpose()?;
    let max_value = max_value(&mut url)?;
    url.finish(&["capacity", "ttl", "max_value"])?;
    let config = tiered_moka::MokaConfig::new(capacity).max_value(max_value);
    let config = match ttl {
        Some(ttl) => config.ttl(ttl),
        None => config,
    };
    Ok(Arc::new(config.build()?))
}

/// Bytes of memory.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn memory_of(text: &str) -> Result<usize> {
    Ok(usize::try_from(parse_bytes(text)?).unwrap_or(usize::MAX))
}

/// Refuses a value that is none of `choices`.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn choice(name: &str, given: &str, choices: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{name}={given} is unknown; use one of {choices}"))
        .during(Operation::Open)
}

#[cfg(feature = "redb")]
async fn redb(mut url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
    use tiered_redb::{RedbConfig, RedbDurability, Verify};
    if url.path().is_empty() {
        return Err(Error::new(ErrorKind::Config, "redb: needs a file, such as redb:data.redb")
            .during(Operation::Open));
    }
    let mut config = RedbConfig::new(url.path()).max_value(max_value(&mut url)?);
    if let Some(cache) = url.take("cache") {
        config = config.cache(memory_of(&cache)?);
    }
    if let Some(durability) = url.take("durability") {
        config = config.durability(match durability.as_str() {
            "sync" => RedbDurability::Sync,
            "buffer" => RedbDurability::Buffer,
            other => return Err(choice("durability", other, "sync, buffer")),
        });
    }
    if let Some(verify) = url.take("verify") {
        config = config.verify(match verify.as_str() {
            "auto" => Verify::Auto,
            "always" => Verify::Always,
            "never" => Verify::Never,
            other => return Err(choice("verify", other, "auto, always, never")),
        });
    }
    url.finish(&["cache", "durability", "verify", "max_value"])?;
    let config = config.create(match create {
        Create::IfAbsent => tiered_redb::Create::IfAbsent,
        Create::Never => tiered_redb::Create::Never,
    });
    Ok(Arc::new(config.open().await?))
}

#[cfg(feature = "rocksdb")]
async fn rocksdb(mut url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
    use tiered_rocksdb::{RocksdbConfig, RocksdbDurability};
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
        config = config.durability(match durability.as_str() {
            "sync" => RocksdbDurability::Sync,
            "buffer" => RocksdbDurability::Buffer,
            other => return Err(choice("durability", other, "sync, buffer")),
        });
    }
    url.finish(&["cache", "write_buffer", "durability", "max_value"])?;
    let config = config.create(match create {
        Create::IfAbsent => tiered_rocksdb::Create::IfAbsent,
        Create::Never => tiered_rocksdb::Create::Never,
    });
    Ok(Arc::new(config.open().await?))
}
