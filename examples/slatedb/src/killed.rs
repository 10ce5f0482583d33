//! A writer that is killed: what it acknowledged is there afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use measure::table::Table;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::Arguments;
use crate::db;
use crate::store::Stack;

/// The database.
const PATH: &str = "killed";

/// Writers of the process that is killed.
const WRITERS: usize = 64;

/// Keys of a round: more than one can write.
const ROUND: u64 = 1 << 32;

/// In the process that is killed: writes from `first` on without end, and prints each key once it is durable.
pub(crate) async fn write(arguments: &Arguments, folder: &Path, first: u64) -> anyhow::Result<()> {
    let server = arguments.server();
    let stack = Stack::open(&server, &server.endpoint, folder).await?;
    let db = db::open(PATH, stack.objects(), None).await?;
    let next = AtomicU64::new(first);
    try_join_all((0..WRITERS).map(|_| write_on(&db, &next))).await?;
    Ok(())
}

async fn write_on(db: &slatedb::Db, next: &AtomicU64) -> anyhow::Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        db::put(db, number).await?;
        println!("{number}");
    }
}

/// Kills a writer again and again, and reads what it had acknowledged, in all rounds so far.
pub(crate) async fn run(arguments: &Arguments, table: &mut Table) -> anyhow::Result<()> {
    let (server, folder) = (arguments.server(), tempfile::tempdir()?);
    let mut acknowledged = BTreeSet::new();
    let mut dice = fastrand::Rng::with_seed(1);
    for round in 0..arguments.kills {
        let least = acknowledged.len() + dice.usize(1..arguments.acknowledged);
        kill(arguments, folder.path(), round * ROUND, least, &mut acknowledged).await?;
        let stack = Stack::open(&server, &server.endpoint, folder.path()).await?;
        let db = db::open(PATH, stack.objects(), None).await?;
        db::check_all(&db, acknowledged.iter().copied()).await?;
        db.close().await?;
        stack.close().await?;
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    table.note("a writer was killed, times", arguments.kills);
    table.note("acknowledged by then, and read afterwards", acknowledged.len() as u64);
    Ok(())
}

/// Starts a writer, and kills it when so many writes were acknowledged.
async fn kill(
    arguments: &Arguments,
    folder: &Path,
    first: u64,
    least: usize,
    acknowledged: &mut BTreeSet<u64>,
) -> anyhow::Result<()> {
    let server = arguments.server();
    let mut writer = Command::new(std::env::current_exe()?)
        .args(["--at", &server.endpoint, "--endpoint", &server.endpoint, "--bucket", &server.bucket])
        .args(["--access-key", &server.access_key, "--secret-key", &server.secret_key])
        .args(["--first", &first.to_string(), "--writer"])
        .arg(folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(writer.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        // The last line may be half of one.
        acknowledged.extend(line.parse::<u64>().ok().filter(|number| *number >= first));
        if acknowledged.len() == least {
            writer.start_kill()?;
        }
    }
    let status = writer.wait().await?;
    ensure!(acknowledged.len() >= least, "the writer ended by itself: {status}");
    Ok(())
}
