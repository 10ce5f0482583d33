//! Entries: a value and its metadata.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::attributes::Attributes;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind};
use crate::version::{Validator, Version};

/// CRC-32C (Castagnoli) of a whole value. It detects damage, not malice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u32);

impl Checksum {
    /// The checksum of `value`.
    pub fn of(value: &[u8]) -> Self {
        Self(crc32c::crc32c(value))
    }

    /// From a stored checksum.
    pub const fn from_u32(crc: u32) -> Self {
        Self(crc)
    }

    /// The CRC-32C.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Where an entry of a frontend comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A copy of what the backend has.
    #[default]
    Backend,
    /// Written locally under [`WritePolicy::FrontendOnly`](crate::WritePolicy::FrontendOnly).
    Local,
    /// Deleted locally under that policy: an empty entry that hides the backend's.
    Tombstone,
    /// The backend had no such entry: an empty one that spares asking again for a while.
    Absence,
    /// A part of what the backend has: the metadata of a large value without the value (a *stub*), or one of its blocks.
    Part,
}

impl Origin {
    /// Whether reads and listings hide the entry unless asked.
    pub const fn is_hidden(self) -> bool {
        matches!(self, Self::Tombstone | Self::Absence | Self::Part)
    }

    /// Whether the entry was made locally, and is not what the backend has.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Local | Self::Tombstone)
    }
}

/// The tiering engine's bookkeeping beside an entry of a frontend.
///
/// A store keeps it verbatim and gives it no meaning, but for [`Origin::is_hidden`], which reads and listings
/// hide unless asked ([`Metadata::is_visible`] does both that and expiry). It is no part of an entry's equality.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Note {
    /// The session of the tiered store in which the entry was last compared with the backend; 0 for none.
    pub session: u64,
    /// When it was, in milliseconds of that session's [uptime](crate::adapter::Clock::uptime).
    pub validated: u64,
    /// Where the entry comes from.
    pub origin: Origin,
    /// The backend's validator, where that is not the version itself.
    pub validator: Option<Validator>,
}

impl Note {
    /// The same note for an entry that comes from elsewhere.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::{Note, Origin};
    ///
    /// let note = Note::default().with_origin(Origin::Tombstone).with_session(7, 1_500);
    /// assert!(note.origin.is_hidden() && note.session == 7);
    /// ```
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// The same note, compared with the backend in `session`, at this uptime in milliseconds.
    #[must_use]
    pub fn with_session(mut self, session: u64, validated: u64) -> Self {
        (self.session, self.validated) = (session, validated);
        self
    }

    /// The same note with the backend's validator, or without one.
    #[must_use]
    pub fn with_validator(mut self, validator: Option<Validator>) -> Self {
        self.validator = validator;
        self
    }

    /// Whether it says nothing, as for an entry that no tiered store keeps.
    pub(crate) fn is_empty(&self) -> bool {
        self.session == 0 && self.validated == 0 && self.origin == Origin::Backend && self.validator.is_none()
    }
}

/// Everything about an entry but its value.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, ReadOptions, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("report", "many bytes").await?;
/// let metadata = store.head(&Key::new("report")?, &ReadOptions::new()).await?.expect("just written");
/// assert_eq!((metadata.size, metadata.expires_at), (10, None));
/// println!("version {}, written at {:?}", metadata.version, metadata.modified);
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// The write's identity.
    pub version: Version,
    /// The writer's clock when it was made.
    pub modified: Timestamp,
    /// From when on it does not exist any more.
    pub expires_at: Option<Timestamp>,
    /// The user's own pairs.
    pub attributes: Attributes,
    /// Size of the whole value, in bytes.
    pub size: u64,
    /// Checksum of the whole value. Every entry that was stamped has one, and so has every whole value that was read. Where
    /// metadata come without the value, it is absent if the store would have to read the value to know it: an object
    /// that another program wrote, or one that was streamed.
    pub checksum: Option<Checksum>,
    /// The engine's bookkeeping; no part of equality.
    pub note: Note,
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && self.modified == other.modified
            && self.expires_at == other.expires_at
            && self.attributes == other.attributes
            && self.size == other.size
            && self.checksum == other.checksum
    }
}

impl Eq for Metadata {}

/// Whether reads and listings see tombstones and noted absences. Only the tiering engine asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tombstones {
    /// A tombstone counts as absent.
    #[default]
    Hide,
    /// A tombstone is returned as the empty entry that it is.
    Show,
}

