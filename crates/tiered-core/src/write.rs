//! What a write asks for and what it returns.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::attributes::Attributes;
use crate::clock::Timestamp;
use crate::entry::{Entry, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::version::{Precondition, Version};

/// When an entry stops existing.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::{Expiry, Put};
///
/// assert_eq!(Put::new("session").expiry, Expiry::Default);
/// let put = Put::new("session").expires_in(Duration::from_secs(60));
/// assert_eq!(put.expiry, Expiry::After(Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// As the tiered store is set to ([`default_ttl`](crate::TieredSettings::default_ttl)). Never, where it is set to nothing,
    /// and for a store that is not tiered.
    #[default]
    Default,
    /// Never.
    Never,
    /// At a point in time.
    At(Timestamp),
    /// So long after the write, by the clock of the store that stamps it.
    After(Duration),
}

/// Which write an entry is stamped as. Users cannot choose: see [`adapter`](crate::adapter).
#[derive(Clone, Debug, Default)]
pub(crate) enum Identity {
    /// A write of its own: the store that stamps it mints a version.
    #[default]
    Fresh,
    /// A write of its own, under an id that its caller minted.
    Named(Version),
    /// A copy of an entry with these metadata.
    Copy(Arc<Metadata>),
}

/// A put: the value, and what the writer wants beside it.
///
/// The first store that the put reaches stamps it ([`Stamp`](crate::adapter::Stamp)): version, time of modification, size and
/// checksum are never the caller's word. A tiered store stamps before any tier sees the put, so that all tiers hold
/// the same entry.
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
    identity: Identity,
}

/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Attributes, MemoryStore, Precondition, Put, StoreExt, Timestamp};
///
/// let store = MemoryStore::new();
/// let put = Put::new("Ada")
///     .attributes(Attributes::new().with("lang", "en")?)
///     .expires_at(Timestamp::from_millis(4_102_444_800_000))
///     .precondition(Precondition::Absent);
/// let written = store.set("users/42", put).await?;
/// // Only if no other write came in between. It does not expire, whatever the store's default.
/// store.set("users/42", Put::new("Grace").never_expires().if_version(written.version)).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
impl Put {
    /// A put of `value`, with everything else left to the store.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            value: value.into(),
            expiry: Expiry::Default,
            attributes: Attributes::new(),
            precondition: Precondition::None,
            identity: Identity::Fresh,
        }
    }

    /// A put of `value` that keeps what `entry` has beside its own: expiry and attributes. It is a write of its own,
    /// with a version of its own.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, Put, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// let key = Key::new("counter")?;
    /// let (old, written) = store.update(&key, |old| old.map(|old| Put::replacing(old, "two"))).await?;
    /// assert!(old.is_none() && written.is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn replacing(entry: &Entry, value: impl Into<Bytes>) -> Self {
        let metadata = entry.metadata();
        Self {
            expiry: metadata.expires_at.map_or(Expiry::Never, Expiry::At),
            attributes: metadata.attributes.clone(),
            ..Self::new(value)
        }
    }

    /// The same put of another value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = value.into();
        self
    }

    /// Does not expire, whatever the store's [default](crate::TieredSettings::default_ttl).
    #[must_use]
    pub fn never_expires(mut self) -> Self {
        self.expiry = Expiry::Never;
        self
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

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The version that it is stamped with, where that is settled already.
    pub(crate) fn version(&self) -> Option<&Version> {
        match &self.identity {
            Identity::Fresh => None,
            Identity::Named(version) => Some(version),
            Identity::Copy(metadata) => Some(&metadata.version),
        }
    }

    /// The same put under another version.
    pub(crate) fn with_version(mut self, version: Version) -> Self {
        self.identity = match self.identity {
            Identity::Fresh | Identity::Named(_) => Identity::Named(version),
            Identity::Copy(metadata) => {
                Identity::Copy(Arc::new(Metadata { version, ..Arc::unwrap_or_clone(metadata) }))
            }
        };
        self
    }

    /// A put that stores `entry` verbatim, bookkeeping included.
    pub(crate) fn verbatim(entry: &Entry) -> Self {
        Self {
            identity: Identity::Copy(Arc::clone(entry.metadata())),
            ..Self::replacing(entry, entry.value().clone())
        }
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
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// A delete.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Delete, Key, MemoryStore, Precondition, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// let written = store.set("users/42", "Ada").await?;
/// let delete = Delete::new().if_version(written.version);
/// assert!(!delete.reports_existed());
/// store.delete(&Key::new("users/42")?, delete).await?;
/// // Changes nothing, and fails where an entry exists.
/// store.delete(&Key::new("users/42")?, Delete::new().precondition(Precondition::Absent)).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delete {
    /// What must be so for it to take effect.
    pub precondition: Precondition,
    /// Whether the answer is to tell if a live entry existed.
    reports: bool,
    /// The operation's id, where the engine minted one.
    version: Option<Version>,
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

    /// Asks whether a live entry existed: [`Deleted::existed`] is then `Yes` or `No`. Some stores have to look first,
    /// and a write-behind store has to ask its backend; without this they answer [`Existed::Unknown`].
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Delete, Existed, Key, MemoryStore, Store};
    ///
    /// let deleted = MemoryStore::new().delete(&Key::new("k")?, Delete::new().report_existed()).await?;
    /// assert_eq!(deleted.existed, Existed::No);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub const fn report_existed(mut self) -> Self {
        self.reports = true;
        self
    }

    /// The id of the operation, where it has one.
    pub(crate) const fn id(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The same delete under this id.
    pub(crate) fn under_id(self, id: Version) -> Self {
        Self { version: Some(id), ..self }
    }

    /// Whether [`report_existed`](Self::report_existed) was asked for.
    pub const fn reports_existed(&self) -> bool {
        self.reports
    }
}

