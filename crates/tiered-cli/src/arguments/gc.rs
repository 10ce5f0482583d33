//! The options of `gc`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tiered::adapter::url::parse_duration;
use tiered::values::sweep::{Horizon, WriterId};

use super::path;

/// What is live, what is deleted, and whether it is done.
#[derive(Args)]
pub(crate) struct Gc {
    /// A file with all keys that are live, one a line; `-` is standard input. Take the horizon first, then make the file.
    #[arg(long, value_name = "FILE", requires = "horizon", conflicts_with = "named_roots", allow_hyphen_values = true, value_parser = path())]
    pub(crate) keep: Option<PathBuf>,
    /// What `gc` without further options printed before the file was made.
    #[arg(long, value_name = "HORIZON", requires = "keep")]
    pub(crate) horizon: Option<Horizon>,
    /// A root: it is live, and so is what it refers to. May be given several times.
    #[arg(long, value_name = "KEY", group = "named_roots", allow_hyphen_values = true)]
    pub(crate) root: Vec<String>,
    /// All keys that begin with this are roots. Without any such key it is an error. May be given several times.
    #[arg(long, value_name = "PREFIX", group = "named_roots", allow_hyphen_values = true)]
    pub(crate) roots_under: Vec<String>,
    /// Allows that no key begins with one of the prefixes of roots, if there is a root elsewhere.
    #[arg(long, requires = "roots_under")]
    pub(crate) allow_empty: bool,
    /// How a value names the keys that it refers to: lines (default), one key a line; json, a text or an array of texts;
    /// json=POINTER, such a text or array at this JSON Pointer, if there is anything; git, as `import git` stores it.
    #[arg(long, value_name = "HOW", requires = "named_roots")]
    pub(crate) references: Option<References>,
    /// Keys that begin with this refer to nothing, and are not read. May be given several times.
    #[arg(long, value_name = "PREFIX", requires = "named_roots", allow_hyphen_values = true)]
    pub(crate) leaves_under: Vec<String>,
    /// Only keys that begin with this are deleted.
    #[arg(long, default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub(crate) prefix: String,
    /// Spares entries that were modified within this time, such as 7d. Clocks never condemn an entry.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,
    /// Where the records of sweeps and writers are.
    #[arg(long, value_name = "PREFIX", default_value = "tiered.gc/")]
    pub(crate) records: String,
    /// Prints each key that is not live, and what becomes of it.
    #[arg(long)]
    pub(crate) keys: bool,
    /// Deletes, and records what was observed. Without this option no entry is changed. Opening may recover a journal.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Removes the record of a writer that crashed, and does nothing else. Ends with 1 if there is none.
    #[arg(long, value_name = "ID", conflicts_with_all = ["keep", "named_roots", "apply", "keys"])]
    pub(crate) forget_writer: Option<WriterId>,
}

/// How a value names the keys that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum References {
    /// One key a line. Empty lines are ignored.
    #[default]
    Lines,
    /// A text, or an array of texts, at this JSON Pointer.
    Json(String),
    /// An object or a reference of git.
    Git,
}

impl FromStr for References {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "lines" => Ok(Self::Lines),
            None if text == "json" => Ok(Self::Json(String::new())),
            None if text == "git" => Ok(Self::Git),
            Some(("json", pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                Ok(Self::Json(pointer.to_owned()))
            }
            _ => Err("use lines, json, json=/POINTER or git".to_owned()),
        }
    }
}

impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lines => f.write_str("lines"),
            Self::Json(pointer) if pointer.is_empty() => f.write_str("json"),
            Self::Json(pointer) => write!(f, "json={pointer}"),
            Self::Git => f.write_str("git"),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.message().to_owned())
}
