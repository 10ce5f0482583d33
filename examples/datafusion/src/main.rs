//! DataFusion over tiered: Parquet in S3, queried through memory over a disk.
//!
//! It makes a lake much like TPC-H's, asks the same queries with and without tiered, and compares the answers: with nothing in the
//! caches, with everything in them, in a new process, and after a file was replaced. A proxy counts what S3 is asked. The program
//! fails where an answer is not the one that S3 gives, and where a line of the second table is more than it may be.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

mod data;
mod lake;
#[cfg(feature = "peers")]
mod peers;
mod queries;
mod report;
mod runs;
mod stack;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use measure::bucket::Server;

use crate::stack::Room;

/// Queries Parquet in S3.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Orders in the lake. Each has four lines.
    #[arg(long, default_value_t = 1_500_000)]
    orders: u64,
    /// Room in memory, in MiB.
    #[arg(long, default_value_t = 64)]
    memory: u64,
    /// Room on the disk, in MiB. The bounds take it that the lake fits.
    #[arg(long, default_value_t = 1_024)]
    disk: u64,
    /// For how long the caches answer without asking whether a file is still the same, in seconds.
    #[arg(long, default_value_t = 10)]
    max_stale: u64,
    /// For how long each request to S3 is held up, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// A new process asks all queries once, over the disk in this folder.
    #[arg(long, hide = true, requires = "wire")]
    restarted: Option<PathBuf>,
    /// The proxy that counts.
    #[arg(long, hide = true)]
    wire: Option<String>,
}

impl Arguments {
    fn room(&self) -> Room {
        let max_stale = Duration::from_secs(self.max_stale);
        Room { memory: self.memory << 20, disk: self.disk << 20, max_stale }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let (Some(folder), Some(wire)) = (&arguments.restarted, &arguments.wire) {
        return runs::restarted(&arguments, folder, wire).await;
    }
    runs::all(&arguments).await
}
