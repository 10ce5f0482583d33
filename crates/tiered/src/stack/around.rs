//! Stacks that are wrappers around a stack.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use tiered_core::{Error, ErrorKind, Operation, Result};

use super::Stack;
use crate::layer::{KeysFrom, Layer};

/// A wrapper without settings of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Around {
    store: Box<Stack>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OfPrefix {
    /// What the keys begin with.
    name: String,
    store: Box<Stack>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OfCompressed {
    /// `lz4` or `zstd`.
    method: Option<String>,
    store: Box<Stack>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OfEncrypted {
    /// The path of a file with the keys.
    keys_file: Option<PathBuf>,
    /// The name of an environment variable with the keys.
    keys_env: Option<String>,
    store: Box<Stack>,
}

/// Not where the keys are: it may be a key that was given in the place of a name.
impl fmt::Debug for OfEncrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfEncrypted").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Stack {
    /// The keys of this stack that begin with `prefix`, as a stack of their own. Opening it needs the feature `wrap`.
    ///
    /// # Examples
    /// ```
    /// let users = tiered::Stack::store("memory:").under_prefix("users/");
    /// ```
    #[must_use]
    pub fn under_prefix(self, prefix: impl Into<String>) -> Self {
        let prefix = Some(OfPrefix { name: prefix.into(), store: Box::new(self) });
        Self { prefix, ..Self::empty() }
    }

    /// This stack without its writes. Opening it needs the feature `wrap`.
    ///
    /// # Examples
    /// ```
    /// let view = tiered::Stack::store("memory:").only_read();
    /// ```
    #[must_use]
    pub fn only_read(self) -> Self {
        Self { read_only: Some(Around { store: Box::new(self) }), ..Self::empty() }
    }

    /// This stack with its values compressed by `lz4` or `zstd`. Opening it needs the feature of that name.
    ///
    /// # Examples
    /// ```
    /// let small = tiered::Stack::store("memory:").compressed("lz4");
    /// ```
    #[must_use]
    pub fn compressed(self, method: impl Into<String>) -> Self {
        let compressed = Some(OfCompressed { method: Some(method.into()), store: Box::new(self) });
        Self { compressed, ..Self::empty() }
    }

    /// This stack with its values encrypted by the keys in a file. Opening it needs the feature `encryption`.
    ///
    /// # Examples
    /// ```
    /// let secret = tiered::Stack::store("memory:").encrypted("keys.txt");
    /// ```
    #[must_use]
    pub fn encrypted(self, keys_file: impl Into<PathBuf>) -> Self {
        let keys_file = Some(keys_file.into());
        let encrypted = Some(OfEncrypted { keys_file, keys_env: None, store: Box::new(self) });
        Self { encrypted, ..Self::empty() }
    }

    /// The wrapper that this stack is, and the stack inside.
    pub(super) fn wrapper(&self) -> Result<Option<(Layer, &Self)>> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why).during(Operation::Open));
        let mut found: Vec<(Layer, &Self)> = Vec::new();
        if let Some(of) = &self.prefix {
            found.push((Layer::Prefix(of.name.clone()), &of.store));
        }
        if let Some(of) = &self.read_only {
            found.push((Layer::ReadOnly, &of.store));
        }
        if let Some(of) = &self.compressed {
            found.push((Layer::Compressed(of.method.clone().unwrap_or_else(|| "lz4".to_owned())), &of.store));
        }
        if let Some(of) = &self.encrypted {
            let keys = match (&of.keys_file, &of.keys_env) {
                (Some(file), None) => KeysFrom::File(file.clone()),
                (None, Some(name)) => KeysFrom::Env(name.clone()),
                _ => return refuse("an encrypted stack needs keys-file or keys-env: where its keys are"),
            };
            found.push((Layer::Encrypted(keys), &of.store));
        }
        let is_more = self.url.is_some() || self.frontend.is_some() || self.backend.is_some();
        match found.pop() {
            None => Ok(None),
            Some(one) if found.is_empty() && !is_more && self.has_no_settings() => Ok(Some(one)),
            Some(_) => refuse(
                "a stack is one of: a url, a frontend and a backend, or one wrapper; a wrapper's store stands inside it, such as [prefix.store]",
            ),
        }
    }
}
