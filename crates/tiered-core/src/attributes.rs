//! Attributes: a user's own pairs beside a value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// A user's own name-value pairs beside a value.
///
/// Names match `[a-z0-9._-]{1,64}` and do not begin with `tiered-`. Names and values take [`Attributes::MAX_SIZE`]
/// bytes in all, as they are escaped in headers, where S3 keeps and limits them: a byte of a value that is neither a
/// printable ASCII character nor a single space counts three, a dot or an underscore of a name two. Cloning copies a
/// pointer. `Debug` shows the names alone: values may be personal data.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Attributes, MemoryStore, Put, StoreExt};
///
/// let store = MemoryStore::new();
/// let attributes = Attributes::new().with("content-type", "image/png")?.with("width", "640")?;
/// store.set("logo", Put::new(vec![0; 8]).attributes(attributes)).await?;
/// let entry = store.get("logo").await?.expect("just written");
/// let attributes = &entry.metadata().attributes;
/// assert_eq!(attributes.get("content-type"), Some("image/png"));
/// assert_eq!(attributes.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["content-type", "width"]);
/// assert!(attributes.len() == 2 && !attributes.is_empty());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_limited() {
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
