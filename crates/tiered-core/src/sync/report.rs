//! What a sync did.

use serde::{Deserialize, Serialize};

use super::target::Copied;
use crate::error::{Error, ErrorKind};
use crate::key::Key;

/// An entry that could not be handled.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
///
/// let report = sync(&MemoryStore::new(), &MemoryStore::new(), &FullSync, &SyncOptions::new()).await?;
/// for failure in &report.failures {
///     eprintln!("{}: {}", failure.key, failure.error);
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// The key.
    pub key: Key,
    /// The error and its causes.
    pub error: String,
}

/// What a sync did; a dry run counts what it would do. A sync that was resumed counts what the earlier runs did as well:
/// each key once, as if one run had settled them all.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::sync::{FullSync, SyncOptions, sync};
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let (source, target) = (MemoryStore::new(), MemoryStore::new());
/// source.set("a", "1").await?;
/// let report = sync(&source, &target, &FullSync, &SyncOptions::new()).await?;
/// assert_eq!((report.copied, report.bytes, report.failed), (1, 1, 0));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SyncReport {
    /// Keys that the source listed.
    pub listed_from: u64,
    /// Keys that the target listed, local entries of a frontend left out.
    pub listed_to: u64,
    /// Entries copied.
    pub copied: u64,
    /// Of those, entries that replaced damaged ones of the target.
    pub repaired: u64,
    /// Keys left as they were, including those that another process changed meanwhile.
    pub skipped: u64,
    /// Entries removed from the target.
    pub removed: u64,
    /// Entries that the source listed and no longer had when they were to be copied.
    pub vanished: u64,
    /// Entries that could not be read or written.
    pub failed: u64,
    /// Of those, entries that are damaged: at the source, which leaves the target's as it is, or at the target where the
    /// strategy does not replace it.
    pub damaged: u64,
    /// Bytes of the values copied.
    pub bytes: u64,
    /// The first failures, at most [`SyncReport::MAX_FAILURES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

impl SyncReport {
    /// How many failures a report describes.
    pub const MAX_FAILURES: usize = 10;

    /// The same without what failed.
    pub(super) fn without_failures(&self) -> Self {
        Self { failed: 0, damaged: 0, failures: Vec::new(), ..self.clone() }
    }

    pub(crate) fn count(&mut self, copied: Copied) {
        match copied {
            Copied::Done(bytes) => {
                self.copied += 1;
                self.bytes += bytes;
            }
            Copied::Vanished => self.vanished += 1,
            Copied::Overtaken | Copied::Same => self.skipped += 1,
        }
    }

    pub(crate) fn fail(&mut self, key: &Key, error: &Error) {
        self.failed += 1;
        self.damaged += u64::from(error.kind() == ErrorKind::Corrupt);
        if self.failures.len() < Self::MAX_FAILURES {
            self.failures.push(Failure { key: key.clone(), error: error.chain() });
        }
    }
}