impl Metadata {
    /// Metadata of a value of `size` bytes, without expiry, attributes, checksum and note. For adapters that read what
    /// they have stored; a write is stamped ([`Stamp::entry`](crate::adapter::Stamp::entry)).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::Checksum;
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(7), Timestamp::from_millis(1_500), 5)
    ///     .with_expiry(Some(Timestamp::from_millis(9_000)))
    ///     .with_checksum(Some(Checksum::of(b"value")));
    /// assert!(metadata.is_live(Timestamp::from_millis(8_999)));
    /// assert!(!metadata.is_live(Timestamp::from_millis(9_000)));
    /// ```
    pub fn new(version: Version, modified: Timestamp, size: u64) -> Self {
        Self {
            version,
            modified,
            expires_at: None,
            attributes: Attributes::new(),
            size,
            checksum: None,
            note: Note::default(),
        }
    }

    /// With another time of modification.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Attributes, Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5)
    ///     .with_modified(Timestamp::from_millis(2_000))
    ///     .with_attributes(Attributes::new().with("lang", "en")?);
    /// assert_eq!(metadata.modified.as_millis(), 2_000);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_modified(mut self, modified: Timestamp) -> Self {
        self.modified = modified;
        self
    }

    /// With an expiry, or without one.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5);
    /// assert_eq!(metadata.clone().with_expiry(None), metadata);
    /// ```
    #[must_use]
    pub fn with_expiry(mut self, expires_at: Option<Timestamp>) -> Self {
        self.expires_at = expires_at;
        self
    }

    /// With these attributes.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Attributes, Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5)
    ///     .with_attributes(Attributes::new().with("lang", "en")?);
    /// assert_eq!(metadata.attributes.get("lang"), Some("en"));
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = attributes;
        self
    }

    /// With the checksum of the whole value, or without one.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::Checksum;
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5);
    /// assert!(metadata.with_checksum(Some(Checksum::of(b"value"))).checksum.is_some());
    /// ```
    #[must_use]
    pub fn with_checksum(mut self, checksum: Option<Checksum>) -> Self {
        self.checksum = checksum;
        self
    }

    /// With the engine's bookkeeping.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::{Note, Origin};
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let note = Note::default().with_origin(Origin::Local);
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5).with_note(note);
    /// assert!(metadata.note.origin.is_local());
    /// ```
    #[must_use]
    pub fn with_note(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    /// Whether both are of the same entry, as far as they tell: a checksum that one of them lacks says nothing.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Put;
    /// use tiered_core::adapter::Stamp;
    ///
    /// let entry = Stamp::system().entry(&Put::new("value"));
    /// let without = (**entry.metadata()).clone().with_checksum(None);
    /// assert!(without.agrees_with(entry.metadata()) && without != **entry.metadata());
    /// ```
    pub fn agrees_with(&self, other: &Self) -> bool {
        let told = self.checksum.is_some() && other.checksum.is_some();
        (!told || self.checksum == other.checksum)
            && self.version == other.version
            && self.modified == other.modified
            && self.expires_at == other.expires_at
            && self.attributes == other.attributes
            && self.size == other.size
    }

    /// Whether the entry exists at `now`: `now < expires_at`, and it is not [hidden](Origin::is_hidden).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let at = Timestamp::from_millis;
    /// let metadata = Metadata::new(Version::from_u128(1), at(1_000), 5).with_expiry(Some(at(2_000)));
    /// assert!(metadata.is_live(at(1_999)) && !metadata.is_live(at(2_000)));
    /// ```
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.is_visible(now, Tombstones::Hide)
    }

    /// Whether a read at `now` returns the entry. A hidden one is visible only where they are to be shown.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::adapter::{Note, Origin, Tombstones};
    /// use tiered_core::{Metadata, Timestamp, Version};
    ///
    /// let now = Timestamp::from_millis(1_000);
    /// let tombstone = Note::default().with_origin(Origin::Tombstone);
    /// let metadata = Metadata::new(Version::from_u128(1), now, 0).with_note(tombstone);
    /// assert!(metadata.is_visible(now, Tombstones::Show) && !metadata.is_visible(now, Tombstones::Hide));
    /// ```
    pub fn is_visible(&self, now: Timestamp, tombstones: Tombstones) -> bool {
        let expired = self.expires_at.is_some_and(|at| now >= at);
        let hidden = self.note.origin.is_hidden() && tombstones == Tombstones::Hide;
        !expired && !hidden
    }
}

/// A value and its metadata. Cloning copies two pointers and allocates nothing.
///
/// A range read returns a part of the value with the metadata of the whole; [`Entry::is_whole`] tells.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, StoreExt};
///
/// let store = MemoryStore::new();
/// store.set("greeting", "hello, world").await?;
/// let entry = store.get("greeting").await?.expect("just written");
/// assert_eq!(entry.value(), "hello, world");
/// assert_eq!(entry.metadata().size, entry.size());
///
/// // A part of the value. Its size is that of the whole.
/// let part = store.get_range("greeting", 0..5).await?.expect("just written");
/// assert!(!part.is_whole() && part.size() == 12);
/// assert_eq!(part.version(), entry.version());
/// assert_eq!(part.into_value(), "hello");
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    value: Bytes,
    metadata: Arc<Metadata>,
}

