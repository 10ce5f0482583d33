//! What can go wrong above a store.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use tiered_core::{ErrorKind, Key, Outcome};

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a codec or of a loader, of any type.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The cause of an error, shared by its clones.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// An error of a typed value, a document or a log.
///
/// Prints as one line without its source; the chain ([`std::error::Error::source`]) carries that once. Keys may appear in
/// it; values never do. Clones share the source. It converts into a [`tiered_core::Error`] of a fitting kind.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{ErrorKind, MemoryStore, StoreExt};
/// use tiered_values::{Error, Json, Typed};
///
/// let store = MemoryStore::new();
/// store.set("count", "written by another program").await?;
/// let counts = Typed::<u64>::new(store, Json)?;
/// let error = counts.get("count").await.expect_err("it has no record of codec and schema");
/// assert!(matches!(error, Error::Format { found: None, .. }));
/// assert_eq!(tiered_core::Error::from(error).kind(), ErrorKind::InvalidInput);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    Store(tiered_core::Error),
    /// The value cannot be encoded. Nothing was written.
    Encode {
        /// The key that it was for.
        key: Key,
        /// What the codec says.
        source: Cause,
    },
    /// The stored bytes are not what their record of codec and schema says.
    Decode {
        /// The key.
        key: Key,
        /// What the codec says.
        source: Cause,
    },
    /// The value was written with another codec or another schema version.
    Format {
        /// The key.
        key: Key,
        /// The codec and schema version of the handle, as in `json/1`.
        expected: String,
        /// Those recorded with the value. `None`: none, another program wrote it.
        found: Option<String>,
    },
    /// Other writers came first in every attempt. Nothing was written.
    Contended {
        /// The key.
        key: Key,
        /// How many attempts were made.
        attempts: u32,
    },
    /// The loader of [`get_with`](crate::Typed::get_with) failed or panicked. The next caller loads again.
    Load {
        /// The key.
        key: Key,
        /// What the loader says.
        source: Cause,
    },
    /// The path is malformed, or leads through a value that has no members. Nothing was written.
    Path {
        /// The document, where one is concerned.
        key: Option<Key>,
        /// How far the path leads, as a JSON Pointer.
        at: String,
        /// What is wrong there.
        reason: &'static str,
    },
    /// An argument or a setting breaks the rules.
    Invalid {
        /// Which rule.
        reason: String,
    },
    /// The elements that were asked for have been trimmed from the log.
    Trimmed {
        /// The first element that is left.
        first: u64,
    },
    /// What is stored under the key is no part of a log, or is damaged.
    Damaged {
        /// The key.
        key: Key,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Error {
    /// What a failed write did.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Outcome;
    /// use tiered_values::Error;
    ///
    /// let error = Error::Contended { key: "counter".parse()?, attempts: 64 };
    /// assert_eq!(error.write_outcome(), Outcome::NotApplied);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn write_outcome(&self) -> Outcome {
        match self {
            Self::Store(error) => error.write_outcome(),
            _ => Outcome::NotApplied,
        }
    }

    /// Whether the same call may succeed later, without any change of the call or of the data.
    ///
    /// # Examples
    /// ```
    /// use tiered_values::Error;
    ///
    /// assert!(Error::Contended { key: "counter".parse()?, attempts: 64 }.is_retryable());
    /// assert!(!Error::Trimmed { first: 7 }.is_retryable());
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable(),
            Self::Contended { .. } | Self::Load { .. } => true,
            _ => false,
        }
    }

    /// The same error of a write that has not begun: a failed read before it tells nothing of a write.
    pub(crate) fn not_applied(self) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.outcome_is(Outcome::NotApplied)),
            other => other,
        }
    }

    pub(crate) fn encode(key: &Key, source: BoxError) -> Self {
        Self::Encode { key: key.clone(), source: source.into() }
    }

    pub(crate) fn decode(key: &Key, source: BoxError) -> Self {
        Self::Decode { key: key.clone(), source: source.into() }
    }

    pub(crate) fn load(key: &Key, source: BoxError) -> Self {
        Self::Load { key: key.clone(), source: source.into() }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid { reason: reason.into() }
    }

    /// The kind of the error as one of a store.
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Encode { .. } | Self::Format { .. } | Self::Path { .. } | Self::Invalid { .. } => {
                ErrorKind::InvalidInput
            }
            Self::Decode { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Contended { .. } => ErrorKind::PreconditionFailed,
            Self::Load { .. } => ErrorKind::Other,
            Self::Trimmed { .. } => ErrorKind::InvalidRange,
        }
    }

    fn key(&self) -> Option<&Key> {
        match self {
            Self::Store(error) => error.key(),
            Self::Encode { key, .. }
            | Self::Decode { key, .. }
            | Self::Format { key, .. }
            | Self::Contended { key, .. }
            | Self::Load { key, .. }
            | Self::Damaged { key, .. } => Some(key),
            Self::Path { key, .. } => key.as_ref(),
            Self::Invalid { .. } | Self::Trimmed { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => fmt::Display::fmt(error, f),
            Self::Encode { key, .. } => write!(f, "{key:?}: the value cannot be encoded"),
            Self::Decode { key, .. } => write!(f, "{key:?}: the stored bytes cannot be decoded"),
            Self::Format { key, expected, found: Some(found) } => {
                write!(f, "{key:?}: the value was written as {found}; this handle reads {expected}")
            }
            Self::Format { key, expected, found: None } => {
                write!(f, "{key:?}: the value has no record of its codec; this handle reads {expected}")
            }
            Self::Contended { key, attempts } => {
                write!(f, "{key:?}: other writers came first in all of {attempts} attempts; try again")
            }
            Self::Load { key, .. } => write!(f, "{key:?}: the loader failed"),
            Self::Path { key: Some(key), at, reason } => write!(f, "{key:?}: at {at:?}: {reason}"),
            Self::Path { key: None, at, reason } => write!(f, "at {at:?}: {reason}"),
            Self::Invalid { reason } => f.write_str(reason),
            Self::Trimmed { first } => write!(f, "the log was trimmed; its first element is {first}"),
            Self::Damaged { key, reason } => write!(f, "{key:?}: {reason}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // The error of the store is this one: its own source comes next.
            Self::Store(error) => error.source(),
            Self::Encode { source, .. } | Self::Decode { source, .. } | Self::Load { source, .. } => {
                Some(&**source)
            }
            _ => None,
        }
    }
}

impl From<tiered_core::Error> for Error {
    fn from(error: tiered_core::Error) -> Self {
        Self::Store(error)
    }
}

/// An error of the store stays as it is.
impl From<Error> for tiered_core::Error {
    fn from(error: Error) -> Self {
        if let Error::Store(error) = error {
            return error;
        }
        let made = Self::new(error.kind(), error.to_string());
        let made = match error.key() {
            Some(key) => made.for_key(key),
            None => made,
        };
        match &error {
            Error::Encode { source, .. } | Error::Decode { source, .. } | Error::Load { source, .. } => {
                made.with_source(Shared(Arc::clone(source)))
            }
            _ => made,
        }
    }
}

/// A cause as an error of its own, since `Arc<dyn Error>` is none.
#[derive(Debug)]
struct Shared(Cause);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
