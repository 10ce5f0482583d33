//! The one error type: a kind, an operation, a tier, and for writes an outcome.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::key::Key;

/// A result with this crate's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as coarsely as callers act differently on it.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{ErrorKind, MemoryStore, Put, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("users/42", "Ada").await?;
/// match store.set("users/42", Put::new("Grace").if_absent()).await {
///     Ok(_) => println!("created"),
///     Err(error) if error.kind() == ErrorKind::PreconditionFailed => println!("it exists already"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key breaks the rules or the store's limit. Use another key.
    InvalidKey,
    /// An argument breaks the rules. Mend the call.
    InvalidInput,
    /// The value is larger than the store's limit. Split it or raise `max_value`.
    TooLarge,
    /// The range begins beyond the value or its own end. Ask for another range.
    InvalidRange,
    /// The precondition does not hold. Read again and decide anew.
    PreconditionFailed,
    /// The store declares that it cannot do this. Use another store or another way.
    Unsupported,
    /// Settings, a URL or a combination of stores cannot work. Change the configuration.
    Config,
    /// The place (file, directory, table, bucket) does not exist. Create it.
    NotFound,
    /// The place holds a store already, and was to be new. Connect to it, or destroy it first.
    AlreadyExists,
    /// The place holds something else than a store of ours. It was not touched.
    Foreign,
    /// Another process or handle holds the place. Wait, or close it there.
    Locked,
    /// The operating system or the server forbids it. Grant the permission.
    PermissionDenied,
    /// The store cannot be reached, or refuses for now. Try again later.
    Unavailable,
    /// The deadline passed. Try again with care: see the outcome.
    TimedOut,
    /// No room: a full disk, or a bound on pending writes. Free some.
    Full,
    /// Stored data are damaged. Restore them from another tier or a backup.
    Corrupt,
    /// The store was closed. Open it again.
    Closed,
    /// Anything else, unfamiliar errors of a driver among it. Read the chain.
    Other,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidKey => "invalid key",
            Self::InvalidInput => "invalid input",
            Self::TooLarge => "too large",
            Self::InvalidRange => "invalid range",
            Self::PreconditionFailed => "precondition failed",
            Self::Unsupported => "unsupported",
            Self::Config => "configuration",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Foreign => "not a store",
            Self::Locked => "locked",
            Self::PermissionDenied => "permission denied",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed out",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Closed => "closed",
            Self::Other => "failed",
        })
    }
}

/// What a failed write did.
///
/// # Examples
/// ```
/// use tiered_core::{Error, ErrorKind, Outcome};
///
/// let error = Error::new(ErrorKind::TimedOut, "no answer within 2s");
/// match error.write_outcome() {
///     Outcome::NotApplied => println!("nothing was written: try again"),
///     Outcome::Applied => println!("it was written: do not repeat it"),
///     Outcome::Unknown => println!("read the entry back before you decide"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No effect, ever.
    NotApplied,
    /// It took effect; something after it failed.
    Applied,
    /// It takes effect at most once, possibly later. Read back before deciding.
    Unknown,
}

/// The operation of a store that failed.
///
/// # Examples
/// ```
/// use tiered_core::{Error, ErrorKind, Operation};
///
/// let error = Error::new(ErrorKind::Unavailable, "no answer").during(Operation::Flush);
/// assert_eq!(error.operation(), Some(Operation::Flush));
/// assert_eq!(error.to_string(), "flush: unavailable: no answer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening or creating.
    Open,
    /// Reading one key, or its metadata.
    Load,
    /// Reading several keys.
    LoadMany,
    /// Writing one key.
    Put,
    /// Deleting one key.
    Delete,
    /// Applying a batch.
    Apply,
    /// Listing.
    List,
    /// Reading or writing a mark.
    Mark,
    /// Waiting for what came before.
    Flush,
    /// Closing.
    Close,
    /// Copying between stores.
    Sync,
    /// Removing a place with everything in it.
    Destroy,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Load => "load",
            Self::LoadMany => "load many",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Apply => "apply",
            Self::List => "list",
            Self::Mark => "mark",
            Self::Flush => "flush",
            Self::Close => "close",
            Self::Sync => "sync",
            Self::Destroy => "destroy",
        })
    }
}

/// An error of a store.
///
/// Prints as one line without its source; the chain ([`std::error::Error::source`]) carries that once. Keys may
/// appear in it; values and secrets never do. Clones share the source.
///
/// # Examples
/// ```
/// use tiered_core::{Error, ErrorKind, Outcome};
///
/// let error = Error::new(ErrorKind::Unavailable, "the server does not answer").outcome_is(Outcome::Unknown);
/// assert_eq!(error.outcome(), Some(Outcome::Unknown));
/// assert_eq!(error.to_string(), "unavailable: the server does not answer (the write may have taken effect)");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    operation: Option<Operation>,
    tier: Option<String>,
    key: Option<Key>,
    outcome: Option<Outcome>,
    /// The outcome was stated before the operation turned out to be a read: it concerns no write.
    outcome_of_read: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// # Examples
