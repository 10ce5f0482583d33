//! Capabilities: what a store declares about itself, as data.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::batch::Action;
use crate::key::Key;
use crate::version::Precondition;

/// Something that a store can do, or a property that it has. Absent means: it refuses, or does not promise.
///
/// # Examples
/// ```
/// use tiered_core::{Feature, MemoryStore, Store};
///
/// let store = MemoryStore::new();
/// assert!(store.capabilities().has(Feature::AtomicBatch));
/// for feature in Feature::ALL.iter().filter(|feature| !store.capabilities().has(**feature)) {
///     println!("memory does not declare {feature:?}");
/// }
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum Feature {
    /// Preconditions on puts are judged atomically with the write.
    ConditionalPut,
    /// Preconditions on deletes are judged atomically with the delete.
    ConditionalDelete,
    /// Batches are all-or-nothing, also under a crash.
    AtomicBatch,
    /// Entries keep version, time, expiry and attributes verbatim.
    KeepsMetadata,
    /// Entries keep the engine's [`Note`](crate::adapter::Note) verbatim, and tombstones are hidden. Required of a frontend.
    /// A tiered store lacks it, since the notes in its own frontend are its own.
    KeepsNotes,
    /// Marks can be stored ([`Store::mark`](crate::Store::mark)).
    KeepsMarks,
    /// Entries may vanish at any time without an error, to make room. A read returns the last value or nothing. So does a
    /// tiered store that reads its frontend alone, over a backend that others write to as well.
    Evicts,
    /// [`Store::peek`](crate::Store::peek) answers: a memory tier.
    Peeks,
    /// Listings carry full metadata for free.
    ListsMetadata,
    /// Listings hide expired entries. Without it only reads do.
    ListsExpiry,
    /// Two different writes never share a validator.
    UniqueValidators,
    /// Damage of stored data is detected and reported, never returned as data.
    DetectsCorruption,
    /// [`Store::changes`](crate::Store::changes) yields what others wrote.
    Changes,
    /// A version can come back with other bytes: it is made of a time and a size, say. Range reads of large values leave no
    /// blocks behind then. A store whose versions are written with its entries never declares it.
    RepeatsVersions,
    /// Listings may lack keys that reads find. A tiered store declares it where its frontend lists: under the write policy or
    /// the read policy `frontend-only`. An adapter never does.
    PartialListings,
}

impl Feature {
    /// Every feature.
    pub const ALL: &[Self] = &[
        Self::ConditionalPut,
        Self::ConditionalDelete,
        Self::AtomicBatch,
        Self::KeepsMetadata,
        Self::KeepsNotes,
        Self::KeepsMarks,
        Self::Evicts,
        Self::Peeks,
        Self::ListsMetadata,
        Self::ListsExpiry,
        Self::UniqueValidators,
        Self::DetectsCorruption,
        Self::Changes,
        Self::RepeatsVersions,
        Self::PartialListings,
    ];
}

/// What survives what, once a write is acknowledged.
///
/// # Examples
/// ```
/// use tiered_core::{Durability, MemoryStore, Store};
///
/// // Ordered from what survives least.
/// assert!(Durability::Volatile < Durability::ProcessKill && Durability::ProcessKill < Durability::PowerLoss);
/// assert_eq!(MemoryStore::new().capabilities().durability(), Durability::Volatile);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Gone with the process.
    Volatile,
    /// Survives the end of the process through a clean close only.
    CleanClose,
    /// Survives a killed process, not a loss of power.
    ProcessKill,
    /// Survives a loss of power.
    PowerLoss,
}

/// Who else can write to the place while it is open.
///
/// # Examples
/// ```
/// use tiered_core::{MemoryStore, Sharing, Store};
///
/// assert_eq!(MemoryStore::new().capabilities().sharing(), Sharing::Exclusive);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// No one: it lives in this process, or a file lock keeps others out.
    Exclusive,
    /// Other processes, at any time.
    Shared,
}

