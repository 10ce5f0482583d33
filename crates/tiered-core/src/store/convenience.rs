//! What every store can do beyond the contract.

use std::ops::Range;

use futures_util::StreamExt as _;

use super::Store;
#[cfg(doc)]
use crate::capability::Feature;
use crate::entry::Entry;
use crate::error::{ErrorKind, Outcome, Result};
use crate::key::{AsKey, Key};
use crate::list::ListOptions;
use crate::read::ReadOptions;
use crate::write::{Put, Written};

/// The options of a plain read. One for all, so that the future of a read does not hold its own.
static PLAIN: ReadOptions = ReadOptions::new();

/// Conveniences over any [`Store`]. They take a [`Key`], or text that is one ([`AsKey`]).
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("users/42", "Ada").await?;
/// assert!(store.contains("users/42").await?);
/// assert_eq!(store.get("users/42").await?.expect("just written").value(), "Ada");
/// assert_eq!(store.get_range("users/42", 0..1).await?.expect("just written").value(), "A");
/// assert_eq!(store.keys("users/").await?.len(), 1);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub trait StoreExt: Store {
    /// The live entry: from memory where that is possible (then nothing is allocated), else by
    /// [`load`](Store::load).
    ///
    /// # Errors
    /// Those of [`load`](Store::load); [`ErrorKind::InvalidKey`] where text is no key.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// match store.get("users/42").await? {
    ///     Some(entry) => println!("{} bytes", entry.size()),
    ///     None => println!("no such user"),
    /// }
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn get(&self, key: impl AsKey) -> impl Future<Output = Result<Option<Entry>>> + Send {
        async move {
            let key = key.as_key()?;
            if let Some(entry) = self.peek(&key) {
                return Ok(Some(entry));
            }
            Ok(self.load(&key, &PLAIN).await?.into_entry())
        }
    }

    /// The bytes of `range` of the live entry's value; see `[read.range]`.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("film", "many bytes").await?;
    /// assert_eq!(store.get_range("film", 5..100).await?.expect("just written").value(), "bytes");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn get_range(
        &self,
        key: impl AsKey,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Entry>>> + Send {
        async move {
            let options = ReadOptions::new().range(range);
            Ok(self.load(&*key.as_key()?, &options).await?.into_entry())
        }
    }

    /// Whether a live entry exists.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// assert!(!MemoryStore::new().contains("users/42").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn contains(&self, key: impl AsKey) -> impl Future<Output = Result<bool>> + Send {
        async move { Ok(self.head(&*key.as_key()?, &ReadOptions::default()).await?.is_some()) }
    }

    /// Writes a value, or a [`Put`] with more than that.
    ///
    /// # Errors
    /// Those of [`put`](Store::put); [`ErrorKind::InvalidKey`] where text is no key.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, Put, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("greeting", "hello").await?;
    /// store.set("once", Put::new("value").if_absent()).await?;
    /// assert!(store.contains("greeting").await?);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn set(&self, key: impl AsKey, put: impl Into<Put>) -> impl Future<Output = Result<Written>> + Send {
        let put = put.into();
        async move { self.put(&*key.as_key()?, put).await }
    }

    /// Replaces the value by `change` of the authoritative one, retried until no other write came in between. Returns
    /// the entry before and the version after. `change` may run several times; it gives `None` to leave the
    /// entry as it is; what it found then is handed out beside it, as here.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the store lacks [`Feature::ConditionalPut`].
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// let key = Key::new("stock/apple")?;
    /// store.put(&key, Put::new("1")).await?;
    /// let mut sold_out = false;
    /// let (_, written) = store
    ///     .update(&key, |old| {
    ///         sold_out = old.is_none_or(|old| old.value() == "0");
    ///         // Keeps expiry and attributes.
    ///         old.filter(|_| !sold_out).map(|old| Put::replacing(old, "0"))
    ///     })
    ///     .await?;
    /// assert!(written.is_some() && !sold_out);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn update<F>(
        &self,
        key: impl AsKey,
        mut change: F,
    ) -> impl Future<Output = Result<(Option<Entry>, Option<Written>)>> + Send
    where
        F: FnMut(Option<&Entry>) -> Option<Put> + Send,
    {
        async move {
            let key = key.as_key()?;
            loop {
                let old = self.load(&key, &ReadOptions::new().authoritative()).await?.into_entry();
                let Some(put) = change(old.as_ref()) else { return Ok((old, None)) };
                let put = match &old {
                    Some(old) => put.if_version(old.version().clone()),
                    None => put.if_absent(),
                };
                match self.put(&key, put).await {
                    Ok(written) => return Ok((old, Some(written))),
                    Err(error)
                        if error.kind() == ErrorKind::PreconditionFailed
                            // It may have been our own write that another one replaced.
                            && error.write_outcome() == Outcome::NotApplied => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// All keys with `prefix`, in order. Takes memory for all of them: use [`list`](Store::list) for many.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("users/2", "Grace").await?;
    /// store.set("users/1", "Ada").await?;
    /// let keys = store.keys("users/").await?;
    /// assert_eq!(keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["users/1", "users/2"]);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn keys(&self, prefix: &str) -> impl Future<Output = Result<Vec<Key>>> + Send {
        let mut listing = self.list(ListOptions::new().prefix(prefix));
        async move {
            let mut keys = Vec::new();
            while let Some(listed) = listing.next().await {
                keys.push(listed?.key);
            }
            Ok(keys)
        }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}
