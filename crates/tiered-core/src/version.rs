//! Versions, validators and preconditions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, ErrorKind};

/// The identity of one write.
///
/// Minted by the writer, 128 bits, never reused, stored with the entry. It is also the operation's id: a writer
/// whose answer was lost recognises its own write by it. An object that others wrote where versions cannot be
/// kept (a plain S3 bucket) has the server's token instead. Versions have equality only: no order.
///
/// # Examples
/// ```
/// use tiered_core::Version;
/// use tiered_core::adapter::VersionMint;
///
/// let mint = VersionMint::from_entropy();
/// assert_ne!(mint.mint(), mint.mint());
/// let version = Version::from_u128(7);
/// assert_eq!(version.to_string().parse::<Version>()?, version);
/// # Ok::<(), tiered_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Version(Inner);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Inner {
    /// As bytes: a number of 128 bits is aligned to 16, which would cost every entry 8 bytes.
    Id([u8; 16]),
    Token(Arc<str>),
}

/// # Examples
/// ```
/// use tiered_core::Version;
///
/// let ours = Version::from_u128(7);
/// assert_eq!((ours.as_u128(), ours.as_token()), (Some(7), None));
/// // Of an object that another program wrote.
/// let theirs = Version::from_token("\"etag\"")?;
/// assert_eq!((theirs.as_u128(), theirs.as_token()), (None, Some("\"etag\"")));
/// # Ok::<(), tiered_core::Error>(())
/// ```
impl Version {
    /// Longest server token, in bytes.
    pub const MAX_TOKEN_LEN: usize = 255;

    /// A version from its 128-bit id.
    pub const fn from_u128(id: u128) -> Self {
        Self(Inner::Id(id.to_ne_bytes()))
    }

    /// A version that stands for a server's token, for an object that this library did not write.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the token is empty, longer than [`Version::MAX_TOKEN_LEN`] bytes, or
    /// contains a control character.
    pub fn from_token(token: &str) -> Result<Self, Error> {
        if token.is_empty() || token.len() > Self::MAX_TOKEN_LEN || token.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a version token has 1 to 255 bytes and no control characters",
            ));
        }
        Ok(Self(Inner::Token(Arc::from(token))))
    }

    /// The 128-bit id, where this library wrote the entry.
    pub fn as_u128(&self) -> Option<u128> {
        match self.0 {
            Inner::Id(id) => Some(u128::from_ne_bytes(id)),
            Inner::Token(_) => None,
        }
    }

    /// The server's token, where another program wrote the object.
    pub fn as_token(&self) -> Option<&str> {
        match &self.0 {
            Inner::Id(_) => None,
            Inner::Token(token) => Some(token),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Id(id) => write!(f, "{:032x}", u128::from_ne_bytes(*id)),
            Inner::Token(token) => write!(f, "token:{token}"),
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Version {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(token) = text.strip_prefix("token:") {
            return Self::from_token(token);
        }
        // A plus sign is no digit, though numbers may begin with one.
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = if digits { u128::from_str_radix(text, 16).ok() } else { None };
        id.map(Self::from_u128).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("{text:?} is no version; 32 hexadecimal digits, or token:…"),
            )
        })
    }
}

/// As the text of [`Display`](fmt::Display).
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From that text.
impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Mints versions: a random 64-bit prefix per mint, then a counter.
///
/// Two mints made [from entropy](VersionMint::from_entropy) share a prefix with probability 2⁻⁶⁴.
#[derive(Debug)]
pub struct VersionMint {
    prefix: u64,
    next: AtomicU64,
}

impl VersionMint {
    /// A mint with a prefix from the operating system's random source.
    ///
    /// # Panics
    /// When the operating system has no random source: uniqueness could not be promised.
    pub fn from_entropy() -> Self {
        #[expect(clippy::expect_used, reason = "without entropy no version is unique, and nothing is safe")]
        let prefix = getrandom::u64().expect("the operating system gives random bytes");
        Self::seeded(prefix)
    }

    /// A mint with a known prefix, so that a simulation repeats itself exactly.
    pub const fn seeded(prefix: u64) -> Self {
        Self { prefix, next: AtomicU64::new(1) }
    }

    /// A version that this mint never returns again.
    pub fn mint(&self) -> Version {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        Version::from_u128((u128::from(self.prefix) << 64) | u128::from(count))
    }
}

