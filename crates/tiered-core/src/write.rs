//! What a write asks for and what it returns.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::entry::{Attributes, Checksum, Entry, Note};
use crate::error::{Error, ErrorKind, Result};
use crate::version::{Precondition, Version};

/// When an entry stops existing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// At a point in time.
    At(Timestamp),
    /// So long after the write, by the clock of the store that stamps it.
    After(Duration),
}

/// A put: the value, and what the writer wants beside it.
///
/// Fields left open are filled in by the first store that the put reaches ([`Stamp`](crate::Stamp)); a tiered
/// store does so before any tier sees it, so that all tiers hold the same entry.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::Put;
///
/// let put = Put::new("hello").expires_in(Duration::from_secs(60)).if_absent();
/// assert_eq!(put.value.len(), 5);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Put {
    /// The value.
    pub value: Bytes,
    /// When it stops existing.
    pub expiry: Expiry,
    /// The user's own pairs.
    pub attributes: Attributes,
    /// What must be so for it to take effect.
    pub precondition: Precondition,
    /// The operation's id, where the writer minted one or copies an entry.
    pub version: Option<Version>,
    /// The time of modification, where it is a copy or was stamped already.
    pub modified: Option<Timestamp>,
    /// The checksum of `value`, where it is known already.
    pub checksum: Option<Checksum>,
    /// The tiering engine's bookkeeping.
    pub note: Note,
}

impl Put {
    /// A put of `value`, with everything else left to the store.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            value: value.into(),
            expiry: Expiry::Never,
            attributes: Attributes::new(),
            precondition: Precondition::None,
            version: None,
            modified: None,
            checksum: None,
            note: Note::default(),
        }
    }

    /// A put that stores `entry` verbatim, bookkeeping included.
    pub fn copy_of(entry: &Entry) -> Self {
        let metadata = entry.metadata();
        Self {
            value: entry.value().clone(),
            expiry: metadata.expires_at.map_or(Expiry::Never, Expiry::At),
            attributes: metadata.attributes.clone(),
            precondition: Precondition::None,
            version: Some(metadata.version.clone()),
            modified: Some(metadata.modified),
            checksum: Some(metadata.checksum),
            note: metadata.note.clone(),
        }
    }

    /// Stops existing so long after the write.
    #[must_use]
    pub fn expires_in(mut self, ttl: Duration) -> Self {
        self.expiry = Expiry::After(ttl);
        self
    }

    /// Stops existing at `at`.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expiry = Expiry::At(at);
        self
    }

    /// With these attributes.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// Under this precondition.
    #[must_use]
    pub fn precondition(mut self, precondition: Precondition) -> Self {
        self.precondition = precondition;
        self
    }

    /// Only if no live entry exists.
    #[must_use]
    pub fn if_absent(self) -> Self {
        self.precondition(Precondition::Absent)
    }

    /// Only if the live entry has this version.
    #[must_use]
    pub fn if_version(self, version: Version) -> Self {
        self.precondition(Precondition::Matches(version))
    }

    /// Under this operation id.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// With this bookkeeping.
    #[must_use]
    pub fn note(mut self, note: Note) -> Self {
        self.note = note;
        self
    }
}

impl<T: Into<Bytes>> From<T> for Put {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Put {
    // The value stays out: values do not belong into logs and errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("bytes", &self.value.len())
            .field("expiry", &self.expiry)
            .field("attributes", &self.attributes)
            .field("precondition", &self.precondition)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delete {
    /// What must be so for it to take effect.
    pub precondition: Precondition,
    /// The operation's id, where the writer minted one.
    pub version: Option<Version>,
}

impl Delete {
    /// An unconditional delete.
    pub fn new() -> Self {
        Self::default()
    }

    /// Under this precondition. [`Precondition::Absent`] makes it a check that changes nothing.
    #[must_use]
    pub fn precondition(mut self, precondition: Precondition) -> Self {
        self.precondition = precondition;
        self
    }

    /// Only if the live entry has this version.
    #[must_use]
    pub fn if_version(self, version: Version) -> Self {
        self.precondition(Precondition::Matches(version))
    }

    /// Under this operation id.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }
}

/// Where an acknowledged write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// In the write-behind journal; the backend follows.
    Journaled,
    /// In the authoritative store, at its declared durability.
    Committed,
}

/// An acknowledged put.
#[derive(Clone, Debug)]
pub struct Written {
    /// The version that the entry has now.
    pub version: Version,
    /// Where the write is.
    pub level: Level,
    /// To wait until it is further.
    pub receipt: Receipt,
}

impl Written {
    /// A put that is in the authoritative store.
    pub fn committed(version: Version) -> Self {
        Self { version, level: Level::Committed, receipt: Receipt::committed() }
    }
}

/// An acknowledged delete.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// Whether a live entry existed.
    pub existed: bool,
    /// Where the delete is.
    pub level: Level,
    /// To wait until it is further.
    pub receipt: Receipt,
}

impl Deleted {
    /// A delete that is in the authoritative store.
    pub fn committed(existed: bool) -> Self {
        Self { existed, level: Level::Committed, receipt: Receipt::committed() }
    }
}

/// The state of a write that its receipt watches.
#[derive(Clone, Debug)]
pub(crate) enum Progress {
    Journaled,
    Committed,
    Parked(Arc<Error>),
    Dropped,
}

/// A claim on the further fate of an acknowledged write.
#[derive(Clone)]
pub struct Receipt(Option<watch::Receiver<Progress>>);

impl Receipt {
    /// The receipt of a write that is committed already.
    pub const fn committed() -> Self {
        Self(None)
    }

    pub(crate) fn pending(progress: watch::Receiver<Progress>) -> Self {
        Self(Some(progress))
    }

    /// Waits until the write is as far as `level`. A write that a later one superseded counts as committed when
    /// that one is.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the store went away first. The backend's own, where it refused the write, which is
    /// parked then: see [`TieredStore::parked`](crate::TieredStore::parked). [`ErrorKind::Other`] where somebody
    /// dropped it.
    ///
    /// # Cancel safety
    /// Waiting changes nothing; drop it at any time.
    pub async fn durable(&self, level: Level) -> Result<()> {
        let Some(progress) = &self.0 else { return Ok(()) };
        if level == Level::Journaled {
            return Ok(());
        }
        let mut progress = progress.clone();
        let closed =
            |_| Error::new(ErrorKind::Closed, "the store went away before the write reached the backend");
        let ended = progress.wait_for(|progress| !matches!(progress, Progress::Journaled)).await;
        match &*ended.map_err(closed)? {
            Progress::Journaled | Progress::Committed => Ok(()),
            Progress::Parked(error) => Err(error.duplicate()),
            Progress::Dropped => {
                Err(Error::new(ErrorKind::Other, "the backend refused the write, and somebody dropped it"))
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Receipt(Committed)"),
            Some(progress) => f.debug_tuple("Receipt").field(&*progress.borrow()).finish(),
        }
    }
}
