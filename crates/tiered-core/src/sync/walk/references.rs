//! What a value refers to.

use async_trait::async_trait;

use crate::entry::Entry;
use crate::error::Result;
use crate::key::Key;

/// What a value refers to.
///
/// A closure is one, and so is konserve's form, where one function is given the roots and answers all reachable keys: it
/// answers them for a root, and nothing for every other key.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::adapter::{Stamp, async_trait};
/// use tiered_core::sync::Walk;
/// use tiered_core::{Entry, Key, Put, Result};
///
/// /// Follows the keys that a value lists, one on a line.
/// struct Lines;
///
/// #[async_trait]
/// impl Walk for Lines {
///     async fn references(&self, _key: &Key, entry: &Entry) -> Result<Vec<Key>> {
///         String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
///     }
///
///     fn is_leaf(&self, key: &Key) -> bool {
///         key.as_str().starts_with("blobs/")
///     }
/// }
///
/// let entry = Stamp::system().entry(&Put::new("left\nright"));
/// assert_eq!(Lines.references(&Key::new("root")?, &entry).await?.len(), 2);
/// assert!(Lines.is_leaf(&Key::new("blobs/1")?));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Walk: Send + Sync {
    /// The keys that `entry`, found under `key`, refers to. Duplicates are harmless.
    ///
    /// # Errors
    /// Any error ends the branch: the entry is counted as failed and neither it nor its ancestors are copied.
    async fn references(&self, key: &Key, entry: &Entry) -> Result<Vec<Key>>;

    /// Whether what is under `key` never refers to anything. Such a value is read only to be copied, and a large one is
    /// streamed. By default `false`.
    fn is_leaf(&self, _key: &Key) -> bool {
        false
    }
}

#[async_trait]
impl<F> Walk for F
where
    F: Fn(&Key, &Entry) -> Result<Vec<Key>> + Send + Sync,
{
    async fn references(&self, key: &Key, entry: &Entry) -> Result<Vec<Key>> {
        self(key, entry)
    }
}
