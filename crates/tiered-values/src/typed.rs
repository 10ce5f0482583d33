//! Typed values over any store.

mod builder;
mod loaded;
mod loading;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tiered_core::adapter::Clock;
use tiered_core::{
    AsStore, Delete, Deleted, Entry, Expiry, Key, Put, Read, ReadOptions, Store, StoreExt as _, Written,
};

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::keys::{AnyKey, ToKey, TypedKey};
use crate::loads::Loads;
use crate::writer::{Decision, Ended, Writer};

pub use builder::{OnMismatch, TypedBuilder};
pub use loaded::Loaded;

/// Values of the type `T` over any store.
///
/// Each value is written with a record of its codec and schema version, the attribute
/// [`FORMAT_ATTRIBUTE`](crate::FORMAT_ATTRIBUTE). A value with another record is [`Error::Format`], or by choice a counted
/// miss ([`OnMismatch`]). A value that stands for nothing (`null`, `false`, an empty list) is a value, never a miss.
///
/// A hit in memory is a [`peek`](Store::peek) and the decoding; nothing else is allocated where the key is a
/// [`Key`] or short text. Cloning shares the handle.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use serde::{Deserialize, Serialize};
/// use tiered_core::MemoryStore;
/// use tiered_values::{Json, Typed};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct User {
///     name: String,
///     visits: u32,
/// }
///
/// let users = Typed::<User>::new(MemoryStore::new(), Json)?;
/// users.put("users/42", &User { name: "Ada".to_owned(), visits: 1 }).await?;
/// let (old, new) = users
///     .update("users/42", |user| match user {
///         Some(user) => User { name: user.name.clone(), visits: user.visits + 1 },
///         None => User { name: "unknown".to_owned(), visits: 1 },
///     })
///     .await?;
/// assert_eq!((old.map(|user| user.visits), new.visits), (Some(1), 2));
/// assert_eq!(users.get("users/42").await?, Some(new));
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
pub struct Typed<T, K = AnyKey> {
    inner: Arc<Inner<T>>,
    keys: PhantomData<fn(K) -> K>,
}

pub(crate) struct Inner<T> {
    store: Arc<dyn Store>,
    codec: Arc<dyn Codec<T>>,
    format: Format,
    on_mismatch: OnMismatch,
    expiry: Option<Box<ExpiryOf<T>>>,
    clock: Arc<dyn Clock>,
    writer: Writer,
    loads: Loads,
    counts: Counts,
}

type ExpiryOf<T> = dyn Fn(&T) -> Expiry + Send + Sync;

#[derive(Debug, Default)]
struct Counts {
    mismatches: AtomicU64,
    loads: AtomicU64,
    followers: AtomicU64,
    absent: AtomicU64,
    not_stored: AtomicU64,
}

/// What a [`Typed`] handle and its clones have counted.
///
/// # Examples
/// ```
/// use tiered_core::MemoryStore;
/// use tiered_values::{Json, Typed};
///
/// let users = Typed::<String>::new(MemoryStore::new(), Json)?;
/// assert_eq!(users.stats().loads, 0);
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedStats {
    /// Values of another format that were answered as absent.
    pub mismatches: u64,
    /// Loaders that were called.
    pub loads: u64,
    /// Readers that waited for the loader of another one.
    pub followers: u64,
    /// Readers that were answered by a remembered absence.
    pub absent: u64,
    /// Values that a loader gave and the store did not take. Their readers were answered all the same.
    pub not_stored: u64,
}

impl<T: Send + Sync + 'static> Typed<T> {
    /// Values in `store`, in this codec, of schema version 1.
    ///
    /// # Errors
    /// As [`TypedBuilder::build`].
    pub fn new(store: impl AsStore, codec: impl Codec<T>) -> Result<Self> {
        Self::builder(store, codec).build()
    }

    /// The same, with more to choose.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, OnMismatch, Typed};
    ///
    /// let users = Typed::<String>::builder(MemoryStore::new(), Json)
    ///     .schema(2)
    ///     .on_mismatch(OnMismatch::Miss)
    ///     .build()?;
    /// # drop(users);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub fn builder(store: impl AsStore, codec: impl Codec<T>) -> TypedBuilder<T> {
        TypedBuilder::new(store.into_store(), Arc::new(codec))
    }
}

