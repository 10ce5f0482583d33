//! Whether a store may write.

use tiered_core::{Error, ErrorKind, Outcome, Result};

/// How the files of a store are opened.
///
/// # Examples
/// ```
/// assert_eq!(tiered_embedded::Access::default(), tiered_embedded::Access::ReadWrite);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// For reading and writing.
    #[default]
    ReadWrite,
    /// For reading only: nothing is created or changed, and every write is refused with
    /// [`ErrorKind::PermissionDenied`]. The files may be write-protected or on a read-only mount.
    ReadOnly,
}

impl Access {
    /// Refuses a write where only reading is allowed.
    pub(crate) fn check_write(self) -> Result<()> {
        match self {
            Self::ReadWrite => Ok(()),
            Self::ReadOnly => {
                let message = "the store is open for reading only; open it with read-write access";
                Err(Error::new(ErrorKind::PermissionDenied, message).outcome_is(Outcome::NotApplied))
            }
        }
    }
}
