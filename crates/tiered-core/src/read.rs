//! What a read asks for and what it returns.

use std::ops::Range;
use std::time::Duration;

use crate::entry::{Entry, Metadata, Tombstones};
use crate::error::Result;
use crate::policy::Freshness;
use crate::version::{Validator, Version};

/// An entry that the reader has already.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, Known, Lookup, MemoryStore, ReadOptions, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("config", "v1").await?;
/// let entry = store.get("config").await?.expect("just written");
/// // Asks again, without moving the value if it is unchanged.
/// let options = ReadOptions::new().unless(Known::of(&entry));
/// assert_eq!(store.load(&Key::new("config")?, &options).await?.lookup, Lookup::Unchanged);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Known {
    /// Its version.
    pub version: Version,
    /// Its validator, where the backend gave one.
    pub validator: Option<Validator>,
}

impl Known {
    /// What is known of `entry`.
    pub fn of(entry: &Entry) -> Self {
        Self::from(&**entry.metadata())
    }
}

impl From<&Metadata> for Known {
    fn from(metadata: &Metadata) -> Self {
        Self { version: metadata.version.clone(), validator: metadata.note.validator.clone() }
    }
}

/// Of an entry of which the version alone is known: a backend whose validators are others compares more slowly.
impl From<Version> for Known {
    fn from(version: Version) -> Self {
        Self { version, validator: None }
    }
}

/// What a read asks for. [`ReadOptions::default`] asks for the whole entry, as fresh as the store's policy has it.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("file", "header, body").await?;
/// // The first bytes, from the backend.
/// let options = ReadOptions::new().authoritative().range(0..6);
/// let entry = store.load(&Key::new("file")?, &options).await?.into_entry().expect("just written");
/// assert_eq!(entry.value(), "header");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// How fresh it must be. A store without tiers below it is always authoritative.
    pub freshness: Freshness,
    /// Answer [`Lookup::Unchanged`] when the entry is still this one.
    pub unless: Option<Known>,
    /// Answer [`Lookup::Changed`] when the entry is not this one any more.
    pub if_version: Option<Known>,
    /// Only these bytes of the value, half-open, clamped at its end.
    pub range: Option<Range<u64>>,
    /// Whether tombstones are seen. For the tiering engine.
    pub tombstones: Tombstones,
}

impl ReadOptions {
    /// The default options.
    pub const fn new() -> Self {
        Self {
            freshness: Freshness::Cached,
            unless: None,
            if_version: None,
            range: None,
            tombstones: Tombstones::Hide,
        }
    }

    /// With another freshness.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tiered_core::{Freshness, ReadOptions};
    ///
    /// let options = ReadOptions::new().freshness(Freshness::MaxStale(Duration::from_secs(5)));
    /// assert_eq!(ReadOptions::new().authoritative().freshness, Freshness::Authoritative);
    /// ```
    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }

    /// From the authority, now.
    #[must_use]
    pub fn authoritative(self) -> Self {
        self.freshness(Freshness::Authoritative)
    }

    /// Answer [`Lookup::Unchanged`] when the entry is still `known`.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, Lookup, MemoryStore, ReadOptions, Store};
    ///
    /// let store = MemoryStore::new();
    /// let key = Key::new("config")?;
    /// let version = store.put(&key, "v1".into()).await?.version;
    /// let options = ReadOptions::new().unless(version.into());
    /// assert_eq!(store.load(&key, &options).await?.lookup, Lookup::Unchanged);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn unless(mut self, known: Known) -> Self {
        self.unless = Some(known);
        self
    }

    /// Answer [`Lookup::Changed`] when the entry is not `known` any more: for a part of a value that is to fit others.
    /// A [`Known`] with a validator lets a backend compare before it sends anything.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{Key, Lookup, MemoryStore, Put, ReadOptions, Store};
    ///
    /// let store = MemoryStore::new();
    /// let key = Key::new("k")?;
    /// let version = store.put(&key, Put::new("first")).await?.version;
    /// let rest = ReadOptions::new().range(1..5).if_version(version);
    /// assert_eq!(store.load(&key, &rest).await?.into_entry().expect("the same").value(), "irst");
    /// store.put(&key, Put::new("other")).await?;
    /// assert_eq!(store.load(&key, &rest).await?.lookup, Lookup::Changed);
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn if_version(mut self, known: impl Into<Known>) -> Self {
        self.if_version = Some(known.into());
        self
    }

    /// Whether [`if_version`](Self::if_version) asks for another version than this.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{ReadOptions, Version};
    ///
    /// let options = ReadOptions::new().if_version(Version::from_u128(1));
    /// assert!(options.excludes(&Version::from_u128(2)) && !options.excludes(&Version::from_u128(1)));
    /// ```
    pub fn excludes(&self, version: &Version) -> bool {
        self.if_version.as_ref().is_some_and(|known| known.version != *version)
    }

    /// Only these bytes of the value.
    #[must_use]
    pub fn range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// With tombstones seen or hidden.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::ReadOptions;
    /// use tiered_core::adapter::Tombstones;
    ///
    /// let options = ReadOptions::new().tombstones(Tombstones::Show);
    /// assert_eq!(options.tombstones, Tombstones::Show);
    /// ```
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }
}