/// What a backend lists, and can be conditional on, when that is not the version itself (S3: the `ETag`).
///
/// Opaque; at most [`Validator::MAX_LEN`] bytes. Whether two different writes can share one is the capability
/// [`Feature::UniqueValidators`](crate::Feature::UniqueValidators).
// One pointer wide: few entries have one, and all have the place for it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Validator(Arc<Box<str>>);

impl Validator {
    /// Longest validator, in bytes.
    pub const MAX_LEN: usize = 255;

    /// A validator from the server's text, kept verbatim.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is longer than [`Validator::MAX_LEN`] bytes.
    pub fn new(text: &str) -> Result<Self, Error> {
        if text.len() > Self::MAX_LEN {
            return Err(Error::new(ErrorKind::InvalidInput, "a validator has at most 255 bytes"));
        }
        Ok(Self(Arc::new(Box::from(text))))
    }

    /// The server's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What must be so for a put or a delete to take effect, judged atomically with it.
///
/// An expired entry counts as absent, and so does a tombstone.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tiered_core::{MemoryStore, Precondition, Put, StoreExt};
///
/// let store = MemoryStore::new();
/// let first = store.set("lock", Put::new("me").precondition(Precondition::Absent)).await?;
/// let mine = Precondition::Matches(first.version.clone());
/// store.set("lock", Put::new("still me").precondition(mine.clone())).await?;
/// assert!(mine.holds(Some(&first.version)) && !mine.holds(None));
/// # Ok::<(), tiered_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: the write always takes effect.
    #[default]
    None,
    /// No live entry exists.
    Absent,
    /// A live entry exists and has this version.
    Matches(Version),
    /// What is stored under the key is damaged: reading it answers [`ErrorKind::Corrupt`]. For repairs: a good entry
    /// that others wrote meanwhile is left as it is. Needs
    /// [`Feature::DetectsCorruption`](crate::Feature::DetectsCorruption).
    Damaged,
}

impl Precondition {
    /// Whether a write with this precondition may take effect over an entry of version `current`
    /// (`None`: no live entry) that could be read.
    pub fn holds(&self, current: Option<&Version>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::Matches(version) => current == Some(version),
            // An entry that could be read is not damaged.
            Self::Damaged => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_parsed_from_its_text_is_the_same() {
        for version in [Version::from_u128(u128::MAX), Version::from_token("\"etag\"").expect("valid")] {
            assert_eq!(version.to_string().parse::<Version>().expect("parses"), version);
        }
        assert!("12".parse::<Version>().is_err());
        assert!("+1234567890123456789012345678901".parse::<Version>().is_err());
        assert!(Version::from_token("").is_err());
    }

    #[test]
    fn a_token_has_1_to_255_bytes_and_no_control_characters() {
        for token in ["x".to_owned(), "x".repeat(254), "x".repeat(255), "é".repeat(127)] {
            assert_eq!(Version::from_token(&token).expect("valid").as_token(), Some(token.as_str()));
        }
        for token in [String::new(), "x".repeat(256), "é".repeat(128), "a\nb".to_owned(), "\u{7f}".to_owned()]
        {
            assert!(Version::from_token(&token).is_err(), "{token:?}");
        }
    }

    #[test]
    fn a_version_is_debugged_as_its_text() {
        for version in [Version::from_u128(7), Version::from_token("etag").expect("valid")] {
            assert_eq!(format!("{version:?}"), version.to_string());
            assert!(!version.to_string().is_empty());
        }
    }

    #[test]
    fn a_mint_counts_below_its_prefix() {
        let mint = VersionMint::seeded(7);
        assert_eq!([mint.mint(), mint.mint()], [1, 2].map(|count| Version::from_u128((7 << 64) + count)));
    }

    #[test]
    fn a_validator_is_debugged_as_its_text() {
        assert_eq!(format!("{:?}", Validator::new("etag").expect("valid")), "\"etag\"");
    }

    #[test]
    fn a_precondition_holds_exactly_for_its_versions() {
        let (a, b) = (Version::from_u128(1), Version::from_u128(2));
        assert!(Precondition::None.holds(Some(&a)) && Precondition::None.holds(None));
        assert!(Precondition::Absent.holds(None) && !Precondition::Absent.holds(Some(&a)));
        assert!(Precondition::Matches(a.clone()).holds(Some(&a)));
        assert!(!Precondition::Matches(a.clone()).holds(Some(&b)) && !Precondition::Matches(a).holds(None));
    }
}
