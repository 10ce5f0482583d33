//! What S3 is asked, with tiered and without.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use measure::table::Table;
use measure::wire::{Asked, Wire};
use slatedb::object_store::ObjectStore;

use crate::Arguments;
use crate::db;
use crate::store::{self, Stack};

/// What lies between SlateDB and S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    /// SlateDB's own cache of objects on a disk.
    OwnCache,
    Tiered,
}

const ALL: [(Between, &str); 3] = [
    (Between::Nothing, "nothing"),
    (Between::OwnCache, "SlateDB's cache of objects on the disk"),
    (Between::Tiered, "tiered"),
];

/// What a step cost.
pub(crate) struct Step {
    asked: Asked,
    took: Duration,
}

/// What each way cost, step by step.
pub(crate) struct Counted(Vec<(&'static str, Vec<(&'static str, Step)>)>);

/// The same work in each way: keys are written, and some of them read, twice, and again after a restart.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Counted> {
    let mut steps = Vec::new();
    for (between, name) in ALL {
        let folder = tempfile::tempdir()?;
        let lab = Lab::new(arguments, between, folder.path()).await?;
        steps.push((name, lab.work().await?));
    }
    let counted = Counted(steps);
    counted.print();
    Ok(counted)
}

impl Counted {
    fn print(&self) {
        println!(
            "| between SlateDB and S3 | step | GET | HEAD | LIST | PUT, DELETE | MiB read | seconds | $ |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (name, work) in &self.0 {
            for (step, Step { asked, took }) in work {
                let Asked { gets, heads, lists, writes, read, .. } = asked;
                let (read, dollars) = (*read as f64 / f64::from(1 << 20), asked.dollars());
                let seconds = took.as_secs_f64();
                println!(
                    "| {name} | {step} | {gets} | {heads} | {lists} | {writes} | {read:.1} | {seconds:.1} | {dollars:.5} |"
                );
            }
        }
        println!();
    }

    /// A tenth, since what remains are manifests.
    pub(crate) fn check(&self, table: &mut Table) {
        let gets = |way: usize, step: usize| {
            let found = self.0.get(way).and_then(|(_, work)| work.get(step));
            found.map_or(0, |(_, step)| step.asked.gets)
        };
        table.at_most("GETs of warm reads, of a tenth of those without tiered", gets(2, 2), gets(0, 2) / 10);
        table.at_most(
            "GETs after a restart, of a tenth of those without tiered",
            gets(2, 3),
            gets(0, 3) / 10,
        );
    }
}

/// One way.
struct Lab<'a> {
    arguments: &'a Arguments,
    between: Between,
    folder: &'a Path,
    wire: Wire,
}

/// A database, and the stack below it.
struct Opened {
    db: slatedb::Db,
    stack: Option<Stack>,
}

impl<'a> Lab<'a> {
    async fn new(arguments: &'a Arguments, between: Between, folder: &'a Path) -> anyhow::Result<Self> {
        let delay = Duration::from_millis(arguments.delay);
        let wire = Wire::before(&arguments.server().endpoint, delay).await?;
        Ok(Self { arguments, between, folder, wire })
    }

    async fn open(&self) -> anyhow::Result<Opened> {
        let (server, endpoint) = (self.arguments.server(), self.wire.endpoint());
        let stack = match self.between {
            Between::Tiered => Some(Stack::open(&server, &endpoint, self.folder).await?),
            Between::Nothing | Between::OwnCache => None,
        };
        let store: Arc<dyn ObjectStore> = match &stack {
            Some(stack) => stack.objects(),
            None => store::bare(&server, &endpoint)?,
        };
        let cache: Option<PathBuf> = (self.between == Between::OwnCache).then(|| self.folder.to_owned());
        let db = db::open(&format!("requests-{:?}", self.between), store, cache).await?;
        Ok(Opened { db, stack })
    }

    async fn step(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Step> {
        let (before, began) = (self.wire.asked(), Instant::now());
        work.await?;
        Ok(Step { asked: self.wire.asked() - before, took: began.elapsed() })
    }

    async fn work(&self) -> anyhow::Result<Vec<(&'static str, Step)>> {
        let Arguments { keys, reads, .. } = *self.arguments;
        let mut dice = fastrand::Rng::with_seed(7);
        let chosen: Vec<u64> = (0..reads).map(|_| dice.u64(0..keys)).collect();
        let loaded = self.step(async {
            let opened = self.open().await?;
            db::put_all(&opened.db, 0..keys).await?;
            opened.close().await
        });
        let loaded = loaded.await?;
        let opened = self.open().await?;
        let cold = self.step(db::check_all(&opened.db, chosen.iter().copied())).await?;
        let warm = self.step(db::check_all(&opened.db, chosen.iter().copied())).await?;
        opened.close().await?;
        let restarted = self.step(async {
            let opened = self.open().await?;
            db::check_all(&opened.db, chosen.iter().copied()).await?;
            opened.close().await
        });
        let restarted = restarted.await?;
        Ok(vec![
            ("opened, written, closed", loaded),
            ("opened again, read", cold),
            ("read again", warm),
            ("opened again, read, closed", restarted),
        ])
    }
}

impl Opened {
    async fn close(self) -> anyhow::Result<()> {
        self.db.close().await?;
        match self.stack {
            Some(stack) => stack.close().await,
            None => Ok(()),
        }
    }
}