/// The tier that answered.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, ReadOptions, Source, Store, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// store.set("users/42", "Ada").await?;
/// let read = store.load(&Key::new("users/42")?, &ReadOptions::new()).await?;
/// assert_eq!(read.source, Source::Frontend);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A store without tiers.
    Store,
    /// A tiered store's frontend.
    Frontend,
    /// A tiered store's backend.
    Backend,
    /// A write that is acknowledged and not yet in the backend.
    Pending,
}

/// What was found: an entry, or [`Slices`](crate::Slices) of one.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, Lookup, MemoryStore, ReadOptions, Store};
///
/// match MemoryStore::new().load(&Key::new("users/42")?, &ReadOptions::new()).await?.lookup {
///     Lookup::Found(entry) => println!("{} bytes", entry.size()),
///     Lookup::Absent => println!("no such user"),
///     Lookup::Unchanged | Lookup::Changed => unreachable!("only a conditional read answers this"),
/// }
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T = Entry> {
    /// A live entry.
    Found(T),
    /// The entry is still the one that the reader knows.
    Unchanged,
    /// There is a live entry, of another version than the one that was asked for.
    Changed,
    /// No live entry.
    Absent,
}

/// The answer to a read.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt, TieredStore};
///
/// let store = TieredStore::builder(MemoryStore::new(), MemoryStore::new()).build().await?;
/// store.set("price", "12").await?;
/// let read = store.load(&Key::new("price")?, &ReadOptions::new()).await?;
/// if read.stale {
///     println!("the backend is down; this is {:?} old", read.age);
/// }
/// assert_eq!(read.entry().expect("just written").value(), "12");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Read<T = Entry> {
    /// What was found.
    pub lookup: Lookup<T>,
    /// The tier that answered.
    pub source: Source,
    /// Time since the answer was compared with the authority, counted back from the beginning of this read; zero where the
    /// authority was asked for this read. A read that joined the load of another reader gets the time since that load was
    /// sent.
    pub age: Duration,
    /// Whether the answer is staler than was asked for (only where serving stale answers was chosen).
    pub stale: bool,
}

