//! Stores by URL.

use std::sync::Arc;

use tiered_core::adapter::url::StoreUrl;
use tiered_core::{Create, Error, ErrorKind, Operation, Result, Store};

use crate::schemes::Schemes;

/// The schemes, with the feature that each needs (none: always there) and what it opens.
pub const SCHEMES: &[(&str, Option<&str>, &str)] = &[
    ("memory", None, "memory:?max_value=… — in this process, unbounded"),
    (
        "moka",
        Some("moka"),
        "moka:?capacity=64MiB&ttl=60s&policy=lru|tinylfu&max_value=… — in this process, bounded",
    ),
    ("quick", Some("quick"), "quick:?capacity=64MiB&ttl=60s&items=…&max_value=… — in this process, bounded"),
    (
        "redb",
        Some("redb"),
        "redb:FILE?cache=64MiB&durability=sync|buffer&verify=auto|always|never&access=read-write|read-only&reads=adaptive|inline|threads&capacity=10GiB&max_value=…",
    ),
    (
        "rocksdb",
        Some("rocksdb"),
        "rocksdb:DIR?cache=64MiB&write_buffer=64MiB&durability=sync|buffer&access=read-write|read-only&reads=adaptive|inline|threads&capacity=10GiB&max_value=…",
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
    (
        "object",
        Some("object-store"),
        "object:file:///FOLDER?order=checked|sorted&keys=paths|flat&conditional=probe|off&max_key=…&max_value=… — or gs://, az://, https:// … with the features of object_store",
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

pub(crate) fn unknown(scheme: &str) -> Error {
    let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
    let message = if let Some((name, feature, _)) = known {
        format!("the scheme {name}: needs the feature {}; enable it in the build", feature.unwrap_or(name))
    } else {
        let names = SCHEMES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(":, ");
        format!("unknown scheme {scheme}:; use one of {names}:")
    };
    Error::new(ErrorKind::Config, message).during(Operation::Open)
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

    #[cfg(all(feature = "moka", feature = "quick"))]
    #[tokio::test]
    async fn memory_tiers_take_their_parameters_and_say_what_is_wrong() {
        for url in [
            "moka:?capacity=1MiB&policy=tinylfu&ttl=1h",
            "quick:?capacity=1MiB&ttl=1h&items=500&max_value=100KiB",
        ] {
            let store = open(url, Create::IfAbsent).await.expect(url);
            assert!(url.starts_with(store.capabilities().name()), "{url}");
        }
        for (url, hint) in [
            ("moka:?policy=lfu", "lru, tinylfu"),
            ("quick:?policy=lru", "items"),
            ("quick:?items=many", "digits only"),
            ("quick:?capacity=1KiB&items=1000", "half of the capacity"),
            ("quick:here", "takes no path"),
        ] {
            let text = refused(url).await;
            assert!(text.contains(hint), "{text}");
        }
    }

    #[cfg(all(feature = "redb", feature = "toml"))]
    #[tokio::test]
    async fn a_disk_tier_with_a_capacity_is_a_cache_and_no_backend() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("redb:{}", folder.path().join("cache.redb").display());
        let bounded = format!("{url}?capacity=1MiB");
        let store = open(&bounded, Create::IfAbsent).await.expect("opens");
        assert!(store.capabilities().has(tiered_core::Feature::Evicts));
        assert_eq!(store.capabilities().max_value(), 256 << 10);
        store.close().await.expect("closes");
        // It was given an id, and stays a cache.
        open(&bounded, Create::Never).await.expect("opens").close().await.expect("closes");
        for (parameters, hint) in [
            ("capacity=0", "more than nothing"),
            ("capacity=much", "bytes"),
            ("capacity=1MiB&access=read-only", "leave out capacity"),
        ] {
            let text = refused(&format!("{url}?{parameters}")).await;
            assert!(text.contains(hint), "{text}");
        }
        let stack = |frontend: &str, backend: &str| {
            let toml = format!("[frontend]\nurl = {frontend:?}\n[backend]\nurl = {backend:?}\n");
            crate::Stack::from_toml(&toml).expect("reads")
        };
        let refused =
            stack("memory:", &bounded).open(Create::IfAbsent).await.map(drop).expect_err("no backend");
        assert!(refused.to_string().contains("make it the frontend"), "{refused}");
        let stack = stack(&bounded, "memory:").open(Create::IfAbsent).await.expect("opens");
        stack.close().await.expect("closes");
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
            ("postgres://u:hunter2@localhost/d?max_value=2048GiB", "at most"),
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
            ("quick:", None),
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

    #[cfg(feature = "object-store")]
    #[tokio::test]
    async fn an_object_store_is_opened_by_its_url() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("object:file://{}?keys=flat&max_key=120", folder.path().display());
        let schemes = Schemes::standard();
        assert!(!schemes.exists(&url).await.expect("looks"));
        let store = open(&url, Create::IfAbsent).await.expect("opens");
        tiered_core::StoreExt::set(&*store, "a/", "x").await.expect("puts");
        store.close().await.expect("closes");
        assert!(schemes.exists(&url).await.expect("looks"));
        for (url, hint) in [
            ("object:", "file:///FOLDER"),
            ("object:ftp://u:hunter2@host/a", "password"),
            ("object:memory:///?order=random", "checked, sorted"),
            ("object:memory:///?keys=short", "paths, flat"),
            ("object:memory:///?max_key=few", "digits only"),
            ("object:memory:///?prefix=a", "conditional"),
        ] {
            let text = refused(url).await;
            assert!(text.contains(hint), "{text}");
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