/// ```
/// use tiered_core::{Error, ErrorKind, Key, Operation, Outcome};
///
/// let cause = std::io::Error::other("connection reset");
/// let error = Error::new(ErrorKind::Unavailable, "no answer")
///     .with_source(cause)
///     .at_place("db.example.org")
///     .during(Operation::Put)
///     .in_tier("postgres")
///     .for_key(&Key::new("users/42")?)
///     .outcome_is(Outcome::Unknown);
/// assert_eq!((error.kind(), error.operation(), error.tier()), (ErrorKind::Unavailable, Some(Operation::Put), Some("postgres")));
/// assert_eq!(error.key().map(Key::as_str), Some("users/42"));
/// assert_eq!((error.message(), error.write_outcome()), ("db.example.org: no answer", Outcome::Unknown));
/// assert!(error.chain().ends_with("(the write may have taken effect): connection reset"));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Error {
    /// An error of `kind`. The message is lower case, one line, and says what to do where there is something.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: None,
            tier: None,
            key: None,
            outcome: None,
            outcome_of_read: false,
            source: None,
        }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Puts the place (a path, an address without secrets) before the message.
    #[must_use]
    pub fn at_place(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    /// Says which operation failed, unless a deeper tier said so already. Where it is a read, an outcome stated so far
    /// concerns no write: [`outcome`](Self::outcome) is `None` until [`outcome_is`](Self::outcome_is) states one, and
    /// [`request_outcome`](Self::request_outcome) keeps it.
    #[must_use]
    pub fn during(mut self, operation: Operation) -> Self {
        if self.0.operation.is_none() {
            self.0.operation = Some(operation);
            self.0.outcome_of_read =
                matches!(operation, Operation::Load | Operation::LoadMany | Operation::List);
        }
        self
    }

    /// Says in which tier it failed, unless a deeper tier said so already.
    #[must_use]
    pub fn in_tier(mut self, tier: &str) -> Self {
        self.0.tier.get_or_insert_with(|| tier.to_owned());
        self
    }

    /// Says for which key it failed, unless that is known already.
    #[must_use]
    pub fn for_key(mut self, key: &Key) -> Self {
        self.0.key.get_or_insert_with(|| key.clone());
        self
    }

    /// Says for which key it failed, replacing what was said before. For a wrapper that calls the store inside by another
    /// key than its own caller did.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Error, ErrorKind, Key};
    ///
    /// let inside = Error::new(ErrorKind::Unavailable, "no answer").for_key(&Key::new("tenant/users/42")?);
    /// let outside = inside.key_is(&Key::new("users/42")?);
    /// assert_eq!(outside.key().map(Key::as_str), Some("users/42"));
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn key_is(mut self, key: &Key) -> Self {
        self.0.key = Some(key.clone());
        self
    }

    /// Says what the failed write did, replacing what was said before.
    #[must_use]
    pub fn outcome_is(mut self, outcome: Outcome) -> Self {
        self.0.outcome = Some(outcome);
        self.0.outcome_of_read = false;
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operation that failed.
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// The name of the tier that failed.
    pub fn tier(&self) -> Option<&str> {
        self.0.tier.as_deref()
    }

    /// The key concerned.
    pub fn key(&self) -> Option<&Key> {
        self.0.key.as_ref()
    }

    /// What a failed write did; `None` for reads. A write without a stated outcome counts as
    /// [`Outcome::Unknown`]: [`Error::write_outcome`].
    pub fn outcome(&self) -> Option<Outcome> {
        self.0.outcome.filter(|_| !self.0.outcome_of_read)
    }

    /// What the tier said of the request that failed, for reads as well: `NotApplied` means that it was refused or never
    /// sent. [`outcome`](Self::outcome) says what a write did.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Error, ErrorKind, Operation, Outcome};
    ///
    /// let refused = Error::new(ErrorKind::Unavailable, "too many connections").outcome_is(Outcome::NotApplied);
    /// let read = refused.during(Operation::Load);
    /// assert_eq!((read.outcome(), read.request_outcome()), (None, Some(Outcome::NotApplied)));
    /// ```
    pub fn request_outcome(&self) -> Option<Outcome> {
        self.0.outcome
    }

    /// What a failed write did, with the cautious answer where the store did not say.
    pub fn write_outcome(&self) -> Outcome {
        self.outcome().unwrap_or(match self.0.kind {
            // Refused before anything was sent.
            ErrorKind::InvalidKey
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::PreconditionFailed
            | ErrorKind::Unsupported => Outcome::NotApplied,
            _ => Outcome::Unknown,
        })
    }

    /// Whether the same call may succeed later, without any change of the call or of the configuration.
    ///
    /// | Kind | Retryable | Because |
    /// |---|---|---|
    /// | [`Unavailable`](ErrorKind::Unavailable) | yes | the tier may be reached again |
    /// | [`TimedOut`](ErrorKind::TimedOut) | yes | the tier may answer in time |
    /// | [`Full`](ErrorKind::Full) | yes | pending writes are flushed, and space is freed |
    /// | [`Locked`](ErrorKind::Locked) | no | the owner must close the place first, and a store that lost its lease stays without it |
    /// | [`PreconditionFailed`](ErrorKind::PreconditionFailed) | no | read again and decide anew |
    /// | [`Closed`](ErrorKind::Closed) | no | open the store again |
    /// | all others | no | the call, the configuration or the data must change |
    ///
    /// A write that took effect ([`Outcome::Applied`]) is never retryable. Retry a write whose
    /// [`write_outcome`](Self::write_outcome) is [`Outcome::Unknown`] only where taking effect twice, or after the write of
    /// another process, does no harm. Wait between attempts.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Error, ErrorKind, Outcome};
    ///
    /// let error = Error::new(ErrorKind::Unavailable, "the server does not answer");
    /// assert!(error.is_retryable());
    /// assert!(!error.outcome_is(Outcome::Applied).is_retryable());
    /// assert!(!Error::new(ErrorKind::InvalidKey, "the key is empty").is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        let passes = matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Full);
        passes && self.outcome() != Some(Outcome::Applied)
    }

    /// The key whose entry is damaged. [`ErrorKind::Corrupt`] without a key concerns the store as a whole.
    ///
    /// A listing goes on after an error about a damaged key, and ends after any other (`[list.damaged]`).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Error, ErrorKind, Key};
    ///
    /// let damaged = Error::new(ErrorKind::Corrupt, "the record is damaged");
    /// assert_eq!(damaged.damaged_key(), None);
    /// let key = Key::new("users/42")?;
    /// assert_eq!(damaged.for_key(&key).damaged_key(), Some(&key));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn damaged_key(&self) -> Option<&Key> {
        self.key().filter(|_| self.kind() == ErrorKind::Corrupt)
    }

    /// The error and its sources on one line, each once, for logs and terminals.
    pub fn chain(&self) -> String {
        chain_text(self)
    }
}