/// What a store declares about itself. It must be true: the conformance suite checks it, `build()` relies on it.
///
/// # Examples
/// ```
/// use tiered_core::{Capabilities, Durability, Feature, Sharing};
///
/// let memory = Capabilities::new("memory", Durability::Volatile, Sharing::Exclusive)
///     .with(Feature::ConditionalPut)
///     .with_max_value(1 << 20);
/// assert!(memory.has(Feature::ConditionalPut));
/// assert!(!memory.has(Feature::AtomicBatch));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Capabilities {
    name: Cow<'static, str>,
    features: u32,
    durability: Durability,
    sharing: Sharing,
    max_key: usize,
    max_value: u64,
    request_lifetime: Duration,
}

/// # Examples
/// ```
/// use std::time::Duration;
/// use tiered_core::{Capabilities, Durability, Feature, Key, Precondition, Put, Sharing};
///
/// // What an adapter declares, and how it keeps to it.
/// let server = Capabilities::new("server", Durability::PowerLoss, Sharing::Shared)
///     .with(Feature::ConditionalPut)
///     .with_max_key(512)
///     .with_max_value(1 << 20)
///     .with_request_lifetime(Duration::from_secs(10));
/// server.check_key(&Key::new("users/42")?)?;
/// server.check_value(3)?;
/// server.check_precondition(&Precondition::Absent, Feature::ConditionalPut)?;
/// server.check_action(&Key::new("users/42")?, &Put::new("Ada").if_absent().into())?;
/// assert!(server.require(Feature::AtomicBatch).is_err());
///
/// // What a user reads.
/// assert_eq!((server.name(), server.sharing(), server.durability()), ("server", Sharing::Shared, Durability::PowerLoss));
/// assert_eq!((server.max_key(), server.max_value()), (512, 1 << 20));
/// assert_eq!(server.request_lifetime(), Duration::from_secs(10));
///
/// // What a wrapper changes.
/// let wrapper = server.named("wrapped").without(Feature::ConditionalPut).with_sharing(Sharing::Exclusive);
/// assert!(!wrapper.has(Feature::ConditionalPut));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Capabilities {
    /// The default [`max_value`](Capabilities::max_value): 1 GiB. It guards memory, since values move as a whole;
    /// raise it where machines are large, lower it where keys come from strangers.
    pub const DEFAULT_MAX_VALUE: u64 = 1 << 30;

    /// A store named `name` (a short noun such as `redb`, shown in errors) without any feature.
    pub fn new(name: impl Into<Cow<'static, str>>, durability: Durability, sharing: Sharing) -> Self {
        Self {
            name: name.into(),
            features: 0,
            durability,
            sharing,
            max_key: Key::MAX_LEN,
            max_value: Self::DEFAULT_MAX_VALUE,
            request_lifetime: Duration::ZERO,
        }
    }

    /// With `feature`.
    #[must_use]
    pub fn with(mut self, feature: Feature) -> Self {
        self.features |= 1 << feature as u32;
        self
    }

    /// Without `feature`.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.features &= !(1 << feature as u32);
        self
    }

    /// With another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// With another durability: what a wrapper declares that keeps more or less than the store inside.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Durability, MemoryStore, Sharing, Store};
    ///
    /// let inner = MemoryStore::new();
    /// let wrapper = inner.capabilities().clone().named("server").with_sharing(Sharing::Shared);
    /// assert_eq!(wrapper.durability(), Durability::Volatile);
    /// assert_eq!(wrapper.with_durability(Durability::PowerLoss).sharing(), Sharing::Shared);
    /// ```
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// With other writers, or without: what a wrapper declares that shares what the store inside keeps to itself, or
    /// the other way round.
    #[must_use]
    pub fn with_sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// With a longest key, in bytes; at most [`Key::MAX_LEN`].
    #[must_use]
    pub fn with_max_key(mut self, bytes: usize) -> Self {
        self.max_key = bytes.min(Key::MAX_LEN);
        self
    }

    /// With a largest value, in bytes.
    #[must_use]
    pub fn with_max_value(mut self, bytes: u64) -> Self {
        self.max_value = bytes;
        self
    }

    /// With the longest time that a request can still take effect after its call returned
    /// [`Outcome::Unknown`](crate::Outcome::Unknown). Zero (the default) where nothing goes on after the call.
    #[must_use]
    pub fn with_request_lifetime(mut self, lifetime: Duration) -> Self {
        self.request_lifetime = lifetime;
        self
    }

    /// Whether the store has `feature`.
    pub const fn has(&self, feature: Feature) -> bool {
        self.features & (1 << feature as u32) != 0
    }

    /// The store's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What survives what.
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// Who else can write.
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Longest key, in bytes.
    pub const fn max_key(&self) -> usize {
        self.max_key
    }

    /// Largest value, in bytes.
    pub const fn max_value(&self) -> u64 {
        self.max_value
    }

    /// Longest time for which an unknown write can still take effect.
    pub const fn request_lifetime(&self) -> Duration {
        self.request_lifetime
    }

    /// Refuses a key that is too long for this store.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`](crate::ErrorKind::InvalidKey).
    pub fn check_key(&self, key: &Key) -> crate::Result<()> {
        if key.len() <= self.max_key {
            return Ok(());
        }
        let message =
            format!("the key has {} bytes; the limit of {} is {}", key.len(), self.name, self.max_key);
        Err(crate::Error::new(crate::ErrorKind::InvalidKey, message))
    }

    /// Refuses a value that is too large for this store.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge), with [`Outcome::NotApplied`](crate::Outcome).
    pub fn check_value(&self, size: u64) -> crate::Result<()> {
        if size <= self.max_value {
            return Ok(());
        }
        let message = format!(
            "the value has {size} bytes; the limit of {} is {}; raise max_value or split it",
            self.name, self.max_value
        );
        Err(crate::Error::new(crate::ErrorKind::TooLarge, message).outcome_is(crate::Outcome::NotApplied))
    }

    /// Refuses a write that this store cannot carry out: its key, the size of its value, its precondition.
    ///
    /// # Errors
    /// As [`check_key`](Self::check_key), [`check_value`](Self::check_value) and
    /// [`check_precondition`](Self::check_precondition).
    pub fn check_action(&self, key: &Key, action: &Action) -> crate::Result<()> {
        self.check_key(key)?;
        match action {
            Action::Put(put) => {
                self.check_value(put.value.len() as u64)?;
                self.check_precondition(&put.precondition, Feature::ConditionalPut)
            }
            Action::Delete(delete) => {
                self.check_precondition(&delete.precondition, Feature::ConditionalDelete)
            }
        }
    }

    /// Refuses a precondition that the store cannot judge. `conditional` is [`Feature::ConditionalPut`] for a put,
    /// [`Feature::ConditionalDelete`] for a delete.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with [`Outcome::NotApplied`](crate::Outcome).
    pub fn check_precondition(&self, precondition: &Precondition, conditional: Feature) -> crate::Result<()> {
        match precondition {
            Precondition::None => Ok(()),
            Precondition::Absent | Precondition::Matches(_) => self.require(conditional),
            Precondition::Damaged => {
                self.require(conditional)?;
                self.require(Feature::DetectsCorruption)
            }
        }
    }

    /// Refuses an operation that needs `feature` where the store lacks it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), with [`Outcome::NotApplied`](crate::Outcome).
    pub fn require(&self, feature: Feature) -> crate::Result<()> {
        if self.has(feature) {
            return Ok(());
        }
        let message = format!("{} does not declare {feature:?}", self.name);
        Err(crate::Error::new(crate::ErrorKind::Unsupported, message).outcome_is(crate::Outcome::NotApplied))
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features: Vec<_> = Feature::ALL.iter().filter(|feature| self.has(**feature)).collect();
        f.debug_struct("Capabilities")
            .field("name", &self.name)
            .field("features", &features)
            .field("durability", &self.durability)
            .field("sharing", &self.sharing)
            .field("max_key", &self.max_key)
            .field("max_value", &self.max_value)
            .field("request_lifetime", &self.request_lifetime)
            .finish()
    }
}
