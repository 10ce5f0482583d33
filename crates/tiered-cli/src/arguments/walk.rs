//! The options of `walk`.

use clap::Args;

use super::rate::bytes_per_second;
use super::{References, Shard};

/// What is copied, and how references are read.
#[derive(Args)]
pub(crate) struct Walk {
    /// The source, which is only read.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The target, which is created if it is absent.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// A key to begin with; for git also the short name of a branch or tag. May be given several times.
    #[arg(long, value_name = "KEY", required_unless_present = "roots_under", allow_hyphen_values = true)]
    pub(crate) root: Vec<String>,
    /// Begins with all keys of the source that begin with this, of which there must be some. May be given several times.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) roots_under: Vec<String>,
    /// How a value names the keys that it refers to: lines, one key a line; json, a text or an array of texts; json=POINTER,
    /// such a text or array at this JSON Pointer, if there is anything; git, objects and references as `import git` stores them.
    #[arg(long, visible_alias = "format", value_name = "HOW", default_value = "lines")]
    pub(crate) references: References,
    /// Keys that begin with this refer to nothing. May be given several times.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) leaves_under: Vec<String>,
    /// Takes what the target has already, with the version of the source, for complete, and does not look into it. So an
    /// interrupted walk goes on. For targets that only walks write to.
    #[arg(long)]
    pub(crate) trust_present: bool,
    /// An empty store for what is known of the keys, about 600 bytes each; memory: for none. Without it a temporary file, which is
    /// removed afterwards.
    #[arg(long, value_name = "URL")]
    pub(crate) workspace: Option<String>,
    /// Keeps what is known of the keys in this file or empty store (a URL), and goes on from there if an earlier run did not end.
    /// The file is removed when the walk has come to its end.
    #[arg(long, value_name = "FILE|URL", allow_hyphen_values = true, conflicts_with_all = ["workspace", "dry_run"])]
    pub(crate) resume: Option<String>,
    /// Only from the roots of shard I of N, such as 2/8, for N processes with the same roots. What several of them reach is copied
    /// by one of them.
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Only counts what it would do; writes nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most so many bytes of values a second are copied, such as 10MiB.
    #[arg(long, value_name = "BYTES", value_parser = bytes_per_second)]
    pub(crate) limit_rate: Option<u64>,
    /// So many reads or batches of copies at a time.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) concurrency: usize,
    /// Ends when more keys than this have failed.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) max_failures: u64,
}
