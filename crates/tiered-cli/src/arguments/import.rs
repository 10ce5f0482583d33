//! The options of `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::path;

/// What is imported.
#[derive(Subcommand)]
pub(crate) enum Import {
    /// Stores every object of a git repository under its id, then its references under their names. Needs the feature git
    Git(Git),
}

/// A repository, and where its objects go.
#[derive(Args)]
pub(crate) struct Git {
    /// The repository: a working tree, or a bare repository.
    #[arg(value_name = "DIR", value_parser = path())]
    pub(crate) dir: PathBuf,
    /// The target, which is created if it is absent.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// So many writes or batches at a time.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) concurrency: usize,
    /// Ends when more objects than this have failed.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) max_failures: u64,
}
