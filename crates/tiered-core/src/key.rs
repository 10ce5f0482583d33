//! Keys: UTF-8, bounded, ordered by bytes, cheap to clone.

use std::borrow::{Borrow, Cow};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use crate::error::{Error, ErrorKind};

/// A key of a store.
///
/// UTF-8, 1 to [`Key::MAX_LEN`] bytes, without control characters (Unicode category Cc). Keys are ordered by
/// their bytes, which for UTF-8 is the order of their code points. Up to [`Key::INLINE`] bytes are held inline: making
/// such a key allocates nothing. Cloning never does: it copies the bytes, or a pointer.
///
/// # Examples
/// ```
/// use tiered_core::Key;
///
/// let key = Key::new("users/42")?;
/// assert_eq!(key.as_str(), "users/42");
/// assert!(Key::new("").is_err());
/// assert!(Key::new("line\nbreak").is_err());
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(SmolStr);

impl Key {
    /// Longest key, in bytes: what S3 allows for an object's name. A store may declare less
    /// ([`Capabilities::max_key`](crate::Capabilities::max_key)).
    pub const MAX_LEN: usize = 1024;

    /// Longest key that is held inline, in bytes: what fits beside its length in three words. A longer one is one
    /// allocation, shared by its clones.
    pub const INLINE: usize = 23;

    /// Checks `text` and makes a key of it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when it is empty, too long, or contains a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        check(text)?;
        Ok(Self(SmolStr::new(text)))
    }

    /// Encodes binary ids as lower-case hexadecimal, which keeps their byte order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when `bytes` is empty or longer than half of [`Key::MAX_LEN`].
    ///
    /// # Examples
    /// ```
    /// use tiered_core::Key;
    ///
    /// let key = Key::from_bytes(&[0xca, 0xfe])?;
    /// assert_eq!((key.as_str(), key.len()), ("cafe", 4));
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        use fmt::Write as _;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a `String` cannot fail.
            if write!(text, "{byte:02x}").is_err() {
                break;
            }
        }
        Self::new(text)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tiered_core::Key::new("größe")?.len(), 7);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn check(text: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidKey, why));
    if text.is_empty() {
        return refuse("the key is empty; a key has 1 to 1024 bytes".to_owned());
    }
    if text.len() > Key::MAX_LEN {
        return refuse(format!("the key has {} bytes; the limit is {}", text.len(), Key::MAX_LEN));
    }
    // Nearly every key is printable ASCII, which is seen without decoding.
    if text.bytes().fold(true, |printable, byte| printable & matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return refuse(format!(
            "the key {text:?} contains the control character {control:?}; encode binary ids with Key::from_bytes"
        ));
    }
    Ok(())
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;
    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        check(&text)?;
        Ok(Self(SmolStr::from(text)))
    }
}

/// As text.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// From text, which is checked as by [`Key::new`].
impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What names a key: a [`Key`], or text that is one. The conveniences of [`StoreExt`](crate::StoreExt) take it, so that
/// keys need no type where they are written down.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{Key, MemoryStore, Put, Store, StoreExt};
///
/// let store = MemoryStore::new();
/// let key = Key::new("users/42")?;
/// store.put(&key, Put::new("Ada")).await?;
/// assert!(store.get(&key).await?.is_some());
/// assert!(store.get("users/42").await?.is_some());
/// assert!(store.get(format!("users/{}", 43)).await?.is_none());
/// assert!(store.get("line\nbreak").await.is_err());
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
pub trait AsKey: Send + Sync {
    /// The key. Allocates only where text is longer than [`Key::INLINE`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`], as with [`Key::new`].
    ///
    /// # Examples
    /// ```
    /// use tiered_core::{AsKey, Key};
    ///
    /// /// Takes a key in any form.
    /// fn shard(key: impl AsKey) -> tiered_core::Result<usize> {
    ///     Ok(key.as_key()?.len() % 16)
    /// }
    ///
    /// assert_eq!(shard("users/42")?, shard(&Key::new("users/42")?)?);
    /// # Ok::<(), tiered_core::Error>(())
    /// ```
    fn as_key(&self) -> Result<Cow<'_, Key>, Error>;
}

impl AsKey for Key {
    fn as_key(&self) -> Result<Cow<'_, Key>, Error> {
        Ok(Cow::Borrowed(self))
    }
}

impl AsKey for str {
    fn as_key(&self) -> Result<Cow<'_, Key>, Error> {
        Key::new(self).map(Cow::Owned)
    }
}

impl AsKey for String {
    fn as_key(&self) -> Result<Cow<'_, Key>, Error> {
        self.as_str().as_key()
    }
}

impl<K: AsKey + ?Sized> AsKey for &K {
    fn as_key(&self) -> Result<Cow<'_, Key>, Error> {
        (**self).as_key()
    }
}

impl std::str::FromStr for Key {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_bytes() {
        assert!(Key::new("é".repeat(512)).is_ok());
        assert!(Key::new("é".repeat(513)).is_err());
        assert!(Key::new("a").is_ok());
        assert!(Key::new("\u{85}").is_err(), "C1 control characters are control characters");
    }

    #[test]
    fn short_keys_are_inline() {
        assert_eq!(size_of::<Key>(), 24);
        for len in [1, Key::INLINE, Key::INLINE + 1, Key::MAX_LEN] {
            let key = Key::new("k".repeat(len)).expect("valid");
            assert_eq!(
                (key.len(), key.clone() == key, key.0.is_heap_allocated()),
                (len, true, len > Key::INLINE)
            );
        }
    }

    #[test]
    fn hex_keeps_byte_order() {
        let low = Key::from_bytes(&[0x0f, 0xff]).expect("valid");
        let high = Key::from_bytes(&[0x10]).expect("valid");
        assert!(low < high);
        assert_eq!(low.as_str(), "0fff");
    }
}
