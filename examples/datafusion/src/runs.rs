//! The runs: each asks all queries once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use measure::table::Table as Bounds;
use measure::wire::Wire;
use object_store::ObjectStore;
use tokio::process::Command;

use crate::data::{self, File, Table};
use crate::lake::{self, Size};
use crate::queries::{self, Answers};
use crate::report::{self, Run};
use crate::stack::{Hits, Stack};
use crate::{Arguments, Room};

/// Which file of `lineitem` is replaced.
const REPLACED: u64 = 3;

/// All runs, and both tables.
pub(crate) async fn all(arguments: &Arguments) -> anyhow::Result<()> {
    let server = &arguments.server;
    server.bucket().await?;
    let owner = lake::bare(server, &server.endpoint)?;
    let size = lake::fill(&*owner, arguments.orders).await?;
    println!("{} files, {} MiB", size.files, size.bytes >> 20);
    let wire = Wire::before(&server.endpoint, Duration::from_millis(arguments.delay)).await?;
    let lab = Lab { arguments, room: arguments.room(), folder: tempfile::tempdir()?, wire, owner, size };
    let (bare, mut runs) = lab.unchanged().await?;
    let replaced = lab.replaced(&bare).await?;
    runs.extend(replaced.runs);
    report::print(&runs, &bare);
    let mut bounds = Bounds::begin();
    lab.check(&mut bounds, &runs, replaced.length);
    #[cfg(feature = "peers")]
    crate::peers::run(&lab).await?;
    bounds.end()
}

/// Asks all queries once in this process, over what an earlier one left, and prints what it found for that one.
pub(crate) async fn restarted(arguments: &Arguments, folder: &Path, wire: &str) -> anyhow::Result<()> {
    let stack = Stack::open(&arguments.server, wire, folder, arguments.room()).await?;
    let answers = queries::ask(stack.objects()).await?;
    println!("{}", serde_json::to_string(&(answers, stack.hits()))?);
    stack.close().await
}

/// What the runs share.
pub(crate) struct Lab<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) room: Room,
    folder: tempfile::TempDir,
    pub(crate) wire: Wire,
    /// The lake, past the proxy.
    pub(crate) owner: Arc<dyn ObjectStore>,
    size: Size,
}

/// What came of replacing a file.
struct Replaced {
    runs: Vec<Run>,
    /// The longest of the new files.
    length: u64,
}

impl Lab<'_> {
    /// The file that is replaced.
    pub(crate) fn victim(&self) -> anyhow::Result<File> {
        let files = data::files(self.arguments.orders);
        let is_it = |file: &File| file.table == Table::Lineitem && file.number == REPLACED;
        files.into_iter().find(is_it).context("there is no such file")
    }

    /// Asks without a cache.
    pub(crate) async fn bare(&self, name: &str) -> anyhow::Result<Run> {
        let store = lake::bare(&self.arguments.server, &self.wire.endpoint())?;
        let before = self.wire.asked();
        let answers = queries::ask(store).await?;
        let asked = self.wire.asked() - before;
        Ok(Run { name: name.to_owned(), answers, asked, hits: None, wrong: 0 })
    }

    /// Asks through the stack.
    async fn ask(&self, name: &str, stack: &Stack, right: &Answers) -> anyhow::Result<Run> {
        let (before, hits) = (self.wire.asked(), stack.hits());
        let answers = queries::ask(stack.objects()).await?;
        let asked = self.wire.asked() - before;
        let hits = Some(stack.hits() - hits);
        Ok(Run { name: name.to_owned(), wrong: answers.wrong(right), answers, asked, hits })
    }

    async fn open(&self) -> anyhow::Result<Stack> {
        Stack::open(&self.arguments.server, &self.wire.endpoint(), self.folder.path(), self.room).await
    }

    /// While nobody writes: without tiered, cold, warm, and in a new process.
    async fn unchanged(&self) -> anyhow::Result<(Run, Vec<Run>)> {
        let bare = self.bare("without tiered, each time").await?;
        let right = &bare.answers;
        let stack = self.open().await?;
        let cold = self.ask("cold", &stack, right).await?;
        let warm = self.ask("warm", &stack, right).await?;
        stack.close().await?;
        let before = self.wire.asked();
        let (answers, hits) = self.in_new_process().await?;
        let asked = self.wire.asked() - before;
        let wrong = answers.wrong(right);
        let restarted = Run { name: "in a new process".to_owned(), answers, asked, hits: Some(hits), wrong };
        Ok((bare.clone(), vec![bare, cold, warm, restarted]))
    }

    async fn in_new_process(&self) -> anyhow::Result<(Answers, Hits)> {
        let Arguments { server, memory, disk, max_stale, .. } = self.arguments;
        let output = Command::new(std::env::current_exe()?)
            .args(["--endpoint", &server.endpoint, "--bucket", &server.bucket])
            .args(["--access-key", &server.access_key, "--secret-key", &server.secret_key])
            .args(["--memory", &memory.to_string(), "--disk", &disk.to_string()])
            .args(["--max-stale", &max_stale.to_string(), "--wire", &self.wire.endpoint()])
            .arg("--restarted")
            .arg(self.folder.path())
            .output()
            .await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the new process failed: {errors}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// After a file was replaced, in three ways.
    async fn replaced(&self, before: &Run) -> anyhow::Result<Replaced> {
        let (stack, victim) = (self.open().await?, self.victim()?);
        self.ask("", &stack, &before.answers).await?;
        let by_another = lake::write(&*self.owner, victim, 1).await?;
        let right = self.bare("").await?;
        ensure!(right.answers.wrong(&before.answers) > 1, "the new file has the same answers");
        tokio::time::sleep(self.room.max_stale).await;
        let after_a_while =
            self.ask("a file replaced by another program, max-stale later", &stack, &right.answers).await?;
        let told_length = lake::write(&*self.owner, victim, 2).await?;
        stack.invalidate(&victim.key()).await?;
        let right = self.bare("").await?;
        let told = self.ask("replaced again, invalidated", &stack, &right.answers).await?;
        let through_length = lake::write(&*stack.objects(), victim, 3).await?;
        let right = self.bare("").await?;
        let through = self.ask("replaced through the stack", &stack, &right.answers).await?;
        stack.close().await?;
        let length = by_another.max(told_length).max(through_length);
        Ok(Replaced { runs: vec![after_a_while, told, through], length })
    }

    fn check(&self, bounds: &mut Bounds, runs: &[Run], length: u64) {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let seconds = self.room.max_stale.as_secs().max(1);
        for run in runs {
            bounds.at_most(format!("{}: wrong answers", run.name), run.wrong, 0);
        }
        let [_, cold, warm, restarted, replaced @ ..] = runs else { return };
        bounds.at_most("cold: MiB read", mebibytes(cold.asked.read), mebibytes(self.size.bytes));
        // On a busy machine a cache may be late, and does not keep what it is then given.
        let some = self.size.bytes / 20;
        for run in [warm, restarted] {
            let (read, most) = (mebibytes(run.asked.read), mebibytes(some));
            bounds.at_most(format!("{}: MiB read, of a twentieth of the lake", run.name), read, most);
            // A listing looks at each file, and the first read of each compares its version.
            let periods = 1 + run.answers.took.as_secs() / seconds;
            let most = 2 * self.size.files * periods;
            bounds.at_most(format!("{}: HEADs, two a file and max-stale", run.name), run.asked.heads, most);
        }
        for run in replaced {
            let (read, most) = (mebibytes(run.asked.read), mebibytes(length + some));
            bounds.at_most(format!("{}: MiB read, of the new file and a twentieth", run.name), read, most);
        }
    }
}
