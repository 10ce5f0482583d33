//! Wrappers by name: in a URL's scheme, and in settings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use tiered_core::adapter::url::StoreUrl;
use tiered_core::{Error, ErrorKind, Operation, Result, Store};

/// The wrappers that a scheme can begin with.
const NAMES: [&str; 4] = ["prefix", "read-only", "compressed", "encrypted"];

/// One wrapper around a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Prefix(String),
    ReadOnly,
    Compressed(String),
    Encrypted(KeysFrom),
}

/// Where encryption keys are. They never stand in settings or URLs themselves.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeysFrom {
    #[serde(rename = "keys-file")]
    File(PathBuf),
    #[serde(rename = "keys-env")]
    Env(String),
}

/// Not the place: it may be a key that was given in the place of one.
impl fmt::Debug for KeysFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "File(…)",
            Self::Env(_) => "Env(…)",
        })
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, message).during(Operation::Open))
}

impl Layer {
    /// Its parameters in a URL, which the store inside does not see.
    const fn parameters(&self) -> &'static [&'static str] {
        match self {
            Self::Prefix(_) => &["prefix"],
            Self::ReadOnly => &[],
            Self::Compressed(_) => &["compression"],
            Self::Encrypted(_) => &["keys_file", "keys_env"],
        }
    }

    /// `store` in this wrapper.
    pub(crate) fn around(&self, store: Arc<dyn Store>) -> Result<Arc<dyn Store>> {
        match self {
            #[cfg(feature = "wrap")]
            Self::Prefix(prefix) => Ok(Arc::new(tiered_wrap::Prefix::new(store, prefix.clone())?)),
            #[cfg(feature = "wrap")]
            Self::ReadOnly => Ok(Arc::new(tiered_wrap::ReadOnly::new(store))),
            #[cfg(any(feature = "lz4", feature = "zstd"))]
            Self::Compressed(method) => {
                let compression = tiered_wrap::Compression::from_name(method)?;
                Ok(Arc::new(tiered_wrap::Compressed::new(store, compression)?))
            }
            #[cfg(feature = "encryption")]
            Self::Encrypted(from) => {
                let keys = match from {
                    KeysFrom::File(path) => tiered_wrap::Keys::from_file(path)?,
                    KeysFrom::Env(name) => tiered_wrap::Keys::from_env(name)?,
                };
                Ok(Arc::new(tiered_wrap::Encrypted::new(store, keys)?))
            }
            #[cfg(not(all(feature = "lz4", feature = "zstd", feature = "encryption")))]
            #[allow(unreachable_patterns, reason = "which are left depends on the features")]
            other => {
                drop(store);
                refuse(format!(
                    "a {} store needs the feature {}; enable it in the build",
                    other.name(),
                    other.feature()
                ))
            }
        }
    }

    #[cfg(not(all(feature = "lz4", feature = "zstd", feature = "encryption")))]
    fn name(&self) -> &'static str {
        match self {
            Self::Prefix(_) => "prefix",
            Self::ReadOnly => "read-only",
            Self::Compressed(_) => "compressed",
            Self::Encrypted(_) => "encrypted",
        }
    }

    #[cfg(not(all(feature = "lz4", feature = "zstd", feature = "encryption")))]
    fn feature(&self) -> &str {
        match self {
            Self::Prefix(_) | Self::ReadOnly => "wrap",
            Self::Compressed(method) => method,
            Self::Encrypted(_) => "encryption",
        }
    }
}

