//! Values that are loaded from elsewhere where the store has none.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tiered_core::{Entry, Expiry, Key, Put, ReadOptions};

use super::{Inner, Loaded, OnMismatch, Typed};
use crate::error::{BoxError, Error, Result};
use crate::keys::ToKey;
use crate::loads::{Answer, Joined, Lead};
use crate::writer::is_refused;

/// What a load finds in the store.
enum Found {
    Value(Bytes),
    /// Nothing, or a value of another format that counts as nothing.
    Nothing(Option<Entry>),
}

impl<T: Send + Sync + 'static, K> Typed<T, K> {
    /// The value of the store, or else the one that `loader` gives, which is then stored.
    ///
    /// One loader of a key runs at a time in a handle and its clones; all readers of the key wait for it and get its answer.
    /// What it gave is stored only where the store still has nothing, so that it never replaces a newer write: where there
    /// is one, it is the answer. If this handle writes or removes the key while the loader runs, its readers are answered
    /// and nothing is stored.
    ///
    /// The loader must not ask for its own key: it would wait for itself.
    ///
    /// A value may [expire](Loaded::expires_in), and an absence may be [remembered](Loaded::remembered_for). An absence is
    /// `None` and never stored.
    ///
    /// # Errors
    /// * [`Error::Load`] for all readers of the load, where the loader fails or panics. The next caller loads again.
    /// * Those of reading the store. If the store does not take the value, the readers are answered and the
    ///   failure is [counted](crate::TypedStats::not_stored).
    ///
    /// # Cancel safety
    /// Dropping it does not stop the loader while another reader waits: the readers carry it on together. The last
    /// reader that goes away drops the loader where it is. The loader runs in the tasks of its readers; spawn what must
    /// not stop.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use tiered_core::MemoryStore;
    /// use tiered_values::{BoxError, Json, Loaded, Typed};
    ///
    /// async fn ask_the_registry() -> Result<Loaded<String>, BoxError> {
    ///     Ok(Loaded::value("Ada".to_owned()).expires_in(Duration::from_secs(60)))
    /// }
    ///
    /// let names = Typed::<String>::new(MemoryStore::new(), Json)?;
    /// assert_eq!(names.get_with("users/42", ask_the_registry).await?.as_deref(), Some("Ada"));
    /// assert_eq!(names.get("users/42").await?.as_deref(), Some("Ada"));
    /// assert_eq!(names.stats().loads, 1);
    ///
    /// // What the source does not have.
    /// let nothing = || async { Ok::<_, BoxError>(None::<String>) };
    /// assert_eq!(names.get_with("users/43", nothing).await?, None);
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    pub async fn get_with<F, Fut, L, E>(&self, key: impl ToKey<K>, loader: F) -> Result<Option<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<L, E>> + Send + 'static,
        L: Into<Loaded<T>> + Send + 'static,
        E: Into<BoxError> + Send + 'static,
    {
        let key = key.to_key()?;
        let inner = &self.inner;
        let read = match inner.store.peek(&key) {
            Some(entry) => Some(entry),
            None => inner.store.load(&key, &ReadOptions::default()).await?.into_entry(),
        };
        if let Some(entry) = read
            && let Some(value) = inner.value(&key, &entry)?
        {
            return Ok(Some(value));
        }
        let of_load = Arc::clone(inner);
        let joined = inner.loads.join(&key, inner.clock.uptime(), |lead| async move {
            let loader = async move || loader().await.map(Into::into).map_err(Into::into);
            of_load.lead(&lead, loader).await
        });
        let bytes = match joined {
            Joined::Absent => {
                inner.counts.absent.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            Joined::Leads(load) => load.await?,
            Joined::Follows(load) => {
                inner.counts.followers.fetch_add(1, Ordering::Relaxed);
                load.await?
            }
        };
        bytes.map(|bytes| inner.decode(&key, &bytes)).transpose()
    }
}

impl<T: 'static> Inner<T> {
    /// What the store has, for a load.
    fn found(&self, key: &Key, entry: Option<Entry>) -> Result<Found> {
        match entry {
            Some(entry) if self.format.is_of(entry.metadata()) => Ok(Found::Value(entry.into_value())),
            Some(entry) if self.on_mismatch == OnMismatch::Fail => {
                Err(self.format.mismatch(key, entry.metadata()))
            }
            entry => Ok(Found::Nothing(entry)),
        }
    }

    /// Carries out one load.
    async fn lead<Fut>(&self, lead: &Lead, loader: impl FnOnce() -> Fut) -> Answer
    where
        Fut: Future<Output = Result<Loaded<T>, BoxError>>,
    {
        let key = lead.key();
        // Another load may have ended between this reader's miss and its turn.
        let read = self.store.load(key, &ReadOptions::default()).await?;
        let old = match self.found(key, read.into_entry())? {
            Found::Value(bytes) => return Ok(Some(bytes)),
            Found::Nothing(old) => old,
        };
        self.counts.loads.fetch_add(1, Ordering::Relaxed);
        let answer = loader().await.map_err(|error| Error::load(key, error))?;
        let (value, expiry, remembered) = answer.into_parts();
        let Some(value) = value else {
            if let Some(ttl) = remembered {
                let now = self.clock.uptime();
                lead.remember_absence(now, now.saturating_add(ttl));
            }
            return Ok(None);
        };
        let put = self.put_loaded(key, &value, expiry, old.as_ref())?;
        drop(value);
        let bytes = put.value.clone();
        if !lead.begin_storing() {
            return Ok(Some(bytes));
        }
        match self.store.put(key, put).await {
            Ok(_) => Ok(Some(bytes)),
            // A newer write: it is the answer.
            Err(error) if is_refused(&error) => match self.found(key, self.writer.read(key).await?)? {
                Found::Value(newer) => Ok(Some(newer)),
                Found::Nothing(_) => Ok(Some(bytes)),
            },
            Err(_) => {
                self.counts.not_stored.fetch_add(1, Ordering::Relaxed);
                Ok(Some(bytes))
            }
        }
    }

    /// The put of a value that was loaded in place of `old`, which has another format, or of nothing.
    fn put_loaded(&self, key: &Key, value: &T, expiry: Option<Expiry>, old: Option<&Entry>) -> Result<Put> {
        let mut put = self.put_of(key, value, None)?;
        if let Some(expiry) = expiry {
            put.expiry = expiry;
        }
        Ok(match old {
            Some(old) => put.if_version(old.version().clone()),
            None => put.if_absent(),
        })
    }
}