fn chain_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tier) = &self.0.tier {
            write!(f, "{tier}: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}")?;
            if let Some(key) = &self.0.key {
                write!(f, " {key:?}")?;
            }
            write!(f, ": ")?;
        } else if let Some(key) = &self.0.key {
            write!(f, "{key:?}: ")?;
        }
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        if let Some(outcome) = self.outcome() {
            f.write_str(match outcome {
                Outcome::NotApplied => " (nothing was written)",
                Outcome::Applied => " (the write took effect)",
                Outcome::Unknown => " (the write may have taken effect)",
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("operation", &self.0.operation)
            .field("tier", &self.0.tier)
            .field("key", &self.0.key)
            .field("outcome", &self.outcome())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The kind says what to do about it; the outcome of a write stays [`Outcome::Unknown`], since the error does not tell how
/// far the write came.
///
/// # Examples
/// ```
/// use std::io;
/// use tiered_core::{Error, ErrorKind, Outcome};
///
/// let error = Error::from(io::Error::from(io::ErrorKind::PermissionDenied));
/// assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::PermissionDenied, Outcome::Unknown));
/// ```
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
            Io::TimedOut => ErrorKind::TimedOut,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
            Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::Interrupted => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        };
        Self::new(kind, "an operation of the operating system failed").with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_one_line_and_its_source_once() {
        let key = Key::new("k").expect("valid");
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_source(std::io::Error::other("reset"))
            .during(Operation::Put)
            .in_tier("postgres")
            .in_tier("outer")
            .for_key(&key)
            .outcome_is(Outcome::Unknown);
        let line = "postgres: put \"k\": unavailable: no answer (the write may have taken effect)";
        assert_eq!(error.to_string(), line);
        assert_eq!(error.chain(), format!("{line}: reset"));
    }

    #[test]
    fn a_cloned_error_keeps_its_source() {
        let error = Error::from(io::Error::from(io::ErrorKind::StorageFull)).clone();
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        assert_eq!((error.kind(), error.write_outcome()), (ErrorKind::Full, Outcome::Unknown));
    }

    #[test]
    fn an_error_of_a_read_has_no_write_outcome() {
        let error = || Error::new(ErrorKind::TimedOut, "no answer").outcome_is(Outcome::Unknown);
        let read = error().during(Operation::List);
        assert_eq!((read.outcome(), read.request_outcome()), (None, Some(Outcome::Unknown)));
        assert!(!read.to_string().contains("write"), "{read}");
        assert_eq!(read.outcome_is(Outcome::NotApplied).outcome(), Some(Outcome::NotApplied));
        assert_eq!(error().during(Operation::Put).outcome(), Some(Outcome::Unknown));
        assert_eq!(error().during(Operation::Put).during(Operation::Load).outcome(), Some(Outcome::Unknown));
    }

    #[test]
    fn an_unfamiliar_write_error_has_an_unknown_outcome() {
        assert_eq!(Error::new(ErrorKind::Other, "?").write_outcome(), Outcome::Unknown);
        assert_eq!(Error::new(ErrorKind::PreconditionFailed, "?").write_outcome(), Outcome::NotApplied);
    }
}