impl<T: Send + Sync + 'static, K> Typed<T, K> {
    /// The same handle for keys of the kind `L`.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed, TypedKey, ordered};
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct UserId(u64);
    ///
    /// impl TypedKey for UserId {
    ///     const PREFIX: &'static str = "users/";
    ///     fn text(&self) -> String {
    ///         ordered::from_u64(self.0)
    ///     }
    ///     fn parse(text: &str) -> Option<Self> {
    ///         ordered::to_u64(text).map(Self)
    ///     }
    /// }
    ///
    /// let names: Typed<String, UserId> = Typed::new(MemoryStore::new(), Json)?.keyed();
    /// # drop(names);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    #[must_use]
    pub fn keyed<L: TypedKey>(self) -> Typed<T, L> {
        Typed { inner: self.inner, keys: PhantomData }
    }

    /// What is behind the handle, for the documents.
    #[cfg(feature = "documents")]
    pub(crate) fn inner(&self) -> &Inner<T> {
        &self.inner
    }

    /// The store below.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let users = Typed::<String>::new(MemoryStore::new(), Json)?;
    /// assert_eq!(users.store().capabilities().name(), "memory");
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// What was counted so far.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let users = Typed::<String>::new(MemoryStore::new(), Json)?;
    /// println!("{} values of an older schema were met", users.stats().mismatches);
    /// # Ok::<(), tiered_values::Error>(())
    /// ```
    pub fn stats(&self) -> TypedStats {
        let counts = &self.inner.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TypedStats {
            mismatches: read(&counts.mismatches),
            loads: read(&counts.loads),
            followers: read(&counts.followers),
            absent: read(&counts.absent),
            not_stored: read(&counts.not_stored),
        }
    }

    /// The value; `None` where there is none.
    ///
    /// # Errors
    /// Those of the store; [`Error::Format`] and [`Error::Decode`].
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let flags = Typed::<Option<bool>>::new(MemoryStore::new(), Json)?;
    /// flags.put("beta", &None).await?;
    /// assert_eq!(flags.get("beta").await?, Some(None));
    /// assert_eq!(flags.get("alpha").await?, None);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn get(&self, key: impl ToKey<K>) -> Result<Option<T>> {
        self.get_of(&*key.to_key()?).await
    }

    pub(crate) async fn get_of(&self, key: &Key) -> Result<Option<T>> {
        if let Some(entry) = self.inner.store.peek(key) {
            return self.inner.value(key, &entry);
        }
        self.inner.value_of(key, &self.inner.store.load(key, &ReadOptions::default()).await?)
    }

    /// The value as the authority has it, whatever the tiers before it hold.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let stock = Typed::<u32>::new(MemoryStore::new(), Json)?;
    /// assert_eq!(stock.get_authoritative("apples").await?, None);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn get_authoritative(&self, key: impl ToKey<K>) -> Result<Option<T>> {
        let key = key.to_key()?;
        self.inner.value_of(&key, &self.inner.store.load(&key, &ReadOptions::new().authoritative()).await?)
    }

    /// The values of several keys, one answer for each, in their order. A key that cannot be read fails alone.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::{Json, Typed};
    ///
    /// let store = std::sync::Arc::new(MemoryStore::new());
    /// let stock = Typed::<u32>::new(store.clone(), Json)?;
    /// stock.put("apples", &3).await?;
    /// store.set("pears", "not ours").await?;
    /// let answers = stock.get_many(["apples", "pears", "plums"]).await;
    /// assert_eq!(answers[0].as_ref().ok(), Some(&Some(3)));
    /// assert!(answers[1].is_err());
    /// assert_eq!(answers[2].as_ref().ok(), Some(&None));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn get_many<Q: ToKey<K>>(
        &self,
        keys: impl IntoIterator<Item = Q> + Send,
    ) -> Vec<Result<Option<T>>> {
        let asked: Vec<Result<Key>> =
            keys.into_iter().map(|key| key.to_key().map(std::borrow::Cow::into_owned)).collect();
        let valid: Vec<Key> = asked.iter().filter_map(|key| key.as_ref().ok().cloned()).collect();
        let mut reads = self.inner.store.get_many(&valid, &ReadOptions::default()).await.into_iter();
        let answer = |key: Result<Key>| {
            let key = key?;
            let missing = || Error::invalid("the store answered fewer keys than it was asked for");
            self.inner.value_of(&key, &reads.next().ok_or_else(missing)??)
        };
        asked.into_iter().map(answer).collect()
    }

    /// Writes the value. It replaces whatever is there, of any format.
    ///
    /// # Errors
    /// [`Error::Encode`], and those of a put.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    /// use tiered_values::{FORMAT_ATTRIBUTE, Json, Typed};
    ///
    /// let store = std::sync::Arc::new(MemoryStore::new());
    /// let stock = Typed::<u32>::new(store.clone(), Json)?;
    /// stock.put("apples", &3).await?;
    /// let entry = store.get("apples").await?.expect("just written");
    /// assert_eq!(entry.metadata().attributes.get(FORMAT_ATTRIBUTE), Some("json/1"));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn put(&self, key: impl ToKey<K>, value: &T) -> Result<Written> {
        let key = key.to_key()?;
        let put = self.inner.put_of(&key, value, None)?;
        let _guard = self.inner.loads.write(&key).await;
        Ok(self.inner.store.put(&key, put).await?)
    }

    /// Writes the value if there is none. Returns `false`, and writes nothing, where there is one, of any format.
    ///
    /// # Errors
    /// [`Error::Encode`], and those of a put. A lost answer is made good where the own write is found, else the outcome is
    /// [`Unknown`](tiered_core::Outcome::Unknown).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let names = Typed::<String>::new(MemoryStore::new(), Json)?;
    /// assert!(names.create("ada", &"Ada".to_owned()).await?);
    /// assert!(!names.create("ada", &"Adele".to_owned()).await?);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn create(&self, key: impl ToKey<K>, value: &T) -> Result<bool> {
        let key = key.to_key()?;
        let put = self.inner.put_of(&key, value, None)?.if_absent();
        let _guard = self.inner.loads.write(&key).await;
        Ok(self.inner.writer.put(&key, put).await? == Ended::Applied)
    }

    /// Deletes the value, of any format. It tells whether there was one.
    ///
    /// # Errors
    /// Those of a delete.
    ///
    /// # Cancel safety
    /// As a delete: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Existed, MemoryStore};
    /// use tiered_values::{Json, Typed};
    ///
    /// let names = Typed::<String>::new(MemoryStore::new(), Json)?;
    /// assert_eq!(names.remove("ada").await?.existed, Existed::No);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn remove(&self, key: impl ToKey<K>) -> Result<Deleted> {
        let key = key.to_key()?;
        let _guard = self.inner.loads.write(&key).await;
        Ok(self.inner.store.delete(&key, Delete::new().report_existed()).await?)
    }

    /// Replaces the value by `change` of the authoritative one. Returns the value before and after.
    ///
    /// `change` runs once for each attempt and takes effect once: each attempt is conditional on the version that it read.
    /// Attributes stay. So does the expiry, unless the handle [sets one](TypedBuilder::expiry).
    ///
    /// # Errors
    /// * [`Error::Contended`] where other writers came first in all [attempts](TypedBuilder::max_attempts).
    /// * [`Error::Format`] where the value is of another format, unless that counts as a miss: then `change` is given
    ///   `None`, and replaces it.
    /// * An error with [`Outcome::Unknown`](tiered_core::Outcome::Unknown) where the answer to a write was lost and
    ///   another write has replaced what was there: it cannot be told whether this one came before. It is never applied
    ///   twice.
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let counts = Typed::<u64>::new(MemoryStore::new(), Json)?;
    /// assert_eq!(counts.update("visits", |old| old.unwrap_or(&0) + 1).await?, (None, 1));
    /// assert_eq!(counts.update("visits", |old| old.unwrap_or(&0) + 1).await?, (Some(1), 2));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn update<F>(&self, key: impl ToKey<K>, mut change: F) -> Result<(Option<T>, T)>
    where
        F: FnMut(Option<&T>) -> T + Send,
    {
        let key = key.to_key()?;
        let inner = &self.inner;
        let decide = |entry: Option<&Entry>| {
            let old = entry.map_or(Ok(None), |entry| inner.value(&key, entry))?;
            let new = change(old.as_ref());
            Ok((Decision::Put(inner.put_of(&key, &new, entry)?), (old, new)))
        };
        inner.change(&key, decide).await
    }

    /// As [`update`](Self::update), where `change` may also leave the value as it is, by `None`. Then the value after is
    /// `None`, and nothing was written.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As a put: dropping it leaves the outcome unknown.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed};
    ///
    /// let stock = Typed::<u32>::new(MemoryStore::new(), Json)?;
    /// stock.put("apples", &1).await?;
    /// let sell = |left: Option<&u32>| left.and_then(|left| left.checked_sub(1));
    /// assert_eq!(stock.update_if("apples", sell).await?, (Some(1), Some(0)));
    /// assert_eq!(stock.update_if("apples", sell).await?, (Some(0), None));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn update_if<F>(&self, key: impl ToKey<K>, mut change: F) -> Result<(Option<T>, Option<T>)>
    where
        F: FnMut(Option<&T>) -> Option<T> + Send,
    {
        let key = key.to_key()?;
        let inner = &self.inner;
        let decide = |entry: Option<&Entry>| {
            let old = entry.map_or(Ok(None), |entry| inner.value(&key, entry))?;
            let Some(new) = change(old.as_ref()) else { return Ok((Decision::Keep, (old, None))) };
            Ok((Decision::Put(inner.put_of(&key, &new, entry)?), (old, Some(new))))
        };
        inner.change(&key, decide).await
    }
}