/// # Examples
/// ```
/// use tiered_core::adapter::Stamp;
/// use tiered_core::{Lookup, Put, Read, Source};
///
/// // For adapters and wrappers.
/// let entry = Stamp::system().entry(&Put::new("value"));
/// let read = Read::from_store(Lookup::Found(entry));
/// let size: Read<u64> = read.try_map(|entry| Ok(entry.size()))?;
/// assert_eq!(size, Read::fresh(Lookup::Found(5), Source::Store));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl<T> Read<T> {
    /// A fresh answer of a store without tiers.
    pub const fn from_store(lookup: Lookup<T>) -> Self {
        Self::fresh(lookup, Source::Store)
    }

    /// A fresh answer of `source`.
    pub const fn fresh(lookup: Lookup<T>, source: Source) -> Self {
        Self { lookup, source, age: Duration::ZERO, stale: false }
    }

    /// The same answer with something else made of what was found.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn try_map<U>(self, make: impl FnOnce(T) -> Result<U>) -> Result<Read<U>> {
        let Self { lookup, source, age, stale } = self;
        let lookup = match lookup {
            Lookup::Found(found) => Lookup::Found(make(found)?),
            Lookup::Unchanged => Lookup::Unchanged,
            Lookup::Changed => Lookup::Changed,
            Lookup::Absent => Lookup::Absent,
        };
        Ok(Read { lookup, source, age, stale })
    }

    /// The same answer of a read for something else, where nothing was found; an entry counts as changed.
    pub(crate) fn without_entry<U>(self) -> Read<U> {
        let Self { lookup, source, age, stale } = self;
        let lookup = match lookup {
            Lookup::Unchanged => Lookup::Unchanged,
            Lookup::Found(_) | Lookup::Changed => Lookup::Changed,
            Lookup::Absent => Lookup::Absent,
        };
        Read { lookup, source, age, stale }
    }
}

/// # Examples
/// ```
/// use tiered_core::adapter::Stamp;
/// use tiered_core::{Lookup, Put, Read, ReadOptions};
///
/// let entry = Stamp::system().entry(&Put::new("value"));
/// let read = Read::answer(Some(entry), &ReadOptions::new().range(0..3))?;
/// assert_eq!(read.entry().expect("found").value(), "val");
/// assert!(read.into_entry().is_some());
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Read {
    /// The answer to a read with `options` where `entry` is the live, whole entry. What an adapter that holds
    /// whole entries returns.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`](crate::ErrorKind::InvalidRange) when the range does not fit the value.
    pub fn answer(entry: Option<Entry>, options: &ReadOptions) -> crate::Result<Self> {
        let Some(entry) = entry else { return Ok(Self::from_store(Lookup::Absent)) };
        if options.excludes(entry.version()) {
            return Ok(Self::from_store(Lookup::Changed));
        }
        if options.unless.as_ref().is_some_and(|known| known.version == *entry.version()) {
            return Ok(Self::from_store(Lookup::Unchanged));
        }
        let entry = match &options.range {
            Some(range) => entry.slice(range)?,
            None => entry,
        };
        Ok(Self::from_store(Lookup::Found(entry)))
    }

    /// The entry, where one was found.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.lookup {
            Lookup::Found(entry) => Some(entry),
            Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
        }
    }

    /// Takes the entry, where one was found.
    pub fn into_entry(self) -> Option<Entry> {
        match self.lookup {
            Lookup::Found(entry) => Some(entry),
            Lookup::Unchanged | Lookup::Changed | Lookup::Absent => None,
        }
    }
}

/// What [`get_many`](crate::Store::get_many) answers: one result for each key, in the order asked.
///
/// # Examples
/// ```
/// use tiered_core::{MemoryStore, Put, Read, ReadOptions, Result, Store};
///
/// # async fn example() -> Result<()> {
/// let store = MemoryStore::new();
/// let keys = ["a".parse()?, "b".parse()?];
/// store.put(&keys[0], Put::new("1")).await?;
/// // Each key for itself, or all of them or the first error:
/// let reads = store.get_many(&keys, &ReadOptions::new()).await;
/// let reads: Vec<Read> = reads.into_iter().collect::<Result<_>>()?;
/// assert!(reads[0].entry().is_some() && reads[1].entry().is_none());
/// # Ok(()) }
/// ```
pub type Reads = Vec<Result<Read>>;
