//! What is live: said by roots and a walk, or by a list.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use tiered_core::sync::Walk;
use tiered_core::{AsKey, Key};

use super::head::Horizon;
use crate::error::Result;

/// What a sweep takes for live.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::{KeepList, Live, Sweep};
///
/// let sweep = Sweep::new(MemoryStore::new())?;
/// let keep = KeepList::new(sweep.horizon().await?, ["a"])?;
/// sweep.dry_run(Live::Keep(&keep)).await?;
/// sweep.dry_run(&keep).await?; // The same.
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Live<'l> {
    /// What is reachable from roots, and the roots.
    Roots(&'l Roots),
    /// What is listed.
    Keep(&'l KeepList),
}

impl<'l> From<&'l Roots> for Live<'l> {
    fn from(roots: &'l Roots) -> Self {
        Self::Roots(roots)
    }
}

impl<'l> From<&'l KeepList> for Live<'l> {
    fn from(keep: &'l KeepList) -> Self {
        Self::Keep(keep)
    }
}

/// Roots, and how to find what they refer to. All roots must be named: an entry that another root refers to is garbage.
///
/// # Examples
/// ```
/// use tiered_core::{Entry, Key, Result};
/// use tiered_values::sweep::Roots;
///
/// // A value lists the keys that it refers to, one on a line.
/// let references = |_: &Key, entry: &Entry| -> Result<Vec<Key>> {
///     String::from_utf8_lossy(entry.value()).lines().map(Key::new).collect()
/// };
/// let roots = Roots::new(references).under("branches/").root("config")?.leaves_under("blobs/");
/// # drop(roots);
/// # Ok::<(), tiered_values::Error>(())
/// ```
#[derive(Clone)]
pub struct Roots {
    pub(super) walk: Arc<dyn Walk>,
    pub(super) keys: Vec<Key>,
    pub(super) prefixes: Vec<String>,
    /// Those of the prefixes under which there must be a root.
    pub(super) existing: Vec<String>,
    pub(super) leaves: Vec<String>,
}

impl Roots {
    /// No roots yet. `walk` says what an entry refers to. An error of it ends the run before anything is deleted.
    pub fn new(walk: impl Walk + 'static) -> Self {
        Self {
            walk: Arc::new(walk),
            keys: Vec::new(),
            prefixes: Vec::new(),
            existing: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// With this root, which must exist when a run begins. A root that may be created or deleted meanwhile is found
    /// [under a prefix](Self::under).
    ///
    /// # Errors
    /// [`InvalidKey`](tiered_core::ErrorKind::InvalidKey).
    pub fn root(mut self, key: impl AsKey) -> Result<Self> {
        self.keys.push(key.as_key()?.into_owned());
        Ok(self)
    }

    /// With all keys that begin with `prefix` as roots, those that are created during the run included. There may be none:
    /// [`SweepReport::prefixes_without_roots`](super::SweepReport::prefixes_without_roots) names such prefixes.
    #[must_use]
    pub fn under(mut self, prefix: impl Into<String>) -> Self {
        self.prefixes.push(prefix.into());
        self
    }

    /// As [`under`](Self::under), but a run ends with an error of the kind [`NotFound`](tiered_core::ErrorKind::NotFound),
    /// before anything is deleted, where no root is under `prefix`. It finds a prefix that is misspelled.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use std::sync::Arc;
    /// use tiered_core::{Entry, Key, MemoryStore, Result, StoreExt};
    /// use tiered_values::sweep::{Roots, Sweep};
    ///
    /// let store = Arc::new(MemoryStore::new());
    /// store.set("tags/1", "…").await?;
    /// store.set("branches/main", "…").await?;
    /// let references = |_: &Key, _: &Entry| -> Result<Vec<Key>> { Ok(Vec::new()) };
    /// let roots = Roots::new(references).under_existing("tags/").under_existing("branch/");
    /// let error = Sweep::new(store)?.run(&roots).await.expect_err("it is spelled branches/");
    /// assert!(error.to_string().contains("branch/"));
    /// # Ok::<(), tiered_values::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn under_existing(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        self.existing.push(prefix.clone());
        self.under(prefix)
    }

    /// Keys that begin with `prefix` refer to nothing. They are not read, unless they are roots. So they are not counted as
    /// missing where they do not exist. It saves reads and memory: declare all leaves.
    #[must_use]
    pub fn leaves_under(mut self, prefix: impl Into<String>) -> Self {
        self.leaves.push(prefix.into());
        self
    }

    pub(super) fn is_leaf(&self, key: &Key) -> bool {
        self.leaves.iter().any(|prefix| key.as_str().starts_with(prefix))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots")
            .field("keys", &self.keys)
            .field("prefixes", &self.prefixes)
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}

/// A list of everything that is live. It takes 16 bytes and some overhead for each key.
///
/// The [`Horizon`] is taken first, then the list is made. It holds everything that was reachable at a moment after the horizon
/// was taken. The list may be used for any number of runs: with an older horizon fewer entries are deleted, never more.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::MemoryStore;
/// use tiered_values::sweep::{KeepList, Sweep};
///
/// let sweep = Sweep::new(MemoryStore::new())?;
/// let horizon = sweep.horizon().await?;
/// let mut keep = KeepList::new(horizon, ["a", "b"])?;
/// for number in 0..1000 {
///     keep.insert(format!("parts/{number}"))?;
/// }
/// sweep.run(&keep).await?;
/// # Ok::<(), tiered_values::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct KeepList {
    pub(super) horizon: Horizon,
    pub(super) live: LiveSet,
}

impl KeepList {
    /// A list of these keys.
    ///
    /// # Errors
    /// [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where text is no key.
    pub fn new<K: AsKey>(horizon: Horizon, keys: impl IntoIterator<Item = K>) -> Result<Self> {
        let mut keep = Self { horizon, live: LiveSet::default() };
        for key in keys {
            keep.insert(key)?;
        }
        Ok(keep)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`InvalidKey`](tiered_core::ErrorKind::InvalidKey) where text is no key.
    pub fn insert(&mut self, key: impl AsKey) -> Result<()> {
        self.live.insert(&*key.as_key()?);
        Ok(())
    }
}

/// A set of keys by their fingerprints, of 128 bits under random keys.
#[derive(Default)]
pub(super) struct LiveSet {
    fingerprints: HashSet<u128>,
    hashers: [RandomState; 2],
}

impl LiveSet {
    fn fingerprint(&self, key: &Key) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        high << 64 | low
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, key: &Key) -> bool {
        self.fingerprints.insert(self.fingerprint(key))
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.fingerprints.contains(&self.fingerprint(key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }
}

impl fmt::Debug for LiveSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSet").field("keys", &self.fingerprints.len()).finish_non_exhaustive()
    }
}
