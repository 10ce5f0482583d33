//! The groups of measurements. Each is a file; a new one is a line in [`GROUPS`].

pub mod durable;
pub mod engines;
pub mod get_many;
pub mod hit;
pub mod listing;
pub mod memory;
pub mod miss;
pub mod mixed;
pub mod ratio;
pub mod recovery;
pub mod restart;
pub mod stampede;
pub mod sync;
pub mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use futures_util::future::LocalBoxFuture;
use tiered::MemoryStore;

use crate::effort::Effort;
use crate::measure::Side;
use crate::peers::Contender;
use crate::peers::drive::Work;
use crate::peers::source::Source;
use crate::peers::tiered as tiered_peer;
use crate::report::{Missing, Overview, Row};

/// What a group works with.
#[derive(Clone, Debug)]
pub struct Bench {
    /// How much to do.
    pub effort: Effort,
    /// Files of traces, for hit ratios.
    pub traces: Vec<PathBuf>,
    /// A folder that is removed in the end, on the disk that is measured.
    pub folder: PathBuf,
}

impl Bench {
    /// A folder of its own, empty.
    pub fn room(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// What a group found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The figures.
    pub rows: Vec<Row>,
    /// A table of what the rows say together.
    pub overview: Option<Overview>,
    /// What is not there, and why.
    pub missing: Vec<Missing>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// A group.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Its name on the command line.
    pub name: &'static str,
    /// A heading.
    pub title: &'static str,
    /// What is measured, and how.
    pub about: &'static str,
    /// Measures it.
    pub run: fn(&Bench) -> LocalBoxFuture<'_, Result<Findings>>,
}

/// Every group, in the order of a full run.
pub const GROUPS: &[Group] = &[
    hit::GROUP,
    memory::GROUP,
    ratio::GROUP,
    miss::GROUP,
    mixed::GROUP,
    get_many::GROUP,
    writes::GROUP,
    durable::GROUP,
    engines::GROUP,
    stampede::GROUP,
    listing::GROUP,
    sync::GROUP,
    sync::FROM_SERVERS,
    restart::GROUP,
];

/// The sides of a case in which every contender does the same work. What a side does in the background ends before the next
/// one has its turn, and is not measured.
pub fn sides<'a>(contenders: &[Contender], work: &Work) -> Vec<Side<'a>> {
    let side = |contender: &Contender| {
        let (peer, work) = (contender.peer.clone(), work.clone());
        Side::new(contender.name.clone(), contender.is_ours, move || {
            let (peer, turn) = (peer.clone(), peer.turn(work.clone()));
            Box::pin(async move {
                let sample = turn.await?;
                peer.settle().await?;
                Ok(sample)
            })
        })
    };
    contenders.iter().map(side).collect()
}

/// A backend in memory, for all sides of a case.
pub fn source_in_memory() -> Source {
    Source::new("memory", Arc::new(MemoryStore::new()))
}

/// A backend on disk, in a new file, for all sides of a case.
pub async fn source_in_redb(bench: &Bench, folder: &str) -> Result<Source> {
    let path = bench.room(folder)?.join("source.redb");
    Ok(Source::new("redb", tiered_peer::redb(&path).await?))
}

/// Copies a folder and what is in it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let target = to.join(item.file_name());
        if item.file_type()?.is_dir() {
            copy_folder(&item.path(), &target)?;
        } else {
            std::fs::copy(item.path(), target)?;
        }
    }
    Ok(())
}

/// A folder for the files of a run: beside the output, so on the same disk.
pub fn scratch(beside: &Path) -> Result<tempfile::TempDir> {
    std::fs::create_dir_all(beside)?;
    Ok(tempfile::Builder::new().prefix(".bench-").tempdir_in(beside)?)
}