impl<T: Send + Sync + 'static, K: TypedKey> Typed<T, K> {
    /// All keys of the kind, in the order of their texts. Takes memory for all of them.
    ///
    /// # Errors
    /// Those of a listing; [`Error::Invalid`] where a key begins with the prefix and is none of the kind.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{Json, Typed, TypedKey, ordered};
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct UserId(u64);
    ///
    /// impl TypedKey for UserId {
    ///     const PREFIX: &'static str = "users/";
    ///     fn text(&self) -> String {
    ///         ordered::from_u64(self.0)
    ///     }
    ///     fn parse(text: &str) -> Option<Self> {
    ///         ordered::to_u64(text).map(Self)
    ///     }
    /// }
    ///
    /// let names = Typed::<String>::new(MemoryStore::new(), Json)?.keyed::<UserId>();
    /// for id in [10, 9] {
    ///     names.put(UserId(id), &"Ada".to_owned()).await?;
    /// }
    /// assert_eq!(names.keys().await?, [UserId(9), UserId(10)]);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn keys(&self) -> Result<Vec<K>> {
        self.inner.store.keys(K::PREFIX).await?.iter().map(K::of).collect()
    }
}

impl<T: 'static> Inner<T> {
    /// The value of an entry; `None` where it is of another format and that counts as a miss.
    pub(crate) fn value(&self, key: &Key, entry: &Entry) -> Result<Option<T>> {
        if !self.format.is_of(entry.metadata()) {
            if self.on_mismatch == OnMismatch::Fail {
                return Err(self.format.mismatch(key, entry.metadata()));
            }
            self.counts.mismatches.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        self.decode(key, entry.value()).map(Some)
    }

    fn value_of(&self, key: &Key, read: &Read) -> Result<Option<T>> {
        read.entry().map_or(Ok(None), |entry| self.value(key, entry))
    }

    /// Carries out what `decide` makes of the authoritative entry; see [`Writer::update`].
    pub(crate) async fn change<D, F>(&self, key: &Key, decide: F) -> Result<D>
    where
        D: Send,
        F: FnMut(Option<&Entry>) -> Result<(Decision, D)> + Send,
    {
        let _guard = self.loads.write(key).await;
        self.writer.update(key, decide).await
    }

    fn decode(&self, key: &Key, bytes: &Bytes) -> Result<T> {
        self.codec.decode(bytes).map_err(|error| Error::decode(key, error))
    }

    /// The put of a value in place of `old`.
    pub(crate) fn put_of(&self, key: &Key, value: &T, old: Option<&Entry>) -> Result<Put> {
        let bytes = self.codec.encode(value).map_err(|error| Error::encode(key, error))?;
        let put = match old {
            Some(old) => Put::replacing(old, bytes),
            None => Put::new(bytes),
        };
        let mut put = put.attributes(self.format.attributes(old)?);
        if let Some(expiry) = &self.expiry {
            put.expiry = expiry(value);
        }
        Ok(put)
    }
}

impl<T, K> Clone for Typed<T, K> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), keys: PhantomData }
    }
}

impl<T, K> fmt::Debug for Typed<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed")
            .field("store", &self.inner.store)
            .field("format", &self.inner.format)
            .finish_non_exhaustive()
    }
}
