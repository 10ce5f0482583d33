//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tiered::{Lease, Precondition};

/// A key-value store in tiers.
#[derive(Parser)]
#[command(name = "tiered", version, about, after_help = AFTER)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Answers as JSON: one object, or one a line for listings.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Stores by URL
  redb:FILE?cache=64MiB&durability=sync|buffer&verify=auto|always|never   a file
  rocksdb:DIR?cache=64MiB&write_buffer=64MiB&durability=sync|buffer       a folder; needs the feature rocksdb
  postgres://USER@HOST/DATABASE?table=tiered&feed=on   a table; needs the feature postgres
  s3://BUCKET/PREFIX?region=…&endpoint=https://…   objects; needs the feature s3
  moka:?capacity=64MiB&ttl=60s   memory of this process, bounded
  memory:   memory of this process
  access=read-only on files and folders, which reading commands use by themselves where writing is forbidden
  max_value=1GiB on each; PATH is literal up to the first `?`

Exit codes
  0 done   1 the key is absent   2 usage, URL, configuration, key, value over the limit, no such database
  3 precondition failed   4 locked, unavailable, absent place, any other failure   5 damaged data
  6 check found a difference, or a conformance case failed";

/// Where a command reads and writes.
#[derive(Args)]
pub(crate) struct Place {
    /// A single store.
    #[arg(long, global = true, value_name = "URL", conflicts_with_all = ["frontend", "backend", "config"])]
    pub(crate) store: Option<String>,
    /// The fast tier of a stack.
    #[arg(long, global = true, value_name = "URL", requires = "backend")]
    pub(crate) frontend: Option<String>,
    /// The authoritative tier of a stack.
    #[arg(long, global = true, value_name = "URL", requires = "frontend")]
    pub(crate) backend: Option<String>,
    /// write-through (default), write-behind, write-around or frontend-only.
    #[arg(long, global = true, value_name = "POLICY", requires = "frontend")]
    pub(crate) write_policy: Option<String>,
    /// frontend-first (default) or frontend-only.
    #[arg(long, global = true, value_name = "POLICY", requires = "frontend")]
    pub(crate) read_policy: Option<String>,
    /// The journal of write-behind: a folder, or `volatile:`, which a crash loses.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) journal: Option<String>,
    /// Nobody else writes to the backend, which write-behind needs where it could be shared.
    #[arg(long, global = true, requires = "frontend")]
    pub(crate) sole_writer: bool,
    /// Owns the backend by a lease: acquire, or take-over from whoever holds it. For write-behind over a backend that
    /// could be shared.
    #[arg(long, global = true, value_name = "HOW", requires = "frontend", conflicts_with = "sole_writer", value_parser = lease)]
    pub(crate) lease: Option<Lease>,
    /// A stack described in TOML.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["frontend", "backend"])]
    pub(crate) config: Option<PathBuf>,
}

fn lease(text: &str) -> Result<Lease, String> {
    match text {
        "acquire" => Ok(Lease::Acquire),
        "take-over" => Ok(Lease::TakeOver),
        _ => Err("use acquire or take-over".to_owned()),
    }
}

/// What must be so for a write to take effect; else the command ends with 3.
#[derive(Args)]
pub(crate) struct Condition {
    /// Only where the key is absent.
    #[arg(long, conflicts_with = "if_version")]
    pub(crate) if_absent: bool,
    /// Only where the key has this version, as `head` shows it.
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<String>,
}

impl Condition {
    pub(crate) fn precondition(&self) -> tiered::Result<Precondition> {
        Ok(match &self.if_version {
            Some(version) => Precondition::Matches(version.parse()?),
            None if self.if_absent => Precondition::Absent,
            None => Precondition::None,
        })
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Prints a value.
    Get {
        key: String,
        /// Writes the value to a file instead.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Writes a value, from standard input where no file is named.
    Put {
        key: String,
        file: Option<PathBuf>,
        #[command(flatten)]
        condition: Condition,
    },
    /// Deletes a key.
    Delete {
        key: String,
        #[command(flatten)]
        condition: Condition,
    },
    /// Lists keys in order.
    List {
        #[arg(default_value = "")]
        prefix: String,
        #[arg(long, value_name = "KEY")]
        start_after: Option<String>,
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Prints what is known of a key, without its value.
    Head { key: String },
    /// Brings one store in step with another.
    Sync {
        #[arg(long, value_name = "URL")]
        from: String,
        #[arg(long, value_name = "URL")]
        to: String,
        /// populate-missing, full-sync or refresh.
        #[arg(long)]
        strategy: String,
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only counts what it would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compares two stores.
    Check {
        #[arg(long, value_name = "URL")]
        from: String,
        #[arg(long, value_name = "URL")]
        to: String,
        /// By bytes instead of by version and size.
        #[arg(long)]
        values: bool,
    },
    /// Waits until every journaled write is in the backend.
    Flush,
    /// Looks at the journal of write-behind, and decides on what the backend refused.
    #[command(subcommand)]
    Journal(Journal),
    /// Runs the conformance suite under a fresh prefix of a store.
    Conformance { url: String },
    /// Shows the main job on real files.
    Demo {
        /// Where the files come from.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where it works; a new temporary folder unless given.
        #[arg(long, value_name = "PATH")]
        data: Option<PathBuf>,
    },
}

/// Commands on the journal that `--journal` names.
#[derive(Subcommand)]
pub(crate) enum Journal {
    /// Prints what waits for the backend, and what it refused. The stack need not be named, and may be in use.
    List,
    /// Checks every record and prints what the journal holds. The stack need not be named.
    Verify,
    /// Tries refused writes again: all, or that of this number.
    Retry { sequence: Option<u64> },
    /// Gives a refused write up. It was acknowledged, and is lost.
    Drop { sequence: u64 },
}
