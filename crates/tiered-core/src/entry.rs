//! Entries: a value and its metadata.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

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

/// A user's own name-value pairs beside a value.
///
/// Names match `[a-z0-9._-]{1,64}` and do not begin with `tiered-`. Names and values take [`Attributes::MAX_SIZE`]
/// bytes in all, as they are escaped in headers, where S3 keeps and limits them: a byte of a value that is neither a
/// printable ASCII character nor a single space counts three, a dot or an underscore of a name two. Cloning copies a
/// pointer. `Debug` shows the names alone: values may be personal data.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Option<Arc<BTreeMap<String, String>>>);

impl Attributes {
    /// Names and values in all, in bytes: S3 takes 2,048, of which an adapter needs some for itself.
    pub const MAX_SIZE: usize = 1792;
    /// What names of adapters begin with.
    pub const RESERVED: &'static str = "tiered-";
    /// Longest name, in bytes.
    pub const MAX_NAME: usize = 64;

    /// No attributes.
    pub const fn new() -> Self {
        Self(None)
    }

    /// These attributes with one more, or with another value for `name`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the name is reserved, the name or the whole break the limits, or the value
    /// contains a control character.
    pub fn with(self, name: &str, value: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if name.is_empty() || name.len() > Self::MAX_NAME || !name.chars().all(allowed) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the attribute name {name:?} must match [a-z0-9._-]{{1,64}}"),
            ));
        }
        if name.starts_with(Self::RESERVED) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the attribute name {name:?} is reserved; use one that does not begin with tiered-"),
            ));
        }
        if value.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the value of attribute {name} contains a control character"),
            ));
        }
        let mut map = self.0.map(Arc::unwrap_or_clone).unwrap_or_default();
        map.insert(name.to_owned(), value.to_owned());
        let size: usize = map.iter().map(|(name, value)| size_of_name(name) + size_in_header(value)).sum();
        if size > Self::MAX_SIZE {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the attributes take {size} bytes; the limit is {}", Self::MAX_SIZE),
            ));
        }
        Ok(Self(Some(Arc::new(map))))
    }

    /// These pairs; of several with one name the last.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Attributes;
    ///
    /// let attributes = Attributes::try_from_iter([("content-type", "text/plain"), ("lang", "en")])?;
    /// assert_eq!(attributes.get("lang"), Some("en"));
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn try_from_iter<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        pairs.into_iter().try_fold(Self::new(), |all, (name, value)| all.with(name.as_ref(), value.as_ref()))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref().and_then(|map| map.get(name)).map(String::as_str)
    }

    /// All pairs, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|map| map.iter()).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Bytes of a name as a header has it: servers drop names with an underscore, so that it is escaped, by a dot.
fn size_of_name(name: &str) -> usize {
    name.len() + name.bytes().filter(|byte| b"._".contains(byte)).count()
}

/// Bytes of a value as a header has it: what is not printable ASCII is escaped there, and so are spaces that a server
/// could drop.
fn size_in_header(value: &str) -> usize {
    let bytes = value.as_bytes();
    let plain = |index: usize, byte: u8| match byte {
        // A single space between others.
        b' ' => index > 0 && index + 1 < bytes.len() && bytes.get(index - 1) != Some(&b' '),
        b'%' => false,
        byte => byte.is_ascii_graphic(),
    };
    let size =
        bytes.iter().enumerate().map(|(index, byte)| if plain(index, *byte) { 1 } else { 3 }).sum::<usize>();
    // A header is never empty.
    size.max(1)
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
}

impl Origin {
    /// Whether reads and listings hide the entry unless asked.
    pub const fn is_hidden(self) -> bool {
        matches!(self, Self::Tombstone | Self::Absence)
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
pub struct Note {
    /// The session of the tiered store in which the entry was last compared with the backend; 0 for none.
    pub session: u64,
    /// When it was, in milliseconds of that session's [uptime](crate::Clock::uptime).
    pub validated: u64,
    /// Where the entry comes from.
    pub origin: Origin,
    /// The backend's validator, where that is not the version itself.
    pub validator: Option<Validator>,
}

impl Note {
    /// Whether it says nothing, as for an entry that no tiered store keeps.
    pub(crate) fn is_empty(&self) -> bool {
        self.session == 0 && self.validated == 0 && self.origin == Origin::Backend && self.validator.is_none()
    }
}

/// Everything about an entry but its value.
#[derive(Clone, Debug)]
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
    /// Whether both are of the same entry, as far as they tell: a checksum that one of them lacks says nothing.
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{Metadata, Put, Stamp};
    ///
    /// let entry = Stamp::system().entry(&Put::new("value"));
    /// let without = Metadata { checksum: None, ..(**entry.metadata()).clone() };
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
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.is_visible(now, Tombstones::Hide)
    }

    /// Whether a read at `now` returns the entry. A hidden one is visible only where they are to be shown.
    pub fn is_visible(&self, now: Timestamp, tombstones: Tombstones) -> bool {
        let expired = self.expires_at.is_some_and(|at| now >= at);
        let hidden = self.note.origin.is_hidden() && tombstones == Tombstones::Hide;
        !expired && !hidden
    }
}

/// A value and its metadata. Cloning copies two pointers and allocates nothing.
///
/// A range read returns a part of the value with the metadata of the whole; [`Entry::is_whole`] tells.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    value: Bytes,
    metadata: Arc<Metadata>,
}

impl Entry {
    /// From a value (or a part of one) and the metadata of the whole.
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
    #[must_use]
    pub fn with_note(self, note: Note) -> Self {
        let metadata = Metadata { note, ..(*self.metadata).clone() };
        Self { value: self.value, metadata: Arc::new(metadata) }
    }

    /// The part of the value in `range`; metadata stay those of the whole.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] when the range begins beyond the value's or its own end.
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

    #[test]
    fn ranges_are_half_open_and_clamped() {
        assert_eq!(clamp_range(&(0..10), 4).expect("fits"), 0..4);
        assert_eq!(clamp_range(&(4..10), 4).expect("a start at the end is empty"), 4..4);
        assert!(clamp_range(&(5..10), 4).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let reversed = 3..2;
        assert!(clamp_range(&reversed, 4).is_err());
    }

    #[test]
    fn attributes_over_the_limit_are_refused() {
        assert!(Attributes::new().with("content-type", "text/plain").is_ok());
        assert!(Attributes::new().with("Content-Type", "x").is_err());
        assert!(Attributes::new().with("", "x").is_err());
        assert!(Attributes::new().with(&"n".repeat(65), "x").is_err());
        assert!(Attributes::new().with("tiered-version", "x").is_err());
        assert!(Attributes::new().with("n", &"x".repeat(1791)).is_ok());
        assert!(Attributes::new().with("n", &"x".repeat(1792)).is_err());
        assert!(Attributes::new().with("n", &"é".repeat(298)).is_ok());
        assert!(Attributes::new().with("n", &"é".repeat(299)).is_err());
    }
}
