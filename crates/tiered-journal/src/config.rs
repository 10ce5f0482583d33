//! The configuration of a journal.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tiered_core::adapter::opening::{self, Before, open_patiently};
use tiered_core::ownership::JournalId;
use tiered_core::{Durability, Error, ErrorKind, Operation, Result, Unflushed};

use crate::destroy;
use crate::folder::{Folder, OsFolder};
use crate::journal::{Executor, FileJournal};
use crate::log::{MIN_SEGMENT, failed};

/// Configures a [`FileJournal`].
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
/// # let folder = tempfile::tempdir().expect("a folder");
/// # let path = folder.path().join("journal");
/// use tiered_journal::JournalConfig;
///
/// let journal = JournalConfig::new(&path).segment_size(4 << 20).open().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct JournalConfig {
    pub(crate) path: PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) durability: Durability,
}

impl JournalConfig {
    /// Default size of a segment, in bytes: some thousand writes, and little to preallocate.
    pub const DEFAULT_SEGMENT: u64 = 16 << 20;

    /// A journal in the folder at `path`, which is created if it is absent.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            segment_size: Self::DEFAULT_SEGMENT,
            durability: Durability::PowerLoss,
        }
    }

    /// Bytes of a segment, at least 64 KiB. The space is allocated when the segment is created, and released as a
    /// whole.
    #[must_use]
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self
    }

    /// What an acknowledged write survives: [`Durability::PowerLoss`], the default, syncs each append;
    /// [`Durability::ProcessKill`] leaves writing to the operating system.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Opens the journal and locks its folder.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where another process or handle holds it; [`ErrorKind::Foreign`] where the folder holds
    /// something else, which is not touched; [`ErrorKind::Config`] for an invalid setting, and outside a tokio runtime;
    /// else the operating system's. The content is read when a store is built with the journal.
    ///
    /// # Cancel safety
    /// If dropped, it leaves at most an empty folder.
    pub async fn open(self) -> Result<FileJournal> {
        self.check()?;
        let failed_to_open = |error: Error| error.at_place(self.path.display()).during(Operation::Open);
        let path = self.path.clone();
        let opening =
            move || open_patiently(&path, || OsFolder::open(&path).map_err(|error| not_opened(&error)));
        let runtime = opening::runtime().map_err(failed_to_open)?;
        let folder = runtime.spawn_blocking(opening).await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Other, "the runtime shut down").with_source(error))
        });
        let folder = folder.map_err(failed_to_open)?;
        let held = folder.held();
        Ok(FileJournal::new(Arc::new(folder), &self, Executor::Threads, held))
    }

    /// Whether there is a journal in the folder. Changes nothing. One whose removal was interrupted counts as there.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`] where the folder holds something else; [`ErrorKind::Config`] outside a tokio runtime; else
    /// the operating system's.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("journal");
    /// use tiered_journal::JournalConfig;
    ///
    /// assert!(!JournalConfig::new(&path).exists().await?);
    /// # Ok(()) }
    /// ```
    pub async fn exists(self) -> Result<bool> {
        let exists = self.blocking(|config| destroy::exists(&config.path)).await;
        exists.map_err(|error| error.at_place(self.path.display()).during(Operation::Open))
    }

    /// Removes the journal: its files, and the folder where nothing else is in it. Files of others stay. When it returns,
    /// the journal is gone, also after a power loss. Interrupted, it leaves a journal that refuses to open, and that the
    /// next call removes.
    ///
    /// The backend is not asked: it may name the journal afterwards
    /// ([`ownership::abandon`](tiered_core::ownership::abandon)).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none; [`ErrorKind::Foreign`] where the folder holds something else;
    /// [`ErrorKind::Locked`] where it is open elsewhere and, under [`Unflushed::Refuse`], where it holds writes that wait
    /// or are parked; [`ErrorKind::Corrupt`] where that cannot be read; [`ErrorKind::Config`] outside a tokio runtime;
    /// else the operating system's.
    ///
    /// # Cancel safety
    /// If dropped, it goes on by itself.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("journal");
    /// use tiered_core::Unflushed;
    /// use tiered_journal::JournalConfig;
    ///
    /// drop(JournalConfig::new(&path).open().await?);
    /// JournalConfig::new(&path).destroy(Unflushed::Refuse).await?;
    /// assert!(!path.exists());
    /// # Ok(()) }
    /// ```
    pub async fn destroy(self, unflushed: Unflushed) -> Result<()> {
        let remove = move |config: &Self| {
            open_patiently(&config.path, || destroy::destroy(&config.path, unflushed, Before::Absent))
        };
        let destroyed = self.blocking(remove).await;
        destroyed.map_err(|error| error.at_place(self.path.display()).during(Operation::Destroy))
    }

    /// Removes a journal that this process has just made and closed, where it holds nothing. Whether it was removed. Else it
    /// is left as it is, as where it is open. An opening of a stack takes back by this what it has made where a tier fails.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy), but for `NotFound` and `Locked`.
    ///
    /// # Cancel safety
    /// If dropped, it goes on by itself.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("journal");
    /// use tiered_core::adapter::opening::Before;
    /// use tiered_journal::JournalConfig;
    ///
    /// let journal = JournalConfig::new(&path).open().await?;
    /// assert!(!JournalConfig::new(&path).take_back(Before::Absent).await?, "it is open");
    /// drop(journal);
    /// assert!(JournalConfig::new(&path).take_back(Before::Absent).await?);
    /// # Ok(()) }
    /// ```
    pub async fn take_back(self, before: Before) -> Result<bool> {
        let take = move |config: &Self| {
            open_patiently(&config.path, || destroy::destroy(&config.path, Unflushed::Refuse, before))
        };
        match self.blocking(take).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Locked) => Ok(false),
            Err(error) => Err(error.at_place(self.path.display()).during(Operation::Destroy)),
        }
    }

    /// Whether [`destroy`](Self::destroy) would refuse now: fails as it would, and removes nothing. The journal's id, by
    /// which its backend names it; `None` for a new journal and for one whose removal was interrupted.
    ///
    /// # Errors
    /// As [`destroy`](Self::destroy).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> tiered_core::Result<()> {
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let path = folder.path().join("journal");
    /// use tiered_core::{ErrorKind, Unflushed};
    /// use tiered_journal::JournalConfig;
    ///
    /// let journal = JournalConfig::new(&path).open().await?;
    /// let refused = JournalConfig::new(&path).check_destroy(Unflushed::Refuse).await;
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Locked);
    /// # Ok(()) }
    /// ```
    pub async fn check_destroy(self, unflushed: Unflushed) -> Result<Option<JournalId>> {
        let check =
            move |config: &Self| open_patiently(&config.path, || destroy::check(&config.path, unflushed));
        let checked = self.blocking(check).await;
        checked.map_err(|error| error.at_place(self.path.display()).during(Operation::Destroy))
    }

    /// Runs calls that block.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.clone();
        let ended = opening::runtime()?.spawn_blocking(move || run(&config)).await;
        ended.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Other, "the runtime shut down").with_source(error))
        })
    }

    /// A journal in a folder that is not the operating system's, all of whose calls run in the caller's poll: for
    /// simulations. No runtime is needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an invalid setting.
    pub fn open_in(self, folder: Arc<dyn Folder>) -> Result<FileJournal> {
        self.check()?;
        Ok(FileJournal::new(folder, &self, Executor::Inline, Weak::new()))
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why.to_owned()).during(Operation::Open));
        if self.segment_size < MIN_SEGMENT {
            return refuse("a journal's segment has at least 64 KiB");
        }
        if self.durability == Durability::Volatile {
            return refuse(
                "a journal on disk is durable; use a VolatileJournal where losing writes is acceptable",
            );
        }
        Ok(())
    }
}

/// The error of a folder that could not be opened.
fn not_opened(error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            Error::new(ErrorKind::Locked, "another process or handle has the journal open; close it there")
        }
        _ => failed("the journal's folder cannot be opened", error),
    }
}
