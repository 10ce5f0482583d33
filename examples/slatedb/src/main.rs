//! SlateDB over tiered: a database in S3 behind memory and a disk.
//!
//! A writer is killed, and what it had acknowledged is read; a second writer fences the first; and a proxy counts what S3 is asked,
//! with tiered and without. The program fails where a write is lost, where a fenced writer is acknowledged, and where a line of the
//! table is more than it may be.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

mod db;
mod fenced;
mod killed;
mod requests;
mod store;

use std::path::PathBuf;

use clap::Parser;
use measure::bucket::Server;
use measure::table::Table;

/// Databases in S3.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    other: Server,
    /// The S3 server. It must judge conditional writes atomically, which s3s-fs does not.
    #[arg(long, env = "TIERED_TEST_S3")]
    at: String,
    /// How often a writer is killed.
    #[arg(long, default_value_t = 8)]
    kills: u64,
    /// How many writes are acknowledged before a writer is killed, at the most.
    #[arg(long, default_value_t = 5_000)]
    acknowledged: usize,
    /// Keys that are written to count requests.
    #[arg(long, default_value_t = 50_000)]
    keys: u64,
    /// Random keys that are read to count requests.
    #[arg(long, default_value_t = 2_000)]
    reads: u64,
    /// For how long each request to S3 is held up while requests are counted, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// The process that is killed: its folder.
    #[arg(long, hide = true)]
    writer: Option<PathBuf>,
    /// The key that it begins with.
    #[arg(long, hide = true, default_value_t = 0)]
    first: u64,
}

impl Arguments {
    fn server(&self) -> Server {
        Server { endpoint: self.at.clone(), ..self.other.clone() }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.writer {
        return killed::write(&arguments, folder, arguments.first).await;
    }
    arguments.server().bucket().await?;
    let counted = requests::run(&arguments).await?;
    let mut table = Table::begin();
    counted.check(&mut table);
    fenced::run(&arguments, &mut table).await?;
    killed::run(&arguments, &mut table).await?;
    table.end()
}
