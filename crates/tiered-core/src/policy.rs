//! Policies: how a tiered store reads and writes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// How a tiered store writes.
///
/// # Examples
/// ```
/// use tiered_core::WritePolicy;
///
/// let policy: WritePolicy = "write-around".parse()?;
/// assert_eq!((policy, policy.name()), (WritePolicy::WriteAround, "write-around"));
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WritePolicy {
    /// Backend, then frontend, then acknowledge. Reads after a write are hits.
    #[default]
    WriteThrough,
    /// Journal, then acknowledge; the backend follows in order. Lowest latency.
    WriteBehind,
    /// Backend, then drop from the frontend, then acknowledge. For data that are written and rarely read again.
    WriteAround,
    /// Frontend alone; the backend belongs to others and is never written.
    FrontendOnly,
}

impl WritePolicy {
    /// Every policy.
    pub const ALL: &[Self] = &[Self::WriteThrough, Self::WriteBehind, Self::WriteAround, Self::FrontendOnly];

    /// The name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteThrough => "write-through",
            Self::WriteBehind => "write-behind",
            Self::WriteAround => "write-around",
            Self::FrontendOnly => "frontend-only",
        }
    }
}

/// How a tiered store reads.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, ReadPolicy, StoreExt, TieredStore};
///
/// let backend = MemoryStore::new();
/// backend.set("users/42", "Ada").await?;
/// let store = TieredStore::builder(MemoryStore::new(), backend).read_policy(ReadPolicy::FrontendOnly);
/// let store = store.build().await?;
/// assert!(store.get("users/42").await?.is_none(), "{} does not ask the backend", ReadPolicy::FrontendOnly.name());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReadPolicy {
    /// Frontend, else backend, filling the frontend.
    #[default]
    FrontendFirst,
    /// Frontend alone: what it has not got is absent. Nothing is revalidated.
    FrontendOnly,
}

impl ReadPolicy {
    /// Every policy.
    pub const ALL: &[Self] = &[Self::FrontendFirst, Self::FrontendOnly];

    /// The name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrontendFirst => "frontend-first",
            Self::FrontendOnly => "frontend-only",
        }
    }
}

fn unknown(what: &str, given: &str, names: impl Iterator<Item = &'static str>) -> Error {
    let names: Vec<&str> = names.collect();
    Error::new(ErrorKind::Config, format!("unknown {what} {given:?}; use one of {}", names.join(", ")))
}

impl FromStr for WritePolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut all = Self::ALL.iter().copied();
        all.find(|policy| policy.name() == text)
            .ok_or_else(|| unknown("write policy", text, Self::ALL.iter().map(|policy| policy.name())))
    }
}

impl FromStr for ReadPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut all = Self::ALL.iter().copied();
        all.find(|policy| policy.name() == text)
            .ok_or_else(|| unknown("read policy", text, Self::ALL.iter().map(|policy| policy.name())))
    }
}

impl fmt::Display for WritePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ReadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How fresh a read must be.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tiered_core::{Freshness, Key, MemoryStore, ReadOptions, Store};
///
/// let recent = ReadOptions::new().freshness(Freshness::MaxStale(Duration::from_secs(1)));
/// assert!(MemoryStore::new().load(&Key::new("price")?, &recent).await?.entry().is_none());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Whatever the store's own policy takes for fresh.
    #[default]
    Cached,
    /// Compared with the authority at most this long ago, counted from sending the comparison.
    MaxStale(Duration),
    /// From the authority, now.
    Authoritative,
}
