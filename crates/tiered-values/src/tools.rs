//! Small things over any store: prefixes, copies, expiry, attributes, writes that change nothing, many keys at once.

mod folders;

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use tiered_core::{
    AsKey, Attributes, Batch, Delete, Entry, Expiry, Key, ListOptions, Outcome, Put, ReadOptions, Result,
    Store, StoreExt as _, Written,
};

pub use folders::Child;

/// How many deletes go to the store at once.
const BATCH: usize = 256;

/// Small things that are put together from what every store has. They take a [`Key`], or text that is one ([`AsKey`]).
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
/// use tiered_values::StoreTools;
///
/// let store = MemoryStore::new();
/// store.set("users/1", "Ada").await?;
/// store.copy("users/1", "users/2").await?;
/// assert_eq!(store.delete_prefix("users/").await?, 2);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub trait StoreTools: Store {
    /// Deletes all keys that begin with `prefix`, and returns how many. It lists them and deletes them in batches: it is not
    /// atomic, and a key that is written meanwhile may stay or go.
    ///
    /// # Errors
    /// The first of the listing and of the deletes, each of which is carried out for itself. Call it again to go on.
    ///
    /// # Cancel safety
    /// Dropping it leaves some of the keys.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// for key in ["tmp/1", "tmp/2", "users/1"] {
    ///     store.set(key, "…").await?;
    /// }
    /// assert_eq!(store.delete_prefix("tmp/").await?, 2);
    /// assert_eq!(store.keys("").await?.len(), 1);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn delete_prefix(&self, prefix: &str) -> impl Future<Output = Result<u64>> + Send {
        let mut listing = self.list(ListOptions::new().prefix(prefix)).chunks(BATCH);
        async move {
            let mut deleted = 0;
            while let Some(listed) = listing.next().await {
                let mut batch = Batch::new().per_item();
                for listed in listed {
                    let key = match listed {
                        Ok(listed) => listed.key,
                        // A damaged entry is deleted as well.
                        Err(error) => match error.damaged_key() {
                            Some(key) => key.clone(),
                            None => return Err(error),
                        },
                    };
                    batch.push(key, Delete::new().into());
                }
                for outcome in self.apply(batch).await? {
                    outcome?;
                    deleted += 1;
                }
            }
            Ok(deleted)
        }
    }

    /// Copies the authoritative entry at `from` to `to`: value, attributes and expiry, as a write of its own. It replaces what is
    /// there. `None`: there is nothing at `from`.
    ///
    /// # Errors
    /// Those of a read and of a put.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("draft", "text").await?;
    /// assert!(store.copy("draft", "published").await?.is_some());
    /// assert_eq!(store.get("published").await?.expect("copied").value(), "text");
    /// assert!(store.copy("absent", "published").await?.is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn copy(&self, from: impl AsKey, to: impl AsKey) -> impl Future<Output = Result<Option<Written>>> + Send {
        async move {
            let (from, to) = (from.as_key()?, to.as_key()?);
            let read = self.load(&from, &ReadOptions::new().authoritative()).await?;
            match read.into_entry() {
                Some(entry) => {
                    let put = Put::replacing(&entry, entry.value().clone());
                    self.put(&to, put).await.map(Some)
                }
                None => Ok(None),
            }
        }
    }

    /// Changes when the entry stops existing. The value is written anew, on the condition that no other write came in between.
    /// `None`: there is no entry.
    ///
    /// # Errors
    /// Those of [`update`](tiered_core::StoreExt::update).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::{Expiry, MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("session", "…").await?;
    /// assert!(store.touch("session", Expiry::After(Duration::from_secs(60))).await?.is_some());
    /// assert!(store.get("session").await?.expect("there").metadata().expires_at.is_some());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn touch(&self, key: impl AsKey, expiry: Expiry) -> impl Future<Output = Result<Option<Written>>> + Send {
        async move {
            let touched = |entry: &Entry| {
                let mut put = Put::replacing(entry, entry.value().clone());
                put.expiry = expiry;
                put
            };
            Ok(self.update(key, |entry| entry.map(touched)).await?.1)
        }
    }

    /// Changes the attributes of the authoritative entry. Value and expiry stay: the value is written anew, on the condition that
    /// no other write came in between. `change` gets the attributes and may run several times. `None`: there is no entry, or the
    /// attributes are already so, and nothing was written.
    ///
    /// # Errors
    /// Those of `change`, and nothing was written. Those of [`update`](tiered_core::StoreExt::update).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("page", "text").await?;
    /// store.update_attributes("page", |attributes| attributes.with("lang", "en")).await?;
    /// let entry = store.get("page").await?.expect("there");
    /// assert_eq!((entry.value().as_ref(), entry.metadata().attributes.get("lang")), (&b"text"[..], Some("en")));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn update_attributes<F>(
        &self,
        key: impl AsKey,
        mut change: F,
    ) -> impl Future<Output = Result<Option<Written>>> + Send
    where
        F: FnMut(Attributes) -> Result<Attributes> + Send,
    {
        async move {
            let mut refused = None;
            let changed = |entry: &Entry| match change(entry.metadata().attributes.clone()) {
                Ok(attributes) if attributes == entry.metadata().attributes => None,
                Ok(attributes) => Some(Put::replacing(entry, entry.value().clone()).attributes(attributes)),
                Err(error) => {
                    refused = Some(error);
                    None
                }
            };
            let mut changed = changed;
            let (_, written) = self.update(key, |entry| entry.and_then(&mut changed)).await?;
            refused.map_or(Ok(written), |error| Err(error.outcome_is(Outcome::NotApplied)))
        }
    }

    /// Replaces all attributes of the authoritative entry, as [`update_attributes`](Self::update_attributes) does. Typed values
    /// and documents keep their format in an attribute: use `update_attributes` for them.
    ///
    /// # Errors
    /// Those of [`update`](tiered_core::StoreExt::update).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Attributes, MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("page", "text").await?;
    /// let attributes = Attributes::new().with("lang", "en")?;
    /// assert!(store.set_attributes("page", attributes.clone()).await?.is_some());
    /// assert!(store.set_attributes("page", attributes).await?.is_none(), "they are already so");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn set_attributes(
        &self,
        key: impl AsKey,
        attributes: Attributes,
    ) -> impl Future<Output = Result<Option<Written>>> + Send {
        self.update_attributes(key, move |_| Ok(attributes.clone()))
    }

    /// Lists one level: the keys that begin with `prefix` and have no `delimiter` behind it, and for all others what they have in
    /// common up to the first delimiter, each once. Everything comes in the order of bytes. It does not read all keys
    /// of a folder: after a few it goes on behind the folder. Memory is for a page.
    ///
    /// # Errors
    /// [`InvalidInput`](tiered_core::ErrorKind::InvalidInput) where the delimiter is empty; those of
    /// [`list`](tiered_core::Store::list). An error that [names a damaged key](tiered_core::Error::damaged_key) directly under the
    /// prefix stands in its place, and the listing goes on.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::TryStreamExt;
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::{Child, StoreTools};
    ///
    /// let store = MemoryStore::new();
    /// for key in ["docs/a", "docs/old/a", "docs/old/b", "docs/z", "other"] {
    ///     store.set(key, "…").await?;
    /// }
    /// let children: Vec<Child> = store.list_folder("docs/", "/").try_collect().await?;
    /// assert_eq!(children.len(), 3);
    /// assert_eq!(children[1], Child::Folder("docs/old/".to_owned()));
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn list_folder<'s>(
        &'s self,
        prefix: &str,
        delimiter: &str,
    ) -> Pin<Box<dyn Stream<Item = Result<Child>> + Send + 's>> {
        folders::list(self, prefix, delimiter)
    }

    /// Writes the put, unless the authoritative entry has this value, these attributes and, where the put sets one, this expiry:
    /// then nothing is written, and the answer is `None`. A put that expires so long after the write is always written. The put's
    /// own precondition is not used: the write is conditional on what was compared.
    ///
    /// # Errors
    /// Those of [`update`](tiered_core::StoreExt::update).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// assert!(store.put_if_changed("config", "a = 1").await?.is_some());
    /// assert!(store.put_if_changed("config", "a = 1").await?.is_none());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn put_if_changed(
        &self,
        key: impl AsKey,
        put: impl Into<Put>,
    ) -> impl Future<Output = Result<Option<Written>>> + Send {
        let put = put.into();
        async move {
            let is_same = |entry: &Entry| {
                let metadata = entry.metadata();
                let expiry = metadata.expires_at.map_or(Expiry::Never, Expiry::At);
                let as_asked = put.expiry == Expiry::Default || put.expiry == expiry;
                *entry.value() == put.value && metadata.attributes == put.attributes && as_asked
            };
            Ok(self.update(key, |entry| (!entry.is_some_and(is_same)).then(|| put.clone())).await?.1)
        }
    }

    /// The entries that exist, with their keys, in the order asked.
    ///
    /// # Errors
    /// The first of the reads.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("b", "1").await?;
    /// let found = store.get_existing(&[Key::new("a")?, Key::new("b")?]).await?;
    /// assert_eq!(found.len(), 1);
    /// assert_eq!(found[0].0.as_str(), "b");
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn get_existing(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<(Key, Entry)>>> + Send {
        async move {
            let reads = self.get_many(keys, &ReadOptions::default()).await;
            let found = keys
                .iter()
                .zip(reads)
                .map(|(key, read)| Ok(read?.into_entry().map(|entry| (key.clone(), entry))));
            found.filter_map(Result::transpose).collect()
        }
    }

    /// Whether each of the keys exists, in the order asked. No value is read.
    ///
    /// # Errors
    /// The first of the reads.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, MemoryStore, StoreExt};
    /// use tiered_values::StoreTools;
    ///
    /// let store = MemoryStore::new();
    /// store.set("b", "1").await?;
    /// assert_eq!(store.contains_many(&[Key::new("a")?, Key::new("b")?]).await?, [false, true]);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    fn contains_many(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<bool>>> + Send {
        async move {
            let reads = self.get_many(keys, &ReadOptions::new().range(0..0)).await;
            reads.into_iter().map(|read| Ok(read?.entry().is_some())).collect()
        }
    }
}

impl<S: Store + ?Sized> StoreTools for S {}
