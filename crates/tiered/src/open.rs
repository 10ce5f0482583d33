//! Stores by URL.

use std::sync::Arc;

use tiered_core::Create;
#[cfg(any(feature = "redb", feature = "rocksdb"))]
use tiered_core::WriteDurability;
use tiered_core::adapter::url::{StoreUrl, parse_bytes};
use tiered_core::{Capabilities, Error, ErrorKind, MemoryStore, Operation, Result, Store};

use crate::schemes::Schemes;

/// The schemes, with the feature that each needs (none: always there) and what it opens.
pub const SCHEMES: &[(&str, Option<&str>, &str)] = &[
    ("memory", None, "memory:?max_value=… — in this process, unbounded"),
    ("moka", Some("moka"), "moka:?capacity=64MiB&ttl=60s&max_value=… — in this process, bounded"),
    (
        "redb",
        Some("redb"),
        "redb:FILE?cache=64MiB&durability=sync|buffer&verify=auto|always|never&access=read-write|read-only&max_value=…",
    ),
    (
        "rocksdb",
        Some("rocksdb"),
        "rocksdb:DIR?cache=64MiB&write_buffer=64MiB&durability=sync|buffer&access=read-write|read-only&max_value=…",
    ),
    (
        "postgres",
        Some("postgres"),
        "postgres://USER:PASSWORD@HOST:PORT/DATABASE?table=tiered&schema=public&connections=10&timeout=10s&feed=on|off&sweep=60s|off&statement_cache=100&sslmode=verify-full&sslrootcert=…&max_value=…",
    ),
    (
        "s3",
        Some("s3"),
        "s3://BUCKET/PREFIX?region=…&endpoint=https://…&profile=…&layout=raw|enveloped&conditional=probe|off&bulk_delete=auto|crc|md5|single&addressing=auto|path|host&timeout=10s&multipart=16MiB&tls=required|optional&credentials=environment|none&max_value=…",
    ),
];

/// Opens the store that `url` names: one of [`SCHEMES`], in [wrappers](Schemes#wrappers) where it names some.
///
/// # Errors
/// [`ErrorKind::Config`] for an unknown scheme or parameter, for a scheme whose feature is not compiled in, and outside
/// a tokio runtime (except for stores in memory); else the adapter's own.
///
/// # Cancel safety
/// As the adapter's opening.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered::{Create, ErrorKind, StoreExt};
///
/// let store = tiered::open("memory:", Create::IfAbsent).await?;
/// store.set("users/42", "Ada").await?;
/// let error = tiered::open("no-such-scheme:", Create::IfAbsent).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// # Ok::<(), tiered::Error>(()) }).unwrap();
/// ```
pub async fn open(url: &str, create: Create) -> Result<Arc<dyn Store>> {
    Schemes::standard().open(url, create).await
}

/// Opens a store of a scheme of the workspace.
pub(crate) async fn open_standard(url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
    match url.scheme() {
        "memory" => memory(url),
        #[cfg(feature = "moka")]
        "moka" => moka(url),
        #[cfg(feature = "redb")]
        "redb" => redb(url, create).await,
        #[cfg(feature = "rocksdb")]
        "rocksdb" => rocksdb(url, create).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => postgres(url, create).await,
        #[cfg(feature = "s3")]
        "s3" => s3(url).await,
        other => Err(unknown(other, create)),
    }
}

/// Opens an existing store for reading. A file or folder without write permission, or on a read-only mount, is opened
/// with `access=read-only` unless the URL sets `access`. Any other store is opened as by [`open`].
///
/// # Errors
/// As [`open`]. [`ErrorKind::PermissionDenied`] where the store cannot be read either, or was not closed cleanly: its
/// repair writes to it.
///
/// # Cancel safety
/// As the adapter's opening.
///
/// # Examples
/// ```
/// # #[cfg(feature = "redb")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let url = format!("redb:{}", folder.path().join("data.redb").display());
/// use tiered::Store;
///
/// tiered::open(&url, tiered::Create::IfAbsent).await?.close().await?;
/// let store = tiered::open_to_read(&url).await?;
/// assert!(store.load(&"k".parse()?, &tiered::ReadOptions::new()).await?.entry().is_none());
/// # store.close().await?;
/// # Ok::<(), tiered::Error>(()) }).unwrap();
/// ```
pub async fn open_to_read(url: &str) -> Result<Arc<dyn Store>> {
    Schemes::standard().open_to_read(url).await
}

