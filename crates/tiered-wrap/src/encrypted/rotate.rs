//! Rewriting what is under an older key.

use futures_util::StreamExt as _;
use tiered_core::{
    Error, ErrorKind, Feature, Key, ListOptions, Operation, ReadOptions, Result, Store as _, adapter,
};

use super::Encrypted;

/// What [`Encrypted::rotate`] did.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_wrap::{Encrypted, EncryptionKey, Keys};
///
/// let store = Encrypted::new(MemoryStore::new(), Keys::new(EncryptionKey::new("2026", [2; 32])?))?;
/// store.set("users/42", "Ada").await?;
/// let rotated = store.rotate("users/").await?;
/// assert_eq!((rotated.current, rotated.rewritten), (1, 0));
/// if let Some(error) = &rotated.first_error {
///     println!("{} entries failed, the first: {}", rotated.failed, error.chain());
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Rotated {
    /// Entries that were written again.
    pub rewritten: u64,
    /// Entries under the current key already.
    pub current: u64,
    /// Entries that were replaced or deleted meanwhile. A writer with older keys may have left them under one of those.
    pub changed: u64,
    /// Entries that could not be read or written.
    pub failed: u64,
    /// The first failure.
    pub first_error: Option<Error>,
}

impl Encrypted {
    /// Writes every entry whose key begins with `prefix` again under the current key, where it is under another one. Each
    /// gets a new version. Time of modification, expiry and attributes stay.
    ///
    /// It may be interrupted and run again. Entries that are written meanwhile are left as they are. Remove the older key
    /// from the keys when a run reports neither `changed` nor `failed` entries. Rotate the store that holds the data, not the
    /// frontend of a stack: what a listing hides, such as the engine's note of a local delete, is not rotated. Clear such a
    /// frontend instead.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the store has no conditional writes; those of the provider and of the listing.
    /// What fails for one key is counted.
    ///
    /// # Cancel safety
    /// Dropping it leaves the write under way with an unknown outcome. Each entry is as before, or under the current key.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_wrap::{Encrypted, EncryptionKey, Keys};
    ///
    /// let (old, new) = (EncryptionKey::new("2025", [1; 32])?, EncryptionKey::new("2026", [2; 32])?);
    /// let inside = MemoryStore::new();
    /// Encrypted::new(inside.clone(), Keys::new(old.clone()))?.set("users/42", "Ada").await?;
    ///
    /// let rotated = Encrypted::new(inside.clone(), Keys::new(new.clone()).and(old))?.rotate("").await?;
    /// assert_eq!((rotated.rewritten, rotated.failed), (1, 0));
    /// let store = Encrypted::new(inside, Keys::new(new))?;
    /// assert_eq!(store.get("users/42").await?.expect("still there").value(), "Ada");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub async fn rotate(&self, prefix: &str) -> Result<Rotated> {
        self.capabilities().require(Feature::ConditionalPut)?;
        let current = self.0.codec().0.current().await?;
        let mut rotated = Rotated::default();
        let mut listing = self.list(ListOptions::new().prefix(prefix));
        while let Some(listed) = listing.next().await {
            let result = match listed {
                Ok(listed) => self.rotate_one(&listed.key, current.id()).await,
                Err(error) if error.damaged_key().is_some() => Err(error),
                Err(error) => return Err(error),
            };
            match result {
                Ok(Step::Rewritten) => rotated.rewritten += 1,
                Ok(Step::Current) => rotated.current += 1,
                Ok(Step::Changed) => rotated.changed += 1,
                Err(error) => {
                    rotated.failed += 1;
                    rotated.first_error.get_or_insert(error);
                }
            }
        }
        Ok(rotated)
    }

    async fn rotate_one(&self, key: &Key, current: &str) -> Result<Step> {
        let options = ReadOptions::new().authoritative();
        let failed = |error: Error| error.during(Operation::Load).for_key(key);
        let Some((_, head)) = self.0.open(key, &options).await.map_err(failed)? else {
            return Ok(Step::Changed);
        };
        if head.id() == current {
            return Ok(Step::Current);
        }
        let Some(entry) = self.load(key, &options).await?.into_entry() else { return Ok(Step::Changed) };
        let put = adapter::with_version(adapter::verbatim(&entry), self.0.stamp().versions().mint());
        match self.put(key, put.if_version(entry.version().clone())).await {
            Ok(_) => Ok(Step::Rewritten),
            Err(error) if error.kind() == ErrorKind::PreconditionFailed => Ok(Step::Changed),
            Err(error) => Err(error),
        }
    }
}

/// What became of one entry.
enum Step {
    Rewritten,
    Current,
    Changed,
}