/// The wrappers that a URL names, the outermost first, and the URL of the store inside.
pub(crate) fn split(text: &str) -> Result<(Vec<Layer>, String)> {
    // Malformed and repeated parameters are refused here.
    let mut url = StoreUrl::parse(text)?;
    let scheme = url.scheme().to_owned();
    let Some((names, inside)) = scheme.rsplit_once('+') else { return Ok((Vec::new(), text.to_owned())) };
    let mut layers: Vec<Layer> = Vec::new();
    for (index, name) in names.split('+').enumerate() {
        // Their parameters would have the same names.
        if names.split('+').take(index).any(|other| other == name) {
            return refuse(format!("the scheme {scheme}: names {name} twice; describe such a store in TOML"));
        }
        let layer = match name {
            "prefix" => Layer::Prefix(needed(&mut url, "prefix", name)?),
            "read-only" => Layer::ReadOnly,
            "compressed" => Layer::Compressed(url.take("compression").unwrap_or_else(|| "lz4".to_owned())),
            "encrypted" => Layer::Encrypted(match (url.take("keys_file"), url.take("keys_env")) {
                (Some(file), None) => KeysFrom::File(file.into()),
                (None, Some(name)) => KeysFrom::Env(name),
                _ => {
                    return refuse(
                        "an encrypted store needs keys_file=PATH or keys_env=NAME: where its keys are",
                    );
                }
            }),
            _ => {
                return refuse(format!(
                    "unknown wrapper in the scheme {scheme}:; use {}",
                    NAMES.join("+, ") + "+"
                ));
            }
        };
        layers.push(layer);
    }
    let taken: Vec<&str> = layers.iter().flat_map(Layer::parameters).copied().collect();
    Ok((layers, without_parameters(text, inside, &taken)))
}

fn needed(url: &mut StoreUrl, parameter: &str, wrapper: &str) -> Result<String> {
    match url.take(parameter) {
        Some(value) => Ok(value),
        None => refuse(format!("a {wrapper} store needs {parameter}=…; add it to the URL")),
    }
}

/// The URL with another scheme, without the parameters of the wrappers that it names. Those of others stay, so that the store
/// inside refuses them: a forgotten `encrypted+` is not to write in the clear.
fn without_parameters(text: &str, scheme: &str, taken: &[&str]) -> String {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}:{rest}") };
    let of_wrapper = |pair: &&str| !taken.contains(&pair.split('=').next().unwrap_or_default());
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).filter(of_wrapper).collect();
    if query.is_empty() { format!("{scheme}:{path}") } else { format!("{scheme}:{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_of_a_wrapper_that_is_not_named_is_left_to_the_store_which_refuses_it() {
        for (text, inside) in [
            ("compressed+redb:d?keys_file=/k", "redb:d?keys_file=/k"),
            ("read-only+redb:d?prefix=tenant/", "redb:d?prefix=tenant/"),
            ("prefix+mine:d?prefix=users/&compression=x", "mine:d?compression=x"),
        ] {
            assert_eq!(split(text).expect("splits").1, inside);
        }
    }

    #[test]
    fn a_scheme_names_wrappers_from_the_outermost_to_the_store() {
        let text = "prefix+compressed+encrypted+redb:a b?cache=1MiB&prefix=users/&keys_file=/k&verify=auto";
        let (layers, inside) = split(text).expect("splits");
        let keys = KeysFrom::File("/k".into());
        let expected =
            [Layer::Prefix("users/".into()), Layer::Compressed("lz4".into()), Layer::Encrypted(keys)];
        assert_eq!(layers, expected);
        assert_eq!(inside, "redb:a b?cache=1MiB&verify=auto");
        for plain in ["redb:a+b:c?x=y", "memory:", "s3://b/p?prefix=x"] {
            assert_eq!(split(plain).expect("splits"), (Vec::new(), plain.to_owned()));
        }
    }

    #[test]
    fn a_url_that_names_no_keys_or_no_prefix_is_refused() {
        for (url, hint) in [
            ("prefix+memory:", "prefix="),
            ("encrypted+memory:", "keys_file"),
            ("encrypted+memory:?keys_file=a&keys_env=B", "keys_file"),
            ("zipped+memory:", "compressed+"),
            ("prefix+prefix+memory:?prefix=a", "TOML"),
        ] {
            let error = split(url).expect_err(url);
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(hint), "{error}");
        }
    }
}