/// Whether a live entry existed before a delete.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Delete, Existed, Key, MemoryStore, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("users/42", "Ada").await?;
/// let deleted = store.delete(&Key::new("users/42")?, Delete::new().report_existed()).await?;
/// assert_eq!(deleted.existed, Existed::Yes);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Existed {
    /// It did.
    Yes,
    /// It did not.
    No,
    /// It was not looked for, since the caller did not [ask](Delete::report_existed), or was damaged.
    Unknown,
}

impl Existed {
    /// The answer, where it is known.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Existed;
    ///
    /// assert_eq!(Existed::from(true).known(), Some(true));
    /// assert_eq!(Existed::Unknown.known(), None);
    /// ```
    pub const fn known(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::Unknown => None,
        }
    }
}

impl From<bool> for Existed {
    fn from(existed: bool) -> Self {
        if existed { Self::Yes } else { Self::No }
    }
}

/// Where an acknowledged write is.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{CommitLevel, MemoryStore, StoreExt, TieredStore, VolatileJournal, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteBehind)
///     .journal(VolatileJournal::new())
///     .build()
///     .await?;
/// let written = store.set("users/42", "Ada").await?;
/// assert_eq!(written.level, CommitLevel::Journaled);
/// written.receipt.durable(CommitLevel::Committed).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CommitLevel {
    /// In the write-behind journal; the backend follows.
    Journaled,
    /// In the authoritative store, at its declared durability.
    Committed,
}

/// An acknowledged put.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{CommitLevel, MemoryStore, StoreExt};
///
/// let written = MemoryStore::new().set("users/42", "Ada").await?;
/// assert_eq!(written.level, CommitLevel::Committed);
/// println!("written as {}", written.version);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Written {
    /// The version that the entry has now.
    pub version: Version,
    /// Where the write is.
    pub level: CommitLevel,
    /// To wait until it is further.
    pub receipt: Receipt,
}

impl Written {
    /// A put that is in the authoritative store.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{CommitLevel, Version, Written};
    ///
    /// assert_eq!(Written::committed(Version::from_u128(1)).level, CommitLevel::Committed);
    /// ```
    pub fn committed(version: Version) -> Self {
        Self { version, level: CommitLevel::Committed, receipt: Receipt::committed() }
    }
}

/// An acknowledged delete.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Delete, Key, CommitLevel, MemoryStore, Store};
///
/// let deleted = MemoryStore::new().delete(&Key::new("users/42")?, Delete::new()).await?;
/// assert_eq!(deleted.level, CommitLevel::Committed);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deleted {
    /// Whether a live entry existed.
    pub existed: Existed,
    /// Where the delete is.
    pub level: CommitLevel,
    /// To wait until it is further.
    pub receipt: Receipt,
}

impl Deleted {
    /// A delete that is in the authoritative store.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Deleted, Existed};
    ///
    /// assert_eq!(Deleted::committed(true).existed, Existed::Yes);
    /// ```
    pub fn committed(existed: impl Into<Existed>) -> Self {
        Self { existed: existed.into(), level: CommitLevel::Committed, receipt: Receipt::committed() }
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
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{CommitLevel, MemoryStore, StoreExt, TieredStore, VolatileJournal, WritePolicy};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new())
///     .write_policy(WritePolicy::WriteBehind)
///     .journal(VolatileJournal::new())
///     .build()
///     .await?;
/// let written = store.set("order/7", "paid").await?;
/// // An answer to the customer can wait until the backend has the order.
/// written.receipt.durable(CommitLevel::Committed).await?;
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Receipt(Option<watch::Receiver<Progress>>);

impl Receipt {
    /// The receipt of a write that is committed already.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{CommitLevel, Receipt};
    ///
    /// Receipt::committed().durable(CommitLevel::Committed).await?;
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
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
    /// parked then: see [`TieredStore::parked`](crate::TieredStore::parked). [`ErrorKind::Other`] where an
    /// operator dropped it.
    ///
    /// # Cancel safety
    /// Waiting changes nothing; drop it at any time.
    pub async fn durable(&self, level: CommitLevel) -> Result<()> {
        let Some(progress) = &self.0 else { return Ok(()) };
        if level == CommitLevel::Journaled {
            return Ok(());
        }
        let mut progress = progress.clone();
        let closed =
            |_| Error::new(ErrorKind::Closed, "the store went away before the write reached the backend");
        let ended = progress.wait_for(|progress| !matches!(progress, Progress::Journaled)).await;
        match &*ended.map_err(closed)? {
            Progress::Journaled | Progress::Committed => Ok(()),
            Progress::Parked(error) => Err(Error::clone(error)),
            Progress::Dropped => {
                Err(Error::new(ErrorKind::Other, "the backend refused the write, and an operator dropped it"))
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
