//! What a user chooses when a store is opened or destroyed.

#[cfg(doc)]
use crate::error::ErrorKind;

/// What to do where a store does not exist yet.
///
/// # Examples
/// ```
/// use tiered_core::Create;
///
/// /// A tool that reads must not make an empty store where a path is misspelt.
/// const TO_READ: Create = Create::Never;
/// assert_eq!(Create::default(), Create::IfAbsent);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Create it: a file, a folder, the tables and their schema. The folder that a file or folder is in must exist.
    #[default]
    IfAbsent,
    /// Fail with [`ErrorKind::NotFound`].
    Never,
    /// Create it, and fail with [`ErrorKind::AlreadyExists`] where there is one. Of two that create one place at the
    /// same time, one fails. Stores in memory are always new.
    New,
}

/// What becomes of acknowledged writes that only a journal has, where the journal is destroyed.
///
/// # Examples
/// ```
/// use tiered_core::Unflushed;
///
/// assert_eq!(Unflushed::default(), Unflushed::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unflushed {
    /// Destroy nothing while there are any, whether they wait or are parked.
    #[default]
    Refuse,
    /// Lose them.
    Discard,
}

/// When an embedded store counts a write as done.
///
/// # Examples
/// ```
/// use tiered_core::WriteDurability;
///
/// /// A cache can be filled again.
/// const OF_A_CACHE: WriteDurability = WriteDurability::Buffer;
/// assert_eq!(WriteDurability::default(), WriteDurability::Sync);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteDurability {
    /// When it is on disk.
    #[default]
    Sync,
    /// When the engine or the operating system has it in memory; the next flush writes it to disk. The adapter says what a
    /// killed process or a loss of power loses.
    Buffer,
}