impl Entry {
    /// From a value (or a part of one) and the metadata of the whole.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use tiered_core::{Entry, Metadata, Timestamp, Version};
    ///
    /// let metadata = Metadata::new(Version::from_u128(1), Timestamp::from_millis(1_000), 5);
    /// let entry = Entry::from_parts("value".into(), Arc::new(metadata));
    /// assert!(entry.is_whole());
    /// ```
    pub fn from_parts(value: Bytes, metadata: Arc<Metadata>) -> Self {
        Self { value, metadata }
    }

    /// The value, or the part that was asked for.
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Takes the value out.
    pub fn into_value(self) -> Bytes {
        self.value
    }

    /// The metadata of the whole value.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// The write's identity.
    pub fn version(&self) -> &Version {
        &self.metadata.version
    }

    /// Size of the whole value, in bytes.
    pub fn size(&self) -> u64 {
        self.metadata.size
    }

    /// Whether the value is the whole and not a part of it.
    pub fn is_whole(&self) -> bool {
        self.value.len() as u64 == self.metadata.size
    }

    /// The same entry with other bookkeeping.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Put;
    /// use tiered_core::adapter::{Note, Origin, Stamp};
    ///
    /// let entry = Stamp::system().entry(&Put::new("value"));
    /// let local = entry.clone().with_note(Note::default().with_origin(Origin::Local));
    /// assert_eq!(local, entry, "a note is no part of equality");
    /// ```
    #[must_use]
    pub fn with_note(self, note: Note) -> Self {
        let metadata = Metadata { note, ..(*self.metadata).clone() };
        Self { value: self.value, metadata: Arc::new(metadata) }
    }

    /// The part of the value in `range`; metadata stay those of the whole.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] when the range begins beyond the value's or its own end.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tiered_core::{MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::new();
    /// store.set("greeting", "hello, world").await?;
    /// let entry = store.get("greeting").await?.expect("just written");
    /// assert_eq!(entry.slice(&(7..100))?.value(), "world");
    /// assert!(entry.slice(&(13..14)).is_err());
    /// # Ok::<(), tiered_core::Error>(()) }).unwrap();
    /// ```
    pub fn slice(&self, range: &Range<u64>) -> Result<Self, Error> {
        let clamped = clamp_range(range, self.size())?;
        let (start, end) = (usize::try_from(clamped.start), usize::try_from(clamped.end));
        match (start, end) {
            (Ok(start), Ok(end)) if end <= self.value.len() => {
                Ok(Self { value: self.value.slice(start..end), metadata: Arc::clone(&self.metadata) })
            }
            _ => Err(Error::new(ErrorKind::InvalidRange, "the range lies outside of the part at hand")),
        }
    }

    /// Compares the whole value with its size, and with its checksum where there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when they differ.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Put;
    /// use tiered_core::adapter::Stamp;
    ///
    /// let entry = Stamp::system().entry(&Put::new("value"));
    /// entry.verify()?;
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn verify(&self) -> Result<(), Error> {
        let matches = |checksum| Checksum::of(&self.value) == checksum;
        if self.is_whole() && self.metadata.checksum.is_none_or(matches) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            "the value does not match its checksum; restore it from another tier or a backup",
        ))
    }
}

/// A half-open range within a value of `size` bytes, with its end clamped to `size`.
///
/// # Errors
/// [`ErrorKind::InvalidRange`] when the start lies beyond the size or beyond the range's own end.
pub fn clamp_range(range: &Range<u64>, size: u64) -> Result<Range<u64>, Error> {
    if range.start > range.end || range.start > size {
        return Err(Error::new(
            ErrorKind::InvalidRange,
            format!("the range {}..{} does not fit a value of {size} bytes", range.start, range.end),
        ));
    }
    Ok(range.start..range.end.min(size))
}

impl fmt::Debug for Entry {
    // The value stays out: values do not belong into logs and errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("bytes", &self.value.len()).field("metadata", &self.metadata).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry in memory pays for them: a cache of small values is mostly metadata.
    #[test]
    fn metadata_take_96_bytes() {
        assert_eq!(size_of::<Metadata>(), 96);
        assert_eq!(size_of::<Entry>(), size_of::<Bytes>() + size_of::<usize>());
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<Timestamp>());
    }

    #[test]
    fn ranges_are_half_open_and_clamped() {
        assert_eq!(clamp_range(&(0..10), 4).expect("fits"), 0..4);
        assert_eq!(clamp_range(&(4..10), 4).expect("a start at the end is empty"), 4..4);
        assert!(clamp_range(&(5..10), 4).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let reversed = 3..2;
        assert!(clamp_range(&reversed, 4).is_err());
    }
}