/// The URL with `access=read-only`; `None` if the scheme does not support it or the URL already sets `access`.
pub(crate) fn read_only(url: &str) -> Option<String> {
    let mut parsed = StoreUrl::parse(url).ok()?;
    if !["redb", "rocksdb"].contains(&parsed.scheme()) || parsed.take("access").is_some() {
        return None;
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{separator}access=read-only"))
}

fn unknown(scheme: &str, _: Create) -> Error {
    let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
    let message = if let Some((name, feature, _)) = known {
        format!("the scheme {name}: needs the feature {}; enable it in the build", feature.unwrap_or(name))
    } else {
        let names = SCHEMES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(":, ");
        format!("unknown scheme {scheme}:; use one of {names}:")
    };
    Error::new(ErrorKind::Config, message).during(Operation::Open)
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

fn memory(mut url: StoreUrl) -> Result<Arc<dyn Store>> {
    no_path(&url)?;
    let max_value = max_value(&mut url)?;
    url.finish(&["max_value"])?;
    Ok(Arc::new(MemoryStore::new().declaring(|capabilities| capabilities.with_max_value(max_value))))
}

#[cfg(feature = "moka")]
fn moka(mut url: StoreUrl) -> Result<Arc<dyn Store>> {
    use tiered_core::adapter::url::parse_duration;
    /// Room for tens of thousands of small entries, and small enough for any machine.
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

/// The durability of an embedded store.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn write_durability(text: &str) -> Result<WriteDurability> {
    match text {
        "sync" => Ok(WriteDurability::Sync),
        "buffer" => Ok(WriteDurability::Buffer),
        other => Err(choice("durability", other, "sync, buffer")),
    }
}

/// Refuses a value that is none of `choices`.
#[cfg(any(feature = "redb", feature = "rocksdb", feature = "postgres", feature = "s3"))]
fn choice(name: &str, given: &str, choices: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{name}={given} is unknown; use one of {choices}"))
        .during(Operation::Open)
}

#[cfg(feature = "redb")]
async fn redb(mut url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
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
    url.finish(&["cache", "durability", "verify", "access", "max_value"])?;
    Ok(Arc::new(config.create(create).open().await?))
}

#[cfg(feature = "rocksdb")]
async fn rocksdb(mut url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
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
    url.finish(&["cache", "write_buffer", "durability", "access", "max_value"])?;
    Ok(Arc::new(config.create(create).open().await?))
}

#[cfg(feature = "postgres")]
async fn postgres(mut url: StoreUrl, create: Create) -> Result<Arc<dyn Store>> {
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
    let number = |name: &str, text: String| {
        text.parse::<u32>().map_err(|_| {
            Error::new(ErrorKind::Config, format!("{name} is not a number; write digits only"))
                .during(Operation::Open)
        })
    };
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
        config = config.connections(number("connections", connections)?);
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
        config = config.statement_cache(number("statement_cache", statements)? as usize);
    }
    if let Some(max_value) = url.take("max_value") {
        config = config.max_value(parse_bytes(&max_value)?);
    }
    url.finish(&KNOWN)?;
    Ok(Arc::new(config.create(create).open().await?))
}

#[cfg(feature = "s3")]
async fn s3(mut url: StoreUrl) -> Result<Arc<dyn Store>> {
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
    Ok(Arc::new(config.open().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(url: &str) -> String {
        let error = open(url, Create::Never).await.map(drop).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = format!("{} {error:?}", error.chain());
        assert!(!text.contains("hunter2"), "{text}");
        text
    }

    #[tokio::test]
    async fn an_unknown_scheme_lists_the_known_ones() {
        assert!(refused("mysql://u:hunter2@h/d").await.contains("redb:"));
    }

    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn wrong_postgres_urls_say_what_to_change_and_show_no_secret() {
        for (url, hint) in [
            ("postgres://u:hunter2@localhost/d?tabel=x", "statement_cache"),
            ("postgres://u:hunter2@localhost/d?table=A-b", "must match"),
            ("postgres://u:hunter2@localhost/d?feed=yes", "on, off"),
            ("postgres://u:hunter2@localhost/d?connections=many", "not a number"),
            ("postgres://u:hunter2@localhost/d?timeout=10", "not a duration"),
            ("postgres://u:hunter2@localhost/d?max_value=2GiB", "at most"),
            ("postgres://u:hunter2@local host/d", "percent-encoded"),
        ] {
            let text = refused(url).await;
            assert!(text.contains(hint), "{text}");
        }
    }

    #[test]
    fn a_url_without_a_mode_can_be_opened_read_only() {
        for (url, expected) in [
            ("redb:a", Some("redb:a?access=read-only")),
            ("rocksdb:a?cache=1MiB", Some("rocksdb:a?cache=1MiB&access=read-only")),
            ("redb:a?access=read-write", None),
            ("moka:", None),
            ("s3://b/p", None),
        ] {
            assert_eq!(read_only(url).as_deref(), expected, "{url}");
        }
    }

    #[cfg(any(feature = "redb", feature = "rocksdb", feature = "postgres", feature = "s3"))]
    #[test]
    fn opening_outside_a_runtime_is_an_error() {
        use futures_util::FutureExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("place").display().to_string();
        let urls: Vec<String> = vec![
            #[cfg(feature = "redb")]
            format!("redb:{place}"),
            #[cfg(feature = "rocksdb")]
            format!("rocksdb:{place}"),
            #[cfg(feature = "postgres")]
            format!("postgres://u@127.0.0.1:1/{}", place.len()),
            #[cfg(feature = "s3")]
            format!("s3://b/{}?endpoint=http://127.0.0.1:1&credentials=none", place.len()),
        ];
        for url in urls {
            let opened = open(&url, Create::IfAbsent).now_or_never().expect("answers at once");
            let error = opened.map(drop).expect_err(&url);
            assert_eq!(error.kind(), ErrorKind::Config, "{}", error.chain());
            assert!(error.to_string().contains("runtime"), "{error}");
        }
    }

    #[cfg(feature = "s3")]
    #[tokio::test]
    async fn wrong_s3_urls_say_what_to_change() {
        for (url, hint) in [
            ("s3:", "needs a bucket"),
            ("s3:bucket/prefix", "needs a bucket"),
            ("s3://bucket/p?layuot=raw", "bulk_delete"),
            ("s3://bucket/p?layout=flat", "raw, enveloped"),
            ("s3://bucket/p?addressing=virtual", "auto, path, host"),
            ("s3://bucket/p?tls=off", "required, optional"),
            ("s3://bucket/p?credentials=hunter2", "environment, none"),
            ("s3://bucket/p?endpoint=http://storage.example.com", "set tls to optional"),
            ("s3://bucket/p?endpoint=http://localhost&multipart=1MiB", "5MiB"),
            ("s3://bucket--x-s3/p", "general-purpose"),
        ] {
            let text = refused(url).await;
            assert!(text.contains(hint), "{text}");
        }
    }
}
