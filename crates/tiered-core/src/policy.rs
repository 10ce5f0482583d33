//! Policies: how a tiered store reads and writes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// How a tiered store writes.
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
    pub const ALL: [Self; 4] = [Self::WriteThrough, Self::WriteBehind, Self::WriteAround, Self::FrontendOnly];

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
    pub const ALL: [Self; 2] = [Self::FrontendFirst, Self::FrontendOnly];

    /// The name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrontendFirst => "frontend-first",
            Self::FrontendOnly => "frontend-only",
        }
    }
}

fn unknown(what: &str, given: &str, names: &[&str]) -> Error {
    Error::new(ErrorKind::Config, format!("unknown {what} {given:?}; use one of {}", names.join(", ")))
}

impl FromStr for WritePolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| unknown("write policy", text, &Self::ALL.map(Self::name)))
    }
}

impl FromStr for ReadPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| unknown("read policy", text, &Self::ALL.map(Self::name)))
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever the store's own policy takes for fresh.
    #[default]
    Cached,
    /// Compared with the authority at most this long ago, counted from sending the comparison.
    MaxStale(Duration),
    /// From the authority, now.
    Authoritative,
}
