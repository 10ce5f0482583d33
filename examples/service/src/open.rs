//! Opening: memory over a file, with a journal between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tiered::adapter::Stamp;
use tiered::journal::{JournalConfig, Report};
use tiered::ownership::{self, JournalId};
use tiered::quick::QuickConfig;
use tiered::redb::{RedbConfig, RedbStore};
use tiered::{Store as _, TieredStore, WritePolicy};

use crate::error::{Result, ServiceError};

/// Where the data are, and the clock that decides when sessions end.
#[derive(Clone, Debug)]
pub struct Config {
    folder: PathBuf,
    stamp: Stamp,
}

impl Config {
    /// The data are in `folder`, which must exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), stamp: Stamp::system() }
    }

    /// With another clock: tests move it by hand.
    #[must_use]
    pub fn stamp(mut self, stamp: Stamp) -> Self {
        self.stamp = stamp;
        self
    }

    fn database(&self) -> PathBuf {
        self.folder.join("data.redb")
    }

    fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    async fn open_backend(&self) -> Result<RedbStore> {
        Ok(RedbConfig::new(self.database()).stamp(self.stamp.clone()).open().await?)
    }

    /// Opens the stack. What a crash left in the journal is there at once, and is flushed in the background.
    pub(crate) async fn open(&self) -> Result<TieredStore> {
        let backend = self.open_backend().await?;
        let missing = missing(&backend, &self.journal()).await?;
        if !missing.is_empty() {
            backend.close().await?;
            return Err(ServiceError::JournalMissing(missing));
        }
        let frontend = QuickConfig::new(16 << 20).stamp(self.stamp.clone()).build()?;
        let journal = JournalConfig::new(self.journal()).open().await?;
        let store = TieredStore::builder(frontend, backend)
            .stamp(self.stamp.clone())
            .write_policy(WritePolicy::WriteBehind)
            .journal(journal)
            .build()
            .await?;
        Ok(store)
    }

    /// Gives the journals up that the data wait for. **What was only in them is lost.** A person decides this.
    pub async fn give_up(&self, journals: &[JournalId]) -> Result<()> {
        let backend = self.open_backend().await?;
        for journal in journals {
            ownership::abandon(&backend, *journal).await?;
        }
        backend.close().await?;
        Ok(())
    }
}

/// The journals that the backend waits for and that are not in the folder. Building the stack would refuse them as well;
/// looking first gives them a type of their own.
async fn missing(backend: &RedbStore, folder: &Path) -> Result<Vec<JournalId>> {
    let mut named = ownership::journals(backend).await?;
    if !named.is_empty() && folder.is_dir() {
        let (report, _) = Report::read(folder)?;
        named.retain(|id| report.journal != Some(*id));
    }
    Ok(named)
}
